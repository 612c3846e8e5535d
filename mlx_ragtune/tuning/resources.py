"""Memory and disk that training, fusing and comparing need, predicted from config.json and safetensors headers.

The factors are fitted to peaks that MLX reported for small models (``tests/tuning/test_resources.py`` measures
again). They are meant to be slightly too high, never far too high: a machine that is refused cannot run the stage.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, get_args

from mlx_ragtune.models import gemma4
from mlx_ragtune.models.architectures import (
    attention_layers,
    head_dimension,
    key_value_heads,
    layer_shapes,
    projections,
    tensor_shapes,
)
from mlx_ragtune.models.model_folder import check_weights, read_config
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning.fused_folder import BLOCK_VALUES
from mlx_ragtune.tuning.head import CHUNK_LOGITS
from mlx_ragtune.tuning.layerwise import HEAD_VALUES
from mlx_ragtune.tuning.load import CHECKED_VALUES, GROUP_SIZE, Precision
from mlx_ragtune.tuning.logits import CHUNK_TOKENS
from mlx_ragtune.tuning.schedule import rows_per_update

TYPICAL_ROW_TOKENS = 512
"""Length of a training row where none is known yet."""
PAIR_TOKENS = 1.25
"""Tokens of a row with its rejected answer over those of the row: they share the prompt."""
COMPARED_PROMPTS = 10
"""Prompts whose logits are compared after fusing and exporting."""
PROMPT_TOKENS = 2048
"""Tokens of the longest of them, where it is not known."""
_ADAPTER_SHARE = 0.03
"""Parameters of an adapter over those of the model, where its rank is not known: rank 64 of a 4B model has 3%."""
STEP_VALUES = 2**28
"""Values that a micro-batch keeps for the backward pass where the recipe sets no ``tokens_per_step``: 1 GiB in float32.
A matrix product with 1,024 rows is about as fast as a longer one, so that more memory would save little time."""
STEP_TOKENS = (1024, 4096)
"""Least and most tokens of such a micro-batch; below, contexts with several questions would be cut apart."""
_OPTIMIZER_COPIES = 5
"""Arrays of the adapter's size: adapter, gradient, accumulated gradient, and two of the optimizer."""
_MASKS = 4
"""Bytes for each value that is checked at a time while a tensor is loaded."""
_LEAST_TOKENS = 512
"""The smallest ``tokens_per_step`` that is proposed: many rows are longer than half of it."""
_GELU_WIDTHS = 5
"""Arrays as wide as Gemma 4's MLP that the backward pass of a layer keeps: GELU is not among the lean kernels."""
_MIB = 2**20


@dataclass(frozen=True)
class SizedModel:
    """A model by its ``config.json`` and the (shape, bytes) of every stored tensor."""

    config: Mapping[str, Any]
    tensors: Mapping[str, tuple[tuple[int, ...], int]]

    @property
    def parameters(self) -> int:
        """Number of values."""
        return sum(prod(shape) for shape, _ in self.tensors.values())

    @property
    def stored_bytes(self) -> int:
        """Bytes of all tensors as they are stored."""
        return sum(size for _, size in self.tensors.values())

    @property
    def largest_bytes(self) -> int:
        """Bytes of the largest tensor as it is stored."""
        return max(size for _, size in self.tensors.values())


Base = Path | SizedModel
"""A model folder, or what its headers say."""


def sized_config(config: Mapping[str, Any], *, bytes_per_value: int = 2) -> SizedModel:
    """The model that a ``config.json`` describes, with no file: tied unless it says otherwise, and without biases."""
    shapes = tensor_shapes(config)
    if config.get("tie_word_embeddings") is False:
        shapes["lm_head.weight"] = shapes["model.embed_tokens.weight"]
    return SizedModel(config, {name: (shape, bytes_per_value * prod(shape)) for name, shape in shapes.items()})


def _sized(base: Base) -> SizedModel:
    if isinstance(base, SizedModel):
        return base
    config = read_config(base)
    weights = check_weights(base, config)
    return SizedModel(config, {name: (weights[name].shape, weights[name].bytes) for name in weights})


def held_memory(base: Base, precision: Precision) -> int:
    """Bytes of the frozen weights in a precision; 8bit and 4bit have a bfloat16 scale and bias per group."""
    return sum(_held_bytes(name, shape, precision) for name, (shape, _) in _sized(base).tensors.items())


def _held_bytes(name: str, shape: tuple[int, ...], precision: Precision) -> int:
    if precision in ("fp32", "bf16"):
        return prod(shape) * (4 if precision == "fp32" else 2)
    quantized = len(shape) == 2 and "embed_tokens" not in name and shape[-1] % GROUP_SIZE == 0
    return int(prod(shape) * (int(precision[0]) / 8 + 4 / GROUP_SIZE if quantized else 2))


