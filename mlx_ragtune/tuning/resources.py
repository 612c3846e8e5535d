"""Memory and disk that training, fusing and comparing need, predicted from config.json and safetensors headers.

The factors are fitted to peaks that MLX reported for small models (``tests/tuning/test_resources.py`` measures
again). They are meant to be slightly too high, never far too high: a machine that is refused cannot run the stage.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.models.architectures import head_dimension, key_value_heads, tensor_shapes
from mlx_ragtune.models.model_folder import check_weights, read_config
from mlx_ragtune.models.weights import Weights
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning.head import CHUNK_LOGITS
from mlx_ragtune.tuning.load import GROUP_SIZE, Precision
from mlx_ragtune.tuning.logits import CHUNK_TOKENS
from mlx_ragtune.tuning.schedule import rows_per_update

TYPICAL_ROW_TOKENS = 512
"""Length of a training row where none is known yet."""
PAIR_TOKENS = 1.25
"""Tokens of a row with its rejected answer over those of the row: they share the prompt."""
_FUSE_SHARE, _CHECK_SHARE = 1.5, 1.25
"""Peak of fusing and of comparing logits over the float32 weights (measured: 1.36 and 1.16)."""
STEP_VALUES = 2**28
"""Values that a micro-batch keeps for the backward pass where the recipe sets no ``tokens_per_step``: 1 GiB in float32.
A matrix product with 1,024 rows is about as fast as a longer one, so that more memory would save little time."""
STEP_TOKENS = (1024, 4096)
"""Least and most tokens of such a micro-batch; below, contexts with several questions would be cut apart."""
_OPTIMIZER_COPIES = 5
"""Arrays of the adapter's size: adapter, gradient, accumulated gradient, and two of the optimizer."""
_MIB = 2**20


@dataclass(frozen=True)
class _Model:
    config: Mapping[str, Any]
    weights: Weights

    @property
    def parameters(self) -> int:
        return sum(self.weights[name].size for name in self.weights)

    @property
    def stored_bytes(self) -> int:
        return sum(self.weights[name].bytes for name in self.weights)


def _read(base: Path) -> _Model:
    config = read_config(base)
    return _Model(config, check_weights(base, config))


def _held_bytes(model: _Model, precision: Precision) -> int:
    """Bytes of the frozen weights in a precision; 8bit and 4bit have a bfloat16 scale and bias per group."""
    if precision in ("fp32", "bf16"):
        return model.parameters * (4 if precision == "fp32" else 2)
    total = 0.0
    for name in model.weights:
        shape, size = model.weights[name].shape, model.weights[name].size
        quantized = len(shape) == 2 and "embed_tokens" not in name and shape[-1] % GROUP_SIZE == 0
        total += size * (int(precision[0]) / 8 + 4 / GROUP_SIZE if quantized else 2)
    return int(total)


def adapter_parameters(config: Mapping[str, Any], settings: TrainSettings) -> int:
    """Trainable parameters of the recipe's adapter: rank × (inputs + outputs) of every adapted matrix."""
    layers = config["num_hidden_layers"]
    adapted = layers if settings.layers == "all" else min(settings.layers, layers)
    total = 0
    for name, shape in tensor_shapes({**config, "num_hidden_layers": 1}).items():
        if name.rsplit(".", 2)[-2] in settings.target_modules:
            total += adapted * (settings.rank * sum(shape) + (shape[0] if settings.method == "dora" else 0))
    return total


def _adapted_layers(config: Mapping[str, Any], settings: TrainSettings) -> int:
    layers: int = config["num_hidden_layers"]
    return layers if settings.layers == "all" else min(settings.layers, layers)


def _values_per_token(config: Mapping[str, Any], settings: TrainSettings) -> tuple[float, float]:
    """(values that the backward pass keeps for each token, values of one layer for each token), without scores."""
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    queries, keys = heads * head_dimension(config), key_value_heads(config) * head_dimension(config)
    ours = settings.engine == "shared-prefix"  # which keeps gate, up and their product, without sigmoids
    layer = 5 * hidden + 3 * queries + 2 * keys + (4 if ours else 5.5) * inner
    adapted = _adapted_layers(config, settings)
    return (adapted * 2 * (hidden + keys) + 2 * layer if settings.grad_checkpoint else adapted * layer), layer


def step_for_budget(config: Mapping[str, Any], settings: TrainSettings) -> int:
    """Tokens of a micro-batch that keep STEP_VALUES for the backward pass, within STEP_TOKENS."""
    tokens = int(STEP_VALUES / _values_per_token(config, settings)[0]) // 256 * 256
    return min(max(tokens, STEP_TOKENS[0]), STEP_TOKENS[1])


