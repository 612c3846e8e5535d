"""A LoRA adapter as GGUF: base and adapter in llama.cpp seconds after training, nothing fused.

For previews. Ollama takes no adapters of Qwen3 (rejected from 0.34.1 on): what is measured is the fused model.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
from gguf import GGUFWriter

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.gguf.convert import interleave
from mlx_ragtune.gguf.metadata import key_value_heads
from mlx_ragtune.models.architectures import check_architecture
from mlx_ragtune.models.vocabulary import read_json

_PARTS = {"lora_a", "lora_b"}


def write_adapter(adapter: Path, base: Path, target: Path) -> int:
    """Write ``target`` from an adapter folder of mlx-lm and the base it was trained on; returns its tensors.

    llama.cpp multiplies by alpha / rank what mlx-lm multiplies by ``scale``; its A and B are our transposes.
    Raises InputError for DoRA, which GGUF cannot hold, and ArtifactError for a folder that is no adapter.
    """
    config = read_json(base / "config.json")
    architecture = check_architecture(config)
    settings = read_json(adapter / "adapter_config.json")
    if settings.get("fine_tune_type") != "lora":
        raise InputError(
            f"a GGUF holds LoRA adapters only, this one is '{settings.get('fine_tune_type')}'",
            where=str(adapter),
            fix="ragtune export RECIPE, which fuses first; then ask without --preview",
        )
    arrays = cast(dict[str, Any], mx.load(str(adapter / "adapters.safetensors")))
    part = target.with_name(f".{target.name}.part")
    writer = GGUFWriter(part, architecture.gguf)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    rank = int(settings["lora_parameters"]["rank"])
    writer.add_float32("adapter.lora.alpha", float(settings["lora_parameters"]["scale"]) * rank)
    for name in sorted(arrays):
        module, _, side = name.rpartition(".")
        if side not in _PARTS:
            raise ArtifactError(f"'{name}' is no part of a LoRA adapter", where=str(adapter), fix="train with --redo")
        values = np.ascontiguousarray(np.array(arrays[name].astype(mx.float32)).T)
        called = architecture.gguf_name(f"{module}.weight")
        if architecture.interleaved and side == "lora_b":
            values = _turned(values, called, config)
        writer.add_tensor(f"{called}.{side}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(target)
    return len(arrays)


def _turned(rows: "np.ndarray[Any, Any]", name: str, config: dict[str, Any]) -> "np.ndarray[Any, Any]":
    """Rows of B in llama.cpp's rotary order, where the base's q and k rows are."""
    if ".attn_q." in name:
        return np.ascontiguousarray(interleave(rows, int(config["num_attention_heads"])))
    if ".attn_k." in name:
        return np.ascontiguousarray(interleave(rows, key_value_heads(config)))
    return rows
