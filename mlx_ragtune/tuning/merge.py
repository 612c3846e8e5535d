"""The adapter merged into full-precision weights: the delta in float32, the folder complete, the logits compared."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten, tree_map, tree_unflatten
from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.models.model_folder import check_base
from mlx_ragtune.models.prompts import load_tokenizer, prompt_tokens
from mlx_ragtune.records import Message
from mlx_ragtune.tuning.logits import logits_after

AGREEMENT = {"float32": 2e-3, "bfloat16": 1.0, "float16": 0.25}
"""Largest |Δ logit| between adapter and fused model, by the type the weights are saved in."""
SHARD_BYTES = 4 * 2**30
CARRIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "generation_config.json", "chat_template.jinja",
)  # fmt: skip


@dataclass(frozen=True)
class FuseReport:
    """Fused layers, the saved type, and how the fused model compares with base plus adapter.

    ``adapter_effect`` is the largest |Δ logit| between base and adapter: what tuning did at all.
    """

    fused_layers: int
    dtype: str
    prompts: int
    max_logit_difference: float
    top1_agreement: float
    adapter_effect: float


def _load(folder: Path) -> Any:
    from mlx_lm.utils import load_model

    model, _ = load_model(folder)
    return model


def _adapted(base: Path, adapter: Path) -> Any:
    """The base in float32 with the adapter's layers on it, dropout off."""
    from mlx_lm.tuner.utils import load_adapters

    model = _load(base)
    model.update(tree_map(lambda one: one.astype(mx.float32), model.parameters()))
    load_adapters(model, str(adapter))
    model.eval()
    return model


def adapted_logits(base: Path, adapter: Path, tokens: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """Next-token logits [prompts, V] of the base with the adapter on it, nothing fused."""
    return logits_after(_adapted(base, adapter), tokens)


def _merge(model: Any) -> int:
    """Replace every adapted layer by its fused one; returns how many there were."""
    fused = [(name, module.fuse()) for name, module in model.named_modules() if hasattr(module, "fuse")]
    model.update_modules(tree_unflatten(fused))
    return len(fused)


def _save(model: Any, base: Path, target: Path, dtypes: dict[str, mx.Dtype], config: dict[str, Any]) -> None:
    """Write the folder: shards in the base's own types, config without quantization, tokenizer, template."""
    target.mkdir(parents=True, exist_ok=True)
    arrays = {name: value.astype(dtypes.get(name, value.dtype)) for name, value in tree_flatten(model.parameters())}
    shards: list[dict[str, mx.array]] = [{}]
    size = 0
    for name in sorted(arrays):
        if shards[-1] and size + arrays[name].nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = arrays[name]
        size += arrays[name].nbytes
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        mx.save_safetensors(str(target / file), shard, metadata={"format": "mlx"})
        weight_map |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(a.nbytes for a in arrays.values())}, "weight_map": weight_map}
        (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in CARRIED:
        if (base / name).exists():
            shutil.copyfile((base / name).resolve(), target / name)


def fuse(
    base: Path, adapter: Path, target: Path, *, prompts: Sequence[Sequence[Message]], thinking: bool
) -> FuseReport:
    """Write the fused model to ``target`` and compare it with base plus adapter on the prompts.

    Works in float32 on the full-precision base, also when training quantized it. Raises ArtifactError when
    the saved model's logits are not the adapted model's, or the adapter changes nothing.
    """
    config = check_base(base)
    tokenizer = load_tokenizer(base)
    tokens = [prompt_tokens(one, tokenizer, thinking=thinking) for one in prompts]
    plain = _load(base)
    dtypes = {name: value.dtype for name, value in tree_flatten(plain.parameters())}
    before = logits_after(plain, tokens)
    del plain
    model = _adapted(base, adapter)
    adapted = logits_after(model, tokens)
    count = _merge(model)
    _save(model, base, target, dtypes, config)
    del model
    after = logits_after(_load(target), tokens)
    load_tokenizer(target)
    dtype = str(next(iter(dtypes.values()))).removeprefix("mlx.core.")
    report = FuseReport(
        fused_layers=count,
        dtype=dtype,
        prompts=len(prompts),
        max_logit_difference=float(np.abs(after - adapted).max()),
        top1_agreement=float((after.argmax(-1) == adapted.argmax(-1)).mean()),
        adapter_effect=float(np.abs(adapted - before).max()),
    )
    _check(report, adapter)
    return report


def _check(report: FuseReport, adapter: Path) -> None:
    limit = AGREEMENT[report.dtype]
    if not report.max_logit_difference <= limit:
        raise ArtifactError(
            f"the fused model is not the adapted one: logits {report.max_logit_difference:.3g} apart (limit {limit})",
            where=str(adapter),
            fix="train again with --redo; if it stays, report it as a bug",
        )
    if report.fused_layers == 0 or report.adapter_effect <= report.max_logit_difference:
        raise ArtifactError(
            f"the adapter changes nothing (logits move by {report.adapter_effect:.3g})",
            where=str(adapter),
            fix="train longer, or raise train.learning_rate",
        )
