"""The stages in order, and what each one reads: the table that ``runner`` works through.

A stage is a function ``f(recipe, inputs, draft) -> None`` in ``stages/<name>.py``. It sees only the recipe
keys and the input files that are declared here, and writes only into its draft. Its key covers exactly those,
by content: whatever could change the result reruns the stage, and nothing else does.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from mlx_ragtune.artifact import STAGE_FOLDERS, Draft, Inputs, Store, digest_file, digest_json
from mlx_ragtune.errors import RecipeError

if TYPE_CHECKING:
    from mlx_ragtune.clients.registered import Standing
    from mlx_ragtune.recipe import Recipe

Facts = Mapping[str, Any]


class UserFiles(Protocol):
    """The user's files of one run, and their digests."""

    @property
    def recipe(self) -> "Recipe":
        """The recipe."""

    @property
    def home(self) -> Path:
        """The run's folder."""

    @property
    def offline(self) -> bool:
        """Whether nothing may be downloaded."""

    @property
    def say(self) -> Callable[[str], None]:
        """Shows a line to the user."""

    def remember(self, path: Path, purpose: str, compute: Callable[[Path], str]) -> str:
        """``compute(path)``, once for each state of the file. Raises InputError when the file cannot be read."""


@dataclass(frozen=True)
class Stage:
    """One stage; ``does`` is its help. ``version``, ``keys``, ``needs`` and ``outside`` make up its key.

    ``keys`` are recipe keys, or whole sections; ``ignores`` are keys below them that the stage may read but
    that cannot change its result. ``needs`` maps earlier stages to the files that are read of them
    (``base`` is the base model, ``tokenizer`` what counts tokens, from a model without its weights).
    ``outside`` gives a digest of the user's files, by role. ``rejects`` says why a finished artifact is not
    acceptable under a recipe, or "". Raise ``version`` when the same inputs would give another result.
    """

    name: str
    does: str
    keys: tuple[str, ...]
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ignores: tuple[str, ...] = ()
    version: int = 1
    outside: Mapping[str, Callable[[UserFiles], Any]] = field(default_factory=dict)
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

    def check_store(self, recipe: "Recipe", store: Store, *, replace_others: bool) -> None:
        """As ``check``, for what depends on the artifacts of other recipes: the module's ``check_store``, if any."""
        module = importlib.import_module(f"mlx_ragtune.stages.{self.name}")
        if hasattr(module, "check_store"):
            module.check_store(view(recipe, self), store, replace_others=replace_others)

    def models_standing(self, folder: Path) -> "Standing | None":
        """Whether servers still have what the finished stage registered there; None for any other stage."""
        from mlx_ragtune.stages.register import models_standing

        return models_standing(folder) if self.name == "register" else None

    @property
    def needs_base(self) -> bool:
        """Whether the stage reads the base model."""
        return "base" in self.needs


MODEL_INPUTS = ("base", "tokenizer")
"""Names in ``needs`` that no stage makes."""
CHUNKS = ("chunks.jsonl", "index.sqlite", "vectors.npy", "vectors.json", "vectors.lance/*")
REHEARSAL = ("rehearsal.jsonl", "statistics.json")
MODEL = ("model/*",)
PROMPT_ROWS = ("examples-valid.jsonl", "examples-train.jsonl")
REJECTED = ("rejected-valid.jsonl", "rejected-train.jsonl")
ADAPTER = ("adapters.safetensors", "adapter_config.json")
"""Files of earlier stages that a later one reads."""
LATER = (
    "dataset.contrast", "dataset.no_passages", "dataset.rehearsal", "dataset.rehearsal.share", "train.kl",
    "train.preference", "train.strength", "train.from_adapter", "fuse.strength",
)  # fmt: skip
"""Optional keys that were added after the first results were made: one that is not set changes no artifact's key."""
ENCODERS = ("retrieval.embedding.model", "retrieval.embedding.host", "retrieval.rerank.model")
"""Names of models that retrieve: their digests count, in the corpus's vectors and by ``_reranker``."""


