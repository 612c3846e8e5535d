"""register: register both models with a server, and keep a receipt of exactly what it holds."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

from mlx_ragtune.artifact import Draft, Inputs, Store, digest_bytes
from mlx_ragtune.clients.hub_names import public_model
from mlx_ragtune.clients.machine import PROCESS_BYTES, MemoryNeed, require_memory
from mlx_ragtune.clients.ollama_address import effective_host
from mlx_ragtune.clients.ollama_card import Card, card_of
from mlx_ragtune.clients.ollama_registry import (
    Registrar,
    register_folder,
    register_model,
    require_mlx_engine,
    require_names,
    require_server,
)
from mlx_ragtune.clients.openai_http import is_loopback
from mlx_ragtune.clients.receipts import embedded_receipt
from mlx_ragtune.clients.registered import Registered, Standing, standing
from mlx_ragtune.errors import RecipeError
from mlx_ragtune.gguf.sizes import serve_memory
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Sampling

MODELS = ("base", "tuned")
RECEIPT = "receipt.json"
SERVED_TOKENS = 4096
"""Window of Ollama where nothing sets another."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_LONGEST_NAME = 74
"""Without the ending ``-tuned``."""


def model_name(recipe: Recipe, model: str) -> str:
    """The name of a model at the server; variants of a recipe have different names, which Ollama accepts.

    ``mine+train.rank=8`` becomes ``mine.train.rank-8-tuned``. A recipe's file name has no dot, so the two never meet.
    """
    name, _, variant = recipe.name.partition("+")
    name = recipe.register.name or name
    if variant:
        name = f"{name}.{re.sub(r'[^A-Za-z0-9._]+', '-', variant.replace('+', '.'))}"
        if len(name) > _LONGEST_NAME:
            name = f"{name[: _LONGEST_NAME - 9].rstrip('.-')}-{digest_bytes(recipe.name.encode())[:8]}"
    return f"{name}-{model}"


def check(recipe: Recipe, base: Path) -> None:
    """Raise ToolError when Ollama is needed and does not answer, is too old, or has no MLX engine or memory."""
    settings = recipe.register
    if settings.serve == "ollama":
        _check_name(recipe)
        require_server(settings.host, development_build=settings.development_build)
    need = memory(recipe, base)
    require_memory("register", need.bytes, fix=need.fix)
    if settings.route == "mlx":
        require_mlx_engine(settings.host, recipe.export.type, development_build=settings.development_build)


def memory(recipe: Recipe, base: Path) -> MemoryNeed:
    """What Ollama will need on this machine to serve one of the models with its default window."""
    if recipe.register.serve != "ollama" or not is_loopback(effective_host(recipe.register.host)):
        return MemoryNeed(PROCESS_BYTES)
    served = serve_memory(base, recipe.export.type, context_tokens=SERVED_TOKENS)
    return MemoryNeed(served + PROCESS_BYTES, "choose a smaller export.type, or a server on another machine")


def _check_name(recipe: Recipe) -> None:
    """Raise RecipeError for a name that Ollama does not accept: it may come from the recipe's file name."""
    longest = max((model_name(recipe, model) for model in MODELS), key=len)
    if not _NAME.fullmatch(longest):
        raise RecipeError(
            f"'{longest}' is not a name that Ollama accepts",
            where="register.name",
            fix="set 'register.name' to letters, digits, '.', '_' and '-', shorter than 75 characters",
        )


def check_store(recipe: Recipe, store: Store, *, replace_others: bool) -> None:
    """Raise ToolError when a name is taken, at Ollama, by a model that was not registered from this runs folder."""
    if recipe.register.serve == "ollama":
        registrar = _registrar(recipe, store, replace_others=replace_others)
        require_names(recipe.register.host, [model_name(recipe, model) for model in MODELS], registrar)


def models_standing(folder: Path) -> Standing:
    """Whether the servers still have the models of a finished register stage."""
    try:
        return standing(json.loads((folder / RECEIPT).read_text(encoding="utf-8")).values())
    except (OSError, ValueError, AttributeError, TypeError, LookupError):
        return Standing(lost="its receipt cannot be read")


def _registrar(recipe: Recipe, store: Store | None, *, replace_others: bool) -> Registrar:
    return Registrar(
        Registered(store.root) if store else None,
        replace=replace_others,
        development_build=recipe.register.development_build,
    )


def _card(recipe: Recipe, model: str) -> Card:
    """What a person gets who runs the model by its name: the conditions of the evaluation."""
    sampling = Sampling(**recipe.evaluate.sampling.model_dump())
    base, think = public_model(recipe.base.model, recipe.base.package), recipe.dataset.thinking == "on"
    return card_of(sampling, tuned=model == "tuned", base=base, think=think)


def register(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write ``receipt.json``: for each model its name, digest, server and version."""
    receipts = {}
    folders = {"base": inputs["base"], "tuned": inputs["fuse"] / "model"}
    registrar = replace(_registrar(recipe, draft.store, replace_others=draft.replace_others), say=draft.say)
    host = recipe.register.host
    for model in MODELS:
        gguf, name = inputs["export"] / f"{model}.gguf", model_name(recipe, model)
        card = _card(recipe, model)
        if recipe.register.serve == "ollama":
            with draft.track(f"uploading {name}", 0) as track:
                tracked = replace(registrar, progress=track.reach)
                if recipe.register.route == "mlx":
                    receipt = register_folder(
                        host, name, folders[model], kind=recipe.export.type, card=card, registrar=tracked
                    )
                else:
                    receipt = register_model(host, name, gguf, card=card, registrar=tracked)
        else:
            receipt = embedded_receipt(name, gguf)
        receipts[model] = asdict(receipt)
    (draft / RECEIPT).write_text(json.dumps(receipts, indent=2) + "\n", encoding="utf-8")
    draft.record(server=receipts["tuned"]["server"], names=[receipts[model]["name"] for model in MODELS])
