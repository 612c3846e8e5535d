"""A chat model made of rules, behind an OpenAI-compatible server: it writes pairs on the passages it is shown.

It stands in for a good generator where only small models are at hand. It says nothing about the quality of pairs. The
tests of ``synthesis`` use the same rules.
"""

import hashlib
import json
import random
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mlx_ragtune.records import ChatReply, ChatRequest
from mlx_ragtune.scoring.answers.normalize import sentences

CHARACTERS_PER_TOKEN = 4.5
_PASSAGE = re.compile(
    r'^Passage \d+, from "([^\n]*)":\n(.*?)(?=\n\nPassage \d+, from|\n\n(?:Write|For|Answer) )', re.S | re.M
)
_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "or", "el")]


def reply_to(prompt: str, schema: Mapping[str, Any], seed: int) -> str:
    """The JSON that a good model would write: pairs from sentences of the passages, or verdicts on pairs."""
    (key,) = schema["properties"]
    rows = schema["properties"][key]
    if key == "pairs":
        fields = list(rows["items"]["properties"])
        return json.dumps({key: [written(prompt, fields, seed, at, quotes=True) for at in range(rows["minItems"])]})
    questions = re.findall(r"^\d+\. (.*)$", prompt, re.M)
    return json.dumps({key: [verdict(passages_in(prompt), key, rows["items"], question) for question in questions]})


def passages_in(prompt: str) -> list[tuple[str, str]]:
    """(title, text) of each passage that a prompt shows."""
    return [(str(title), str(text)) for title, text in _PASSAGE.findall(prompt)]


def written(prompt: str, fields: Sequence[str], seed: int, at: int, *, quotes: bool) -> dict[str, str]:
    """The item number ``at`` of a reply: what a good model would write about one sentence of each passage.

    ``quotes``: the question has the whole titles in double quotes; else it has what stands before their colons.
    """
    digest = hashlib.sha256(f"{prompt}{seed}{at}".encode()).hexdigest()
    passages = passages_in(prompt)
    if not passages:
        return {"question": f"What is known about {digest[:6]} and {digest[6:12]}?", "topic": f"the {digest[:6]}"}
    picked = []
    for title, text in passages:
        parts = [part for part in sentences(text) if len(part.split()) > 5]
        picked.append((title, parts[(int(digest[:4], 16) + at) % len(parts)]))
    names = " and ".join(f'"{title}"' if quotes else title.split(":")[0] for title, _ in picked)
    known = " ".join(_rare(sentence, 5 if len(picked) == 1 else 3) for _, sentence in picked)
    asked = known if "reply" in fields else f"the colour of {digest[:5]} {digest[5:10]}"
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
        if quotes:
            values["question"] = f"What does {names} report about {asked}, and what about its colour {digest[:8]}?"
    return {name: values[name] for name in fields}


def _rare(sentence: str, count: int) -> str:
    words = [word for word in re.findall(r"[A-Za-z][\w-]+", sentence) if len(word) > 4 or word[0].isupper()]
    return " ".join(list(dict.fromkeys(words))[:count])


def verdict(passages: Sequence[tuple[str, str]], key: str, item: Mapping[str, Any], question: str) -> object:
    """What a good model says of a question that ``written`` made: an answer to it, or whether the passages have one."""
    text = " ".join(text for _, text in passages)
    asked = re.split(r" Answer: |, and what|\?", question.partition("report about ")[2])[0].split()
    found = bool(asked) and all(word in text for word in asked)
    if key == "answers":
        best = max(sentences(text), key=lambda part: sum(word in part for word in asked), default="")
        return best or "unknown"
    allowed = item["properties"]["verdict"]["enum"]
    return {"finding": "as it says", "verdict": ("answered" if found else "absent") if "absent" in allowed else "yes"}


def tokens_in(text: str) -> int:
    """About how many tokens a text has."""
    return max(1, round(len(text) / CHARACTERS_PER_TOKEN))


