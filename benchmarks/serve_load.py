"""Many clients at one chat server: are answers lost or mixed up, and does its memory grow?

    python benchmarks/serve_load.py [--clients 64] [--seconds 60] [--slots 8]

The server runs in a process of its own on the bundled notes, with a scripted model that echoes each question word by
word. Every question is different; half of the answers are streamed, and one client in eight leaves in the middle of
some answers. Printed are the answers, those that were lost (an error, or cut) or mixed (not the echo of their own
question), the sources that are not those of the question, latencies, and the server's resident memory, threads and
open files at the start (after a warm-up that fills what the server remembers), in the middle and at the end.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlx_ragtune.clients.protocol import Piece
from mlx_ragtune.records import ChatReply, ChatRequest

ROOT = Path(__file__).resolve().parent.parent
GROWTH_MIB = 24.0
"""Memory is flat if the server has grown by less from the start to the end: Python's allocator alone moves by some."""


def serve(slots: int) -> None:
    """Serve until standard input is closed; prints the address."""
    from mlx_ragtune.answering.paper_answers import PaperAnswers, Prompting
    from mlx_ragtune.answering.paper_files import PaperFiles
    from mlx_ragtune.answering.votes import VoteLog
    from mlx_ragtune.pages.chat_app import Shown, chat_app
    from mlx_ragtune.pages.chat_engine import Engine
    from mlx_ragtune.pages.chat_guard import Access
    from mlx_ragtune.pages.chat_server import serving
    from mlx_ragtune.pages.request_checks import HostNames, listen
    from mlx_ragtune.papers.chunks import Chunking, split
    from mlx_ragtune.papers.token_counts import Estimate
    from mlx_ragtune.records import Document, Sampling, Section
    from mlx_ragtune.retrieval.index import Index, build_index
    from mlx_ragtune.retrieval.retriever import Retriever

    with tempfile.TemporaryDirectory() as folder:
        documents = []
        for path in sorted((ROOT / "data" / "rag_notes" / "papers").glob("*.md")):
            text = path.read_text(encoding="utf-8").split("---\n", 2)[2].strip()
            documents.append(Document(path.stem, path.name, path.stem, text, sections=(Section("", 0, len(text)),)))
        chunks = [chunk for document in documents for chunk in split(document, Chunking(150, 0, Estimate())).chunks]
        build_index(Path(folder) / "index.sqlite", chunks)
        papers = PaperFiles({one.id: one.title for one in documents}, {one.id: (0,) for one in documents}, {})
        retriever = Retriever(Index(Path(folder) / "index.sqlite"), chunks)
        answers = PaperAnswers(retriever, papers, Echo(), Prompting(3, Sampling(max_tokens=64)))
        listening = listen("127.0.0.1", 0)
        port = listening.getsockname()[1]
        app = chat_app(
            Engine(answers, slots=slots),
            VoteLog(Path(folder) / "votes.jsonl"),
            Access(HostNames(port)),
            Shown("load"),
        )
        with serving(app, listening):
            print(f"http://127.0.0.1:{port}", flush=True)
            sys.stdin.read()


class Echo:
    """Says the question again, a word at a time."""

    def stream(
        self, model: str, request: ChatRequest, *, strength: float | None = None
    ) -> Generator[Piece, None, ChatReply]:
        assert (model, strength) == ("tuned", None)
        words = request.messages[-1].content.rpartition("\n\nQuestion: ")[2].split(" ")
        for at, word in enumerate(words):
            time.sleep(0.001)
            yield Piece(f" {word}" if at else word)
        return ChatReply(" ".join(words), "stop", 1, len(words), 0.0)


@dataclass
class Counts:
    """What the clients saw."""

    answers: int = 0
    lost: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    left: int = 0
    seconds: list[float] = field(default_factory=list)


