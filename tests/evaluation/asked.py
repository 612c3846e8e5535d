"""Two tiny models registered with the stand-in, questions to ask them, and an Asker for both."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mlx_ragtune.artifact import silent
from mlx_ragtune.clients.ollama_registry import register_model
from mlx_ragtune.clients.receipts import embedded_receipt
from mlx_ragtune.evaluation.asker import Asker
from mlx_ragtune.evaluation.items import Item, Rendered
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.models.prompts import load_tokenizer, prompt_text
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Answer, Message, Question
from tests.ollama_server import OllamaStandIn


def make_recipe(folder: Path, **sections: object) -> Recipe:
    """A recipe of which only what evaluation reads matters."""
    values = {
        "name": "small",
        "base": {"model": "toy:qwen3"},
        "corpus": {"folder": folder},
        "benchmark": folder / "benchmark.jsonl",
        "dataset": {"pairs": folder / "pairs.jsonl"},
        "train": {"scale": 2.0},
        "evaluate": {"sampling": {"max_tokens": 4, "context_tokens": 512}},
        **sections,
    }
    return Recipe.model_validate(values)


def make_items(base: Path, count: int, *, words: int = 1) -> list[Item]:
    """Questions with their training renders."""
    tokenizer = load_tokenizer(base)
    items = []
    for number in range(count):
        text = f"What is study {number}? " + "word " * words
        messages = (Message("system", "Answer from the papers."), Message("user", text))
        trained = prompt_text(messages, tokenizer, thinking=False)
        tokens = len(tokenizer.encode(trained, add_special_tokens=False))
        items.append(Item(Question(f"q{number}", "t", text, True), (), messages, (), trained, tokens))
    return items


def register_both(standin: OllamaStandIn, models: Path, folder: Path, *, name: str = "small") -> dict[str, Path]:
    """The inputs of the stage: base and tuned registered as ``<name>-base`` and ``<name>-tuned``."""
    inputs = {stage: folder / stage for stage in ("export", "register")}
    for path in inputs.values():
        path.mkdir(parents=True)
    receipts = {}
    for model, file in (("base", "qwen3.gguf"), ("tuned", "other.gguf")):
        (inputs["export"] / f"{model}.gguf").symlink_to(models / file)
        receipts[model] = asdict(register_model(standin.host, f"{name}-{model}", models / file))
    (inputs["register"] / "receipt.json").write_text(json.dumps(receipts))
    return inputs


def embed_both(models: Path, folder: Path) -> dict[str, Path]:
    """The inputs of the stage: base and tuned registered with the embedded server."""
    inputs = {stage: folder / stage for stage in ("export", "register")}
    for path in inputs.values():
        path.mkdir(parents=True)
    receipts = {}
    for model, file in (("base", "qwen3.gguf"), ("tuned", "other.gguf")):
        (inputs["export"] / f"{model}.gguf").symlink_to(models / file)
        receipts[model] = asdict(embedded_receipt(f"small-{model}", models / file))
    (inputs["register"] / "receipt.json").write_text(json.dumps(receipts))
    return inputs


def with_examples(items: Sequence[Item], base: Path) -> list[Item]:
    """The items with a prompt of the prompted base: one example before each question."""
    tokenizer = load_tokenizer(base)
    example = (Message("user", "What is LoRA?"), Message("assistant", "It trains two small matrices."))
    prompted = []
    for item in items:
        messages = (item.messages[0], *example, item.messages[1])
        trained = prompt_text(messages, tokenizer, thinking=False)
        tokens = len(tokenizer.encode(trained, add_special_tokens=False))
        prompted.append(replace(item, prompted=Rendered(messages, trained, tokens)))
    return prompted


def ask(recipe: Recipe, inputs: dict[str, Path], path: Path, items: Sequence[Item]) -> Asker:
    """An asker that has asked everything."""
    asker = Asker(recipe, inputs, path)
    asker.ask_all(items, silent)
    return asker


def chats(standin: OllamaStandIn) -> list[str]:
    """The models that were asked, in order."""
    return [
        body["model"]
        for _, path, body in standin.requests
        if path == "/api/chat" and not body.get("_debug_render_only")
    ]


def answers_in(path: Path) -> list[Answer]:
    """The rows of an answers file."""
    return list(read_rows(path, Answer))


def with_text(answer: Answer, text: str) -> Answer:
    """The answer with another text."""
    return replace(answer, text=text)
