"""The ``tokenizer.json`` of a model without its weights: what chunks are counted with before a base model is needed."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.artifact import digest_bytes
from mlx_ragtune.bases.ollama_base import manifest_digest, ollama_gguf
from mlx_ragtune.bases.resolve import find_base
from mlx_ragtune.clients.hub_hf import cached_file
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.recipe import BaseModelSettings, Recipe

NAME, SOURCE = "tokenizer.json", "source.json"
RestoreTokenizer = Callable[[Path], str]
"""``tokenizer.json`` of a GGUF file; ``gguf.reader.gguf_tokenizer``."""


@dataclass(frozen=True)
class ModelTokenizer:
    """The bytes of a model's ``tokenizer.json``; None where they are not to be had, and then ``problem`` says why."""

    model: str
    text: bytes | None
    problem: str = ""

    @property
    def digest(self) -> str:
        """sha256 of the file, as hexadecimal; ``estimate`` without one."""
        return digest_bytes(self.text) if self.text else "estimate"

    def write(self, folder: Path) -> Path:
        """The folder, with ``tokenizer.json`` if there is one, and ``source.json``: the model, and what is missing."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if self.text:
            (folder / NAME).write_bytes(self.text)
        source = json.dumps({"model": self.model, "problem": self.problem})
        (folder / SOURCE).write_text(source + "\n", encoding="utf-8")
        return folder


def counting_model(recipe: Recipe) -> BaseModelSettings:
    """The model whose tokens limit chunks: the recipe's embedding model, or else its base."""
    embedding = recipe.retrieval.embedding
    if embedding is None:
        return recipe.base
    return BaseModelSettings(model=f"ollama:{embedding.model}" if embedding.backend == "ollama" else embedding.model)


def model_tokenizer(settings: BaseModelSettings, *, restore: RestoreTokenizer) -> ModelTokenizer:
    """The tokenizer of a model that a recipe names, as far as this machine has it: nothing is downloaded or asked for.

    It comes from the model's folder, its GGUF file, an earlier download or conversion, or Ollama's own files. Raises
    RecipeError for a bad name.
    """
    try:
        text = _on_this_machine(settings, restore)
        problem = "" if text else "it is not on this machine"
    except (InputError, ToolError) as error:
        text, problem = None, error.what
    name = settings.model
    return ModelTokenizer(Path(name).name if name.startswith((".", "/", "~")) else name, text, problem)


def _on_this_machine(settings: BaseModelSettings, restore: RestoreTokenizer) -> bytes | None:
    name = settings.model
    if name.startswith("toy:"):
        from mlx_ragtune.models.toy import toy_architecture, toy_tokenizer_json

        return toy_tokenizer_json(toy_architecture(name.removeprefix("toy:"))).encode()
    folder = find_base(settings)
    if folder is not None:
        return _read(folder / NAME)
    if name.startswith("ollama:"):
        known = manifest_digest(name.removeprefix("ollama:"))
        return restore(ollama_gguf(name.removeprefix("ollama:"))[0]).encode() if known else None
    if name.startswith((".", "/", "~")):
        path = Path(name).expanduser()
        return restore(path).encode() if path.is_file() else _read(path / NAME)
    file = cached_file(settings, NAME)
    return _read(file) if file else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{NAME}: {error.strerror}", where=str(path.parent), fix="fetch the model again") from None
