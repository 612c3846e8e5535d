"""The rows of the JSONL files between stages, as frozen dataclasses.

    Document ─► Chunk ─► Passage ─► Example ─► (training)
                            └─────► Question ─► Answer ─► Score

Every class is one kind of row. ``mlx_ragtune.jsonl`` reads, validates and writes them.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["grounded", "synthesis", "refusal"]
"""Kinds of pairs, and so of the training rows about papers."""
RowKind = Literal[Kind, "rehearsal"]
"""Kinds of training rows. ``rehearsal``: a general prompt with the base model's own answer, without papers."""
RefusalKind = Literal["near_miss", "off_corpus"]
Split = Literal["train", "valid", "test"]
Arm = Literal["base", "prompted", "tuned"]
"""What answers: the base model, the base model with examples in its prompt, the tuned model."""
OWN_GROUP = "own-"
"""Start of the group of a row that came with its own prompt."""
ARMS: tuple[Arm, ...] = ("base", "prompted", "tuned")
Origin = Literal["drafted", "reviewed", "authored"]
"""Who stands behind a benchmark question: a model alone, a person who reviewed it, or a person who wrote it."""
Validity = Literal[
    "ok",
    "empty",
    "too_short",
    "truncated",
    "think_leak",
    "prompt_leak",
    "self_dialogue",
    "turn_token_leak",
    "prompt_overflow",
    "repetition_loop",
    "transport_error",
]


@dataclass(frozen=True)
class Section:
    """A heading of a document and the half-open character span ``[start, end)`` of its text."""

    title: str
    start: int
    end: int


@dataclass(frozen=True)
class Document:
    """One paper: its text (NFC) and the character offsets of its pages and sections."""

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
    """Part of a document: ``text == document.text[start:end]``. ``page`` counts from 1."""

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
    """A chunk as the model sees it: the title of the paper and the text."""

    chunk_id: str
    document_id: str
    title: str
    text: str


@dataclass(frozen=True)
class Evidence:
    """A verbatim quote from one paper."""

    paper: str
    quote: str


@dataclass(frozen=True)
class Pair:
    """A question and its answer, written by a person or generated, before passages are added.

    ``papers`` are the ids of the documents that support the answer. For a refusal it is the paper that
    would answer the question and is therefore excluded from the passages, or empty when there is none.
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
    """A training row: chat messages that end with the answer. Rows of one ``group`` share their passages.

    ``rejected`` is a worse answer to the same prompt, or empty; it is kept in a file of its own (``Rejected``).
    """

    id: str
    kind: RowKind
    group: str
    messages: tuple[Message, ...]
    papers: tuple[str, ...] = ()
    context_ids: tuple[str, ...] = ()
    rejected: str = ""

    @property
    def is_own(self) -> bool:
        """Whether the row came with its own prompt: its passages are in no paper of the corpus."""
        return self.group.startswith(OWN_GROUP)


@dataclass(frozen=True)
class Rejected:
    """An answer that is worse than that of the training row of the same id, and what it is."""

    id: str
    answer: str
    why: Literal["refusal", "answer", "title"]


@dataclass(frozen=True)
class Nugget:
    """A fact that a good answer states. It is supported if the answer has an alias of every anchor group."""

    text: str
    anchors: tuple[tuple[str, ...], ...]
    vital: bool = True


@dataclass(frozen=True)
class Question:
    """A benchmark question. Unanswerable ones have a ``refusal_kind``. ``papers`` are the gold document ids.

    ``evidence`` holds the quotes that the reference rests on; ``writer`` is the model that drafted the question.
    """

    id: str
    topic: str
    question: str
    answerable: bool
    papers: tuple[str, ...] = ()
    reference: str = ""
    keywords: tuple[tuple[str, ...], ...] = ()
    nuggets: tuple[Nugget, ...] = ()
    refusal_kind: RefusalKind | None = None
    origin: Origin = "authored"
    evidence: tuple[Evidence, ...] = ()
    writer: str = ""


@dataclass(frozen=True)
class Sampling:
    """Generation options. All are sent with every request. Sizes are in tokens."""

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
    """A request to a chat backend. ``schema`` is a JSON schema that the answer must satisfy.

    The first ``shared_turns`` messages are the same in many requests: a server may keep what it computed for them.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    think: bool = False
    schema: dict[str, Any] | None = None
    shared_turns: int = 0


@dataclass(frozen=True)
class ChatReply:
    """The reply of a chat backend. ``text`` excludes thinking; ``done_reason`` is ``stop``, ``length`` or ``loop``.

    Latency and time to first token are measured by the client and include the loading of the model.
    ``generate_seconds`` and ``load_seconds`` are reported by the server, None if it does not report them.
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
    """The reply of one arm to one question with one seed. ``key`` identifies model, prompt and options.

    ``prompt_sha256`` is the digest of the prompt as the server rendered it, empty if the server does not
    report it. ``cold`` marks the first answer after the model was loaded, ``parallel`` one that was asked while
    others were being answered: its times say nothing about the model.
    """

    key: str
    question_id: str
    model: Arm
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
    parallel: bool = False


@dataclass(frozen=True)
class Score:
    """The metrics of one answer. An undefined metric is absent, never 0 and never 1."""

    question_id: str
    model: Arm
    seed: int
    validity: Validity
    metrics: dict[str, float] = field(default_factory=dict)
