"""``ragtune demo``: the bundled recipe with its papers and questions, in a folder of its own."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlx_ragtune.bundled import bundled
from mlx_ragtune.errors import InputError, ToolError

RECIPE = "recipes/demo.yaml"
CONTENTS = ("data/probes", "data/rag_notes", RECIPE)
"""What is copied, in this order: the recipe comes last and marks a complete copy."""


def prepare_demo(folder: Path) -> Path:
    """Copy the bundled demo recipe and its data into ``folder`` and return the path of its demo recipe.

    Files that are already there stay as they are, changed or not, so a second call resumes the same demo.
    Raises InputError if the folder holds something else, ToolError if it cannot be written.
    """
    require_demo_folder(folder)
    try:
        for source, name in _bundled_files():
            _copy_new(source, folder / name)
    except OSError as error:
        raise ToolError(
            f"cannot write the demo: {error.strerror or error}",
            where=str(error.filename or folder),
            fix="ragtune demo FOLDER, with a folder that you can write to",
        ) from error
    return folder / RECIPE


def _bundled_files() -> Iterator[tuple[Path, str]]:
    """(file, its path relative to the demo folder)."""
    for name in CONTENTS:
        source = bundled(name)
        for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if file.is_file() and not file.name.startswith("."):
                yield file, (Path(name) / file.relative_to(source)).as_posix()


def require_demo_folder(folder: Path) -> None:
    """Refuse a folder with files of something else; the copies would be lost among them."""
    fix = "ragtune demo FOLDER, with a new or empty folder"
    try:
        names = {entry.name for entry in folder.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise InputError("not a folder", where=str(folder), fix=fix) from error
    except OSError as error:
        raise InputError(f"cannot read the folder: {error.strerror}", where=str(folder), fix=fix) from error
    others = {name for name in names - {"data", "recipes", "runs"} if not name.startswith(".")}
    if others and not (folder / RECIPE).is_file():
        raise InputError(f"the folder is not empty: it contains {min(others)}", where=str(folder), fix=fix)


def _copy_new(source: Path, target: Path) -> None:
    """Copy a file unless the target exists; a stopped copy leaves no partial file under the target's name."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=target.parent, prefix=".copy-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(source.read_bytes())
        Path(draft).chmod(0o644)
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
