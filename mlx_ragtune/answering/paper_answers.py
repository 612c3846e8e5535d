"""Questions answered from the papers: the passages, the prompt of training, and one of the models.

    question ─► search ─► sources ─► prompt ─► base, prompted or tuned ─► answer with its sources

Nothing here knows of a server or a page: ``ragtune ask``, ``ragtune serve`` and the MCP server are thin above it.
Every method may be called from several threads.
"""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from mlx_ragtune.answering.paper_files import PaperFiles
from mlx_ragtune.clients.protocol import Piece, drained, require_unicode
from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Arm, ChatReply, ChatRequest, Chunk, Message, Passage, Sampling
from mlx_ragtune.retrieval.control_tokens import neutral
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import Retriever

MOST_PASSAGES = 100
"""More passages than that are never searched for one question."""
EXPORTED: Mapping[Arm, str] = {"base": "base", "prompted": "base", "tuned": "tuned"}
"""The model that answers for each arm."""


@dataclass(frozen=True)
class Source:
    """A passage that the model is shown. ``number`` is that in the prompt, from 1.

    ``page`` and ``last_page`` count from 1, None for a paper without pages. ``found_by`` names the indexes that found
    the passage; it is empty for one that only fills up the prompt. ``has_pdf`` tells that the paper is a PDF file.
    """

    number: int
    paper: str
    title: str
    section: str
    page: int | None
    last_page: int | None
    chunk: str
    text: str
    found_by: tuple[str, ...] = ()
    has_pdf: bool = False

    @property
    def place(self) -> str:
        """``section, page 3`` or ``pages 3–4``; "" where neither is known."""
        if self.page is None:
            return self.section
        many = self.last_page is not None and self.last_page > self.page
        pages = f"pages {self.page}–{self.last_page}" if many else f"page {self.page}"
        return f"{self.section}, {pages}" if self.section else pages

    @property
    def passage(self) -> Passage:
        """As it stands in the prompt."""
        return Passage(self.chunk, self.paper, self.title, self.text)


@dataclass(frozen=True)
class Answered:
    """An answer with its sources, and the server's whole reply. ``strength`` is None for a registered model."""

    question: str
    arm: Arm
    sources: tuple[Source, ...]
    reply: ChatReply
    strength: float | None = None

    @property
    def text(self) -> str:
        """The answer, without thinking."""
        return self.reply.text


class Models(Protocol):
    """What answers: the exported base and the tuned model."""

    def stream(
        self, model: str, request: ChatRequest, *, strength: float | None = None
    ) -> Generator[Piece, None, ChatReply]:
        """The pieces of a model's reply, then the reply. Raises ToolError, and InputError for a strength."""
        ...


@dataclass(frozen=True)
class Prompting:
    """What the prompts of a recipe depend on beside the passages. ``turns``: so many earlier exchanges are shown.

    ``examples`` are the earlier chat turns of the prompted base; None where the recipe has no such arm.
    """

    top_k: int
    sampling: Sampling
    think: bool = False
    turns: int = 0
    examples: Callable[[], tuple[Message, ...]] | None = None


