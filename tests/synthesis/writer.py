"""A chat model made of rules: it reads the prompt, writes pairs on the passages, and judges them.

It answers what a good model would, so that everything around it can be tested; ``Broken`` spoils
chosen replies.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from scripted_writer import passages_in, verdict, written

from mlx_ragtune.errors import ToolError
from mlx_ragtune.papers.chunks import Chunking, split
from mlx_ragtune.papers.reading import open_paper
from mlx_ragtune.records import ChatReply, ChatRequest, Chunk

NOTES = Path(__file__).parents[2] / "data" / "rag_notes" / "papers"
NAMES = ("lora", "qlora", "rag", "ragas", "hnsw", "self_rag", "flan", "hotpot_qa")


def note_chunks(*names: str, tokens: int = 110) -> list[Chunk]:
    """Chunks of real notes: two or three for each."""
    papers = [open_paper(NOTES / f"{name}.md", id=name).document for name in names or NAMES]
    return [chunk for paper in papers for chunk in split(paper, Chunking(tokens=tokens)).chunks]


class Writer:
    """Deterministic: the same request gets the same reply."""

    def __init__(self) -> None:
        self.requests: list[ChatRequest] = []
        self._lock = threading.Lock()

    def chat(self, request: ChatRequest) -> ChatReply:
        with self._lock:
            self.requests.append(request)
        assert request.schema is not None
        (key,) = request.schema["properties"]
        count = request.schema["properties"][key]["minItems"]
        item = request.schema["properties"][key]["items"]
        prompt = request.messages[1].content
        rows: list[object] = []
        if key == "pairs":
            rows = [self._item(prompt, list(item["properties"]), at, request) for at in range(count)]
        else:
            questions = re.findall(r"^\d+\. (.*)$", prompt, re.M)
            rows = [verdict(passages_in(prompt), key, item, question) for question in questions]
        return ChatReply(json.dumps({key: rows}), "stop", 100, 50, 0.01)

    def _item(self, prompt: str, fields: list[str], at: int, request: ChatRequest) -> dict[str, str]:
        return written(prompt, fields, request.sampling.seed, at, quotes=False)


Spoil = Callable[[ChatReply], ChatReply]


class Broken:
    """A writer whose n-th reply (from 0), or every one, is spoilt; or that fails, or is slow."""

    def __init__(self, spoil: Spoil, at: Callable[[int, ChatRequest], bool] = lambda _number, _request: True) -> None:
        self.writer, self.spoil, self.at = Writer(), spoil, at
        self.count = 0
        self._lock = threading.Lock()

    def chat(self, request: ChatRequest) -> ChatReply:
        with self._lock:
            number, self.count = self.count, self.count + 1
        reply = self.writer.chat(request)
        return self.spoil(reply) if self.at(number, request) else reply


class Failing:
    """A writer whose server is away for some requests."""

    def __init__(self, at: Callable[[int], bool]) -> None:
        self.writer, self.at, self.count = Writer(), at, 0

    def chat(self, request: ChatRequest) -> ChatReply:
        self.count += 1
        if self.at(self.count - 1):
            raise ToolError("connection refused", where="http://127.0.0.1:11434", fix="ollama serve")
        return self.writer.chat(request)


class Slow:
    """A writer that takes its time, a different one for each request, and notes each in a file."""

    def __init__(self, seconds: float, log: Path | None = None) -> None:
        self.writer, self.seconds, self.log = Writer(), seconds, log

    def chat(self, request: ChatRequest) -> ChatReply:
        share = int(hashlib.sha256(repr(request).encode()).hexdigest()[:2], 16) / 255
        time.sleep(self.seconds * (0.5 + share))
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(hashlib.sha256(repr(request).encode()).hexdigest() + "\n")
        return self.writer.chat(request)
