"""The eight stages in order, and what it takes to run, skip, resume and explain them.

A stage is a function ``f(recipe, inputs, draft) -> None`` in ``stages/<name>.py``. It sees only the
recipe sections and inputs that are declared here, and writes only into its draft. Its fingerprint
covers exactly those, so that a setting it could feel always reruns it and no other does.
"""

import importlib
import importlib.metadata
import platform
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mlx_ragtune.artifact import (
    Artifact,
    Draft,
    Inputs,
    Tracker,
    digest_paths,
    fingerprint,
    finish,
    locked,
    open_draft,
    promote,
    read_artifact,
    silent,
)
from mlx_ragtune.errors import ArtifactError

if TYPE_CHECKING:
    from mlx_ragtune.recipe import Recipe


def import_gguf(gguf: Path, folder: Path) -> None:
    """Turn a GGUF file into a model folder. Imported when called: it loads numpy and gguf."""
    from mlx_ragtune.gguf import reader

    reader.import_gguf(gguf, folder)


@dataclass(frozen=True)
class Stage:
    """One stage: ``needs`` names earlier stages (or ``base``, the model), ``reads`` recipe sections.

    ``outside`` lists the user's files that it reads; ``joins`` is a pattern of files in the run's folder
    that no stage made (a person's votes); ``carries`` names files of its artifact that stay right when
    settings change. ``version`` is raised when the stage would write something else.
    """

    name: str
    makes: str
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    version: int = 1
    outside: Callable[["Recipe"], Iterable[Path]] = lambda _recipe: ()
    joins: str = ""
    carries: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Name of its artifact folder: ``3-train``."""
        return f"{[stage.name for stage in STAGES].index(self.name) + 1}-{self.name}"

    def function(self) -> Callable[["Recipe", Inputs, Draft], None]:
        """The function that does the work; importing it may load MLX."""
        module = importlib.import_module(f"mlx_ragtune.stages.{self.name}")
        return cast(Callable[["Recipe", Inputs, Draft], None], getattr(module, self.name))

    def check(self, recipe: "Recipe", base: Path) -> None:
        """Refuse now what would fail later: the stage module's ``check``, where it has one."""
        module = importlib.import_module(f"mlx_ragtune.stages.{self.name}")
        if hasattr(module, "check"):
            module.check(view(recipe, self), base)


def _labels(recipe: "Recipe") -> Path | None:
    return recipe.scoring.judge.labels if recipe.scoring.judge else None


STAGES: tuple[Stage, ...] = (
    Stage("corpus", "papers read and cut into an indexed set of chunks", (), ("corpus",),
          outside=lambda recipe: [recipe.corpus.folder]),
    Stage("dataset", "training rows with contexts, split by paper", ("corpus", "base"),
          ("benchmark", "dataset", "retrieval", "seed"), carries=("jobs.sqlite",),
          outside=lambda recipe: [path for path in (recipe.benchmark, recipe.dataset.pairs) if path]),
    Stage("train", "LoRA adapter, the best by validation", ("dataset", "base"),
          ("base", "dataset", "train", "seed")),
    Stage("fuse", "adapter merged into full-precision weights", ("corpus", "train", "dataset", "base"),
          ("base", "benchmark", "dataset", "retrieval"), outside=lambda recipe: [recipe.benchmark]),
    Stage("export", "base and tuned as GGUF of one type", ("corpus", "dataset", "fuse", "base"),
          ("name", "benchmark", "dataset", "retrieval", "export"), outside=lambda recipe: [recipe.benchmark]),
    Stage("register", "both models known to a server", ("base", "fuse", "export"), ("name", "export", "register")),
    Stage("evaluate", "answers of both models, scores, verdict", ("corpus", "base", "export", "register"),
          ("base", "benchmark", "dataset", "retrieval", "evaluate", "scoring"), version=2,
          carries=("answers.jsonl", "judge.sqlite"),
          outside=lambda recipe: [one for one in (recipe.benchmark, recipe.evaluate.probes, _labels(recipe)) if one]),
    Stage("report", "Markdown, JSON and one HTML page",
          ("corpus", "dataset", "train", "fuse", "export", "register", "evaluate"),
          ("name", "seed", "base", "corpus", "benchmark", "retrieval", "dataset", "train", "export", "register",
           "evaluate", "scoring"), version=2, joins="ab/*/unblinded.json"),
)  # fmt: skip


