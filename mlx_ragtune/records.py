"""The JSONL rows that travel between stages: frozen dataclasses, checked when they are read.

    Document ─► Chunk ─► Passage ─► Example ─► (training)
                            └─────► Question ─► Answer ─► Score

Every class is one kind of row. ``mlx_ragtune.jsonl`` reads, validates and writes them.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["grounded", "synthesis", "refusal"]
RefusalKind = Literal["near_miss", "off_corpus"]
Split = Literal["train", "valid", "test"]
Validity = Literal[
    "ok",
    "empty",
    "too_short",
    "truncated",
    "think_leak",
    "prompt_overflow",
    "repetition_loop",
    "transport_error",
]


@dataclass(frozen=True)
class Section:
    """A heading of a document and the half-open character span ``[start, end)`` below it."""

    title: str
    start: int
    end: int


@dataclass(frozen=True)
class Document:
    """One paper: its text (NFC), and where its pages and sections begin and end in it."""

    id: str
    path: str
    title: str
    text: str
    authors: tuple[str, ...] = ()
    year: int | None = None
    arxiv_id: str | None = None
    sections: tuple[Section, ...] = ()
    page_starts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Chunk:
    """A piece of a document: ``text == document.text[start:end]``; ``page`` counts from 1."""

    id: str
    document_id: str
    title: str
    section: str
    page: int
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Passage:
    """What the model is shown of a chunk: the paper's title and the text."""

    chunk_id: str
    document_id: str
    title: str
    text: str


@dataclass(frozen=True)
class Evidence:
    """A quote, word for word, from one paper."""

    paper: str
    quote: str


@dataclass(frozen=True)
class Pair:
    """A question and its answer, authored or generated, before it gets its contexts.

    ``papers`` are the document ids the answer rests on (for a refusal: the paper that would have
    answered, kept out of the contexts; empty when no paper of the corpus would).
    """

    id: str
    kind: Kind
    question: str
    answer: str
    papers: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    refusal_kind: RefusalKind | None = None


@dataclass(frozen=True)
class Message:
    """One chat turn."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Example:
    """A training row: chat messages that end in the answer. Rows of one ``group`` share their contexts."""

    id: str
    kind: Kind
    group: str
    messages: tuple[Message, ...]
    papers: tuple[str, ...] = ()
    context_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Nugget:
    """A fact a good answer states. Supported when every anchor group has one of its aliases in the answer."""

    text: str
    anchors: tuple[tuple[str, ...], ...]
    vital: bool = True


@dataclass(frozen=True)
class Question:
    """A benchmark item. Unanswerable ones carry ``refusal_kind``; ``papers`` are the gold document ids."""

    id: str
    topic: str
    question: str
    answerable: bool
    papers: tuple[str, ...] = ()
    reference: str = ""
    keywords: tuple[tuple[str, ...], ...] = ()
    nuggets: tuple[Nugget, ...] = ()
    refusal_kind: RefusalKind | None = None


@dataclass(frozen=True)
class Sampling:
    """Generation options, all of them sent every time. Times in seconds, sizes in tokens."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    seed: int = 0
    max_tokens: int = 256
    context_tokens: int = 4096


@dataclass(frozen=True)
class ChatRequest:
    """One request to a chat backend. ``schema`` is a JSON schema that the answer must satisfy."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    think: bool = False
    schema: dict[str, Any] | None = None


@dataclass(frozen=True)
class ChatReply:
    """What came back: text apart from thinking; ``done_reason`` is ``stop``, ``length`` or ``loop``.

    Latency and time to the first token are the client's, loading of the model included; ``generate_seconds``
    and ``load_seconds`` are what the server says it took to generate, and to load (None where it does not say).
    """

    text: str
    done_reason: str
    prompt_tokens: int
    answer_tokens: int
    latency_seconds: float
    first_token_seconds: float | None = None
    thinking: str = ""
    generate_seconds: float | None = None
    load_seconds: float | None = None


@dataclass(frozen=True)
class Answer:
    """One model's reply to one question with one seed. ``key`` identifies model, prompt and options.

    ``prompt_sha256`` is over the prompt as the server rendered it; empty where the server cannot tell.
    ``cold``: the first answer after the model was loaded, which ``load_seconds`` took.
    """

    key: str
    question_id: str
    model: Literal["base", "tuned"]
    seed: int
    text: str
    done_reason: str
    prompt_tokens: int
    answer_tokens: int
    latency_seconds: float
    first_token_seconds: float | None = None
    thinking: str = ""
    generate_seconds: float | None = None
    load_seconds: float | None = None
    error: str = ""
    prompt_sha256: str = ""
    cold: bool = False


@dataclass(frozen=True)
class Score:
    """All metrics of one answer. A metric that is undefined here is absent, never 0 and never 1."""

    question_id: str
    model: Literal["base", "tuned"]
    seed: int
    validity: Validity
    metrics: dict[str, float] = field(default_factory=dict)