def _digest(files: UserFiles, path: Path) -> str:
    """sha256 of a file of the user's."""
    return files.remember(path, "bytes", digest_file)


def _papers(files: UserFiles) -> dict[str, str]:
    """The digest of each paper that is read, or why it cannot be read; files that are ignored do not count.

    Papers of arXiv are downloaded now, unless the run is offline.
    """
    from mlx_ragtune.papers.folder import paper_digests

    corpus = files.recipe.corpus

    def digest(path: Path) -> str:
        return _digest(files, path)

    digests = paper_digests(corpus.folder, digest=digest) if corpus.folder else {}
    if corpus.arxiv:
        from mlx_ragtune.clients.arxiv_shelf import RECORDS, ArxivShelf

        shelf = ArxivShelf(Store(files.home.parent).root / RECORDS, digest=digest)
        if not files.offline:
            shelf.bring(corpus.arxiv, say=files.say)
        papers = shelf.papers(corpus.arxiv)
        digests |= {paper.file.name: paper.file.problem or paper.digest for paper in papers}
    return digests


def _file(path: Callable[["Recipe"], Path | None]) -> Callable[[UserFiles], str | None]:
    """The digest of an optional file of the user's."""

    def digest(files: UserFiles) -> str | None:
        file = path(files.recipe)
        return _digest(files, file) if file else None

    return digest


def _prompts(files: UserFiles) -> str | None:
    """The digest of the rehearsal prompts."""
    from mlx_ragtune.synthesis.rehearsal_prompts import prompts_file

    rehearsal = files.recipe.dataset.rehearsal
    return _digest(files, prompts_file(rehearsal.prompts)) if rehearsal else None


def _own_rows(files: UserFiles) -> str | None:
    """The digest of the user's rows: of the file, or the commit of a data set of the hub; its name until it is here."""
    from mlx_ragtune.clients.hub_data import cached_data, parse_hub_data

    path = files.recipe.dataset.pairs
    if path is None or (data := parse_hub_data(str(path))) is None:
        return _digest(files, path) if path else None
    found = cached_data(data)
    return f"{path} {found.commit}" if found else str(path)


def _benchmark_of_dataset(files: UserFiles) -> str:
    """The paper ids and question texts: all that the data set depends on."""
    from mlx_ragtune.synthesis.benchmark_view import dataset_view

    return files.remember(files.recipe.benchmark, "dataset", lambda path: digest_json(dataset_view(path)))


def _benchmark_of_prompts(files: UserFiles) -> str:
    """The question texts, in order: all that the fixed prompts depend on."""
    from mlx_ragtune.scoring.answers.benchmark_rows import question_texts

    def texts(path: Path) -> str:
        return digest_json(question_texts(path))

    return files.remember(files.recipe.benchmark, "prompts", texts)


def _local_model(section: str) -> Callable[[UserFiles], str | None]:
    """The digest of a model that the recipe names as generator, judge or embedder, if it is a file or a folder."""

    def digest(files: UserFiles) -> str | None:
        settings = files.recipe
        for name in section.split("."):
            settings = getattr(settings, name, None) if settings is not None else None  # type: ignore[assignment]
        model, backend = getattr(settings, "model", None), getattr(settings, "backend", "")
        if not model or backend not in ("llamacpp", "mlx") or not model.startswith("/"):
            return None
        return _model_at(files, Path(model))

    return digest


def _model_at(files: UserFiles, path: Path) -> str:
    """The digest of a GGUF file or of a model folder's files."""
    from mlx_ragtune.clients.file_digests import base_digest

    return base_digest(path) if path.is_dir() else _digest(files, path)


def _embedding(files: UserFiles) -> str | None:
    """The digest of the embedding model's file; its name at Ollama, whose digest is in the vectors themselves."""
    settings = files.recipe.retrieval.embedding
    if settings is None:
        return None
    return settings.model if settings.backend == "ollama" else _encoder(files, settings.model)


