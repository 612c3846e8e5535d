"""A LoRA adapter as GGUF: llama.cpp runs base and adapter seconds after training, without fusing.

For previews only: Ollama rejects adapters of Qwen3 (from 0.34.1), so the evaluation uses the fused model.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
from gguf import GGUFWriter

from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.gguf.convert import interleave
from mlx_ragtune.gguf.writer import value_order
from mlx_ragtune.models.adapter_scale import scale_at
from mlx_ragtune.models.architectures import flat_config, key_value_heads
from mlx_ragtune.models.stored_layout import plain_name
from mlx_ragtune.models.unsupported import check_architecture
from mlx_ragtune.models.vocabulary import read_json

_PARTS = {"lora_a", "lora_b"}


def write_adapter(adapter: Path, base: Path, target: Path, *, strength: float | None = None) -> int:
    """Number of tensors written to ``target`` from an mlx-lm adapter folder and the base it was trained on.

    llama.cpp scales by alpha / rank where mlx-lm scales by ``scale``; its A and B are transposed. ``strength`` is a
    factor on the adapter as it was trained; None leaves it as the folder has it. Raises
    InputError for DoRA, which GGUF cannot store, ArtifactError for a damaged adapter folder, and ToolError
    when the file cannot be written.
    """
    config = flat_config(read_json(base / "config.json"))
    architecture = check_architecture(config)
    settings = read_json(adapter / "adapter_config.json")
    if settings.get("fine_tune_type") != "lora":
        raise InputError(
            f"only LoRA adapters can be stored in GGUF, this one is '{settings.get('fine_tune_type')}'",
            where=str(adapter),
            fix="run `ragtune export RECIPE`, then ask without --preview",
        )
    arrays, alpha = _read(adapter, settings, strength)
    part = target.with_name(f".{target.name}.part")
    writer = GGUFWriter(part, architecture.gguf)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for name in sorted(arrays):
        module, _, side = name.rpartition(".")
        if side not in _PARTS:
            raise ArtifactError(
                f"'{name}' is not part of a LoRA adapter", where=str(adapter), fix="ragtune train RECIPE --redo"
            )
        values = np.ascontiguousarray(np.array(arrays[name].astype(mx.float32)).T)
        weight = plain_name(f"{module}.weight") or module
        gguf_name = architecture.gguf_name(weight)
        order = value_order(weight, config)
        if order and order.axis == (1 if side == "lora_a" else 0):
            values = np.ascontiguousarray(order.tiled(values))
        if architecture.interleaved and side == "lora_b":
            values = _interleaved(values, gguf_name, config)
        writer.add_tensor(f"{gguf_name}.{side}", values)
    with disk_writes(target, sum(array.nbytes for array in arrays.values()), partial=part):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        part.replace(target)
    return len(arrays)


def _read(adapter: Path, settings: dict[str, Any], strength: float | None) -> tuple[dict[str, mx.array], float]:
    """The adapter's arrays, and alpha = scale × rank."""
    try:
        arrays = cast(dict[str, mx.array], mx.load(str(adapter / "adapters.safetensors")))
        return arrays, scale_at(settings, strength) * int(settings["lora_parameters"]["rank"])
    except (ArithmeticError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"the adapter is damaged: {error}", where=str(adapter), fix="ragtune train RECIPE --redo"
        ) from None


def _interleaved(rows: "np.ndarray[Any, Any]", name: str, config: dict[str, Any]) -> "np.ndarray[Any, Any]":
    """Rows of B in llama.cpp's rotary order, as the rows of the base's q and k are."""
    if ".attn_q." in name:
        return np.ascontiguousarray(interleave(rows, int(config["num_attention_heads"])))
    if ".attn_k." in name:
        return np.ascontiguousarray(interleave(rows, key_value_heads(config)))
    return rows
