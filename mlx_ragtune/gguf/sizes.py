"""Memory and disk that exporting and serving need, predicted from config.json and safetensors headers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_ragtune.gguf.convert import PIECE_VALUES, Tensor, usable_cores
from mlx_ragtune.gguf.quantize import QuantType, tensor_type
from mlx_ragtune.gguf.writer import METADATA_BYTES, estimate_bytes
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.architectures import head_dimension, key_value_heads, tensor_shapes
from mlx_ragtune.models.model_folder import read_config
from mlx_ragtune.models.unsupported import check_architecture

_BATCH_TOKENS = 512
"""Tokens that llama.cpp computes at once (``n_ubatch``)."""
_ENGINE_BYTES = 256 * 2**20
"""The server itself: code, tokenizer, buffers that do not depend on the model."""


def export_disk(base: Path, kind: QuantType) -> int:
    """Bytes of the two GGUF files that export writes."""
    return 2 * (estimate_bytes(base, kind) + METADATA_BYTES)


def convert_memory(*, cores: int | None = None) -> int:
    """Bytes that writing a GGUF file needs: a piece of values for each thread, whatever the model.

    There are as many threads as ``cores``, by default those of this machine.
    """
    return (cores or usable_cores()) * 4 * 4 * PIECE_VALUES + 2**28


def cache_bytes(config: Mapping[str, Any], context_tokens: int) -> int:
    """Bytes of llama.cpp's float16 key-value cache for a window of ``context_tokens``."""
    if config["model_type"] == gemma4.MODEL_TYPE:
        return _gemma4_cache_bytes(config, context_tokens)
    width = key_value_heads(config) * head_dimension(config)
    return int(config["num_hidden_layers"]) * context_tokens * width * 2 * 2


def _gemma4_cache_bytes(config: Mapping[str, Any], context_tokens: int) -> int:
    """Layers with a window keep it and one batch, in steps of 256 tokens (llama.cpp, src/llama-kv-cache-iswa.cpp)."""
    windowed = min(context_tokens, -(-(int(config["sliding_window"]) + _BATCH_TOKENS) // 256) * 256)
    values = 0
    for layer in range(int(config["num_hidden_layers"])):
        tokens = context_tokens if gemma4.is_full(config, layer) else windowed
        values += tokens * gemma4.cached_width(config, layer)
    return values * 2 * 2


def gguf_bytes(config: Mapping[str, Any], kind: QuantType) -> int:
    """Size of the GGUF file of a model that its ``config.json`` describes, without metadata; no file is read."""
    architecture, layers = check_architecture(config), int(config["num_hidden_layers"])
    shapes = tensor_shapes(config)
    tied = config.get("tie_word_embeddings") is not False
    if not tied:
        shapes["lm_head.weight"] = shapes["model.embed_tokens.weight"]
    total = 0
    for source, shape in shapes.items():
        name = architecture.gguf_name(source)
        total += Tensor(name, tensor_type(name, shape, kind, layers=layers, tied=tied), shape, 0).bytes
    return total


def serve_memory(base: Path, kind: QuantType, *, context_tokens: int, slots: int = 1) -> int:
    """Bytes that llama.cpp needs to serve one model of this base: file, key-value caches, compute buffers."""
    config = read_config(base)
    return estimate_bytes(base, kind) + window_memory(config, context_tokens=context_tokens, slots=slots)


def window_memory(config: Mapping[str, Any], *, context_tokens: int, slots: int = 1) -> int:
    """Bytes that llama.cpp needs beside the file: key-value caches of the window, compute buffers, the server."""
    compute = 4 * _BATCH_TOKENS * (config["vocab_size"] + 4 * config["intermediate_size"])
    scores = 4 * _BATCH_TOKENS * config["num_attention_heads"] * context_tokens
    caches = slots * cache_bytes(config, context_tokens)
    return caches + compute + scores + _ENGINE_BYTES