def _reranker(files: UserFiles) -> str | None:
    """The digest of the reranker's file."""
    settings = files.recipe.retrieval.rerank
    return _encoder(files, settings.model) if settings else None


def _encoder(files: UserFiles, model: str) -> str:
    """The digest of an embedding model or reranker; the name of a hub model that is not on this machine yet."""
    from mlx_ragtune.searching.encoder_files import encoder_digest

    return _digest(files, Path(model)) if model.endswith(".gguf") else encoder_digest(model)


def _adapter(files: UserFiles) -> str | None:
    """The digest of the adapter that training starts from, downloaded first. Raises RecipeError for the run's own."""
    from mlx_ragtune.clients.hub_models import adapter_folder
    from mlx_ragtune.models.adapter_files import find_adapter

    folder = files.recipe.train.from_adapter
    if folder is None:
        return None
    found = find_adapter(adapter_folder(folder))
    if found.weights.parent.resolve() == (files.home / STAGE_FOLDERS["train"]).resolve():
        raise RecipeError(
            "the run would start from its own result, and again whenever it has a new one",
            where="train.from_adapter",
            fix="copy the recipe under another name, and start from the run of the first",
        )
    return digest_json([_digest(files, found.weights), _digest(files, found.config)])


def _server(files: UserFiles) -> str | None:
    """The address of the server that models are registered with."""
    from mlx_ragtune.clients.ollama_address import effective_host

    return effective_host(files.recipe.register.host) if files.recipe.register.serve == "ollama" else None


def _votes(files: UserFiles) -> dict[str, str]:
    """The results of blind comparisons in the run's folder."""
    votes = sorted(files.home.glob("ab/*/unblinded.json"))
    return {path.relative_to(files.home).as_posix(): _digest(files, path) for path in votes}


def _unreadable(recipe: "Recipe", facts: Facts) -> str:
    if recipe.corpus.on_unreadable == "fail" and facts.get("unreadable"):
        return f"{facts['unreadable']} papers are unreadable and corpus.on_unreadable is 'fail'"
    if facts.get("without_ocr"):
        from mlx_ragtune.clients.ocr import ocr_problem

        if not ocr_problem():
            return f"{facts['without_ocr']} papers need OCR, which is available by now"
    return ""


def _lossy(recipe: "Recipe", facts: Facts) -> str:
    if recipe.dataset.on_too_long == "fail" and facts.get("too_long"):
        return f"{facts['too_long']} rows are too long and dataset.on_too_long is 'fail'"
    if facts.get("lost_share", 0.0) > recipe.dataset.max_loss:
        return f"the share of rows left out is {facts['lost_share']}, above dataset.max_loss"
    generator = recipe.dataset.generator
    if generator and facts.get("yield_share", 1.0) < generator.min_yield:
        return f"the share of usable pairs is {facts['yield_share']}, below dataset.generator.min_yield"
    return ""


