"""Merges an adapter into full-precision weights in float32, writes a complete folder, and compares logits."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten, tree_unflatten
from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.models.model_folder import read_config
from mlx_ragtune.models.prompts import check_prompt_lengths, load_tokenizer, prompt_tokens
from mlx_ragtune.models.template_dates import freeze_files
from mlx_ragtune.records import Message
from mlx_ragtune.tuning.adapters import load_adapter
from mlx_ragtune.tuning.load import load_stored
from mlx_ragtune.tuning.logits import load_float32, logits_after, next_token_logits

Logits = Callable[[Path, Sequence[Sequence[int]]], npt.NDArray[np.float32]]
"""Next-token logits [prompts, V] of a model folder in float32."""
AGREEMENT = {"float32": 2e-3, "bfloat16": 1.0, "float16": 0.25}
"""Largest allowed |Δ logit| between base plus adapter and the fused model, by the stored type of the weights."""
SHARD_BYTES = 4 * 2**30
CARRIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "generation_config.json", "chat_template.jinja",
)  # fmt: skip
"""Files of the base that the fused folder needs, but for a date as they are: both export to the same vocabulary."""


@dataclass(frozen=True)
class FuseReport:
    """Number of fused layers, the saved type, and the difference between the fused model and base plus adapter.

    ``max_logit_difference`` is the largest |Δ logit| between the two; ``top1_agreement`` the share of prompts
    with the same most likely next token; ``adapter_effect`` the largest |Δ logit| between base and adapter.
    """

    fused_layers: int
    dtype: str
    prompts: int
    max_logit_difference: float
    top1_agreement: float
    adapter_effect: float


def _adapted(base: Path, adapter: Path, strength: float | None) -> Any:
    """The base in float32 with the adapter's layers, without dropout. Raises ArtifactError for a damaged adapter."""
    model = load_float32(base)
    load_adapter(model, adapter, strength=strength)
    return model


def adapted_logits(
    base: Path, adapter: Path, tokens: Sequence[Sequence[int]], *, strength: float | None = None
) -> npt.NDArray[np.float32]:
    """Next-token logits [prompts, V], float32, of base plus adapter without fusing; ``strength`` as in ``fuse``."""
    return logits_after(_adapted(base, adapter, strength), tokens)


def _merge(model: Any) -> int:
    """Number of adapted layers, each of which is replaced with its fused layer."""
    fused = [(name, module.fuse()) for name, module in model.named_modules() if hasattr(module, "fuse")]
    model.update_modules(tree_unflatten(fused))
    return len(fused)


def _save(model: Any, base: Path, target: Path, dtypes: dict[str, mx.Dtype], config: dict[str, Any]) -> None:
    """Write a complete folder: sorted shards in the base's stored types, config, tokenizer, chat template."""
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
        index = {"metadata": {"total_size": sum(array.nbytes for array in arrays.values())}, "weight_map": weight_map}
        (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in CARRIED:
        if (base / name).exists():
            shutil.copyfile((base / name).resolve(), target / name)
    freeze_files(target)


def fuse(
    base: Path,
    adapter: Path,
    target: Path,
    *,
    prompts: Sequence[Sequence[Message]],
    thinking: bool,
    logits: Logits = next_token_logits,
    strength: float | None = None,
) -> FuseReport:
    """Write the fused model to ``target`` and compare it with base plus adapter on the prompts.

    ``logits`` computes those of a model folder. ``strength`` is a factor on the adapter as it was trained; None leaves
    it as the folder has it.

    Works in float32 on the full-precision base, even when training used a quantized one. The same base and
    adapter give the same files. Raises InputError for a prompt beyond the base's window, ArtifactError when the
    saved model's logits differ from those of base plus adapter or the adapter changes nothing, and ToolError
    when the folder cannot be written.
    """
    config = read_config(base)
    tokenizer = load_tokenizer(base)
    tokens = [prompt_tokens(messages, tokenizer, thinking=thinking) for messages in prompts]
    check_prompt_lengths(tokens, window=int(config["max_position_embeddings"]))
    plain = load_stored(base)
    dtypes = {name: value.dtype for name, value in tree_flatten(plain.parameters())}
    del plain
    before = logits(base, tokens)
    model = _adapted(base, adapter, strength)
    adapted = logits_after(model, tokens)
    count = _merge(model)
    with disk_writes(target, sum(file.stat().st_size for file in base.glob("*.safetensors"))):
        _save(model, base, target, dtypes, config)
    del model
    after = logits(target, tokens)
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
            f"the fused model differs from base plus adapter: logits differ by {report.max_logit_difference:.3g}, "
            f"the limit for {report.dtype} is {limit}",
            where=str(adapter),
            fix="run `ragtune train RECIPE --redo`; if the error stays, report it as a bug",
        )
    if report.fused_layers == 0 or report.adapter_effect <= report.max_logit_difference:
        raise ArtifactError(
            f"the adapter changes nothing (logits differ by {report.adapter_effect:.3g} from those of the base)",
            where=str(adapter),
            fix="train longer, or raise train.learning_rate",
        )
