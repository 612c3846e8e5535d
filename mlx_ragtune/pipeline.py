"""The eight stages in order, and the plan of what runs, what is reused, and why.

A stage is a function ``f(recipe, inputs, draft) -> None`` in ``stages/<name>.py``. It sees only the recipe
keys and the input files that are declared here, and writes only into its draft. Its key covers exactly those,
by content: whatever could change the result reruns the stage, and nothing else does.
"""

import importlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

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
    digest_bytes,
    digest_file,
    digest_json,
    locked,
    read_artifact,
    require_disk,
    running,
    set_link,
    silent,
)
from mlx_ragtune.errors import ArtifactError, InputError, ToolError

if TYPE_CHECKING:
    from mlx_ragtune.recipe import Recipe

Facts = Mapping[str, Any]
State = Literal["up to date", "reuse", "resume", "run", "running"]
RECORDED_PACKAGES = ("mlx-ragtune", "mlx", "mlx-lm", "transformers", "tokenizers", "gguf", "xllamacpp", "numpy")


@dataclass(frozen=True)
class Stage:
    """One stage; ``does`` is its help. ``version``, ``keys``, ``needs`` and ``outside`` make up its key.

    ``keys`` are recipe keys, or whole sections; ``ignores`` are keys below them that the stage may read but
    that cannot change its result. ``needs`` maps earlier stages to the files that are read of them
    (``base`` is the base model). ``outside`` gives a digest of the user's files, by role. ``rejects`` says why
    a finished artifact is not acceptable under a recipe, or "". Raise ``version`` when the same inputs would
    give another result.
    """

    name: str
    does: str
    keys: tuple[str, ...]
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ignores: tuple[str, ...] = ()
    version: int = 1
    outside: Mapping[str, Callable[["Run"], Any]] = field(default_factory=dict)
    rejects: Callable[["Recipe", Facts], str] = lambda _recipe, _facts: ""

    @property
    def folder(self) -> str:
        """Name of its folder in a run: ``3-train``."""
        return STAGE_FOLDERS[self.name]

    def function(self) -> Callable[["Recipe", Inputs, Draft], None]:
        """The function that does the work. Importing it may load MLX."""
        module = importlib.import_module(f"mlx_ragtune.stages.{self.name}")
        return cast(Callable[["Recipe", Inputs, Draft], None], getattr(module, self.name))

    def check(self, recipe: "Recipe", base: Path | None) -> None:
        """Raise now what would fail later: the stage module's ``check``, if it has one."""
        module = importlib.import_module(f"mlx_ragtune.stages.{self.name}")
        if hasattr(module, "check"):
            module.check(view(recipe, self), cast(Path, base))

    def disk_bytes(self, recipe: "Recipe", base: Path) -> int:
        """Disk that the stage will need, in bytes: the stage module's ``disk_bytes``, if it has one."""
        module = importlib.import_module(f"mlx_ragtune.stages.{self.name}")
        return int(module.disk_bytes(view(recipe, self), base)) if hasattr(module, "disk_bytes") else 0

    @property
    def needs_base(self) -> bool:
        """Whether the stage reads the base model."""
        return "base" in self.needs


def stages_until(until: str) -> tuple[Stage, ...]:
    """The stages up to and including the named one."""
    return STAGES[: list(STAGE_FOLDERS).index(until) + 1]


CHUNKS = ("chunks.jsonl", "index.sqlite")
MODEL = ("model/*",)
PROMPT_ROWS = ("examples-valid.jsonl", "examples-train.jsonl")
ADAPTER = ("adapters.safetensors", "adapter_config.json")
"""Files of earlier stages that a later one reads."""


def _papers(run: "Run") -> dict[str, str]:
    """The digest of each paper that is read, or why it cannot be read; files that are ignored do not count."""
    from mlx_ragtune.papers.folder import list_papers

    digests = {}
    for paper in list_papers(run.recipe.corpus.folder):
        try:
            digests[paper.name] = paper.problem or run.file_digest(paper.path)
        except InputError as error:  # the stage lists it, or fails, as corpus.on_unreadable says
            digests[paper.name] = error.what
    return digests


def _file(path: Callable[["Recipe"], Path | None]) -> Callable[["Run"], str | None]:
    """The digest of an optional file of the user's."""

    def digest(run: "Run") -> str | None:
        file = path(run.recipe)
        return run.file_digest(file) if file else None

    return digest


