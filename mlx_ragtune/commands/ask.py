"""``ragtune ask``: retrieve and answer one question, with the contexts in view."""

import json
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from mlx_ragtune.clients.protocol import ChatBackend
from mlx_ragtune.clients.serving import open_served
from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.pipeline import Run, stage_named
from mlx_ragtune.records import ChatRequest, Passage, Sampling
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import open_retriever


def _passages(run: Run, question: str) -> Sequence[Passage]:
    corpus = run.home / stage_named("corpus").folder
    if not corpus.exists():
        raise ArtifactError("this recipe has no corpus yet", fix=f"ragtune run recipes/{run.recipe.name}.yaml")
    retriever = open_retriever(corpus / "index.sqlite", corpus / "chunks.jsonl")
    return retriever.search(question, run.recipe.retrieval.top_k)


def answer(run: Run, question: str, *, model: str, preview: bool = False) -> dict[str, Any]:
    """What was retrieved, and what the chosen models (``base``, ``tuned`` or ``both``) say to it.

    ``preview``: by the adapter on the base's GGUF in the embedded server, before anything is fused.
    """
    passages = _passages(run, question)
    settings = run.recipe.evaluate.sampling
    request = ChatRequest(
        build_messages(passages, question),
        Sampling(**settings.model_dump()),
        think=run.recipe.dataset.thinking == "on",
    )
    answers = {}
    for name in ("base", "tuned") if model == "both" else (model,):
        with _preview(run, name) if preview else _registered(run, name) as backend:
            answers[name] = backend.chat(request).text
    return {"question": question, "contexts": [vars(one) for one in passages], "answers": answers}


def _registered(run: Run, model: str) -> AbstractContextManager[ChatBackend]:
    receipt = run.home / stage_named("register").folder / "receipt.json"
    if not receipt.exists():
        raise ArtifactError("no model is registered yet", fix=f"ragtune register recipes/{run.recipe.name}.yaml")
    receipts = json.loads(receipt.read_text(encoding="utf-8"))
    gguf = run.home / stage_named("export").folder / f"{model}.gguf"
    return open_served(receipts[model], gguf, context_tokens=run.recipe.evaluate.sampling.context_tokens)


def _preview(run: Run, model: str) -> AbstractContextManager[ChatBackend]:
    """The base's GGUF, with the adapter on it for ``tuned``; both are written where they are not there yet."""
    from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
    from mlx_ragtune.gguf.adapter import write_adapter
    from mlx_ragtune.gguf.writer import write_gguf

    trained, base = run.finished(stage_named("train")), run.base
    assert base is not None  # noqa: S101 (a run opened with its base)
    assert run.base_digest is not None  # noqa: S101 (the same)
    if trained is None:
        raise ArtifactError(
            "there is no adapter of this recipe yet", fix=f"ragtune train recipes/{run.recipe.name}.yaml"
        )
    folder = run.home / "preview"
    folder.mkdir(exist_ok=True)
    gguf = folder / f"base-{run.recipe.export.type}-{run.base_digest[:12]}.gguf"
    adapter = folder / f"adapter-{trained.fingerprint[:12]}.gguf"
    for stale in folder.glob("*.gguf"):
        if stale not in (gguf, adapter):
            stale.unlink()
    if not gguf.exists():
        with run.track("writing the base's GGUF, once", 0) as track:
            write_gguf(base, gguf, type=run.recipe.export.type, name=run.recipe.name, progress=track.reach)
    if model == "tuned" and not adapter.exists():
        write_adapter(trained.folder, base, adapter)
    context = run.recipe.evaluate.sampling.context_tokens
    return LlamaCppServer(gguf, context_tokens=context, adapter=adapter if model == "tuned" else None)


def show(reply: dict[str, Any]) -> str:
    """The reply for a terminal: contexts first, then the answers."""
    lines = []
    for number, passage in enumerate(reply["contexts"], start=1):
        lines.append(f"[{number}] {passage['title']}")
        lines.append(textwrap.shorten(passage["text"], 150, placeholder=" …"))
    for name, text in reply["answers"].items():
        lines += ["", f"{name}:", textwrap.fill(text or "(no answer)", 78)]
    return "\n".join(lines)
