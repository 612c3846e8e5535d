"""Which folder under ``runs/`` belongs to which recipe, and to which of its variants.

A folder remembers the path of its recipe in ``.recipe``, relative to ``runs/``, so that a copied or moved project keeps
its runs, and the settings of a variant in ``.settings``. ``.ended`` says how the last command on it ended.
"""

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from mlx_ragtune.artifact import digest_bytes, digest_json
from mlx_ragtune.errors import ToolError
from mlx_ragtune.recipe_layers import MAX_NAME, setting_text

RECIPE_MARK, SETTINGS_MARK, END_MARK, TRIAL_MARK = ".recipe", ".settings", ".ended", ".trial"
NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Owner:
    """The recipe of a run folder, as an absolute path, and the settings of its variant by dotted key."""

    recipe: Path
    settings: Mapping[str, Any] = field(default_factory=lambda: NONE)

    @property
    def arguments(self) -> str:
        """What names the run in a command: the recipe as seen from the working directory, and its ``--set`` options."""
        here = Path.cwd()
        return recipe_arguments(
            self.recipe.relative_to(here) if self.recipe.is_relative_to(here) else self.recipe, self.settings
        )


def recipe_arguments(recipe: Path, settings: Mapping[str, Any]) -> str:
    """A recipe and its settings as they are typed in a shell: ``mine.yaml --set train.rank=8``."""
    options = [word for key, value in settings.items() for word in ("--set", setting_text(key, value))]
    return shlex.join([str(recipe), *options])


def owner_of(home: Path) -> Owner | None:
    """Whose run a folder holds; None for a folder that no run has claimed, or whose marks cannot be read."""
    try:
        text = (home / RECIPE_MARK).read_text(encoding="utf-8", errors="surrogateescape")
        mark = home / SETTINGS_MARK
        settings = json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else {}
    except (OSError, ValueError):
        return None
    if not text or "\0" in text or not isinstance(settings, dict):
        return None
    return Owner(Path(os.path.normpath(home.parent.resolve() / text)), settings)


def run_folder(recipe: Path, runs: Path, *, name: str = "", settings: Mapping[str, Any] = NONE) -> Path:
    """The folder of a recipe's run: its name, with a suffix when another recipe or variant has that folder.

    ``name`` and ``settings`` are those of a variant (``recipe_layers.variant_name`` and ``recorded``). Two files with
    one name in different folders get two folders.
    """
    name = name or recipe.stem
    path = os.path.relpath(recipe.resolve(), runs.resolve()).encode(errors="surrogateescape")
    suffix = digest_bytes(path, *([digest_json(settings).encode()] if settings else []))[:6]
    length = MAX_NAME - 7 if settings else 56
    for folder in (runs / name, runs / f"{name[:length]}-{suffix}"):
        owner = owner_of(folder)
        if owner is None or not owner.recipe.exists():
            break
        if owner.recipe == recipe.resolve() and dict(owner.settings) == dict(settings):
            break
    return folder


def claim(home: Path, recipe: Path, settings: Mapping[str, Any] = NONE) -> None:
    """Write down whose run a folder holds. Raises ToolError when the folder cannot be written."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        text = os.path.relpath(recipe.resolve(), home.parent.resolve())
        (home / RECIPE_MARK).write_text(text, encoding="utf-8", errors="surrogateescape")
        if settings:
            (home / SETTINGS_MARK).write_text(json.dumps(dict(settings)) + "\n", encoding="utf-8")
        else:
            (home / SETTINGS_MARK).unlink(missing_ok=True)
    except OSError as error:
        raise ToolError(
            f"cannot write the run folder: {error.strerror}",
            where=str(home),
            fix="set RAGTUNE_RUNS to a folder that you can write",
        ) from None


EndState = Literal["finished", "interrupted", "failed", "pruned", "paused"]


class EndedEarlyError(Exception):
    """A run that a sweep ends or pauses before its end: it did not fail. ``what`` says why."""

    def __init__(self, state: Literal["pruned", "paused"], what: str) -> None:
        super().__init__(what)
        self.state: EndState = state
        self.what = what


@dataclass(frozen=True)
class End:
    """How the last command on a run ended: at which stage, with which error, and when (UTC).

    ``stage`` is empty when it was refused before its first stage. When finished, it is the last one that was wanted.
    """

    state: EndState
    stage: str
    what: str
    at: str


@contextmanager
def recorded_end(home: Path, current: Callable[[], str], *, until: str) -> Iterator[None]:
    """Write down how the run inside ends; ``current`` is its stage. A killed process leaves no record."""
    (home / END_MARK).unlink(missing_ok=True)
    try:
        yield
    except KeyboardInterrupt:
        _record(home, End("interrupted", current(), "", _now()))
        raise
    except EndedEarlyError as early:
        _record(home, End(early.state, current(), early.what, _now()))
        raise
    except Exception as error:
        _record(home, End("failed", current(), str(getattr(error, "what", None) or repr(error))[:2000], _now()))
        raise
    _record(home, End("finished", until, "", _now()))


def record_pruned(home: Path, why: str) -> None:
    """Write down that a sweep ended a run early, at the stage where it stopped: its settings are the reason."""
    end = end_of(home)
    _record(home, End("pruned", end.stage if end else "", why, _now()))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _record(home: Path, end: End) -> None:
    with suppress(OSError):  # the disk is full: the error itself is what the user must see
        (home / END_MARK).write_text(json.dumps(asdict(end)) + "\n", encoding="utf-8")


def end_of(home: Path) -> End | None:
    """How the last command on a run ended; None when that is not known."""
    try:
        value = json.loads((home / END_MARK).read_text(encoding="utf-8"))
        end = End(**{name: str(value[name]) for name in ("state", "stage", "what", "at")})  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return end if end.state in get_args(EndState) else None


def record_trial(home: Path, trial: Mapping[str, Any]) -> None:
    """Write down, as plain JSON, how a run ended as a trial of a sweep. Only lists of runs read it."""
    with suppress(OSError, ValueError):
        text = json.dumps(dict(trial), allow_nan=False)
        (home / TRIAL_MARK).write_text(text + "\n", encoding="utf-8")


def trial_of(home: Path) -> dict[str, Any]:
    """What ``record_trial`` wrote; empty for a run that is not a trial, or whose record cannot be read."""
    try:
        value = json.loads((home / TRIAL_MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
