"""Whole recipes with Ollama: smoke, and the demo with a few of its questions, answer as the embedded server does.

    python tests/live/whole_recipes.py                           # against the stand-in
    OLLAMA_HOST=127.0.0.1:11434 python tests/live/whole_recipes.py    # against a real server

Each recipe runs through all eight stages with the embedded server, then again with ``serve: ollama``, which
runs only what that changes. The greedy answers of both are compared; registered models are removed. A recipe
whose base model cannot be loaded is skipped, and says so.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mlx_ragtune.bases.resolve import resolve_base  # noqa: E402
from mlx_ragtune.clients.ollama_address import effective_host  # noqa: E402
from mlx_ragtune.errors import ToolError  # noqa: E402
from mlx_ragtune.gguf.reader import import_gguf  # noqa: E402
from mlx_ragtune.recipe import load_recipe  # noqa: E402
from tests.ollama_server import OllamaStandIn  # noqa: E402

QUESTIONS = 8
SHORTENED: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {},
    "demo": {"train": {"epochs": 0.1}, "evaluate": {"probes": None, "sampling": {"max_tokens": 32}}},
}


def write_recipe(folder: Path, name: str, host: str | None) -> Path:
    """A copy of a shipped recipe, its paths absolute; with a host, Ollama serves."""
    value = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"))
    for section, keys in SHORTENED[name].items():
        value[section] = {**value.get(section, {}), **keys}
    for section, key in (("corpus", "folder"), ("dataset", "pairs"), ("evaluate", "probes")):
        if value[section].get(key):
            value[section][key] = str((ROOT / "recipes" / value[section][key]).resolve())
    rows = (ROOT / "data" / "rag_notes" / "benchmark.jsonl").read_text(encoding="utf-8").splitlines()
    step = len(rows) // QUESTIONS if SHORTENED[name] else 1
    (folder / f"{name}.jsonl").write_text("\n".join(rows[::step]) + "\n", encoding="utf-8")
    value["benchmark"] = str(folder / f"{name}.jsonl")
    value["register"] = {"serve": "ollama", "host": host} if host else {"serve": "llamacpp"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return path


def run(recipe: Path, *arguments: str) -> str:
    """What ``ragtune`` printed; its progress goes to stderr as usual."""
    command = [sys.executable, "-m", "mlx_ragtune.cli", *arguments, str(recipe)]
    environment = {**os.environ, "RAGTUNE_RUNS": str(recipe.parent / "runs")}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def answers(recipe: Path) -> dict[tuple[str, str], str]:
    """The text of every answer that the verdict rests on."""
    path = recipe.parent / "runs" / recipe.stem / "7-evaluate" / "used.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert not [row for row in rows if row["error"]], "requests failed"
    return {(row["model"], row["question_id"]): row["text"] for row in rows}


def gate(recipe: Path) -> str:
    """What the run says about its served prompts."""
    path = recipe.parent / "runs" / recipe.stem / "7-evaluate" / "gates.json"
    return str(json.loads(path.read_text(encoding="utf-8"))["served_prompts"])


def main() -> None:
    """One line for each recipe; exit 1 when answers differ."""
    differ = 0
    with ExitStack() as stack:
        (ROOT / "runs").mkdir(exist_ok=True)  # inside the project, where a recipe's paths have to be
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "runs")))
        given = os.environ.get("OLLAMA_HOST")
        host = effective_host() if given else stack.enter_context(OllamaStandIn(folder / "ollama")).host
        for name in SHORTENED:
            recipe = write_recipe(folder, name, None)
            try:
                resolve_base(load_recipe(recipe).base, import_gguf=import_gguf)
            except ToolError as error:
                print(f"{name}: skipped, {error.what}", flush=True)
                continue
            run(recipe, "run")
            embedded = answers(folder / f"{name}.yaml")
            recipe = write_recipe(folder, name, host)
            try:
                run(recipe, "run")
                served = answers(recipe)
            finally:
                subprocess.run(
                    [sys.executable, "-m", "mlx_ragtune.cli", "models", "remove", name],
                    env={**os.environ, "RAGTUNE_RUNS": str(folder / "runs")},
                    stdout=subprocess.DEVNULL,
                    check=False,
                )
            same = sum(served[key] == text for key, text in embedded.items())
            differ += len(embedded) - same
            print(f"{name}, Ollama at {host}: {same} of {len(embedded)} answers equal the embedded server's; ", end="")
            print(f"served prompts {gate(recipe)}", flush=True)
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