async def client(number: int, address: str, deadline: float, counts: Counts, sources: dict[str, list[str]]) -> None:
    """Ask until the deadline, one question after the other."""
    topics = ("lora", "qlora", "bert", "flashattention", "hyde", "dpr", "gptq", "colbert")
    # plain HTTP needs no certificates, which take long to load; a slow answer on a busy machine is not a lost one
    async with httpx.AsyncClient(base_url=address, timeout=120, trust_env=False, verify=False) as http:
        turn = 0
        while time.monotonic() < deadline:
            turn += 1
            topic = topics[(number + turn) % len(topics)]
            # no paper has the last word, so that all questions about a topic find the same passages
            question = f"what do the papers say about {topic} when they compare it with others zq{number}x{turn}"
            body: dict[str, object] = {"model": "tuned", "messages": [{"role": "user", "content": question}]}
            leaves = number % 8 == 0 and turn % 3 == 0
            started = time.monotonic()
            try:
                if turn % 2 or leaves:
                    text, found = await streamed(http, body, leaves=leaves)
                else:
                    text, found = await whole(http, body)
            except (httpx.HTTPError, ValueError, KeyError) as error:
                counts.lost.append(f"client {number}, turn {turn}: {type(error).__name__} {error}")
                continue
            if leaves:
                counts.left += 1
                continue
            counts.answers += 1
            counts.seconds.append(time.monotonic() - started)
            if text != question:
                counts.mixed.append(f"{question!r} got {text!r}")
            if sources.setdefault(topic, found) != found:
                counts.mixed.append(f"{question!r} got the sources {found}")


async def whole(http: httpx.AsyncClient, body: dict[str, object]) -> tuple[str, list[str]]:
    reply = (await http.post("/v1/chat/completions", json=body)).raise_for_status().json()
    return reply["choices"][0]["message"]["content"], [source["paper"] for source in reply["sources"]]


async def streamed(http: httpx.AsyncClient, body: dict[str, object], *, leaves: bool) -> tuple[str, list[str]]:
    text, papers, done = "", list[str](), False
    async with http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    raise ValueError(chunk["error"]["message"])
                papers = [source["paper"] for source in chunk.get("sources", ())] or papers
                text += chunk["choices"][0]["delta"].get("content") or ""
                if leaves and len(text) > 12:
                    return text, papers
    if not done:
        raise ValueError("the stream ended early")
    return text, papers


def usage(process: int) -> tuple[float, int, int]:
    """Resident memory (MiB), threads and open files of a process; -1 where the system does not tell."""
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(process)], capture_output=True, text=True, check=True).stdout
    tasks, files = Path(f"/proc/{process}/task"), Path(f"/proc/{process}/fd")
    return (
        int(shown) / 1024,
        len(list(tasks.iterdir())) if tasks.exists() else -1,
        len(list(files.iterdir())) if files.exists() else -1,
    )


async def run(address: str, process: int, clients: int, seconds: float) -> tuple[Counts, list[tuple[float, int, int]]]:
    sources: dict[str, list[str]] = {}
    warm = Counts()
    until = time.monotonic() + max(3.0, seconds / 6)
    await asyncio.gather(*(client(number, address, until, warm, sources) for number in range(clients)))
    measured = [usage(process)]
    counts = Counts(lost=warm.lost, mixed=warm.mixed)
    until = time.monotonic() + seconds
    working = asyncio.gather(*(client(number, address, until, counts, sources) for number in range(clients)))
    await asyncio.sleep(seconds / 2)
    measured.append(usage(process))
    await working
    await asyncio.sleep(1)
    measured.append(usage(process))
    return counts, measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--server", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.server:
        serve(options.slots)
        return 0
    command = [sys.executable, __file__, "--server", "--slots", str(options.slots)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        address = process.stdout.readline().strip()
        counts, measured = asyncio.run(run(address, process.pid, options.clients, options.seconds))
        process.stdin.close()
    report(counts, measured, options.clients, options.seconds)
    grown = measured[-1][0] - measured[0][0]
    return 1 if counts.lost or counts.mixed or not counts.answers or grown > GROWTH_MIB else 0


def report(counts: Counts, measured: list[tuple[float, int, int]], clients: int, seconds: float) -> None:
    times = sorted(counts.seconds) or [0.0]
    print(f"{clients} clients, {seconds:.0f} s: {counts.answers} answers, {counts.left} left by their client")
    print(f"lost: {len(counts.lost)}, mixed: {len(counts.mixed)}")
    for line in (counts.lost + counts.mixed)[:5]:
        print(f"  {line}")
    print(f"latency: median {statistics.median(times):.3f} s, 95% {times[int(0.95 * (len(times) - 1))]:.3f} s")
    for name, (memory, threads, files) in zip(("start", "middle", "end"), measured, strict=True):
        print(f"{name:>6}: {memory:7.1f} MiB resident, {threads} threads, {files} open files")


if __name__ == "__main__":
    sys.exit(main())