def _benchmark_of_dataset(run: "Run") -> str:
    """The paper ids and question texts: all that the data set depends on."""
    from mlx_ragtune.synthesis.benchmark_view import dataset_view

    return run.remember(run.recipe.benchmark, "dataset", lambda path: digest_json(dataset_view(path)))


def _benchmark_of_prompts(run: "Run") -> str:
    """The question texts, in order: all that the fixed prompts depend on."""
    from mlx_ragtune.jsonl import read_rows
    from mlx_ragtune.records import Question

    def texts(path: Path) -> str:
        return digest_json([question.question for question in read_rows(path, Question)])

    return run.remember(run.recipe.benchmark, "prompts", texts)


def _local_model(section: str) -> Callable[["Run"], str | None]:
    """The digest of a GGUF file that the recipe names as generator, judge or embedder, if it is a file."""

    def digest(run: "Run") -> str | None:
        settings = run.recipe
        for name in section.split("."):
            settings = getattr(settings, name, None) if settings is not None else None  # type: ignore[assignment]
        model = getattr(settings, "model", None)
        return run.file_digest(Path(model)) if model and getattr(settings, "backend", "") == "llamacpp" else None

    return digest


def _server(run: "Run") -> str | None:
    """The address of the server that models are registered with."""
    from mlx_ragtune.clients.ollama_address import effective_host

    return effective_host(run.recipe.register.host) if run.recipe.register.serve == "ollama" else None


def _votes(run: "Run") -> dict[str, str]:
    """The results of blind comparisons in the run's folder."""
    files = sorted(run.home.glob("ab/*/unblinded.json"))
    return {file.relative_to(run.home).as_posix(): run.file_digest(file) for file in files}


def _unreadable(recipe: "Recipe", facts: Facts) -> str:
    fails = recipe.corpus.on_unreadable == "fail" and facts.get("unreadable")
    return f"{facts['unreadable']} papers are unreadable and corpus.on_unreadable is 'fail'" if fails else ""


def _too_long(recipe: "Recipe", facts: Facts) -> str:
    if recipe.dataset.on_too_long == "fail" and facts.get("too_long"):
        return f"{facts['too_long']} rows are too long and dataset.on_too_long is 'fail'"
    generator = recipe.dataset.generator
    if generator and facts.get("yield_share", 1.0) < generator.min_yield:
        return f"the share of usable pairs is {facts['yield_share']}, below dataset.generator.min_yield"
    return ""


