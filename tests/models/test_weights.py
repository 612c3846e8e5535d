import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.quantize import encode_bf16
from mlx_ragtune.models.weights import Weights, to_float32, write_safetensors

VALUES: "np.ndarray[tuple[Any, ...], np.dtype[np.float32]]" = (np.arange(24).reshape(6, 4) / 3).astype(np.float32)


def folder(tmp_path: Path, **tensors: np.ndarray) -> Path:
    save_file(tensors or {"a": VALUES}, tmp_path / "model.safetensors")
    return tmp_path


def spoiled(tmp_path: Path, header: object) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(96))
    return tmp_path


def refused(where: Path) -> str:
    with pytest.raises(InputError) as caught:
        Weights(where)
    return caught.value.what


def test_rows_are_read_from_the_middle(tmp_path: Path) -> None:
    weights = Weights(folder(tmp_path, b=VALUES, a=VALUES * 2, half=VALUES.astype(np.float16)))
    assert list(weights) == ["a", "b", "half"]
    assert np.array_equal(weights["b"].raw(2, 3), VALUES[2:5])
    assert np.array_equal(weights.float32("half"), VALUES.astype(np.float16).astype(np.float32))


def test_bfloat16_is_read_exactly(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", [("a", (6, 4))], "BF16", [encode_bf16(VALUES)])
    back = Weights(tmp_path).float32("a")
    assert np.array_equal(back, to_float32(encode_bf16(VALUES)))
    assert np.abs(back - VALUES).max() < 2**-8 * 8


def test_what_is_written_in_pieces_is_a_safetensors_file(tmp_path: Path) -> None:
    shapes = [("a", (6, 4)), ("b", (2,))]
    write_safetensors(tmp_path / "x.safetensors", shapes, "F32", [VALUES[:4], VALUES[4:], VALUES[0, :2]])
    back = load_file(tmp_path / "x.safetensors")
    assert np.array_equal(back["a"], VALUES)
    assert np.array_equal(back["b"], VALUES[0, :2])


def test_pieces_that_do_not_add_up_are_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not match the shapes"):
        write_safetensors(tmp_path / "x.safetensors", [("a", (6, 4))], "F32", [VALUES[:4]])


def test_no_weights_at_all(tmp_path: Path) -> None:
    (tmp_path / "adapters.safetensors").write_bytes(b"x")
    assert "no model*.safetensors" in refused(tmp_path)


def test_only_the_shards_of_the_index_are_read(tmp_path: Path) -> None:
    save_file({"a": VALUES}, tmp_path / "model-1.safetensors")
    save_file({"b": VALUES}, tmp_path / "model-2.safetensors")
    save_file({"a": VALUES}, tmp_path / "consolidated.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert list(Weights(tmp_path)) == ["a", "b"]
    (tmp_path / "model-2.safetensors").unlink()
    assert refused(tmp_path) == "shard model-2.safetensors is missing"
    save_file({"c": VALUES}, tmp_path / "model-2.safetensors")
    assert "'b' is in the index but in no shard" in refused(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        save_file({"a": VALUES}, tmp_path / f"model-{number}.safetensors")
    assert "'a' is in two shards" in refused(tmp_path)


@pytest.mark.parametrize("cut", [1, 40, 95])
def test_a_shard_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    path = folder(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-cut])
    assert "truncated: 'a'" in refused(tmp_path)


def test_a_shard_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    weights = Weights(folder(tmp_path))
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="truncated"):
        weights.float32("a")


@pytest.mark.parametrize("content", [b"", b"1234567", b"\xff" * 64, (10**6).to_bytes(8, "little") + bytes(50)])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert "not a safetensors file" in refused(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"{not json",
        [1, 2],
        {"a": 1},
        {"a": {}},
        {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}},
        {"a": {"dtype": "F32", "shape": "1", "data_offsets": None}},
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, header: object) -> None:
    assert "header is damaged" in refused(spoiled(tmp_path, header))


def test_whole_numbers_are_not_weights(tmp_path: Path) -> None:
    assert "'a' is U32, not F32, F16 or BF16" in refused(folder(tmp_path, a=np.zeros((4, 4), np.uint32)))


def test_an_index_that_is_none_is_refused(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    assert "not a shard index" in refused(tmp_path)