STAGES: tuple[Stage, ...] = (
    Stage(
        "corpus",
        "Read the papers and split them into indexed chunks",
        version=4,
        keys=("corpus", "retrieval.embedding", "retrieval.store"),
        ignores=(
            "corpus.folder", "corpus.on_unreadable", "corpus.arxiv", "corpus.bibliography",
            "retrieval.embedding.model", "retrieval.embedding.host", "retrieval.embedding.query_prefix",
        ),
        needs={"tokenizer": ()},
        outside={
            "papers": _papers,
            "embedding": _embedding,
            "bibliography": _file(lambda recipe: recipe.corpus.bibliography),
        },
        rejects=_unreadable,
    ),
    Stage(
        "dataset",
        "Build training rows with contexts, split by paper",
        version=8,
        keys=("dataset", "retrieval", "seed", "benchmark"),
        ignores=(
            "dataset.pairs", "dataset.on_too_long", "dataset.max_loss", "dataset.generator.hosts",
            "dataset.generator.slots", "dataset.generator.min_yield", "dataset.generator.package", "dataset.rehearsal",
            "benchmark", *ENCODERS,
        ),
        needs={"corpus": ("documents.jsonl", *CHUNKS), "base": ()},
        outside={
            "pairs": _own_rows,
            "benchmark": _benchmark_of_dataset,
            "generator": _local_model("dataset.generator"),
            "reranker": _reranker,
        },
        rejects=_lossy,
    ),
    Stage(
        "rehearse",
        "Answer general prompts with the base model (dataset.rehearsal)",
        keys=(
            "base.precision", "dataset.thinking", "dataset.rehearsal.prompts", "dataset.rehearsal.count",
            "dataset.rehearsal.max_tokens",
        ),
        ignores=("dataset.rehearsal.prompts",),
        needs={"base": ()},
        outside={"prompts": _prompts},
    ),
    Stage(
        "train",
        "Train a LoRA adapter; keep the best by validation loss",
        keys=(
            "base.precision", "base.model", "dataset.thinking", "dataset.max_tokens", "dataset.on_too_long",
            "dataset.split", "dataset.rehearsal.share", "train", "seed",
        ),
        ignores=(
            "base.model", "dataset.max_tokens", "dataset.on_too_long", "dataset.split", "train.report_to",
            "train.from_adapter",
        ),
        outside={"adapter": _adapter},
        needs={"dataset": PROMPT_ROWS, "rehearse": REHEARSAL, "base": ()},
        version=3,
    ),
    Stage(
        "fuse",
        "Merge the adapter into full-precision weights",
        keys=("dataset.thinking", "retrieval", "benchmark", "fuse.strength"),
        ignores=("benchmark", *ENCODERS),
        needs={"corpus": CHUNKS, "dataset": PROMPT_ROWS, "train": ADAPTER, "base": ()},
        outside={"benchmark": _benchmark_of_prompts, "reranker": _reranker},
    ),
    Stage(
        "export",
        "Write base and tuned model as GGUF of one type",
        version=2,
        keys=("dataset.thinking", "retrieval", "export", "benchmark"),
        ignores=("benchmark", *ENCODERS),
        needs={"corpus": CHUNKS, "dataset": PROMPT_ROWS, "fuse": MODEL, "base": ()},
        outside={"benchmark": _benchmark_of_prompts, "reranker": _reranker},
    ),
    Stage(
        "register",
        "Register both models with a server",
        keys=("name", "base.model", "base.package", "dataset.thinking", "export", "register", "evaluate.sampling"),
        ignores=("base.model", "base.package", "register.host", "register.development_build"),
        needs={"export": ("*.gguf",), "fuse": MODEL, "base": ()},
        version=2,
        outside={"server": _server},
    ),
    Stage(
        "evaluate",
        "Ask base, prompted base and tuned model the benchmark; score and compare",
        keys=(
            "base.model", "benchmark", "dataset.thinking", "dataset.generator", "dataset.rehearsal.prompts",
            "retrieval", "export.type", "register.serve", "evaluate", "scoring", "seed",
        ),
        ignores=(
            "base.model", "benchmark", "dataset.generator", "dataset.rehearsal.prompts", "export.type",
            "register.serve", "evaluate.probes", "scoring.judge.host", "scoring.judge.labels",
            "scoring.similarity.host", *ENCODERS,
        ),
        needs={
            "corpus": ("documents.jsonl", *CHUNKS), "dataset": ("examples-train.jsonl",), "export": ("*.gguf",),
            "register": ("receipt.json",), "base": (),
        },
        version=6,
        outside={
            "benchmark": _file(lambda recipe: recipe.benchmark),
            "probes": _file(lambda recipe: recipe.evaluate.probes),
            "labels": _file(lambda recipe: recipe.scoring.judge.labels if recipe.scoring.judge else None),
            "judge": _local_model("scoring.judge"),
            "embedder": _local_model("scoring.similarity"),
            "reranker": _reranker,
        },
    ),
    Stage(
        "report",
        "Write the report as HTML, Markdown and JSON",
        keys=(
            "name", "seed", "base", "corpus", "benchmark", "retrieval", "dataset", "train", "export", "register",
            "evaluate", "scoring", "fuse.strength",
        ),
        needs={
            "dataset": ("statistics.json",), "rehearse": ("statistics.json",), "train": ("result.json", "losses.jsonl"),
            "evaluate": ("*", "manifest.json"),
        },
        outside={"votes": _votes},
    ),
)  # fmt: skip