STAGES: tuple[Stage, ...] = (
    Stage(
        "corpus",
        "Read the papers and split them into indexed chunks",
        keys=("corpus",),
        ignores=("corpus.folder", "corpus.on_unreadable"),
        outside={"papers": _papers},
        rejects=_unreadable,
    ),
    Stage(
        "dataset",
        "Build training rows with contexts, split by paper",
        keys=("dataset", "retrieval", "seed", "benchmark"),
        ignores=(
            "dataset.pairs", "dataset.on_too_long", "dataset.generator.hosts", "dataset.generator.slots",
            "dataset.generator.min_yield", "benchmark",
        ),
        needs={"corpus": ("documents.jsonl", *CHUNKS), "base": ()},
        outside={
            "pairs": _file(lambda recipe: recipe.dataset.pairs),
            "benchmark": _benchmark_of_dataset,
            "generator": _local_model("dataset.generator"),
        },
        rejects=_too_long,
    ),
    Stage(
        "train",
        "Train a LoRA adapter; keep the best by validation loss",
        keys=("base.precision", "dataset.thinking", "dataset.max_tokens", "dataset.on_too_long", "train", "seed"),
        ignores=("dataset.max_tokens", "dataset.on_too_long", "train.report_to"),
        needs={"dataset": PROMPT_ROWS, "base": ()},
    ),
    Stage(
        "fuse",
        "Merge the adapter into full-precision weights",
        keys=("dataset.thinking", "retrieval", "benchmark"),
        ignores=("benchmark",),
        needs={"corpus": CHUNKS, "dataset": PROMPT_ROWS, "train": ADAPTER, "base": ()},
        outside={"benchmark": _benchmark_of_prompts},
    ),
    Stage(
        "export",
        "Write base and tuned model as GGUF of one type",
        keys=("dataset.thinking", "retrieval", "export", "benchmark"),
        ignores=("benchmark",),
        needs={"corpus": CHUNKS, "dataset": PROMPT_ROWS, "fuse": MODEL, "base": ()},
        outside={"benchmark": _benchmark_of_prompts},
    ),
    Stage(
        "register",
        "Register both models with a server",
        keys=("name", "export", "register"),
        ignores=("register.host",),
        needs={"export": ("*.gguf",), "fuse": MODEL, "base": ()},
        outside={"server": _server},
    ),
    Stage(
        "evaluate",
        "Ask both models the benchmark; score and compare",
        keys=("base.model", "benchmark", "dataset.thinking", "dataset.generator", "retrieval", "evaluate", "scoring"),
        ignores=(
            "base.model", "benchmark", "dataset.generator", "evaluate.probes", "scoring.judge.host",
            "scoring.judge.labels", "scoring.similarity.host",
        ),
        needs={
            "corpus": ("documents.jsonl", *CHUNKS), "export": ("*.gguf",), "register": ("receipt.json",), "base": (),
        },
        outside={
            "benchmark": _file(lambda recipe: recipe.benchmark),
            "probes": _file(lambda recipe: recipe.evaluate.probes),
            "labels": _file(lambda recipe: recipe.scoring.judge.labels if recipe.scoring.judge else None),
            "judge": _local_model("scoring.judge"),
            "embedder": _local_model("scoring.similarity"),
        },
    ),
    Stage(
        "report",
        "Write the report as HTML, Markdown and JSON",
        keys=(
            "name", "seed", "base", "corpus", "benchmark", "retrieval", "dataset", "train", "export", "register",
            "evaluate", "scoring",
        ),
        needs={
            "dataset": ("statistics.json",), "train": ("result.json", "losses.jsonl"),
            "evaluate": ("*", "manifest.json"),
        },
        outside={"benchmark": _file(lambda recipe: recipe.benchmark), "votes": _votes},
    ),
)  # fmt: skip


def stage_named(name: str) -> Stage:
    """The stage of that name. Raises KeyError."""
    return next(stage for stage in STAGES if stage.name == name)


class _View:
    """A recipe, or a section of one, of which only declared keys can be read."""

    def __init__(self, settings: Any, keys: tuple[str, ...], stage: str, at: str = "") -> None:
        self._settings, self._keys, self._stage, self._at = settings, keys, stage, at

    def __getattr__(self, name: str) -> Any:
        place = f"{self._at}.{name}" if self._at else name
        value = getattr(self._settings, name)
        if any(place == key or place.startswith(f"{key}.") for key in self._keys):
            return value
        if any(key.startswith(f"{place}.") for key in self._keys):
            return _View(value, self._keys, self._stage, place)
        raise AttributeError(f"stage '{self._stage}' reads '{place}' but does not declare it in STAGES")


def view(recipe: "Recipe", stage: Stage) -> "Recipe":
    """The recipe as the stage may see it: reading any other key raises AttributeError."""
    return cast("Recipe", _View(recipe, stage.keys, stage.name))


class _DeclaredInputs(dict[str, Path]):
    def __missing__(self, name: str) -> Path:
        raise KeyError(f"input '{name}' is not declared in STAGES")


@dataclass(frozen=True)
class Step:
    """What a run does with one stage, and why. ``key`` is None while an earlier stage has to run first."""

    stage: str
    state: State
    why: str
    key: str | None = None

    @property
    def checked(self) -> bool:
        """Whether the stage may run, so that it is checked before the first one starts."""
        return self.state not in ("up to date", "reuse")


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


def import_gguf(gguf: Path, folder: Path) -> None:
    """Turn a GGUF file into a model folder. Imported when called: it loads numpy and gguf."""
    from mlx_ragtune.gguf import reader

    reader.import_gguf(gguf, folder)


