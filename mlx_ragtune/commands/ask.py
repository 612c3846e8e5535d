"""``ragtune ask``: answer one question, and show the passages used."""

import json
import textwrap
from contextlib import AbstractContextManager
from typing import Any

from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.clients.protocol import ChatBackend
from mlx_ragtune.clients.serving import open_served
from mlx_ragtune.errors import printable
from mlx_ragtune.records import ChatRequest, Passage, Sampling
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import NEAREST
from mlx_ragtune.searching.opened import open_retriever


def _passages(run: OpenRun, question: str) -> list[dict[str, Any]]:
    """What the models are shown; ``found_by`` names the indexes that found a passage, none for one that fills up."""
    settings = run.recipe.retrieval
    with open_retriever(settings, run.artifact("corpus").folder) as retriever:
        found = {item.chunk.id: list(item.by) for item in retriever.matches(question, settings.top_k)}
        shown = retriever.search(question, settings.top_k)
    return [{**vars(passage), "found_by": found.get(passage.chunk_id, [])} for passage in shown]


def _passage(context: dict[str, Any]) -> Passage:
    return Passage(*(context[name] for name in ("chunk_id", "document_id", "title", "text")))


def answer(run: OpenRun, question: str, *, model: str, preview: bool = False) -> dict[str, Any]:
    """The passages shown for a question, which index found each, and the answers of ``base``, ``tuned`` or ``both``.

    With ``preview`` the embedded server answers with the adapter on the base's GGUF, before anything is fused.
    Raises ArtifactError when the models are not those of the recipe as it is now.
    """
    contexts = _passages(run, question)
    settings = run.recipe.evaluate.sampling
    request = ChatRequest(
        build_messages([_passage(context) for context in contexts], question),
        Sampling(**settings.model_dump()),
        think=run.recipe.dataset.thinking == "on",
    )
    answers = {}
    for name in ("base", "tuned") if model == "both" else (model,):
        with _preview(run, name) if preview else _registered(run, name) as backend:
            answers[name] = backend.chat(request).text
    return {"question": question, "contexts": contexts, "answers": answers}


def _registered(run: OpenRun, model: str) -> AbstractContextManager[ChatBackend]:
    receipts = json.loads((run.artifact("register") / "receipt.json").read_text(encoding="utf-8"))
    gguf = run.artifact("export") / f"{model}.gguf"
    return open_served(receipts[model], gguf, context_tokens=run.recipe.evaluate.sampling.context_tokens)


def _preview(run: OpenRun, model: str) -> AbstractContextManager[ChatBackend]:
    """The base's GGUF, with the adapter on it for ``tuned``; both are written if they are missing."""
    from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
    from mlx_ragtune.gguf.adapter import write_adapter
    from mlx_ragtune.gguf.writer import write_gguf

    trained, kind = run.artifact("train"), run.recipe.export.type
    folder = run.home / "preview"
    folder.mkdir(exist_ok=True)
    gguf = folder / f"base-{kind}-{run.base_digest[:12]}.gguf"
    adapter = folder / f"adapter-{trained.key[:12]}.gguf"
    for stale in folder.glob("*.gguf"):
        if stale not in (gguf, adapter):
            stale.unlink()
    if not gguf.exists():
        with run.track("writing the base model's GGUF, once", 0) as track:
            write_gguf(run.base, gguf, type=kind, name="base", progress=track.reach)
    if model == "tuned" and not adapter.exists():
        write_adapter(trained.folder, run.base, adapter, strength=run.recipe.fuse.strength)
    context = run.recipe.evaluate.sampling.context_tokens
    return LlamaCppServer(gguf, context_tokens=context, adapter=adapter if model == "tuned" else None)


def show(reply: dict[str, Any]) -> str:
    """The reply as text: passages first, then the answers."""
    lines = []
    if not any(context["found_by"] for context in reply["contexts"]):
        lines.append("No passage matches the question: the models were shown the first passages of the corpus.")
    elif not any("full text" in context["found_by"] for context in reply["contexts"]):
        lines.append(NEAREST)
    for number, passage in enumerate(reply["contexts"], start=1):
        lines.append(f"[{number}] {passage['title']}{'' if passage['found_by'] else ' (does not match the question)'}")
        lines.append(textwrap.shorten(passage["text"], 150, placeholder=" …"))
    for name, text in reply["answers"].items():
        lines += ["", f"{name}:", textwrap.fill(text or "(no answer)", 78)]
    return printable("\n".join(lines))
