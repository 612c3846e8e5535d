"""export: base and tuned model become GGUF by the same path and type, each checked in llama.cpp."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft, Inputs, digest_json, link_file
from mlx_ragtune.clients.file_digests import base_digest
from mlx_ragtune.clients.machine import PROCESS_BYTES, SMALLER_BASE, MemoryNeed, require_memory
from mlx_ragtune.gguf.engine_parity import (
    Listed,
    Parity,
    check_effect,
    check_parity,
    compare_with_model,
    effect_size,
)
from mlx_ragtune.gguf.sizes import convert_memory, export_disk, serve_memory
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.model_folder import read_config
from mlx_ragtune.models.prompts import Prompt, rendered
from mlx_ragtune.models.vocabulary import read_vocabulary
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.retrieval.fixed import fixed_prompts
from mlx_ragtune.scoring.answers.benchmark_rows import question_texts
from mlx_ragtune.searching.opened import open_retriever
from mlx_ragtune.tuning.logits import shared_logits
from mlx_ragtune.tuning.resources import logits_memory

COMPARED_TOKENS = 2048
"""Window in which the engine reads the prompts that are compared; longer prompts need little more."""
BASE_VERSION = 1
"""Raised when the same base would give another GGUF file or another comparison with it."""


def check(recipe: Recipe, base: Path) -> None:
    """Raise InputError for a base that cannot be written as GGUF, ToolError for too little memory."""
    read_config(base)
    read_vocabulary(base)
    need = memory(recipe, base)
    require_memory("export", need.bytes, fix=need.fix)


def memory(recipe: Recipe, base: Path) -> MemoryNeed:
    """Writing a file, the logits that it is compared with, or the engine that loads it: they follow each other."""
    served = serve_memory(base, recipe.export.type, context_tokens=COMPARED_TOKENS)
    most = max(convert_memory(), logits_memory(base), served)
    return MemoryNeed(most + PROCESS_BYTES, "choose a smaller export.type or base" if most == served else SMALLER_BASE)


def disk_bytes(recipe: Recipe, base: Path) -> int:
    """Bytes of both GGUF files."""
    return export_disk(base, recipe.export.type)


def export(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write ``base.gguf``, ``tuned.gguf`` and ``parity.json``.

    The base's file is shared with every recipe that exports the same base as the same type. Raises
    ArtifactError when a file does not compute what its model computes.
    """
    thinking = recipe.dataset.thinking == "on"
    with open_retriever(recipe.retrieval, inputs["corpus"]) as retriever:
        messages = fixed_prompts(
            inputs["dataset"], question_texts(recipe.benchmark), retriever=retriever, top_k=recipe.retrieval.top_k
        )
    prompts = rendered(messages, inputs["base"], thinking=thinking)
    base = _shared_base(recipe, inputs["base"], draft, prompts)
    tuned = _write(
        recipe, inputs["fuse"] / "model", gguf=draft / "tuned.gguf", name="tuned", draft=draft, prompts=prompts
    )
    effect = effect_size(base["listed"], tuned["listed"])
    check_effect(effect, max(model["parity"]["mean_kl"] for model in (base, tuned)))
    _record(draft, {"base": base, "tuned": tuned}, effect)


def _shared_base(recipe: Recipe, base: Path, draft: Draft, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Link the base's GGUF into the draft; returns what ``_write`` returns. Written and compared once."""
    described = {"version": BASE_VERSION, "base": base_digest(base), "type": recipe.export.type}
    gguf = draft.part(
        "base-gguf", described, lambda folder: _write_gguf(recipe, base, folder / "base.gguf", "base", draft)
    )
    link_file(gguf / "base.gguf", draft / "base.gguf")
    asked = {**described, "prompts": digest_json([[*prompt.tokens] for prompt in prompts])}

    def compare(folder: Path) -> None:
        compared = _compare(recipe, base, gguf=draft / "base.gguf", name="base", draft=draft, prompts=prompts)
        (folder / "compared.json").write_text(json.dumps(compared), encoding="utf-8")

    parity = draft.part("base-parity", asked, compare)
    report: dict[str, Any] = json.loads((gguf / "report.json").read_text(encoding="utf-8"))
    compared: dict[str, Any] = json.loads((parity / "compared.json").read_text(encoding="utf-8"))
    return {"report": report, **compared}


def _write(
    recipe: Recipe, model: Path, *, gguf: Path, name: str, draft: Draft, prompts: Sequence[Prompt]
) -> dict[str, Any]:
    """Write a model as GGUF and compare the two: ``report``, ``parity`` and the engine's ``listed`` tokens."""
    _write_gguf(recipe, model, gguf, name, draft)
    report = json.loads((gguf.parent / "report.json").read_text(encoding="utf-8"))
    (gguf.parent / "report.json").unlink()
    compared = _compare(recipe, model, gguf=gguf, name=name, draft=draft, prompts=prompts)
    return {"report": report, **compared}


def _write_gguf(recipe: Recipe, model: Path, gguf: Path, name: str, draft: Draft) -> None:
    with draft.track(f"writing {name}.gguf", 0) as track:
        # the name inside the file is the same for every recipe, so that equal models are equal bytes
        report = write_gguf(model, gguf, type=recipe.export.type, name=name, progress=track.reach)
    (gguf.parent / "report.json").write_text(json.dumps(asdict(report)), encoding="utf-8")


def _compare(
    recipe: Recipe, model: Path, *, gguf: Path, name: str, draft: Draft, prompts: Sequence[Prompt]
) -> dict[str, Any]:
    """Raises ArtifactError when llama.cpp does not compute from the file what MLX computes from the folder."""
    logits = shared_logits(draft, model, [prompt.tokens for prompt in prompts])
    parity: Parity
    listed: Listed
    parity, listed = compare_with_model(
        recipe.export.type, logits, gguf, prompts, thinking=recipe.dataset.thinking == "on"
    )
    check_parity(parity, what=f"{name}.gguf")
    return {"parity": asdict(parity), "listed": [[list(token) for token in tokens] for tokens in listed]}


def _record(draft: Draft, models: dict[str, dict[str, Any]], effect: float) -> None:
    whole = {
        "files": {name: model["report"] for name, model in models.items()},
        "parity": {name: model["parity"] for name, model in models.items()},
        "effect_nats": effect,
    }
    (draft / "parity.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    draft.record(
        type=models["tuned"]["report"]["type"],
        bytes=models["tuned"]["report"]["bytes"],
        effect_nats=effect,
        **{f"{name}_mean_kl": model["parity"]["mean_kl"] for name, model in models.items()},
        **{f"{name}_top1_agreement": model["parity"]["top1_agreement"] for name, model in models.items()},
    )
