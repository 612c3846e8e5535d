"""The sections of a recipe about papers, passages and training pairs."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from mlx_ragtune.recipe_types import File, Name, Settings, Share, Tokens
from mlx_ragtune.records import Kind

Count = Annotated[int, Field(ge=1, le=2000)]
_ARXIV_ID = re.compile(
    r"(?:(?:0[7-9]|1[0-4])(?:0[1-9]|1[0-2])\.\d{4}|(?:1[5-9]|[2-9]\d)(?:0[1-9]|1[0-2])\.\d{5}"
    r"|[a-z]+(?:-[a-z]+)*(?:\.[A-Z]{2})?/\d{2}(?:0[1-9]|1[0-2])\d{3})(?:v[1-9]\d{0,2})?"
)
"""Four digits until 2014, five since 2015 (info.arxiv.org/help/arxiv_identifier.html)."""


ANSWER_WORDS: dict[Kind, tuple[int, int]] = {
    "grounded": (6, 140),
    "synthesis": (10, 220),
    "refusal": (4, 90),
}
"""Of the 1,997 answers of the source experiment, by kind, 1% to 99% have 23 to 88, 76 to 142 and 34 to 63 words; a
citation adds its title."""


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

    backend: Literal["ollama", "llamacpp", "mlx", "openai"] = "ollama"
    """`openai`: any server with an OpenAI-compatible API (LM Studio, vLLM, llama-server); the others run it here."""
    model: Name
    """Model name at the server; `llamacpp` and `mlx`: a folder, GGUF file or hub id, as `base.model`."""
    package: Name | None = None
    """`llamacpp`, `mlx`: as `base.package`, for a hub id."""
    hosts: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)] = ("http://127.0.0.1:11434",)
    """`ollama`, `openai`: addresses of the servers that share the work (`http://127.0.0.1:1234/v1`)."""
    slots: Annotated[int, Field(ge=1, le=256)] = 1
    """Concurrent requests per host. How many Ollama answers at a time is its own setting, OLLAMA_NUM_PARALLEL."""
    context_tokens: Annotated[int, Field(ge=1024, le=2**20)] = 8192
    """Context window of a request, in tokens. `openai`: that of the server must be as long."""
    pairs: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    """Number of pairs to generate."""
    pairs_per_call: Annotated[int, Field(ge=1, le=8)] = 4
    """Number of pairs per request."""
    answers: Literal["written", "quoted"] = "written"
    """`quoted`: a rule chooses a sentence, the model asks for it, the answer quotes it: for very small models."""
    min_yield: Share = 0.3
    """Stop with an error when a smaller share of the pairs passes the checks."""
    words: dict[Kind, tuple[Count, Count]] = ANSWER_WORDS
    """Fewest and most words of an answer, by kind; kinds that are not named keep these."""

    @field_validator("words")
    @classmethod
    def _all_kinds(cls, value: dict[Kind, tuple[int, int]]) -> dict[Kind, tuple[int, int]]:
        for kind, (fewest, most) in value.items():
            if fewest > most:
                raise ValueError(f"{kind}: [{fewest}, {most}] is empty; give the fewest words first")
        return {**ANSWER_WORDS, **value}


class RehearsalSettings(Settings):
    """General prompts that the base model answers itself, so that tuning on papers makes it forget less."""

    share: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of the training rows that are such answers. With 0 none is trained on; their loss is still measured."""
    prompts: File | None = None
    """JSONL file of prompts (`id`, `prompt`), none of them a probe; default: the 370 bundled ones."""
    count: Annotated[int, Field(ge=8, le=100_000)] | None = None
    """How many of the prompts are answered, spread evenly over the file; default: all."""
    max_tokens: Annotated[int, Field(ge=16, le=4096)] = 192
    """Maximum length of an answer, in tokens. An answer that does not end by then is not used."""


class DatasetSettings(Settings):
    """Question-answer pairs, either from a file or from a generator."""

    pairs: File | None = None
    """JSONL, CSV or Parquet file of pairs or rows, or `hf:ORGANIZATION/NAME`. Give `pairs` or `generator`."""
    format: Literal["pairs", "chat", "prompt", "rag"] | None = None
    """Format of the rows in `pairs`; null: that of the first row's keys. See data.md."""
    columns: dict[Literal["id", "kind", "question", "answer", "context", "messages"], Name] = {}  # noqa: RUF012
    """`pairs`: names of the columns of other files: `{question: ask, answer: reply, context: passages}`."""
    generator: GeneratorSettings | None = None
    """Generate the pairs instead."""
    shares: dict[Literal["grounded", "synthesis", "refusal"], Share] = {  # noqa: RUF012 (pydantic copies it)
        "grounded": 0.6,
        "synthesis": 0.2,
        "refusal": 0.2,
    }
    """Target proportions of the three kinds of pairs. They sum to 1; pairs of a kind with 0 are not used."""
    balance: Literal["keep", "drop"] = "keep"
    """What to do when the pairs miss `shares`. `keep`: report it; `drop`: leave out pairs of the kinds in surplus."""
    max_loss: Share = 0.2
    """Stop when a larger share of the rows is left out. What `balance` and `refusal_kinds` exclude does not count."""
    refusal_kinds: tuple[Literal["near_miss", "off_corpus"], ...] = ("near_miss", "off_corpus")
    """`pairs`: kinds of refusals to use. Near misses make a very small model refuse questions it could answer."""
    contrast: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the answerable pairs that are asked once more without their paper and refused; on top of `shares`."""
    no_passages: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the answerable pairs that are asked once more with no passages, as `ollama run` asks, and refused."""
    max_tokens: Tokens = 2048
    """Maximum length of a training row, in tokens of the base model's tokenizer."""
    on_too_long: Literal["fail", "drop"] = "fail"
    """What to do with longer rows. Answers are never truncated."""
    split: Literal["paper", "row", "none"] = "paper"
    """What is held out: whole papers; rows, for a single paper (the loss is then optimistic); or nothing at all."""
    valid_share: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Share of the papers (of the rows with `split: row`) held out for validation."""
    test_share: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share held out for a test split."""
    thinking: Literal["off", "on"] = "off"
    """Thinking mode of the chat template, in training and at the server."""
    rehearsal: RehearsalSettings | None = None
    """Train on some of the base model's own answers to general prompts too."""