def _activation_values(config: Mapping[str, Any], settings: TrainSettings, tokens: int, row_tokens: int) -> float:
    """Values in memory at most in one micro-batch of ``tokens``."""
    kept: float = tokens * _values_per_token(config, settings)[0]
    scores = 1.1 * config["num_attention_heads"] * tokens * row_tokens
    if settings.engine == "shared-prefix" or sys.platform == "darwin":
        kept += 3 * scores  # attention keeps none; the backward pass makes those of one layer
    else:
        kept += _adapted_layers(config, settings) * scores
    positions = tokens * config["vocab_size"]
    logits = positions if settings.engine == "mlx-lm" else 4 * min(CHUNK_LOGITS, positions)
    return kept + 3 * logits


def train_memory(
    base: Path, settings: TrainSettings, precision: Precision, *, row_tokens: int = TYPICAL_ROW_TOKENS
) -> int:
    """Bytes that training needs for rows of ``row_tokens``: weights, adapter, optimizer, activations.

    ``ragtune plan`` measures real steps on the real rows and is more exact.
    """
    model = _read(base)
    held = _held_bytes(model, precision)
    same_type = precision == "fp32" and model.stored_bytes == 4 * model.parameters
    loading = held if same_type else held + model.stored_bytes
    if settings.engine == "mlx-lm":
        tokens = settings.batch_size * row_tokens
    else:
        pairs = PAIR_TOKENS if settings.preference else 1.0
        most = settings.tokens_per_step or step_for_budget(model.config, settings)
        tokens = max(row_tokens, min(most, int(rows_per_update(settings) * row_tokens * pairs)))
    width = 4 if precision == "fp32" else 3  # bfloat16 activations beside float32 ones of the adapter
    adapter = 4 * _OPTIMIZER_COPIES * adapter_parameters(model.config, settings)
    step = held + adapter + width * _activation_values(model.config, settings, tokens, row_tokens)
    return int(max(loading, step))


def _forward_bytes(config: Mapping[str, Any], prompt_tokens: int) -> int:
    """Float32 bytes of attention scores, MLP and logits while one prompt goes through the layers."""
    tokens = min(prompt_tokens, CHUNK_TOKENS)
    scores = 2 * config["num_attention_heads"] * tokens * prompt_tokens
    return int(4 * (scores + 4 * tokens * config["intermediate_size"] + 64 * config["vocab_size"]))


def fuse_memory(base: Path, *, prompt_tokens: int = CHUNK_TOKENS) -> int:
    """Bytes that fusing needs: the float32 model with its fused copy, and one prompt's activations."""
    model = _read(base)
    narrow = 0 if model.stored_bytes == 4 * model.parameters else model.stored_bytes
    weights = _FUSE_SHARE * 4 * model.parameters + 0.75 * narrow
    return int(weights + _forward_bytes(model.config, prompt_tokens))


def logits_memory(base: Path, *, prompt_tokens: int = CHUNK_TOKENS) -> int:
    """Bytes that ``next_token_logits`` needs: the float32 model and one prompt's activations."""
    model = _read(base)
    return int(_CHECK_SHARE * 4 * model.parameters + _forward_bytes(model.config, prompt_tokens))


def decode_memory(base: Path, precision: Precision, *, tokens: int) -> int:
    """Bytes that answering in MLX needs: the weights, and keys and values of ``tokens`` tokens, twice while growing."""
    model = _read(base)
    held = _held_bytes(model, precision)
    width = 4 if precision == "fp32" else 2
    keys = 2 * model.config["num_hidden_layers"] * key_value_heads(model.config) * head_dimension(model.config)
    return max(held + model.stored_bytes, held + 2 * width * tokens * keys)


def fuse_disk(base: Path) -> int:
    """Bytes of the fused model folder: the size of the base's weights and tokenizer."""
    return _read(base).stored_bytes + 64 * _MIB


def train_disk(base: Path, settings: TrainSettings, *, rows: int = 0, row_tokens: int = TYPICAL_ROW_TOKENS) -> int:
    """Bytes that training writes: checkpoints and kept adapters, and with ``frozen_store`` the stored outputs.

    ``rows`` is the number of training and validation rows, where it is known.
    """
    config = read_config(base)
    adapter = 4 * adapter_parameters(config, settings)
    kept = settings.select_best if settings.select == "task" else 1
    checkpoints = (3 * 3 + kept + 2) * adapter  # three of weights and optimizer, kept adapters, the result
    store = 4 * rows * row_tokens * int(config["hidden_size"]) if settings.frozen_store else 0
    return checkpoints + store + 64 * _MIB