@dataclass(frozen=True)
class Speeds:
    """A machine: prompt tokens a second, one prompt at a time; and tokens a second of one reply.

    Each further reply that is written at the same time makes every step ``slower`` by that share. The defaults are of
    the order of a 4B model at four bits on an M-series laptop; they are assumptions, not measurements.
    """

    prefill: float = 800.0
    decode: float = 40.0
    slower: float = 0.15


class Recorder:
    """The scripted model, which notes the tokens of each request: a list for each call, asked in one slot.

    Of a prompt only what follows the common start with the one before is read, as servers do that keep prompts.
    """

    def __init__(self) -> None:
        self.calls: list[list[tuple[int, int]]] = []
        self._before = ""

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply, at once."""
        schema, prompt = request.schema or {}, "".join(turn.content for turn in request.messages)
        text = reply_to(request.messages[1].content, schema, request.sampling.seed)
        if "pairs" in schema["properties"] or not self.calls:
            self.calls.append([])
        pairs = enumerate(zip(prompt, self._before, strict=False))
        same = next((at for at, (here, before) in pairs if here != before), min(len(prompt), len(self._before)))
        read = tokens_in(prompt[same:])
        self._before = prompt
        self.calls[-1].append((read, tokens_in(text)))
        return ChatReply(text, "stop", read, tokens_in(text), 0.0)


def simulated_seconds(calls: list[list[tuple[int, int]]], slots: int, speeds: Speeds) -> float:
    """How long the calls take on the machine in so many slots: each slot takes the next call when it is free."""
    waiting = deque(calls)
    # of each busy slot: seconds of reading and tokens of writing that are left, and the further requests of its call
    busy: list[tuple[float, float, deque[tuple[int, int]]]] = []
    clock = 0.0
    while waiting or busy:
        while waiting and len(busy) < slots:
            requests = deque(waiting.popleft())
            read, written = requests.popleft()
            busy.append((read / speeds.prefill, written, requests))
        reading = next((at for at, (left, _, _) in enumerate(busy) if left > 0), None)
        writing = [at for at, (left, _, _) in enumerate(busy) if left <= 0]
        step = (1 + speeds.slower * (len(writing) - 1)) / speeds.decode
        ends = [busy[at][1] * step for at in writing] + ([] if reading is None else [busy[reading][0]])
        passed = min(ends)
        clock += passed
        after: list[tuple[float, float, deque[tuple[int, int]]]] = []
        for at, (left, tokens, requests) in enumerate(busy):
            if at == reading:
                left = 0.0 if left - passed < 1e-12 else left - passed
            elif at in writing:
                tokens -= passed / step
            if left <= 0 and tokens <= 1e-9:
                if not requests:
                    continue
                read, written = requests.popleft()
                left, tokens = read / speeds.prefill, written
            after.append((left, tokens, requests))
        busy = after
    return clock


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[int]

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._send({"data": [{"id": "scripted"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        schema = body["response_format"]["json_schema"]["schema"]
        text = reply_to(body["messages"][1]["content"], schema, body["seed"])
        self.seen[0] += 1
        usage = {"prompt_tokens": 1, "completion_tokens": tokens_in(text)}
        self._send({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage})

    def _send(self, value: object) -> None:
        data = json.dumps(value).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # the client was killed
            pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: the client was killed."""


@contextmanager
def serving() -> Iterator[tuple[str, list[int]]]:
    """(address, number of replies so far as its only item) of a server that answers at once."""
    seen = [0]
    handler = type("Handler", (_Handler,), {"seen": seen})
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()


def write_papers(folder: Path, *, papers: int, sections: int) -> None:
    """Papers of invented words: each sentence states something else."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(7)

    def word() -> str:
        return "".join(draw.choice(_SYLLABLES) for _ in range(3))

    for number in range(papers):
        lines = [f"# The {word()} method for {word()} {word()}", ""]
        for section in range(sections):
            facts = " ".join(
                f"The {word()} of {word()} gave {draw.randint(10, 9999)} {word()} for {word()} and {word()}."
                for _ in range(12)
            )
            lines += [f"## {section + 1} {word().capitalize()}", "", facts, ""]
        (folder / f"paper{number:03d}.md").write_text("\n".join(lines), encoding="utf-8")
