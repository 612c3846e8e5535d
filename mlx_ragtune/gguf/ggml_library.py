"""llama.cpp's own quantizer, called in the library that the ``xllamacpp`` package contains.

``ggml_quantize_chunk`` is part of ggml's C interface (ggml.h); the wheels for Linux and macOS export it. It is the code
that ``llama-quantize`` runs, so the bytes are the same. ctypes releases the GIL during a call: threads run in parallel.
"""

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type

from mlx_ragtune.errors import ToolError

_FUNCTION = "ggml_quantize_chunk"


@cache
def _quantize_chunk() -> Callable[..., int]:
    """``ggml_quantize_chunk(type, source, target, first value, rows, row length, importance) -> bytes written``."""
    import xllamacpp

    library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    try:
        function = getattr(library, _FUNCTION)
    except AttributeError:
        raise ToolError(
            f"xllamacpp {xllamacpp.__version__} does not export {_FUNCTION}",
            where=str(xllamacpp.xllamacpp.__file__),
            fix="install the version of xllamacpp in constraints.txt",
        ) from None
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    return function


def quantize_rows(
    rows: npt.NDArray[np.float32], kind: Type, into: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """The blocks of contiguous float32 ``rows`` [rows, length], as bytes [rows, bytes of a row].

    ``into`` is a buffer of at least that many bytes to write to. The length must be a whole number of blocks, and the
    values finite. Raises ToolError for another version of the library that writes another number of bytes.
    """
    count, length = rows.shape
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if rows.dtype != np.float32 or not rows.flags.c_contiguous or length % block:
        raise ValueError(f"not contiguous float32 rows of whole blocks: {rows.dtype}, {rows.shape}")
    width = length // block * block_bytes
    coded = np.empty(count * width, np.uint8) if into is None else into[: count * width]
    if coded.size != count * width or not coded.flags.c_contiguous:
        raise ValueError(f"the buffer is too small for {count * width} bytes")
    written = _quantize_chunk()(int(kind), rows.ctypes.data, coded.ctypes.data, 0, count, length, None)
    if written != coded.size:
        raise ToolError(
            f"{_FUNCTION} wrote {written} bytes of {kind.name} instead of {coded.size}",
            fix="install the version of xllamacpp in constraints.txt",
        )
    return coded.reshape(count, width)
