"""fuse: the adapter's delta, computed in float32, added to full-precision weights: a complete model folder."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.clients.machine import PROCESS_BYTES, MemoryNeed, require_memory
from mlx_ragtune.models.prompts import check_question_lengths, context_window
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.retrieval.fixed import fixed_prompts
from mlx_ragtune.scoring.answers.benchmark_rows import located_questions, question_texts
from mlx_ragtune.searching.opened import open_retriever
from mlx_ragtune.tuning.logits import shared_logits
from mlx_ragtune.tuning.merge import fuse as merge
from mlx_ragtune.tuning.resources import fuse_disk, fuse_memory


def check(recipe: Recipe, base: Path) -> None:
    """Raise InputError for a question longer than the base's window, ToolError for too little memory."""
    questions = ((where, question.question) for where, question in located_questions(recipe.benchmark))
    check_question_lengths(list(questions), base, window=context_window(base))
    need = memory(recipe, base)
    require_memory("fuse", need.bytes, fix=need.fix)


def memory(_recipe: Recipe, base: Path) -> MemoryNeed:
    """Writing the folder a tensor at a time, or comparing logits a layer at a time."""
    return MemoryNeed(fuse_memory(base) + PROCESS_BYTES)


def disk_bytes(_recipe: Recipe, base: Path) -> int:
    """Bytes of the fused model folder."""
    return fuse_disk(base)


def fuse(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write ``model/`` and ``parity.json``. Raises ArtifactError when the fused model is wrong."""
    with open_retriever(recipe.retrieval, inputs["corpus"]) as retriever:
        prompts = fixed_prompts(
            inputs["dataset"], question_texts(recipe.benchmark), retriever=retriever, top_k=recipe.retrieval.top_k
        )
    report = merge(
        inputs["base"],
        inputs["train"],
        draft / "model",
        prompts=prompts,
        thinking=recipe.dataset.thinking == "on",
        logits=partial(shared_logits, draft),
        strength=recipe.fuse.strength,
    )
    (draft / "parity.json").write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    draft.record(**asdict(report))
