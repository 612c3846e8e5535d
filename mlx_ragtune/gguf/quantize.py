"""The type of each tensor and its encoded bytes, identical to llama.cpp's converter and quantizer."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from mlx_ragtune.gguf.ggml_library import quantize_rows
from mlx_ragtune.models.weights import Floats, to_float32

QuantType = Literal["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S"]

FILE_TYPES: dict[QuantType, int] = {
    "F32": 0, "F16": 1, "Q8_0": 7, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "BF16": 32,
}  # fmt: skip
"""``general.file_type`` (llama.h, enum llama_ftype)."""

_PLAIN = {"F16": Type.F16, "BF16": Type.BF16, "Q8_0": Type.Q8_0}
_K_QUANTS = {"Q6_K": Type.Q6_K, "Q5_K_M": Type.Q5_K, "Q4_K_M": Type.Q4_K, "Q4_K_S": Type.Q4_K}
_FALLBACK = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}
_VALUES = (".attn_v.weight", ".attn_qkv.weight")
_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
_KEPT = "per_layer_model_proj.weight"
"""A matrix that llama.cpp's quantizer leaves as it is; that is BF16 in a file made of a bfloat16 model."""
_NEVER_NARROW = (".ffn_gate_inp.weight", ".ssm_conv1d.weight", ".shortconv.conv.weight")
_BLOCK = {Type.Q8_0: 32, Type.Q5_0: 32, Type.Q5_1: 32, Type.Q4_K: 256, Type.Q5_K: 256, Type.Q6_K: 256}


def _more_bits(layer: int, layers: int) -> bool:
    """Whether llama.cpp's ``use_more_bits`` applies: the first and last eighth, and every third layer between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _k_quant(name: str, kind: QuantType, layers: int, tied: bool, attention: Sequence[int] | None) -> Type:
    """The type that llama.cpp's quantizer gives a matrix (src/llama-quant.cpp)."""
    if name == "output.weight" or (name in _EMBEDDINGS and tied):
        return Type.Q6_K
    if name == _KEPT:
        return Type.BF16
    default = _K_QUANTS[kind]
    if not name.endswith((*_VALUES, ".ffn_down.weight", ".ffn_down_exps.weight")):
        return default
    layer = int(name.split(".")[1])
    if attention is not None and name.endswith(_VALUES):
        layer, layers = attention.index(layer), len(attention)
    if kind in ("Q4_K_M", "Q5_K_M") and _more_bits(layer, layers):
        return Type.Q6_K
    if kind == "Q4_K_S" and layer < (4 if name.endswith(_VALUES) else layers // 8):
        return Type.Q5_K
    return default


def tensor_type(
    name: str,
    shape: tuple[int, ...],
    kind: QuantType,
    *,
    layers: int,
    tied: bool,
    attention: Sequence[int] | None = None,
) -> Type:
    """The type of one tensor. Vectors stay float32; row lengths that do not fit a block fall back as in llama.cpp.

    So do routers of experts and kernels of convolutions. ``attention`` are the layers that have a matrix of values, if
    not all have one.
    """
    if len(shape) == 1 or kind == "F32" or name.endswith(_NEVER_NARROW):
        return Type.F32
    chosen = _PLAIN[kind] if kind in _PLAIN else _k_quant(name, kind, layers, tied, attention)
    if chosen in _FALLBACK and shape[-1] % _BLOCK[chosen]:
        chosen = _FALLBACK[chosen]
    if chosen in _BLOCK and shape[-1] % _BLOCK[chosen]:
        chosen = Type.F16
    return chosen


def encode_bf16(values: Floats) -> npt.NDArray[np.uint16]:
    """bfloat16 bits of finite float32 values, rounded to nearest, ties to even. Same shape."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    return rounded.astype(np.uint16)


_F16_NORMAL, _F16_OVERFLOW = 0x3880, 0x4780
"""bfloat16 bits of 2 ** -14, the least normal float16, and of 2 ** 16, which float16 cannot represent."""
_REBIAS = np.uint16((127 - 15) << 10 & 0xFFFF)


def f16_of_bf16(raw: npt.NDArray[np.uint16], into: npt.NDArray[np.uint16]) -> npt.NDArray[np.float16]:
    """bfloat16 bits as float16, in ``into`` of the same shape; too large values become infinite.

    A normal float16 has room for all bits of the significand, so only the exponent's bias changes; the few smaller
    values are converted by way of float32.
    """
    magnitude = np.bitwise_and(raw, 0x7FFF, out=into)
    special = magnitude < _F16_NORMAL
    special |= magnitude >= _F16_OVERFLOW
    places = np.flatnonzero(special)
    magnitude <<= 3
    magnitude -= _REBIAS
    magnitude |= raw & np.uint16(0x8000)
    halves = into.view(np.float16)
    if places.size:
        with np.errstate(over="ignore"):
            halves.reshape(-1)[places] = to_float32(raw.reshape(-1)[places]).astype(np.float16)
    return halves


def encode(values: Floats, kind: Type, *, into: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.generic]:
    """Rows encoded as float32, float16, uint16 (bfloat16) or uint8 blocks. Row lengths must be whole blocks.

    ``into`` is memory for the blocks of a quantized type.
    """
    if kind == Type.F32:
        return values
    if kind == Type.F16:
        with np.errstate(over="ignore"):  # the caller checks for infinite values
            return values.astype(np.float16)
    if kind == Type.BF16:
        return encode_bf16(values)
    rows = np.ascontiguousarray(values.reshape(-1, values.shape[-1]))
    return quantize_rows(rows, kind, into)
