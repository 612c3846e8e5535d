"""How far numerical noise moves answers and metrics: one model file, the same greedy prompts, other conditions.

    python benchmarks/noise.py RECIPE [--model base|tuned] [--questions 16] [--json]

The recipe must have been exported and registered with the embedded server. Its benchmark questions are asked with one
and with two threads, and one by one and four at a time; where OLLAMA_HOST is set, Ollama answers too, from the same
file. Printed are, for each pair of conditions, how many answers differ and by how much each metric's mean moves.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlx_ragtune.cli_options import open_run
from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.ollama_address import effective_host
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_registry import register_model
from mlx_ragtune.clients.protocol import ChatBackend
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.evaluation.asking_order import spread
from mlx_ragtune.evaluation.items import Item, ItemMaker
from mlx_ragtune.evaluation.pool import answered
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.models.prompts import load_tokenizer
from mlx_ragtune.records import Answer, ChatReply, ChatRequest, Document, Sampling, Score
from mlx_ragtune.scoring.answers.benchmark_rows import read_questions
from mlx_ragtune.scoring.answers.early_stop import repeats
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.answers.score import score_answer
from mlx_ragtune.searching.opened import open_retriever

NAME = "ragtune-noise"


def asked(
    backend: AbstractContextManager[ChatBackend], items: Sequence[Item], sampling: Sampling, slots: int
) -> list[ChatReply]:
    """The replies to the items, ``slots`` at a time."""
    with backend as opened:
        requests = {
            item.question.id: ChatRequest(item.messages, sampling, shared_turns=len(item.messages) - 1)
            for item in items
        }
        replies = dict(answered(list(requests), lambda name: opened.chat(requests[name]), workers=slots))
    if failed := [reply for reply in replies.values() if isinstance(reply, Exception)]:
        raise failed[0]
    return [reply for name in requests if isinstance(reply := replies[name], ChatReply)]


def scored(
    items: Sequence[Item], replies: Sequence[ChatReply], titles: Mapping[str, str], sampling: Sampling
) -> list[Score]:
    """The scores of the replies."""
    scores = []
    for item, reply in zip(items, replies, strict=True):
        answer = Answer("", item.question.id, "base", 0, reply.text, reply.done_reason, reply.prompt_tokens,
                        reply.answer_tokens, reply.latency_seconds, parallel=True)  # fmt: skip
        scores.append(score_answer(item.question, answer, item.passages, titles, sampling=sampling))
    return scores


def moved(first: Sequence[Score], second: Sequence[Score]) -> dict[str, float]:
    """By how much the mean of each metric differs, where it does."""
    moves = {}
    for name in METRICS:
        pairs = [
            (one.metrics[name], two.metrics[name])
            for one, two in zip(first, second, strict=True)
            if name in one.metrics and name in two.metrics
        ]
        if pairs:
            moves[name] = sum(two - one for one, two in pairs) / len(pairs)
    return {name: round(value, 4) for name, value in moves.items() if value}


def conditions(gguf: Path, context_tokens: int) -> dict[str, tuple[AbstractContextManager[ChatBackend], int]]:
    """The backends to compare and how many requests each gets at a time; the first is the one compared with."""
    embedded = partial(LlamaCppServer, gguf, context_tokens=context_tokens, stop=repeats)
    ways: dict[str, tuple[AbstractContextManager[ChatBackend], int]] = {
        "2 threads": (embedded(threads=2), 1),
        "1 thread": (embedded(threads=1), 1),
        "2 threads, 4 slots, one by one": (embedded(threads=2, slots=4), 1),
        "2 threads, 4 slots": (embedded(threads=2, slots=4), 4),
    }
    if "OLLAMA_HOST" in os.environ:
        host = effective_host()
        register_model(host, NAME, gguf)
        ways["Ollama"] = (OllamaChat(host, NAME, context_tokens=context_tokens), 1)
    return ways


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--model", choices=("base", "tuned"), default="base")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    run = open_run(arguments.recipe)
    recipe = run.recipe
    corpus, gguf = run.artifact("corpus"), run.artifact("export") / f"{arguments.model}.gguf"
    with open_retriever(recipe.retrieval, corpus.folder) as retriever:
        maker = ItemMaker(retriever, load_tokenizer(run.base), top_k=recipe.retrieval.top_k, thinking=False)
        items = spread(list(maker.questions(read_questions(recipe.benchmark))), arguments.questions)
    titles = {document.id: document.title for document in read_rows(corpus / "documents.jsonl", Document)}
    sampling = Sampling(**{**recipe.evaluate.sampling.model_dump(), "temperature": 0.0})
    rows, first = [], None
    for name, (backend, slots) in conditions(gguf, sampling.context_tokens).items():
        replies = asked(backend, items, sampling, slots)
        scores = scored(items, replies, titles, sampling)
        first = first or (name, replies, scores)
        differ = sum(one.text != two.text for one, two in zip(first[1], replies, strict=True))
        rows.append({"condition": name, "differ": differ, "of": len(items), "moved": moved(first[2], scores)})
        if not arguments.json:
            print(f"{name}: {differ} of {len(items)} answers differ from '{first[0]}'; {rows[-1]['moved']}", flush=True)
    if "OLLAMA_HOST" in os.environ:
        with Ollama(effective_host()) as server:
            server.delete(NAME)
    if arguments.json:
        print(json.dumps({"model": arguments.model, "conditions": rows}))


if __name__ == "__main__":
    main()
