"""The quantizer in xllamacpp's library: checked sizes, and a clear message for a version without it."""

from collections.abc import Iterator

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, quants
from gguf import GGMLQuantizationType as Type

from mlx_ragtune.errors import ToolError
from mlx_ragtune.gguf import ggml_library
from mlx_ragtune.gguf.ggml_library import quantize_rows

ROWS = np.random.default_rng(1).normal(0, 0.02, (6, 512)).astype(np.float32)


@pytest.fixture
def fresh() -> Iterator[None]:
    ggml_library._quantize_chunk.cache_clear()
    yield
    ggml_library._quantize_chunk.cache_clear()


@pytest.mark.parametrize("kind", [Type.Q8_0, Type.Q5_0, Type.Q5_1])
def test_blocks_are_those_of_the_gguf_package(kind: Type) -> None:
    assert np.array_equal(quantize_rows(ROWS, kind), quants.quantize(ROWS, kind).view(np.uint8))


@pytest.mark.parametrize("kind", [Type.Q4_K, Type.Q5_K, Type.Q6_K])
def test_a_buffer_that_is_used_again_gives_the_same_bytes(kind: Type) -> None:
    buffer = np.full(ROWS.nbytes, 0xA5, np.uint8)
    coded = quantize_rows(ROWS, kind, buffer)
    assert np.array_equal(coded, quantize_rows(ROWS, kind))
    assert coded.shape == (6, 2 * GGML_QUANT_SIZES[kind][1])
    assert np.shares_memory(coded, buffer)
    assert (buffer[coded.size :] == 0xA5).all()


@pytest.mark.parametrize(
    ("rows", "size"),
    [(ROWS[:, :100], 10_000), (np.asfortranarray(ROWS), 10_000), (ROWS.astype(np.float64), 10_000), (ROWS, 100)],
    ids=["not whole blocks", "not contiguous", "not float32", "a buffer that is too small"],
)
def test_arguments_that_would_corrupt_memory_are_refused(rows: np.ndarray, size: int) -> None:
    with pytest.raises(ValueError, match=r"buffer|rows"):
        quantize_rows(rows, Type.Q4_K, np.empty(size, np.uint8))


@pytest.mark.usefixtures("fresh")
def test_a_library_without_the_function_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ggml_library, "_FUNCTION", "ggml_no_such_function")
    with pytest.raises(ToolError, match="does not export ggml_no_such_function") as caught:
        quantize_rows(ROWS, Type.Q4_K)
    assert "xllamacpp" in caught.value.where


def test_another_number_of_bytes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ggml_library, "_quantize_chunk", lambda: lambda *_arguments: 7)
    with pytest.raises(ToolError, match="wrote 7 bytes of Q4_K"):
        quantize_rows(ROWS, Type.Q4_K)