def stage_named(name: str) -> Stage:
    """The stage of that name. Raises StopIteration."""
    return next(stage for stage in STAGES if stage.name == name)


_SERVED = stage_named("evaluate")
QUICK_EVALUATE = replace(
    _SERVED,
    does="Answer the benchmark in MLX with and without the adapter; score and compare",
    keys=(
        *(key for key in _SERVED.keys if key not in ("export.type", "register.serve")),
        "base.precision", "fuse.strength",
    ),
    ignores=(
        *(key for key in _SERVED.ignores if key not in ("export.type", "register.serve")),
        "evaluate.slots", "evaluate.threads",
    ),
    needs={name: files for name, files in _SERVED.needs.items() if name not in ("export", "register")}
    | {"train": ADAPTER},
)  # fmt: skip
"""``evaluate`` with ``evaluate.engine: mlx``: it needs the adapter and nothing that is exported or registered."""


_TRAIN = stage_named("train")
PREFERENCE_TRAIN = replace(_TRAIN, needs={**_TRAIN.needs, "dataset": (*PROMPT_ROWS, *REJECTED)})
"""``train`` with ``train.preference``: it reads the rejected answers too."""


def needed_files(name: str) -> set[str]:
    """The roles of the user's files that the named stage and those before it read: ``papers``, ``benchmark``."""
    names = [stage.name for stage in STAGES]
    return {role for stage in STAGES[: names.index(name) + 1] for role in stage.outside}


def stages_of(recipe: "Recipe") -> tuple[Stage, ...]:
    """The table for one recipe: without ``rehearse`` where it has no ``dataset.rehearsal``."""
    quick, prefers = recipe.evaluate.engine == "mlx", recipe.train.preference is not None
    variants = {"evaluate": QUICK_EVALUATE if quick else None, "train": PREFERENCE_TRAIN if prefers else None}
    table = tuple(variants.get(stage.name) or stage for stage in STAGES)
    if recipe.dataset.rehearsal is not None:
        return table
    return tuple(
        replace(stage, needs={name: files for name, files in stage.needs.items() if name != "rehearse"})
        for stage in table
        if stage.name != "rehearse"
    )


def stages_until(recipe: "Recipe", until: str) -> tuple[Stage, ...]:
    """The recipe's stages up to and including the named one."""
    order = list(STAGE_FOLDERS)
    return tuple(stage for stage in stages_of(recipe) if order.index(stage.name) <= order.index(until))


def needed(recipe: "Recipe", names: Iterable[str]) -> set[str]:
    """The named stages and all that they depend on. Raises RecipeError for one that the recipe does not have."""
    table = {stage.name: stage for stage in stages_of(recipe)}
    closure, waiting = set[str](), list(names)
    if "rehearse" in waiting and "rehearse" not in table:
        raise RecipeError(
            "stage 'rehearse' has nothing to do: the recipe does not set dataset.rehearsal",
            where="dataset.rehearsal",
            fix="add 'rehearsal: {share: 0.1}' to the section 'dataset'",
        )
    while waiting:
        name = waiting.pop()
        if name not in closure and name in table:
            closure.add(name)
            waiting += table[name].needs
    return closure


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
            if value is None:
                return None
            return _View(value, self._keys, self._stage, place)
        raise AttributeError(f"stage '{self._stage}' reads '{place}' but does not declare it in STAGES")


def view(recipe: "Recipe", stage: Stage) -> "Recipe":
    """The recipe as the stage may see it: reading any other key raises AttributeError."""
    return cast("Recipe", _View(recipe, stage.keys, stage.name))