class PaperAnswers:
    """Answers from the papers of one recipe. ``answering.opened_answers.open_answers`` opens it."""

    def __init__(self, retriever: Retriever, papers: PaperFiles, models: Models, prompting: Prompting) -> None:
        self._retriever, self.papers, self._models, self._prompting = retriever, papers, models, prompting
        self._searching = threading.Lock()
        self._choosing = threading.Lock()
        self._examples: tuple[Message, ...] | None = None

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms that can be asked."""
        return ("base", "tuned") if self._prompting.examples is None else ("base", "prompted", "tuned")

    @property
    def sampling(self) -> Sampling:
        """The recipe's generation options."""
        return self._prompting.sampling

    @property
    def turns(self) -> int:
        """How many earlier exchanges of a conversation the model is shown."""
        return self._prompting.turns

    def search(self, question: str, k: int | None = None) -> tuple[Source, ...]:
        """The passages that the model is shown for a question, best first; ``k`` is by default the recipe's.

        Raises InputError for a question without a word or that is not valid Unicode.
        """
        _require_question(question)
        count = self._prompting.top_k if k is None else max(1, min(k, MOST_PASSAGES))
        with self._searching:
            shown = self._retriever.shown(question, count)
        return tuple(self._source(number, item.chunk, tuple(item.by)) for number, item in enumerate(shown, start=1))

    def _source(self, number: int, chunk: Chunk, by: tuple[str, ...]) -> Source:
        page, last = self.papers.pages(chunk)
        return Source(
            number,
            chunk.document_id,
            chunk.title,
            chunk.section,
            page,
            last,
            chunk.id,
            chunk.text,
            found_by=by,
            has_pdf=self.papers.pdf(chunk.document_id) is not None,
        )

    def answer(
        self,
        question: str,
        *,
        arm: Arm = "tuned",
        sources: Sequence[Source] | None = None,
        turns: Sequence[Message] = (),
        sampling: Sampling | None = None,
        strength: float | None = None,
    ) -> Answered:
        """The whole answer. Arguments and errors are those of ``stream``."""
        return drained(
            self.stream(question, arm=arm, sources=sources, turns=turns, sampling=sampling, strength=strength)
        )

    def stream(
        self,
        question: str,
        *,
        arm: Arm = "tuned",
        sources: Sequence[Source] | None = None,
        turns: Sequence[Message] = (),
        sampling: Sampling | None = None,
        strength: float | None = None,
    ) -> Generator[Piece, None, Answered]:
        """The pieces of an answer as they are generated; the generator returns the whole with its sources.

        ``sources`` are those of ``search``, which is called where they are left out; ``turns`` are the earlier turns
        of a conversation, of which the last are shown, as many as ``Prompting.turns`` says. ``sampling`` is by
        default the recipe's; ``strength`` is a factor on the adapter. Closing the generator ends the request. Raises
        InputError for a question, an arm or a strength that cannot be used, PromptOverflowError for a prompt that
        does not fit, ToolError when the server fails.
        """
        self._require_arm(arm)
        _require_question(question)
        shown = self.search(question) if sources is None else tuple(sources)
        request = self.request(question, shown, arm=arm, turns=turns, sampling=sampling)
        reply = yield from self._models.stream(EXPORTED[arm], request, strength=strength)
        return Answered(question, arm, shown, reply, strength)

    def request(
        self,
        question: str,
        sources: Sequence[Source],
        *,
        arm: Arm,
        turns: Sequence[Message] = (),
        sampling: Sampling | None = None,
    ) -> ChatRequest:
        """What the model is sent: the prompt of training, and for ``prompted`` the examples of the evaluation."""
        system, user = build_messages([source.passage for source in sources], question)
        examples = self._example_turns() if arm == "prompted" else ()
        earlier = self._earlier(turns)
        return ChatRequest(
            (system, *examples, *earlier, user),
            sampling or self._prompting.sampling,
            think=self._prompting.think,
            shared_turns=1 + len(examples),  # as in the evaluation, so that the rounding is the same
        )

    def _earlier(self, turns: Sequence[Message]) -> tuple[Message, ...]:
        """The last exchanges, each a question and its answer, with control tokens spelled out as in a passage."""
        kept = exchanges(turns)[-self._prompting.turns :] if self._prompting.turns else []
        return tuple(Message(turn.role, neutral(turn.content)) for exchange in kept for turn in exchange)

    def _example_turns(self) -> tuple[Message, ...]:
        with self._choosing:
            if self._examples is None:
                assert self._prompting.examples is not None  # noqa: S101 (checked by _require_arm)
                self._examples = self._prompting.examples()
            return self._examples

    def _require_arm(self, arm: str) -> None:
        if arm in self.arms:
            return
        if arm == "prompted":
            raise InputError(
                "this recipe has no prompted base",
                where="evaluate.prompted",
                fix="set evaluate.prompted in the recipe, or ask 'base' or 'tuned'",
            )
        raise InputError(f"there is no model '{arm}'", fix=f"use one of {', '.join(self.arms)}")


def exchanges(turns: Sequence[Message]) -> list[tuple[Message, Message]]:
    """Those questions of a conversation that were answered at once, each with its answer."""
    return [pair for pair in pairwise(turns) if (pair[0].role, pair[1].role) == ("user", "assistant")]


def _require_question(question: str) -> None:
    if not question.strip():
        raise InputError("the question is empty", fix="ask something")
    require_unicode([question], where="question")