def stage_named(name: str) -> Stage:
    """The stage of that name. Raises KeyError."""
    return next(stage for stage in STAGES if stage.name == name)


class _View:
    """A recipe of which only the declared sections can be seen."""

    def __init__(self, recipe: "Recipe", stage: Stage) -> None:
        self._sections = {name: getattr(recipe, name) for name in stage.reads}
        self._stage = stage.name

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_sections"][name]
        except KeyError:
            stage = self.__dict__["_stage"]
            raise AttributeError(f"stage '{stage}' reads '{name}' but does not declare it in STAGES") from None


def view(recipe: "Recipe", stage: Stage) -> "Recipe":
    """The recipe as the stage may see it: any other section raises AttributeError."""
    return cast("Recipe", _View(recipe, stage))


class _DeclaredInputs(dict[str, Path]):
    def __missing__(self, name: str) -> Path:
        raise KeyError(f"input '{name}' is not declared in STAGES")


@dataclass(frozen=True)
class StageStatus:
    """``state`` is ``done``, ``to run`` or ``interrupted``; ``why`` says what a run would find."""

    stage: str
    state: str
    why: str


@dataclass(frozen=True)
class Outcome:
    """What a run did with one stage."""

    stage: str
    did: str
    seconds: float
    folder: Path


def _plain(value: Any) -> Any:
    """A section as plain JSON, paths by their names only: a moved project stays done."""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return _plain(value.model_dump()) if hasattr(value, "model_dump") else value


