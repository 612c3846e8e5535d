"""Every failure a user can repair, with its exit code and the next thing to try.

    RagtuneError
    ├── RecipeError    2  a recipe key, a command-line argument
    ├── InputError     3  a file of the user's: papers, pairs, benchmark, base model
    ├── ToolError      4  a tool or a server: Ollama, the hub, disk, memory
    └── ArtifactError  5  something under runs/: half written, locked, of another recipe

Anything else that reaches the top is a bug and keeps its traceback.
"""


class RagtuneError(Exception):
    """A failure stated as what, where, and what to try next.

    ``what`` holds the offending value; ``where`` is ``file:line``, a key, or an address;
    ``fix`` is the next command or edit that mends it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  try: {self.fix}" if self.fix else text


class RecipeError(RagtuneError):
    """A recipe or a command line that cannot be run as written."""

    exit_code = 2


class InputError(RagtuneError):
    """A file of the user's that cannot be read, or does not hold what it should."""

    exit_code = 3


class ToolError(RagtuneError):
    """A tool, a server or the machine that did not do what was asked."""

    exit_code = 4


class ArtifactError(RagtuneError):
    """An artifact under ``runs/`` that is missing, damaged, locked or another recipe's."""

    exit_code = 5
