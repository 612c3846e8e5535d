"""Running a recipe: the plan of what runs, what is reused and why, and bringing every stage up to date."""

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from mlx_ragtune.artifact import (
    INPUTS_FOLDER,
    KEY_LENGTH,
    STAGE_FOLDERS,
    Artifact,
    Draft,
    Inputs,
    Store,
    Tracker,
    declared_view,
    digest_json,
    locked,
    read_artifact,
    require_disk,
    running,
    set_link,
    silent,
)
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.pages.tables import clock
from mlx_ragtune.pipeline import LATER, MODEL_INPUTS, STAGES, Stage, needed, stages_of, stages_until, view
from mlx_ragtune.run_folders import claim, recorded_end, run_folder

if TYPE_CHECKING:
    from mlx_ragtune.bases.tokenizer_file import ModelTokenizer
    from mlx_ragtune.clients.machine import MemoryNeed
    from mlx_ragtune.clients.registered import Standing
    from mlx_ragtune.recipe import Recipe

State = Literal["up to date", "reuse", "interrupted", "run", "running", "not needed"]
FINISHED = ("up to date", "reuse", "not needed")
RECORDED_PACKAGES = ("mlx-ragtune", "mlx", "mlx-lm", "transformers", "tokenizers", "gguf", "xllamacpp", "numpy")


class _DeclaredInputs(dict[str, Path]):
    def __missing__(self, name: str) -> Path:
        raise KeyError(f"input '{name}' is not declared in STAGES")


@dataclass(frozen=True)
class Step:
    """What a run does with one stage, and why. ``key`` is None while an earlier stage has to run first.

    ``fix`` is a command for what the run does not mend by itself, or "".
    """

    stage: str
    state: State
    why: str
    key: str | None = None
    fix: str = ""

    @property
    def checked(self) -> bool:
        """Whether the stage may run, so that it is checked before the first one starts."""
        return self.state not in FINISHED


@dataclass(frozen=True)
class Outcome:
    """What a run did with one stage."""

    stage: str
    did: Literal["ran", "reused", "skipped"]
    seconds: float
    folder: Path