def load_memory(base: Base, precision: Precision) -> int:
    """Bytes at most while a base is loaded: it is read, cast and quantized a module at a time, the largest first."""
    model, held, most = _sized(base), 0, 0
    for name, (shape, size) in sorted(model.tensors.items(), key=lambda tensor: -tensor[1][1]):
        own = _held_bytes(name, shape, precision)
        most = max(most, held + _loading_bytes(prod(shape), size, own, precision))
        held += own
    return max(most, held)


def _loading_bytes(values: int, stored: int, held: int, precision: Precision) -> int:
    """Bytes of a tensor while it is loaded: as stored, then in the precision's type, then quantized, and the checks.

    Casting to the type that it has copies nothing.
    """
    cast = values * (4 if precision == "fp32" else 2)
    casting = stored if stored == cast else stored + cast
    quantizing = cast + held if held < cast else cast
    return max(casting, quantizing) + _MASKS * min(values, CHECKED_VALUES)


def adapter_parameters(config: Mapping[str, Any], settings: TrainSettings) -> int:
    """Trainable parameters of the recipe's adapter: rank × (inputs + outputs) of every adapted matrix."""
    layers = config["num_hidden_layers"]
    adapted = layers if settings.layers == "all" else min(settings.layers, layers)
    total = 0
    for number in range(layers - adapted, layers):
        shapes = layer_shapes(config, number)
        for place in projections(settings.target_modules, {name.removesuffix(".weight") for name in shapes}):
            shape = shapes[f"{place}.weight"]
            total += settings.rank * sum(shape) + (shape[0] if settings.method == "dora" else 0)
    return total


def _state_values(config: Mapping[str, Any], settings: TrainSettings, tokens: int, adapted: int) -> float:
    """Values of the states that Qwen3.5's gated delta rule keeps for the backward pass: a matrix a head and token.

    Measured on one layer: 2.2 states a token without recomputing, 4.5 in the layer that is being recomputed.
    """
    if config["model_type"] != "qwen3_5":
        return 0.0
    state = config["linear_num_value_heads"] * config["linear_key_head_dim"] * config["linear_value_head_dim"]
    first = config["num_hidden_layers"] - adapted
    layers = adapted - sum(layer >= first for layer in attention_layers(config))
    return tokens * state * (5.0 if settings.grad_checkpoint else 2.5 * layers)


def _adapted_layers(config: Mapping[str, Any], settings: TrainSettings) -> int:
    layers: int = config["num_hidden_layers"]
    return layers if settings.layers == "all" else min(settings.layers, layers)


def _values_per_token(config: Mapping[str, Any], settings: TrainSettings) -> float:
    """Values that the backward pass keeps for each token, without attention scores."""
    if config["model_type"] == gemma4.MODEL_TYPE:
        return _gemma4_values_per_token(config, settings)
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    queries, keys = heads * head_dimension(config), key_value_heads(config) * head_dimension(config)
    hidden_copies, inner_copies = _copies(settings)
    layer = hidden_copies * hidden + 3 * queries + 2 * keys + inner_copies * inner
    adapted = _adapted_layers(config, settings)
    return adapted * 2 * (hidden + keys) + 2 * layer if settings.grad_checkpoint else adapted * layer


def _copies(settings: TrainSettings) -> tuple[float, float]:
    """Arrays as wide as the model, and as its MLP, that a layer keeps: see ``lean_kernels`` and ``lean_inputs``."""
    if settings.engine == "mlx-lm":
        return 5, 5.5
    return (3, 2.6) if settings.method == "lora" and not settings.dropout else (5, 4)


def _gemma4_values_per_token(config: Mapping[str, Any], settings: TrainSettings) -> float:
    """As ``_values_per_token`` for Gemma 4, whose layers have different widths, four norms, and GELU for SiLU.

    The embeddings of all layers are made before the first one.
    """
    layers, hidden, narrow = config["num_hidden_layers"], config["hidden_size"], config["hidden_size_per_layer_input"]
    first, heads = layers - _adapted_layers(config, settings), config["num_attention_heads"]
    kept, widest, outputs = 0.0, 0.0, 0.0
    for layer in range(first, layers):
        queries, keys = heads * gemma4.head_width(config, layer), gemma4.cached_width(config, layer)
        own = _GELU_WIDTHS * gemma4.inner_width(config, layer) + 7 * hidden + 3 * queries + 3 * keys + 4 * narrow
        kept, widest, outputs = kept + own, max(widest, own), outputs + 2 * (hidden + keys)
    return (outputs + 2 * widest if settings.grad_checkpoint else kept) + 3 * layers * narrow