@dataclass
class Run:
    """One recipe and its folder under runs/."""

    recipe: "Recipe"
    home: Path
    base: Path | None = None
    base_digest: str | None = None
    track: Tracker = silent
    say: Callable[[str], None] = lambda _text: None
    _digests: dict[str, dict[str, str]] = field(default_factory=dict)

    def sections(self, stage: Stage) -> dict[str, Any]:
        """The declared sections as plain JSON."""
        return {name: _plain(getattr(self.recipe, name)) for name in stage.reads}

    def described(self, stage: Stage) -> dict[str, Any]:
        """All that the stage's result depends on. Inputs that are not there yet are None."""
        if stage.name not in self._digests:
            joined = sorted(self.home.glob(stage.joins)) if stage.joins else []
            self._digests[stage.name] = digest_paths([*stage.outside(self.recipe), *joined])
        inputs: dict[str, str | None] = {}
        for name in stage.needs:
            if name == "base":
                inputs[name] = self.base_digest
            else:
                artifact = read_artifact(self.home / stage_named(name).folder)
                inputs[name] = artifact.fingerprint if artifact else None
        return {
            "stage": stage.name,
            "version": stage.version,
            "sections": self.sections(stage),
            "inputs": inputs,
            "files": self._digests[stage.name],
        }

    def finished(self, stage: Stage) -> Artifact | None:
        """Its finished artifact, if it is the one that this recipe would make now."""
        artifact = read_artifact(self.home / stage.folder)
        return artifact if artifact and artifact.fingerprint == fingerprint(self.described(stage)) else None

    def status(self) -> list[StageStatus]:
        """What a run would do with each stage, and why. Nothing is changed."""
        found: list[StageStatus] = []
        rerun: list[str] = []
        for stage in STAGES:
            state, why = self._state(stage, rerun)
            if state != "done":
                rerun.append(stage.name)
            found.append(StageStatus(stage.name, state, why))
        return found

    def _state(self, stage: Stage, rerun: list[str]) -> tuple[str, str]:
        draft = self.home / ".drafts" / stage.folder
        try:
            artifact = read_artifact(self.home / stage.folder)
        except ArtifactError as error:
            return "to run", f"damaged: {error.what}"
        waiting = [name for name in stage.needs if name in rerun]
        if artifact is None:
            if draft.exists():
                return "interrupted", "goes on where it stopped"
            return "to run", "never run"
        if waiting:
            return "to run", f"needs {waiting[0]}, which runs again"
        changed = difference(artifact.manifest["described"], self.described(stage))
        return ("to run", "; ".join(changed[:3])) if changed else ("done", "nothing it reads has changed")

    def run(self, *, until: str = STAGES[-1].name, redo: Iterable[str] = ()) -> list[Outcome]:
        """Bring every stage up to ``until`` up to date; ``redo`` names stages to run in any case."""
        last = [stage.name for stage in STAGES].index(until)
        chosen, redo = STAGES[: last + 1], set(redo)
        with locked(self.home):
            self._check(chosen, redo)
            outcomes = []
            for stage in chosen:
                outcomes.append(self._bring(stage, redo=stage.name in redo))
        return outcomes

    def _check(self, chosen: Iterable[Stage], redo: set[str]) -> None:
        """Every refusal that can be known now, before the first stage runs."""
        pending = [stage for stage in chosen if stage.name in redo or self._pending(stage)]
        for stage in pending:
            stage.check(self.recipe, cast(Path, self.base))

    def _pending(self, stage: Stage) -> bool:
        try:
            return self.finished(stage) is None
        except ArtifactError:
            return True

    def _bring(self, stage: Stage, *, redo: bool) -> Outcome:
        target = self.home / stage.folder
        described = self.described(stage)
        work = fingerprint(described)
        draft_folder = self.home / ".drafts" / stage.folder
        complete = read_artifact(draft_folder)
        if complete and complete.fingerprint == work and not redo:
            promote(draft_folder, target)  # killed between the manifest and the rename
        if redo:
            shutil.rmtree(draft_folder, ignore_errors=True)
        elif self.finished(stage):
            self.say(f"{stage.folder}: done before, nothing it reads has changed")
            return Outcome(stage.name, "skipped", 0.0, target)
        started = time.monotonic()
        self.say(f"{stage.folder}: {stage.makes}")
        draft = open_draft(self.home, stage.folder, work, carries=stage.carries)
        draft.track = self.track
        inputs = _DeclaredInputs(
            {name: cast(Path, self.base) if name == "base" else self.home / stage_named(name).folder
             for name in stage.needs}
        )  # fmt: skip
        if stage.joins:
            inputs["joins"] = self.home
        stage.function()(view(self.recipe, stage), inputs, draft)
        seconds = time.monotonic() - started
        finish(draft, target, {"fingerprint": work, "described": described, **_circumstances(seconds)})
        return Outcome(stage.name, "ran", seconds, target)


def _circumstances(seconds: float) -> dict[str, Any]:
    """When and where: in the manifest, never in the fingerprint."""
    names = ("mlx-ragtune", "mlx", "mlx-lm", "transformers", "tokenizers", "gguf", "xllamacpp", "numpy")
    return {
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 3),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in names},
    }


def difference(before: Any, after: Any, at: str = "") -> list[str]:
    """Where two descriptions differ, as ``train.rank: 16 -> 8`` lines."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for key in sorted({*before, *after})
            for line in difference(before.get(key), after.get(key), f"{at}.{key}" if at else str(key))
        ]
    if before == after:
        return []
    place = at.removeprefix("sections.")
    if place.startswith(("files.", "inputs.")):
        kind, name = place.split(".", 1)
        verb = "new" if before is None else "gone" if after is None else "changed"
        return [f"{verb}: {name}" if kind == "files" else f"{name} was made again"]
    return [f"{place}: {before!r:.40} → {after!r:.40}"]