@dataclass
class Run:
    """One recipe, its folder under runs/, and the store that it shares with other recipes."""

    recipe: "Recipe"
    home: Path
    recipe_path: Path | None = None
    track: Tracker = silent
    say: Callable[[str], None] = lambda _text: None
    offline: bool = False
    """Look only for a base model that is already on this machine."""
    current: str = ""
    """The stage that is running."""
    _base: Path | None = None
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

    def file_digest(self, path: Path) -> str:
        """sha256 of a file of the user's."""
        return self.remember(path, "bytes", digest_file)

    def settings(self, stage: Stage) -> dict[str, Any]:
        """The declared settings that can change the stage's result, as plain JSON by dotted key."""
        found = {}
        for key in stage.keys:
            value: Any = self.recipe
            for name in key.split("."):
                value = getattr(value, name) if value is not None else None
            below = [name.removeprefix(f"{key}.") for name in stage.ignores if name.startswith(f"{key}.")]
            if key not in stage.ignores:
                found[key] = _without(_as_json(value), below)
        return found

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
                name: self.base_digest if name == "base" else artifacts[name].content(files)
                for name, files in stage.needs.items()
            },
            "files": self.outside(stage),
        }

    def _linked(self, stage: Stage) -> Artifact | None:
        """The artifact that the run's link points at. Raises ArtifactError if it is damaged."""
        return read_artifact(self.home / stage.folder)

    def plan(self, *, until: str = STAGES[-1].name, redo: Iterable[str] = ()) -> list[Step]:
        """What a run would do with every stage up to ``until``, and why. Changes nothing."""
        steps: list[Step] = []
        artifacts: dict[str, Artifact] = {}
        for stage in stages_until(until):
            steps.append(self._step(stage, artifacts, redo=stage.name in set(redo)))
        process = running(self.home)
        return [
            replace(step, state="running", why=f"process {process[0]}")
            if process and process[1] == step.stage
            else step
            for step in steps
        ]

    def _step(self, stage: Stage, artifacts: dict[str, Artifact], *, redo: bool) -> Step:
        """The step of one stage; its artifact is added to ``artifacts`` when it need not run."""
        waits = [name for name in stage.needs if name != "base" and name not in artifacts]
        if waits:
            return Step(stage.name, "run", f"depends on {waits[-1]}")
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
        why = stage.rejects(self.recipe, artifact.facts) if artifact else ""
        if artifact and not why:
            artifacts[stage.name] = artifact
            if linked and linked.folder.resolve() == artifact.folder.resolve():
                return Step(stage.name, "up to date", "", key)
            return Step(stage.name, "reuse", "an earlier run had the same inputs", key)
        if any(self.store.draft_folder(stage.name, key, fresh=fresh).exists() for fresh in (False, True)):
            return Step(stage.name, "resume", "interrupted", key)
        if linked and not why:
            why = "; ".join(difference(linked.manifest["described"], described)[:3]) or "its result was removed"
        return Step(stage.name, "run", why or "has not run yet", key)

    def artifact(self, stage: str) -> Artifact:
        """The up-to-date artifact of a stage. Raises ArtifactError, with the command to run, when there is none."""
        for step in self.plan(until=stage):
            if step.state != "up to date":
                raise ArtifactError(
                    f"stage '{step.stage}' is not up to date: {step.why}",
                    where=str(self.home / STAGE_FOLDERS[step.stage]),
                    fix=f"ragtune {stage} RECIPE",
                )
        found = self._linked(stage_named(stage))
        assert found is not None  # noqa: S101 (it is up to date)
        return found

    def bring(self, until: str) -> None:
        """Run every stage up to ``until`` that is not up to date."""
        self.run(until=until)

    def run(self, *, until: str = STAGES[-1].name, redo: Iterable[str] = ()) -> list[Outcome]:
        """Bring every stage up to ``until`` up to date; ``redo`` names stages to run in any case.

        Every stage that may run is checked before the first one starts. Raises InputError when one of the
        user's files changes meanwhile.
        """
        redo = set(redo)
        if self.recipe_path is not None:
            claim(self.home, self.recipe_path)
        with locked(self.home) as holder:
            self.check(self.plan(until=until, redo=redo))
            before = {stage.name: self.outside(stage) for stage in stages_until(until)}
            outcomes: list[Outcome] = []
            artifacts: dict[str, Artifact] = {}
            for stage in stages_until(until):
                self.current = stage.name
                holder.write_text(f"{os.getpid()}\n{stage.name}\n", encoding="utf-8")
                outcomes.append(self._bring(stage, artifacts, redo=stage.name in redo, before=before))
            self.current = ""
        return outcomes

    def check(self, steps: Iterable[Step]) -> None:
        """Every refusal that can be known now, of every stage that may run."""
        pending = [stage_named(step.stage) for step in steps if step.checked]
        for stage in pending:
            stage.check(self.recipe, self.base if stage.needs_base else None)
        disk = {stage.name: stage.disk_bytes(self.recipe, self.base) for stage in pending if stage.needs_base}
        if needed := sum(disk.values()):
            require_disk(self.home, needed, what=f"what is still to run ({', '.join(disk)})")

    def _bring(
        self, stage: Stage, artifacts: dict[str, Artifact], *, redo: bool, before: Mapping[str, dict[str, Any]]
    ) -> Outcome:
        """Make one stage up to date: skip it, link an artifact of an earlier run, or run it."""
        self._require_unchanged(before)
        step = self._step(stage, artifacts, redo=redo)
        link = self.home / stage.folder
        if step.state == "up to date":
            self.say(f"{stage.folder}: up to date")
            return Outcome(stage.name, "skipped", 0.0, link)
        described = self.described(stage, artifacts)
        key = digest_json(described)
        started = time.monotonic()
        with self.store.lock(f"{stage.name}-{key[:KEY_LENGTH]}", self.say):
            artifact = None if redo else self._finished(stage, key)
            did: Literal["reused", "ran"] = "reused" if artifact else "ran"
            if artifact is None:
                self.say(f"{stage.folder}: {'resuming' if step.state == 'resume' else stage.does}")
                artifact = self._run_stage(stage, key, described, artifacts, redo=redo, before=before)
        set_link(link, artifact.folder)
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
        return None if artifact and stage.rejects(self.recipe, artifact.facts) else artifact

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
        draft.track, draft.say = self.track, self.say
        inputs = _DeclaredInputs()
        for name, files in stage.needs.items():
            view_folder = draft / INPUTS_FOLDER / name
            inputs[name] = self.base if name == "base" else declared_view(view_folder, artifacts[name].folder, files)
        if "votes" in stage.outside:
            inputs["votes"] = self.home / "ab"
        stage.function()(view(self.recipe, stage), inputs, draft)
        self._require_unchanged(before)
        manifest = {"key": key, "described": described, **_circumstances(time.monotonic() - started)}
        return self.store.finish(draft, stage.name, manifest)

    def _require_unchanged(self, before: Mapping[str, dict[str, Any]]) -> None:
        """Raise InputError when a file of the user's is not the one that the run started with."""
        for name, digests in before.items():
            changed = difference({"files": digests}, {"files": self.outside(stage_named(name))})
            if changed:
                raise InputError(
                    f"input files changed during the run: {'; '.join(changed[:3])}",
                    where=f"stage '{name}'",
                    fix="run the same command again; finished stages are kept, and only what changed runs again",
                )


