"""export: base and tuned become GGUF by the same path and type, each checked in a real engine."""

import json
from dataclasses import asdict
from pathlib import Path

from mlx_ragtune.artifact import Draft, Inputs, require_disk
from mlx_ragtune.gguf.engine_parity import Parity, check_effect, check_parity, compare_with_model, effect_size
from mlx_ragtune.gguf.writer import estimate_bytes, write_gguf
from mlx_ragtune.models.architectures import check_architecture
from mlx_ragtune.models.prompts import rendered
from mlx_ragtune.models.vocabulary import read_vocabulary
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.retrieval.fixed import fixed_prompts
from mlx_ragtune.tuning.logits import next_token_logits


def check(recipe: Recipe, base: Path) -> None:
    """Raise InputError for an architecture or tokenizer that has no GGUF, ToolError for too small a disk."""
    check_architecture(json.loads((base / "config.json").read_text(encoding="utf-8")))
    read_vocabulary(base)
    weights = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    needed = weights + 2 * estimate_bytes(base, recipe.export.type)
    require_disk(Path.cwd(), needed, what="the fused model and two GGUF files")


def export(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write ``base.gguf``, ``tuned.gguf`` and ``parity.json``. Raises ArtifactError when a file is not its model."""
    kind, thinking = recipe.export.type, recipe.dataset.thinking == "on"
    messages = fixed_prompts(inputs["dataset"], inputs["corpus"], recipe.benchmark, top_k=recipe.retrieval.top_k)
    prompts = rendered(messages, inputs["base"], thinking=thinking)
    folders = {"base": inputs["base"], "tuned": inputs["fuse"] / "model"}
    reports, parities, listed = {}, {}, {}
    for model, folder in folders.items():
        gguf = draft / f"{model}.gguf"
        with draft.track(f"writing {model}.gguf", 0) as track:
            reports[model] = write_gguf(folder, gguf, type=kind, name=f"{recipe.name}-{model}", progress=track.reach)
        parities[model], listed[model] = compare_with_model(
            kind, next_token_logits(folder, [one.tokens for one in prompts]), gguf, prompts, thinking=thinking
        )
        check_parity(parities[model], what=f"{model}.gguf")
    effect = effect_size(listed["base"], listed["tuned"])
    check_effect(effect, max(parity.mean_kl for parity in parities.values()))
    _record(draft, {name: asdict(report) for name, report in reports.items()}, parities, effect)


def _record(draft: Draft, reports: dict[str, dict[str, object]], parities: dict[str, Parity], effect: float) -> None:
    parity = {name: asdict(one) for name, one in parities.items()}
    whole = {"files": reports, "parity": parity, "effect_nats": effect}
    (draft / "parity.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    draft.record(
        type=reports["tuned"]["type"],
        bytes=reports["tuned"]["bytes"],
        effect_nats=effect,
        **{f"{name}_mean_kl": one.mean_kl for name, one in parities.items()},
        **{f"{name}_top1_agreement": one.top1_agreement for name, one in parities.items()},
    )