def _as_json(value: Any) -> Any:
    """A setting as plain JSON; absolute paths by their last part only, so that a moved project stays up to date."""
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    if isinstance(value, Path) or (isinstance(value, str) and value.startswith("/")):
        return Path(value).name
    if isinstance(value, dict):
        return {str(name): _as_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(part) for part in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # a default of 3 and a written 3.0 are equal
    return value


def _without(settings: Any, keys: Iterable[str]) -> Any:
    """Settings as plain JSON, without some dotted keys."""
    for key in keys:
        *parents, last = key.split(".")
        inner = settings
        for parent in parents:
            inner = inner.get(parent) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.pop(last, None)
    return settings


def _unset(settings: Any, key: str) -> Any:
    """A section without those keys of LATER that are not set."""
    for name in LATER:
        if name.startswith(f"{key}.") and isinstance(settings, dict):
            below = name.removeprefix(f"{key}.")
            if settings.get(below, "") is None:
                del settings[below]
    return settings


def open_recipe(
    path: Path, overrides: Mapping[str, Any] = MappingProxyType({}), *, missing_ok: Iterable[str] = ()
) -> "Run":
    """The run of a recipe, or of its variant with ``overrides`` by dotted key. Raises RecipeError.

    ``missing_ok`` names keys of files that what is wanted does without: ``benchmark`` before ``ragtune draft``.
    """
    from mlx_ragtune.recipe_layers import recorded
    from mlx_ragtune.recipe_load import load_recipe, runs_folder

    recipe = load_recipe(path, overrides, missing_ok=tuple(missing_ok))
    variant = recorded(overrides, recipe)
    home = run_folder(path, runs_folder(path), name=recipe.name, settings=variant)
    return Run(recipe.model_copy(update={"name": home.name}), home, path, variant)


def import_gguf(gguf: Path, folder: Path) -> None:
    """Turn a GGUF file into a model folder. Imported when called: it loads numpy and gguf."""
    from mlx_ragtune.gguf import reader

    reader.import_gguf(gguf, folder)


def gguf_tokenizer(gguf: Path) -> str:
    """``tokenizer.json`` of a GGUF file. Imported when called, as above."""
    from mlx_ragtune.gguf import reader

    return reader.gguf_tokenizer(gguf)


@dataclass
class Run:
    """One recipe, its folder under runs/, and the store that it shares with other recipes."""

    recipe: "Recipe"
    home: Path
    recipe_path: Path | None = None
    variant: Mapping[str, Any] = field(default_factory=dict)
    """What a variant changes in the recipe's file, as ``recipe_layers.recorded``."""
    track: Tracker = silent
    say: Callable[[str], None] = lambda _text: None
    offline: bool = False
    """Look only for a base model that is already on this machine."""
    ask_servers: bool = False
    """Whether a finished stage counts only while the server still has what it registered there."""
    replace_others: bool = False
    """Requested with ``--replace``: a model at a server that is not ours may be replaced."""
    replacing: Mapping[str, Callable[["Recipe", Inputs, Draft], None]] = field(default_factory=dict)
    """Functions that do a stage's work in place of its module, with the same result."""
    current: str = ""
    """The stage that is running."""
    _base: Path | None = None
    _tokenizer: "ModelTokenizer | None" = None
    _base_digest: str | None = None
    _digests: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        """The artifacts of all recipes in the same runs folder."""
        return Store(self.home.parent)

    @property
    def base(self) -> Path:
        """The folder of the base model, fetched if needed. Raises as ``resolve_base``."""
        if self._base is None:
            from mlx_ragtune.bases.resolve import resolve_base

            self._base = resolve_base(self.recipe.base, import_gguf=import_gguf, say=self.say)
        return self._base

    @property
    def tokenizer(self) -> "ModelTokenizer":
        """What the tokens of chunks are counted with, as far as this machine has it without fetching a model."""
        if self._tokenizer is None:
            from mlx_ragtune.bases.tokenizer_file import counting_model, model_tokenizer

            self._tokenizer = model_tokenizer(counting_model(self.recipe), restore=gguf_tokenizer)
        return self._tokenizer

    @property
    def base_digest(self) -> str:
        """The digest of the base model's files."""
        if self._base_digest is None:
            from mlx_ragtune.clients.file_digests import base_digest

            self._base_digest = base_digest(self.base)
        return self._base_digest

    def _has_base(self) -> bool:
        """Whether the base model is at hand; when not offline it is fetched."""
        if self._base is None and self.offline:
            from mlx_ragtune.bases.resolve import find_base

            self._base = find_base(self.recipe.base)
            return self._base is not None
        return True

    def remember(self, path: Path, purpose: str, compute: Callable[[Path], str]) -> str:
        """``compute(path)``, once for each state of the file. Raises InputError when the file cannot be read."""
        try:
            about = path.stat()
            state = (str(path), purpose, about.st_size, about.st_mtime_ns, about.st_ino, about.st_ctime_ns)
            if state not in self._digests:
                self._digests[state] = compute(path)
        except OSError as error:
            raise InputError(f"cannot read it: {error.strerror}", where=str(path), fix="correct the path") from None
        return str(self._digests[state])

    def _stage(self, name: str) -> Stage:
        """The recipe's stage of that name."""
        return next(stage for stage in stages_of(self.recipe) if stage.name == name)

    def settings(self, stage: Stage) -> dict[str, Any]:
        """The declared settings that can change the stage's result, as plain JSON by dotted key."""
        settings = {}
        for key in stage.keys:
            value: Any = self.recipe
            for name in key.split("."):
                value = getattr(value, name) if value is not None else None
            below = [name.removeprefix(f"{key}.") for name in stage.ignores if name.startswith(f"{key}.")]
            if key not in stage.ignores and not (value is None and key in LATER):
                settings[key] = _unset(_without(_as_json(value), below), key)
        return settings

    def outside(self, stage: Stage) -> dict[str, Any]:
        """Digests of the user's files that the stage reads, by role."""
        digests = {role: digest(self) for role, digest in stage.outside.items()}
        return {role: value for role, value in digests.items() if value is not None}

    def described(self, stage: Stage, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
        """Everything that the stage's result depends on; ``artifacts`` are those of the stages that it needs."""
        return {
            "stage": stage.name,
            "version": stage.version,
            "settings": self.settings(stage),
            "inputs": {
                name: self._model_digest(name) if name in MODEL_INPUTS else artifacts[name].content(files)
                for name, files in stage.needs.items()
            },
            "files": self.outside(stage),
        }

    def _model_digest(self, name: str) -> str:
        """The digest of one of MODEL_INPUTS."""
        return self.base_digest if name == "base" else self.tokenizer.digest

    def _linked(self, stage: Stage) -> Artifact | None:
        """The artifact that the run's link points at. Raises ArtifactError if it is damaged."""
        return read_artifact(self.home / stage.folder)

    def plan(self, *, until: str = STAGES[-1].name, redo: Iterable[str] = ()) -> list[Step]:
        """What a run would do with every stage up to ``until``, and why. Changes nothing."""
        steps: list[Step] = []
        artifacts: dict[str, Artifact] = {}
        wanted = needed(self.recipe, (until, *redo))
        for stage in stages_until(self.recipe, until):
            if stage.name in wanted:
                steps.append(self._step(stage, artifacts, redo=stage.name in set(redo)))
            else:
                steps.append(Step(stage.name, "not needed", self._why_not_needed(stage, until)))
        process = running(self.home)
        return [
            replace(step, state="running", why=f"process {process[0]}")
            if process and process[1] == step.stage
            else step
            for step in steps
        ]

    def _why_not_needed(self, stage: Stage, until: str) -> str:
        if self.recipe.evaluate.engine == "mlx" and stage.name in ("fuse", "export", "register"):
            return "evaluate.engine is mlx"
        return f"{until} does not depend on it"

    def _step(self, stage: Stage, artifacts: dict[str, Artifact], *, redo: bool) -> Step:
        """The step of one stage; its artifact is added to ``artifacts`` when it need not run."""
        waits = [name for name in stage.needs if name not in MODEL_INPUTS and name not in artifacts]
        if waits:
            return Step(stage.name, "run", f"depends on {waits[-1]}")
        if "benchmark" in stage.outside and not self.recipe.benchmark.exists():
            return Step(stage.name, "run", "the benchmark does not exist yet", fix="ragtune draft RECIPE")
        if stage.needs_base and not self._has_base():
            return Step(stage.name, "run", f"base model '{self.recipe.base.model}' is not on this machine yet")
        described = self.described(stage, artifacts)
        key = digest_json(described)
        if redo:
            return Step(stage.name, "run", "requested with --redo", key)
        try:
            artifact, linked = self.store.find(stage.name, key), self._linked(stage)
        except ArtifactError as error:
            return Step(stage.name, "run", f"damaged: {error.what}", key)
        standing = self._standing(stage, artifact)
        why = stage.rejects(self.recipe, artifact.facts) if artifact else ""
        why = why or (standing.lost if standing else "")
        interrupted = [
            fresh for fresh in (False, True) if self.store.draft_folder(stage.name, key, fresh=fresh).exists()
        ]
        if artifact and not why:
            artifacts[stage.name] = artifact
            if not linked or linked.folder.resolve() != artifact.folder.resolve():
                return Step(stage.name, "reuse", "an earlier run had the same inputs", key)
            if interrupted:
                fix = f"ragtune {stage.name} RECIPE --redo"
                return Step(stage.name, "up to date", "a run with --redo was interrupted", key, fix)
            return Step(
                stage.name, "up to date", standing.note if standing else "", key, standing.fix if standing else ""
            )
        if interrupted:
            return Step(stage.name, "interrupted", "finished work is kept; the same command continues", key)
        if linked and not why:
            why = "; ".join(difference(linked.manifest["described"], described)[:3]) or "its result was removed"
        return Step(stage.name, "run", why or "has not run yet", key)

    def _standing(self, stage: Stage, artifact: Artifact | None) -> "Standing | None":
        """Whether servers still have what the finished stage registered there; None where that is not asked."""
        return stage.models_standing(artifact.folder) if artifact and self.ask_servers else None

    def artifact(self, stage: str) -> Artifact:
        """The up-to-date artifact of a stage. Raises ArtifactError, with the command to run, when there is none."""
        for step in self.plan(until=stage):
            if step.state not in ("up to date", "not needed"):
                raise ArtifactError(
                    f"stage '{step.stage}' is not up to date: {step.why}",
                    where=str(self.home / STAGE_FOLDERS[step.stage]),
                    fix=f"ragtune {stage} RECIPE",
                )
        artifact = self._linked(self._stage(stage))
        assert artifact is not None  # noqa: S101 (it is up to date)
        return artifact

    def bring(self, until: str) -> None:
        """Run every stage up to ``until`` that is not up to date."""
        self.run(until=until)

    def run(self, *, until: str = STAGES[-1].name, redo: Iterable[str] = ()) -> list[Outcome]:
        """Bring every stage up to ``until`` up to date; ``redo`` names stages to run in any case.

        Every stage that may run is checked before the first one starts. Raises InputError when one of the
        user's files changes meanwhile.
        """
        redo = set(redo)
        wanted = needed(self.recipe, (until, *redo))  # a stage that the recipe does not have leaves no folder behind
        if self.recipe_path is not None:
            claim(self.home, self.recipe_path, self.variant)
        with locked(self.home) as holder, recorded_end(self.home, lambda: self.current, until=until):
            steps = self.plan(until=until, redo=redo)
            self.check(steps)
            self._tokenizer = None  # a check may have fetched the model that it belongs to
            self._say_outlook(steps)
            stages = [stage for stage in stages_until(self.recipe, until) if stage.name in wanted]
            before = {stage.name: self.outside(stage) for stage in stages}
            outcomes: list[Outcome] = []
            artifacts: dict[str, Artifact] = {}
            for stage in stages:
                self.current = stage.name
                holder.write_text(f"{os.getpid()}\n{stage.name}\n", encoding="utf-8")
                outcomes.append(self._bring(stage, artifacts, redo=stage.name in redo, before=before))
            self.current = ""
        return outcomes

    def check(self, steps: Iterable[Step]) -> None:
        """Every refusal that can be known now, of every stage that may run."""
        pending = [self._stage(step.stage) for step in steps if step.checked]
        for stage in pending:
            stage.check(self.recipe, self.base if stage.needs_base else None)
            stage.check_store(self.recipe, self.store, replace_others=self.replace_others)
        disk = {stage.name: stage.disk_bytes(self.recipe, self.base) for stage in pending if stage.needs_base}
        if total := sum(disk.values()):
            require_disk(self.home, total, what=f"what is still to run ({', '.join(disk)})")

    def memory(self) -> dict[str, "MemoryNeed"]:
        """The predicted peak memory of each stage that holds a model, in order: of modules that have ``memory``."""
        wanted = needed(self.recipe, (STAGES[-1].name,))
        stages = [stage for stage in stages_of(self.recipe) if stage.needs_base and stage.name in wanted]
        hooks = [(stage, getattr(sys.modules[stage.function().__module__], "memory", None)) for stage in stages]
        return {stage.name: hook(view(self.recipe, stage), self.base) for stage, hook in hooks if hook}

    def _say_outlook(self, steps: Iterable[Step]) -> None:
        """Warn, before anything is trained, when the benchmark cannot reach a verdict."""
        if any(step.checked for step in steps if step.stage == "evaluate"):
            from mlx_ragtune.commands.outlook import outlook_warnings, verdict_outlook

            for line in outlook_warnings(verdict_outlook(self.recipe)):
                self.say(line)

    def _bring(
        self, stage: Stage, artifacts: dict[str, Artifact], *, redo: bool, before: Mapping[str, dict[str, Any]]
    ) -> Outcome:
        """Make one stage up to date: skip it, link an artifact of an earlier run, or run it."""
        self._require_unchanged(before)
        step = self._step(stage, artifacts, redo=redo)
        link = self.home / stage.folder
        if step.state == "up to date":
            self.say(f"{stage.folder}: up to date{f' ({step.why})' if step.why else ''}")
            return Outcome(stage.name, "skipped", 0.0, link)
        described = self.described(stage, artifacts)
        key = digest_json(described)
        started = time.monotonic()
        with self.store.lock(f"{stage.name}-{key[:KEY_LENGTH]}", self.say):
            artifact = None if redo else self._finished(stage, key)
            did: Literal["reused", "ran"] = "reused" if artifact else "ran"
            if artifact is None:
                self.say(f"{stage.folder}: {'resuming' if step.state == 'interrupted' else stage.does}")
                artifact = self._run_stage(stage, key, described, artifacts, redo=redo, before=before)
            set_link(link, artifact.folder)  # under the lock: 'ragtune prune' must not find it unused
        artifacts[stage.name] = artifact
        seconds = time.monotonic() - started
        self.say(f"{stage.folder}: {'reused from an earlier run' if did == 'reused' else f'done in {clock(seconds)}'}")
        return Outcome(stage.name, did, seconds, link)

    def _finished(self, stage: Stage, key: str) -> Artifact | None:
        """An acceptable artifact with this key; a draft that was killed before its last rename is completed."""
        for fresh in (False, True):
            draft = self.store.draft_folder(stage.name, key, fresh=fresh)
            complete = read_artifact(draft)
            if complete and complete.key == key:
                self.store.promote(draft, self.store.folder(stage.name, key))
        try:
            artifact = self.store.find(stage.name, key)
        except ArtifactError as error:
            self.say(f"{stage.folder}: running again, the artifact is damaged: {error.what}")
            return None
        standing = self._standing(stage, artifact)
        lost = artifact and (stage.rejects(self.recipe, artifact.facts) or (standing and standing.lost))
        return None if lost else artifact

    def _run_stage(
        self,
        stage: Stage,
        key: str,
        described: dict[str, Any],
        artifacts: Mapping[str, Artifact],
        *,
        redo: bool,
        before: Mapping[str, dict[str, Any]],
    ) -> Artifact:
        started = time.monotonic()
        draft = self.store.open_draft(stage.name, key, fresh=redo)
        draft.track, draft.say, draft.replace_others = self.track, self.say, self.replace_others
        inputs = _DeclaredInputs()
        for name, files in stage.needs.items():
            view_folder = draft / INPUTS_FOLDER / name
            if name == "tokenizer":
                inputs[name] = self.tokenizer.write(view_folder)
            else:
                inputs[name] = (
                    self.base if name == "base" else declared_view(view_folder, artifacts[name].folder, files)
                )
        if "votes" in stage.outside:
            inputs["votes"] = self.home / "ab"
        function = self.replacing.get(stage.name) or stage.function()
        function(view(self.recipe, stage), inputs, draft)
        self._require_unchanged(before)
        manifest = {"key": key, "described": described, **_circumstances(time.monotonic() - started)}
        return self.store.finish(draft, stage.name, manifest)

    def _require_unchanged(self, before: Mapping[str, dict[str, Any]]) -> None:
        """Raise InputError when a file of the user's is not the one that the run started with."""
        for name, digests in before.items():
            changed = difference({"files": digests}, {"files": self.outside(self._stage(name))})
            if changed:
                raise InputError(
                    f"input files changed during the run: {'; '.join(changed[:3])}",
                    where=f"stage '{name}'",
                    fix="run the same command again; finished stages are kept, and only what changed runs again",
                )


def _circumstances(seconds: float) -> dict[str, Any]:
    """When and where: recorded in the manifest, never part of the key."""
    return {
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 3),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
    }


def difference(before: Any, after: Any, at: str = "") -> list[str]:
    """Where two descriptions differ, as ``train.rank: 16 → 8`` lines."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for key in sorted({*before, *after})
            for line in difference(before.get(key), after.get(key), f"{at}.{key}" if at else str(key))
        ]
    if before == after:
        return []
    kind, _, name = at.partition(".")
    if at == "inputs.tokenizer":
        return ["its tokens are counted with another tokenizer"]
    if kind == "inputs":
        return [f"{name} has a different result"]
    if at == "files.server" and before and after:
        return [f"server: {before} → {after}"]
    if kind == "files":
        verb = "new" if before is None else "removed" if after is None else "changed"
        return [f"{verb}: {name.replace('papers.', 'papers/', 1)}"]
    if kind == "version":
        return ["a newer version of ragtune computes it differently"]
    return [f"{at.removeprefix('settings.')}: {before!r:.40} → {after!r:.40}"]
