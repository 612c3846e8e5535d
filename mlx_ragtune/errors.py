"""Every failure that a user can repair, with its exit code and the next thing to try.

    RagtuneError
    ├── RecipeError    2  a recipe key, a command-line argument
    ├── InputError     3  a file of the user: papers, pairs, benchmark, base model
    ├── ToolError      4  a tool, a server or the machine: Ollama, the hub, disk, memory
    │   ├── DivergedError       training, whose loss is not finite
    │   └── OutOfMemoryError    a step that needs more memory than there is
    └── ArtifactError  5  something under runs/: missing, damaged, locked, from another recipe

Exit code 0 is success, 70 an internal error: any other exception that reaches the top is a bug and
keeps its traceback. 130 is an interrupt (Ctrl-C).
"""

import errno
import re

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks, embeddings, overrides, isolates
    "\ud800-\udfff]"  # lone surrogates, also from file names that are not UTF-8
)


def printable(text: str) -> str:
    r"""``text`` that is safe to print: what could control a terminal is shown as an escape, like ``\x1b``.

    Tabs and newlines stay. Text without control characters is returned unchanged.
    """
    return _UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class RagtuneError(Exception):
    """A failure, stated as what failed, where, and what to try next.

    ``what`` holds the offending value; ``where`` is ``file:line``, a key, or an address;
    ``fix`` is the next command or edit.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return printable(f"{text}\n  try: {self.fix}" if self.fix else text)


class RecipeError(RagtuneError):
    """The recipe or the command line cannot be run as written."""

    exit_code = 2


class InputError(RagtuneError):
    """A file of the user cannot be read, or does not hold what it should."""

    exit_code = 3


class ToolError(RagtuneError):
    """A tool, a server or the machine did not do what was asked."""

    exit_code = 4


class DivergedError(ToolError):
    """The loss of a training run is not finite; other settings may train."""


class OutOfMemoryError(ToolError):
    """A step needs more memory than the machine has; other settings may need less."""


class ArtifactError(RagtuneError):
    """An artifact under ``runs/`` is missing, damaged, locked or belongs to another recipe."""

    exit_code = 5


def of_machine(error: OSError | MemoryError | Exception) -> ToolError:
    """What the operating system refused, as an error with the next thing to try."""
    if isinstance(error, MemoryError):
        return OutOfMemoryError("out of memory", fix="close other programs, or use a smaller model or batch size")
    code = getattr(error, "errno", None)
    where = str(getattr(error, "filename", None) or "")
    what = str(getattr(error, "strerror", None) or error or type(error).__name__)
    if code in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in what:
        return ToolError("no disk space left", where=where, fix=f"free disk space ('ragtune prune'), then {_AGAIN}")
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ToolError(what, where=where, fix=f"change the permissions, then {_AGAIN}")
    return ToolError(what, where=where, fix=f"correct this, then {_AGAIN}")


_AGAIN = "run the same command again: finished work is kept"