def step_for_budget(config: Mapping[str, Any], settings: TrainSettings) -> int:
    """Tokens of a micro-batch that keep STEP_VALUES for the backward pass, within STEP_TOKENS."""
    each = _values_per_token(config, settings) + _state_values(config, settings, 1, _adapted_layers(config, settings))
    return min(max(int(STEP_VALUES / each) // 256 * 256, STEP_TOKENS[0]), STEP_TOKENS[1])


def _activation_values(
    config: Mapping[str, Any], settings: TrainSettings, tokens: int, *, row_tokens: int, platform: str
) -> float:
    """Values that the backward pass of one micro-batch of ``tokens`` keeps."""
    adapted = _adapted_layers(config, settings)
    scores = 1.1 * config["num_attention_heads"] * tokens * row_tokens
    kept: float = tokens * _values_per_token(config, settings) + _state_values(config, settings, tokens, adapted)
    if platform == "darwin":  # Metal's fused attention keeps no scores; the backward pass makes one layer's
        kept += 3 * scores
    elif settings.engine == "shared-prefix" or settings.grad_checkpoint:
        kept += 10 * scores  # one layer's too, but each operation has arrays of its own, some of them made in advance
    else:
        kept += adapted * scores
    positions = tokens * config["vocab_size"]
    logits = positions if settings.engine == "mlx-lm" else 4 * min(CHUNK_LOGITS, positions)
    return kept + 3 * logits


def train_memory(
    base: Base,
    settings: TrainSettings,
    precision: Precision,
    *,
    row_tokens: int = TYPICAL_ROW_TOKENS,
    platform: str = sys.platform,
) -> int:
    """Bytes that training needs for rows of ``row_tokens``: weights, adapter, optimizer, activations.

    ``ragtune plan`` measures real steps on the real rows and is more exact.
    """
    model = _sized(base)
    held = held_memory(model, precision)
    if settings.engine == "mlx-lm":
        tokens = settings.batch_size * row_tokens
    else:
        pairs = PAIR_TOKENS if settings.preference else 1.0
        most = settings.tokens_per_step or step_for_budget(model.config, settings)
        tokens = max(row_tokens, min(most, int(rows_per_update(settings) * row_tokens * pairs)))
    width = 4 if precision == "fp32" else 3  # bfloat16 activations beside float32 ones of the adapter
    adapter = 4 * _OPTIMIZER_COPIES * adapter_parameters(model.config, settings)
    activations = _activation_values(model.config, settings, tokens, row_tokens=row_tokens, platform=platform)
    step = held + adapter + width * activations
    return int(max(load_memory(model, precision), step))


def fitting_changes(
    base: Base,
    settings: TrainSettings,
    precision: Precision,
    *,
    limit: int,
    row_tokens: int = TYPICAL_ROW_TOKENS,
    platform: str = sys.platform,
) -> list[tuple[str, str]] | None:
    """The fewest recipe changes (key, value) with which training needs at most ``limit`` bytes; None if none will do.

    In this order: recompute activations, fewer tokens at a time (both leave the result as it is), fewer bits.
    """
    model, order = _sized(base), get_args(Precision)
    for bits in order[order.index(precision) :]:
        for change in _smaller_steps(model.config, settings):
            smaller = settings.model_copy(update=change)
            if train_memory(model, smaller, bits, row_tokens=row_tokens, platform=platform) <= limit:
                keys = [(f"train.{key}", str(value).lower()) for key, value in change.items()]
                return keys if bits == precision else [("base.precision", bits), *keys]
    return None


def _smaller_steps(config: Mapping[str, Any], settings: TrainSettings) -> Iterator[dict[str, Any]]:
    """Changes of the settings that need less and less memory, the first of which is none."""
    yield {}
    if settings.engine == "mlx-lm":
        rows = settings.batch_size
        for parts in (parts for parts in range(2, rows + 1) if rows % parts == 0):
            yield {"batch_size": rows // parts, "accumulation": settings.accumulation * parts}
        return
    recompute = {} if settings.grad_checkpoint else {"grad_checkpoint": True}
    if recompute:
        yield recompute
    tokens = (settings.tokens_per_step or step_for_budget(config, settings)) // 2
    while tokens >= _LEAST_TOKENS:
        yield {**recompute, "tokens_per_step": tokens}
        tokens //= 2


def _forward_bytes(config: Mapping[str, Any], prompt_tokens: int) -> int:
    """Float32 bytes of attention scores, with four arrays made of them, MLP and logits while a prompt is computed."""
    tokens = min(prompt_tokens, CHUNK_TOKENS)
    scores = 5 * config["num_attention_heads"] * tokens * prompt_tokens
    return int(4 * (scores + 4 * tokens * config["intermediate_size"] + 64 * config["vocab_size"]))


def _adapter_bytes(model: SizedModel, parameters: int | None) -> int:
    return int(4 * (_ADAPTER_SHARE * model.parameters if parameters is None else parameters))


def merge_memory(base: Base, *, adapter: int | None = None) -> int:
    """Bytes that writing the fused folder needs: the largest tensor, some rows in float32, and the adapter.

    ``adapter`` is its number of parameters, where it is known.
    """
    model = _sized(base)
    block = min(BLOCK_VALUES, max(prod(shape) for shape, _ in model.tensors.values()))
    return model.largest_bytes + 4 * 4 * block + _adapter_bytes(model, adapter)


def logits_memory(base: Base, *, prompt_tokens: int = PROMPT_TOKENS, adapter: int | None = None) -> int:
    """Bytes that comparing logits needs: embedding, adapter, one layer in float32, and the prompts' states.

    ``adapter`` is as in ``merge_memory``.
    """
    model = _sized(base)
    outside = [size for name, (_, size) in model.tensors.items() if ".layers." not in name]
    layer = max(map(_layer_bytes, _layers(model)))
    vocabulary, hidden = model.config["vocab_size"], model.config["hidden_size"]
    head = 6 * min(HEAD_VALUES, vocabulary * hidden) + 2 * 4 * COMPARED_PROMPTS * vocabulary
    states = (2 * hidden + _held_values(model.config)) * 4 * COMPARED_PROMPTS * prompt_tokens
    widest = max(head, layer + _forward_bytes(model.config, prompt_tokens))
    return sum(outside) + _adapter_bytes(model, adapter) + states + widest


def _held_values(config: Mapping[str, Any]) -> int:
    """Values of a token that are held from layer to layer beside its state.

    Of Gemma 4, the embeddings for all layers, and the keys and values that later layers share.
    """
    if config["model_type"] != gemma4.MODEL_TYPE:
        return 0
    layers, own = int(config["num_hidden_layers"]), gemma4.own_layers(config)
    shared = range(own - 2, own) if own < layers else ()
    kept = sum(2 * gemma4.cached_width(config, layer) for layer in shared)
    return kept + layers * int(config["hidden_size_per_layer_input"])


def _layers(model: SizedModel) -> list[list[tuple[int, int]]]:
    """(values, stored bytes) of the tensors of the first layer, of Gemma 4's of every layer: they are not alike."""
    every = range(int(model.config["num_hidden_layers"])) if model.config["model_type"] == gemma4.MODEL_TYPE else (0,)
    found: dict[str, list[tuple[int, int]]] = {str(number): [] for number in every}
    for name, (shape, size) in model.tensors.items():
        number = name.partition(".layers.")[2].partition(".")[0]
        if number in found:
            found[number].append((prod(shape), size))
    return list(found.values())


def _layer_bytes(tensors: list[tuple[int, int]]) -> int:
    """Bytes of a layer in float32, and of its largest tensor as it is stored."""
    return sum(4 * values for values, _ in tensors) + max(size for _, size in tensors)


def fuse_memory(base: Base, *, prompt_tokens: int = PROMPT_TOKENS) -> int:
    """Bytes that fusing needs: those of writing the folder or of comparing logits, whichever are more."""
    return max(merge_memory(base), logits_memory(base, prompt_tokens=prompt_tokens))


def decode_memory(base: Base, precision: Precision, *, tokens: int) -> int:
    """Bytes that answering in MLX needs: the weights, and keys and values of ``tokens`` tokens, twice while growing."""
    model = _sized(base)
    width = 4 if precision == "fp32" else 2
    keys = 2 * _keys_per_token(model.config)
    return max(load_memory(model, precision), held_memory(model, precision) + 2 * width * tokens * keys)


def _keys_per_token(config: Mapping[str, Any]) -> int:
    layers: int = config["num_hidden_layers"]
    if config["model_type"] == gemma4.MODEL_TYPE:
        return sum(gemma4.cached_width(config, layer) for layer in range(layers))
    return layers * key_value_heads(config) * head_dimension(config)


def fuse_disk(base: Path) -> int:
    """Bytes of the fused model folder: the size of the base's weights and tokenizer."""
    return _sized(base).stored_bytes + 64 * _MIB


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
