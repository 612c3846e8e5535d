"""The chat server over two small papers, one of them a PDF, with models that say what a test tells them."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlx_ragtune.answering.paper_answers import PaperAnswers, Prompting
from mlx_ragtune.answering.paper_files import PaperFiles
from mlx_ragtune.answering.votes import VoteLog
from mlx_ragtune.clients.protocol import Piece, PromptOverflowError
from mlx_ragtune.errors import InputError
from mlx_ragtune.pages.chat_app import Shown, chat_app
from mlx_ragtune.pages.chat_engine import Engine
from mlx_ragtune.pages.chat_guard import Access
from mlx_ragtune.pages.chat_server import BoundedConnection, serving
from mlx_ragtune.pages.request_checks import HostNames, listen
from mlx_ragtune.records import ChatReply, ChatRequest, Message, Sampling
from mlx_ragtune.retrieval.retriever import Retriever
from tests.reviewing.made_reviews import library

EXAMPLES = (Message("user", "Papers:\n\n(none)\n\nQuestion: An example?"), Message("assistant", "An example."))


def question_of(request: ChatRequest) -> str:
    return request.messages[-1].content.rpartition("\n\nQuestion: ")[2]


@dataclass
class Scripted:
    """Answers with what ``text`` says of model and question, a word at a time; keeps the requests."""

    text: Callable[[str, str], str] = lambda model, question: f"{model} says: {question}"
    pause: float = 0.0
    strengths: bool = False
    requests: list[ChatRequest] = field(default_factory=list)
    asked: list[tuple[str, float | None]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    at_a_time: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def stream(
        self, model: str, request: ChatRequest, *, strength: float | None = None
    ) -> Generator[Piece, None, ChatReply]:
        if strength is not None and not self.strengths:
            raise InputError("the registered model has its adapter merged", where="strength")
        question = question_of(request)
        if "too long" in question:
            raise PromptOverflowError(5000, 4096, where="/secret/path.gguf")
        with self.lock:
            self.requests.append(request)
            self.asked.append((model, strength))
            self.at_a_time += 1
            self.most = max(self.most, self.at_a_time)
        try:
            words = self.text(model, question).split(" ")[: request.sampling.max_tokens]
            for at, word in enumerate(words):
                time.sleep(self.pause)
                yield Piece(f" {word}" if at else word)
            self.ended.append("whole")
            whole = len(words) < request.sampling.max_tokens
            return ChatReply(" ".join(words), "stop" if whole else "length", 7, len(words), 0.1, 0.01)
        except GeneratorExit:
            self.ended.append("closed")
            raise
        finally:
            with self.lock:
                self.at_a_time -= 1


def made_answers(folder: Path, models: Scripted, *, turns: int = 0, prompted: bool = True, k: int = 2) -> PaperAnswers:
    papers = library(folder)
    assert papers.index is not None
    chunks = [chunk for own in papers.chunks.values() for chunk in own]
    files = PaperFiles(
        {name: one.title for name, one in papers.documents.items()},
        {name: one.page_starts for name, one in papers.documents.items()},
        {name: path for name, path in papers.files.items() if path.suffix == ".pdf"},
    )
    prompting = Prompting(k, Sampling(max_tokens=64), turns=turns, examples=(lambda: EXAMPLES) if prompted else None)
    return PaperAnswers(Retriever(papers.index, chunks), files, models, prompting)


@dataclass
class Running:
    """A running server."""

    address: str
    port: int
    engine: Engine
    models: Scripted
    votes: VoteLog
    said: list[str]

    @property
    def v1(self) -> str:
        return f"{self.address}/v1"


@contextmanager
def chat_server(
    folder: Path,
    models: Scripted | None = None,
    *,
    token: str | None = None,
    slots: int = 1,
    turns: int = 0,
    prompted: bool = True,
    append_sources: bool = False,
    connection: type[BoundedConnection] = BoundedConnection,
    first_seconds: float = 0.5,
    ping_seconds: float = 10.0,
) -> Iterator[Running]:
    models = models or Scripted()
    said: list[str] = []
    answers = made_answers(folder, models, turns=turns, prompted=prompted)
    engine = Engine(answers, slots=slots, first_seconds=first_seconds, ping_seconds=ping_seconds)
    votes = VoteLog(folder / "votes.jsonl")
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    access = Access(HostNames(port, frozenset({"my-server"})), token)
    shown = Shown("lynx", models.strengths, append_sources, said.append)
    with serving(chat_app(engine, votes, access, shown), listening, connection=connection):
        yield Running(f"http://127.0.0.1:{port}", port, engine, models, votes, said)
