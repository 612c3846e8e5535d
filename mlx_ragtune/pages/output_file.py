"""Writing a page: checked before the work starts, written beside its place and then renamed into it."""

import os
from pathlib import Path

from mlx_ragtune.errors import RecipeError, ToolError


def require_writable(path: Path) -> None:
    """Raise RecipeError unless a file can be written at ``path``."""
    try:
        problem, fix = _problem(path)
    except (OSError, ValueError) as error:  # a name that is too long, a loop of symlinks, a NUL byte
        problem, fix = str(getattr(error, "strerror", None) or error), "give another path"
    if problem:
        raise RecipeError(f"cannot write the page: {problem}", where=str(path), fix=fix)


def _problem(path: Path) -> tuple[str, str]:
    path = Path(os.path.realpath(path))
    if path.is_dir():
        return "it is a directory", f"give a file name: {path.name or 'report'}/report.html"
    if path.exists():
        return ("", "") if os.access(path, os.W_OK) else ("permission denied", f"chmod u+w {path.name}")
    if not path.parent.exists():
        return f"the folder {path.parent.name} does not exist", f"mkdir -p {path.parent}"
    if not path.parent.is_dir():
        return f"{path.parent.name} is a file, not a folder", "give another path"
    if len(os.fsencode(path.name)) > 255:
        return "the file name is too long", "give a shorter name"
    return ("", "") if os.access(path.parent, os.W_OK) else ("permission denied", "give a folder that you can write to")


def write_page(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8; an existing file stays whole until the new one is. Raises ToolError if it cannot."""
    data = text.encode("utf-8", "replace")  # only a file name that is not UTF-8 needs a replacement
    path = Path(os.path.realpath(path))
    aside = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    replaceable = os.access(path.parent, os.W_OK) and (path.is_file() or not path.exists())
    try:
        if not replaceable:  # a device or a pipe, or a folder that takes no new file
            path.write_bytes(data)
            return
        try:
            aside.write_bytes(data)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise ToolError(
            f"cannot write: {error.strerror or error}", where=str(path), fix="free disk space or give another path"
        ) from None
