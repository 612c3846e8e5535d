"""A toy model in the layout in which the hub has its architecture: names, experts, kernels and norms."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

TEXT_KEYS = ("architectures", "model_type", "torch_dtype")
NESTED = {
    "qwen3_5": ("mtp.fc.weight", "model.visual.patch_embed.proj.weight"),
    "gemma4_text": (
        "model.vision_tower.patch_embedder.input_proj.weight",
        "model.embed_vision.embedding_projection.weight",
        "model.audio_tower.output_proj.weight",
        "model.embed_audio.embedding_projection.weight",
    ),
}
"""Architectures whose text model is a part of another, and tensors of the other parts."""
SHIFTED = ("layernorm.weight", "model.norm.weight", "q_norm.weight", "k_norm.weight")


def _parts(model_type: str, name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    if model_type == "qwen3_moe" and ".switch_mlp." in name:
        return {
            name.replace("switch_mlp", f"experts.{number}"): np.ascontiguousarray(values[number])
            for number in range(len(values))
        }
    if name.endswith((".conv1d.weight", ".conv.conv.weight")):
        values = np.ascontiguousarray(values.reshape(values.shape[0], 1, -1))
    if model_type == "qwen3_5" and name.endswith(SHIFTED):
        values = values - 1
    if model_type in NESTED:
        name = name.replace("model.", "model.language_model.", 1)
    return {name: values}


def _unused(text: dict[str, Any], weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keys and values of the layers that share those of others: a checkpoint may have them, and nothing reads them."""
    first = text["num_hidden_layers"] - text["num_kv_shared_layers"]
    made = {}
    for layer in range(first, text["num_hidden_layers"]):
        for name in ("k_proj", "v_proj", "k_norm"):
            stem = "model.language_model.layers.{}.self_attn." + name + ".weight"
            if stem.format(layer % 2) in weights:
                made[stem.format(layer)] = weights[stem.format(layer % 2)] + 1
    return made


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
    if model_type in NESTED:
        weights |= {name: np.ones((4, 4), np.float32) for name in NESTED[model_type]}
        nested = model_type.removesuffix("_text")
        text = {key: value for key, value in config.items() if key not in TEXT_KEYS}
        config = {key: config[key] for key in TEXT_KEYS}
        config |= {"text_config": {**text, "model_type": f"{nested}_text"}, "vision_config": {"depth": 1}}
        config["model_type"] = nested
        (folder / "config.json").write_text(json.dumps(config))
    if model_type == "gemma4_text":
        weights |= _unused(config["text_config"], weights)
        config["architectures"] = ["Gemma4ForConditionalGeneration"]
        (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
