"""Whole recipes with Ollama: smoke, and the demo with a few of its questions, are asked as with the embedded server.

    python tests/live/whole_recipes.py                           # against the stand-in
    OLLAMA_HOST=127.0.0.1:11434 python tests/live/whole_recipes.py    # against a real server

Each recipe runs through all eight stages with the embedded server, then again with ``serve: ollama``, which
runs only what that changes. Both must be given the same prompts, byte for byte and token for token, and reach the
same verdict; each engine must repeat its own greedy answers. Texts of different engines may differ: they round
differently, and write bytes that are not UTF-8 differently. Models are registered under names that nobody else
uses, and only those are removed. A recipe whose base model cannot be loaded is skipped, and says so.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mlx_ragtune.bases.resolve import resolve_base  # noqa: E402
from mlx_ragtune.clients.ollama_address import effective_host  # noqa: E402
from mlx_ragtune.clients.ollama_http import Ollama  # noqa: E402
from mlx_ragtune.clients.serving import open_served  # noqa: E402
from mlx_ragtune.errors import ToolError  # noqa: E402
from mlx_ragtune.gguf.reader import import_gguf  # noqa: E402
from mlx_ragtune.jsonl import read_json, read_rows  # noqa: E402
from mlx_ragtune.recipe_load import load_recipe  # noqa: E402
from mlx_ragtune.records import ChatRequest, Passage, Question, Sampling  # noqa: E402
from mlx_ragtune.retrieval.prompt import build_messages  # noqa: E402
from tests.ollama_server import OllamaStandIn  # noqa: E402

QUESTIONS = {"smoke": 112, "demo": 8}
ASKED_TWICE = 3
PREFIX = f"ragtune-live-{secrets.token_hex(4)}"
SHORTENED: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {"evaluate": {"threads": 1}},  # waiting threads spin, which costs more than a toy's arithmetic
    "demo": {"train": {"epochs": 0.1}, "evaluate": {"probes": None, "budget": None, "sampling": {"max_tokens": 32}}},
}


def write_recipe(folder: Path, name: str, host: str | None) -> Path:
    """A copy of a shipped recipe, its paths absolute; with a host, Ollama serves, under a name of our own."""
    value = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"))
    for section, keys in SHORTENED[name].items():
        value[section] = {**value.get(section, {}), **keys}
    for section, key in (("corpus", "folder"), ("dataset", "pairs"), ("evaluate", "probes")):
        if value[section].get(key):
            value[section][key] = str((ROOT / "recipes" / value[section][key]).resolve())
    rows = (ROOT / "data" / "rag_notes" / "benchmark.jsonl").read_text(encoding="utf-8").splitlines()
    step = len(rows) // QUESTIONS[name]
    (folder / f"{name}.jsonl").write_text("\n".join(rows[::step]) + "\n", encoding="utf-8")
    value["benchmark"] = str(folder / f"{name}.jsonl")
    served = {"serve": "ollama", "host": host, "name": f"{PREFIX}-{name}"}
    value["register"] = served if host else {"serve": "llamacpp"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return path


def run(recipe: Path) -> Path:
    """The run folder of a recipe that ran through all stages; its progress goes to stderr as usual."""
    command = [sys.executable, "-m", "mlx_ragtune.cli", "run", str(recipe)]
    environment = {**os.environ, "RAGTUNE_RUNS": str(recipe.parent / "runs")}
    subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return recipe.parent / "runs" / recipe.stem


def used(home: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Every answer that the verdict rests on."""
    lines = (home / "7-evaluate" / "used.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert not [row for row in rows if row["error"]], "requests failed"
    return {(row["model"], row["question_id"], row["seed"]): row for row in rows}


def verdict(home: Path) -> str:
    """The verdict word of a run."""
    return str(read_json(home / "7-evaluate" / "manifest.json")["facts"]["verdict"])


def prompts_that_differ(embedded: dict[Any, dict[str, Any]], served: dict[Any, dict[str, Any]]) -> list[str]:
    """Prompts that were not proven equal byte for byte, or that have another number of tokens.

    An answer that the server ended as a repetition has no token count.
    """
    problems = [] if embedded.keys() == served.keys() else ["other questions were asked"]
    for key in embedded.keys() & served.keys():
        ours, theirs = embedded[key], served[key]
        if not ours["prompt_sha256"] or ours["prompt_sha256"] != theirs["prompt_sha256"]:
            problems.append(f"{key}: the prompt is another one")
        if theirs["done_reason"] != "loop" and ours["prompt_tokens"] != theirs["prompt_tokens"]:
            problems.append(f"{key}: {theirs['prompt_tokens']} prompt tokens, not {ours['prompt_tokens']}")
    return problems


def ask(recipe: Path, home: Path) -> list[str]:
    """The greedy answers of both models to the first questions, each model freshly loaded."""
    settings = load_recipe(recipe)
    sampling = Sampling(**settings.evaluate.sampling.model_dump())
    contexts = {row["question_id"]: row["passages"] for row in _dicts(home / "7-evaluate" / "contexts.jsonl")}
    questions = list(read_rows(home / "7-evaluate" / "questions.jsonl", Question))[:ASKED_TWICE]
    texts = []
    for model, receipt in read_json(home / "6-register" / "receipt.json").items():
        gguf = home / "5-export" / f"{model}.gguf"
        threads = settings.evaluate.threads
        with open_served(receipt, gguf, context_tokens=sampling.context_tokens, threads=threads) as backend:
            for question in questions:
                passages = [Passage(**passage) for passage in contexts[question.id]]
                messages = tuple(build_messages(passages, question.question))
                texts.append(backend.chat(ChatRequest(messages, sampling)).text)
    return texts


def _dicts(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def repeats(recipe: Path, home: Path) -> list[str]:
    """Answers that the engine does not repeat."""
    first, second = ask(recipe, home), ask(recipe, home)
    pairs = zip(first, second, strict=True)
    return [f"asked twice: {before!r}, then {after!r}" for before, after in pairs if before != after]


@contextmanager
def ours_removed(host: str) -> Iterator[None]:
    """Remove what was registered under our prefix, also after a failure, and nothing else."""
    before = _names(host)
    try:
        yield
    finally:
        with Ollama(host) as server:
            for name in _names(host) - before:
                if name.startswith(PREFIX):
                    server.delete(name)
        assert before <= _names(host), f"models disappeared: {sorted(before - _names(host))}"


def _names(host: str) -> set[str]:
    with Ollama(host) as server:
        return set(server.digests())


def compare(folder: Path, name: str, host: str) -> list[str]:
    """Run one recipe with both servers and say how they compare; returns what must not be."""
    recipe = write_recipe(folder, name, None)
    home = run(recipe)
    embedded, word = used(home), verdict(home)
    problems = repeats(recipe, home)
    recipe = write_recipe(folder, name, host)
    run(recipe)
    served = used(home)
    problems += prompts_that_differ(embedded, served) + repeats(recipe, home)
    if verdict(home) != word:
        problems.append(f"the verdict is {verdict(home)}, with the embedded server {word}")
    same = sum(served[key]["text"] == row["text"] for key, row in embedded.items() if key in served)
    print(
        f"{name}, Ollama at {host}: {len(served)} prompts, "
        f"{'equal' if not problems else f'{len(problems)} problems'}; verdict {word}; {same} of {len(embedded)} "
        f"answers equal the embedded server's; {ASKED_TWICE * 2} answers of each server repeated",
        flush=True,
    )
    return problems


def main() -> None:
    """One line for each recipe and each problem; exit 1 when there is one."""
    problems = []
    with ExitStack() as stack:
        (ROOT / "runs").mkdir(exist_ok=True)  # inside the project, where a recipe's paths have to be
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "runs")))
        given = os.environ.get("OLLAMA_HOST")
        host = effective_host() if given else stack.enter_context(OllamaStandIn(folder / "ollama")).host
        stack.enter_context(ours_removed(host))
        for name in sys.argv[1:] or SHORTENED:
            try:
                resolve_base(load_recipe(write_recipe(folder, name, None)).base, import_gguf=import_gguf)
            except ToolError as error:
                print(f"{name}: skipped, {error.what}", flush=True)
                continue
            problems += [f"{name}: {problem}" for problem in compare(folder, name, host)]
    for problem in problems:
        print(problem, flush=True)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
