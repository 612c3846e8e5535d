"""A toy model in the layout in which the hub has its architecture: names, experts, kernels and norms."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

TEXT_KEYS = ("architectures", "model_type", "torch_dtype")
SHIFTED = ("layernorm.weight", "model.norm.weight", "q_norm.weight", "k_norm.weight")


def _parts(model_type: str, name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    if model_type == "qwen3_moe" and ".switch_mlp." in name:
        return {
            name.replace("switch_mlp", f"experts.{number}"): np.ascontiguousarray(values[number])
            for number in range(len(values))
        }
    if name.endswith((".conv1d.weight", ".conv.conv.weight")):
        values = np.ascontiguousarray(values.reshape(values.shape[0], 1, -1))
    if model_type == "qwen3_5":
        if name.endswith(SHIFTED):
            values = values - 1
        name = name.replace("model.", "model.language_model.", 1)
    return {name: values}


def as_on_the_hub(toy: Path, folder: Path) -> Path:
    """``folder`` with the toy's files, its weights and config as the hub would have them."""
    folder.mkdir(parents=True)
    for file in toy.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config: dict[str, Any] = json.loads((toy / "config.json").read_text())
    model_type = config["model_type"]
    weights: dict[str, np.ndarray] = {}
    for name, values in load_file(toy / "model.safetensors").items():
        weights |= _parts(model_type, name, values)
    if model_type == "qwen3_5":
        weights["mtp.fc.weight"] = np.ones((4, 4), np.float32)
        weights["model.visual.patch_embed.proj.weight"] = np.ones((4, 4), np.float32)
        text = {key: value for key, value in config.items() if key not in TEXT_KEYS}
        config = {key: config[key] for key in TEXT_KEYS}
        config |= {"text_config": {**text, "model_type": "qwen3_5_text"}, "vision_config": {"depth": 1}}
        (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