def run_folder(recipe: Path, runs: Path) -> Path:
    """The folder of a recipe's run: its file name, with a suffix when another recipe has that folder.

    The folder remembers the recipe's path, relative to ``runs``, so that a copied or moved project keeps its
    runs; two files with one name in different folders get two.
    """
    path = Path(os.path.relpath(recipe.resolve(), runs.resolve()))
    suffix = digest_bytes(str(path).encode(errors="surrogateescape"))[:6]
    for folder in (runs / recipe.stem, runs / f"{recipe.stem[:56]}-{suffix}"):
        mark = folder / ".recipe"
        owner = Path(mark.read_text(encoding="utf-8", errors="surrogateescape")) if mark.is_file() else path
        if owner == path or not (runs / owner).exists():
            break
    return folder


def claim(home: Path, recipe: Path) -> None:
    """Write down which recipe a run folder belongs to. Raises ToolError when the folder cannot be written."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        text = os.path.relpath(recipe.resolve(), home.parent.resolve())
        (home / ".recipe").write_text(text, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ToolError(
            f"cannot write the run folder: {error.strerror}",
            where=str(home),
            fix="set RAGTUNE_RUNS to a folder that you can write",
        ) from None


def clock(seconds: float) -> str:
    """A duration for a person: ``0.4 s``, ``12 s``, ``4 min 05 s``, ``6 h 50 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


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
    if kind == "inputs":
        return [f"{name} has a different result"]
    if kind == "files":
        verb = "new" if before is None else "removed" if after is None else "changed"
        return [f"{verb}: {name.replace('papers.', 'papers/', 1)}"]
    if kind == "version":
        return ["a newer version of ragtune computes it differently"]
    return [f"{at.removeprefix('settings.')}: {before!r:.40} → {after!r:.40}"]
