"""Arrays of metadata that are packed at once have the bytes that the gguf package gives them one by one."""

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFValueType, GGUFWriter

from mlx_ragtune.gguf import arrays
from mlx_ragtune.gguf.arrays import ArrayWriter

ARRAYS: list[list[Any]] = [
    ["a", "Ġb", "", "é\u2028", "<|im_end|>"],
    [b"\xff\x00", b""],
    ["text", b"bytes"],
    [0, 1, -1, 2**31 - 1, -(2**31)],
    [0.0, -1.5, 1e-8, -10000.0],
    [True, False],
    [[1, 2], [3]],
]


@pytest.mark.parametrize("values", ARRAYS)
@pytest.mark.parametrize("typed", [True, False])
def test_an_array_has_the_bytes_of_the_gguf_package(tmp_path: Path, values: list[Any], typed: bool) -> None:
    plain, ours = GGUFWriter(tmp_path / "a", "llama"), ArrayWriter(tmp_path / "b", "llama")
    wanted = plain._pack_val(values, GGUFValueType.ARRAY, add_vtype=typed)
    assert ours._pack_val(values, GGUFValueType.ARRAY, add_vtype=typed) == wanted


def test_texts_and_numbers_are_packed_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packed: list[Any] = []

    def note(values: Any) -> tuple[GGUFValueType, bytes]:
        packed.append(values)
        return GGUFValueType.INT32, b""

    monkeypatch.setattr(arrays, "_packed", note)
    ArrayWriter(tmp_path / "a", "llama")._pack_val([1, 2], GGUFValueType.ARRAY, add_vtype=True)
    assert packed == [[1, 2]]


@pytest.mark.parametrize("values", [[2**31], ["a", 1], [1, 2.0]])
def test_what_the_gguf_package_refuses_is_refused(tmp_path: Path, values: list[Any]) -> None:
    errors = []
    for writer in (GGUFWriter(tmp_path / "a", "llama"), ArrayWriter(tmp_path / "b", "llama")):
        with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever the package raises)
            writer._pack_val(values, GGUFValueType.ARRAY, add_vtype=True)
        errors.append(type(caught.value))
    assert errors[0] is errors[1]
