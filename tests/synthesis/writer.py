"""A chat model made of rules: it reads the prompt, writes pairs on the passages, and judges them.

It answers what a good model would, so that everything around it can be tested; ``Broken`` spoils
chosen replies.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mlx_ragtune.errors import ToolError
from mlx_ragtune.papers.chunks import Chunking, split
from mlx_ragtune.papers.reading import open_paper
from mlx_ragtune.records import ChatReply, ChatRequest, Chunk
from mlx_ragtune.scoring.answers.normalize import sentences

NOTES = Path(__file__).parents[2] / "data" / "rag_notes" / "papers"
NAMES = ("lora", "qlora", "rag", "ragas", "hnsw", "self_rag", "flan", "hotpot_qa")


def note_chunks(*names: str, tokens: int = 110) -> list[Chunk]:
    """Chunks of real notes: two or three for each."""
    papers = [open_paper(NOTES / f"{name}.md", id=name).document for name in names or NAMES]
    return [chunk for paper in papers for chunk in split(paper, Chunking(tokens=tokens)).chunks]


def _passages(prompt: str) -> list[tuple[str, str]]:
    found = re.findall(
        r'^Passage \d+, from "([^\n]*)":\n(.*?)(?=\n\nPassage \d+, from|\n\n(?:Write|For|Answer) )', prompt, re.S | re.M
    )
    return [(str(title), str(text)) for title, text in found]


def _rare(sentence: str, count: int = 5) -> str:
    words = [word for word in re.findall(r"[A-Za-z][\w-]+", sentence) if len(word) > 4 or word[0].isupper()]
    return " ".join(list(dict.fromkeys(words))[:count])


def _short(title: str) -> str:
    return title.split(":")[0]


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
            rows = [self._judge(prompt, key, item, question) for question in questions]
        return ChatReply(json.dumps({key: rows}), "stop", 100, 50, 0.01)

    def _item(self, prompt: str, fields: list[str], at: int, request: ChatRequest) -> dict[str, str]:
        passages = _passages(prompt)
        digest = hashlib.sha256(f"{prompt}{request.sampling.seed}{at}".encode()).hexdigest()
        if not passages:
            return {"question": f"What is known about {digest[:6]} and {digest[6:12]}?", "topic": f"the {digest[:6]}"}
        picked = []
        for title, text in passages:
            parts = [one for one in sentences(text) if len(one.split()) > 5]
            picked.append((title, parts[(int(digest[:4], 16) + at) % len(parts)]))
        names = " and ".join(_short(title) for title, _ in picked)
        topic = " ".join(_rare(sentence, 5 if len(picked) == 1 else 3) for _, sentence in picked)
        asked = f"the colour of {digest[:5]} {digest[5:10]}" if "reply" not in fields else topic
        values = {
            "absent": "its colour",
            "evidence": picked[0][1],
            "evidence_1": picked[0][1],
            "evidence_2": picked[-1][1],
            "question": f"What does {names} report about {asked}?",
            "reply": " ".join(f'"{title}" reports: {sentence}' for title, sentence in picked),
            "topic": asked,
        }
        if "absent" in fields and "reply" in fields:
            values["reply"] += " Its colour is left open."
        return {name: values[name] for name in fields}

    def _judge(self, prompt: str, key: str, item: Mapping[str, object], question: str) -> object:
        text = " ".join(text for _, text in _passages(prompt))
        asked = question.split(" Answer: ")[0].partition("report about ")[2].rstrip("?").split()
        found = bool(asked) and all(word in text for word in asked)
        if key == "answers":
            best = max(sentences(text), key=lambda one: sum(word in one for word in asked), default="")
            return best or "unknown"
        allowed = item["properties"]["verdict"]["enum"]  # type: ignore[index]
        verdict = ("answered" if found else "absent") if "absent" in allowed else "yes"
        return {"finding": "as it says", "verdict": verdict}


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
