"""``ragtune ask``: retrieve and answer one question, with the contexts in view."""

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from mlx_ragtune.backends.serving import open_served
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


def answer(run: Run, question: str, *, model: str) -> dict[str, Any]:
    """What was retrieved, and what the chosen models (``base``, ``tuned`` or ``both``) say to it."""
    receipt = run.home / stage_named("register").folder / "receipt.json"
    if not receipt.exists():
        raise ArtifactError("no model is registered yet", fix=f"ragtune register recipes/{run.recipe.name}.yaml")
    receipts = json.loads(receipt.read_text(encoding="utf-8"))
    passages = _passages(run, question)
    settings = run.recipe.evaluate.sampling
    request = ChatRequest(
        build_messages(passages, question),
        Sampling(**settings.model_dump()),
        think=run.recipe.dataset.thinking == "on",
    )
    answers = {}
    for name in ("base", "tuned") if model == "both" else (model,):
        gguf = run.home / stage_named("export").folder / f"{name}.gguf"
        with open_served(receipts[name], gguf, context_tokens=settings.context_tokens) as backend:
            answers[name] = backend.chat(request).text
    return {"question": question, "contexts": [vars(one) for one in passages], "answers": answers}


def show(reply: dict[str, Any]) -> str:
    """The reply for a terminal: contexts first, then the answers."""
    lines = []
    for number, passage in enumerate(reply["contexts"], start=1):
        lines.append(f"[{number}] {passage['title']}")
        lines.append(textwrap.shorten(passage["text"], 150, placeholder=" …"))
    for name, text in reply["answers"].items():
        lines += ["", f"{name}:", textwrap.fill(text or "(no answer)", 78)]
    return "\n".join(lines)
