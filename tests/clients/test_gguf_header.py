"""The head of a GGUF file: read without its lists, and refused where it is damaged, at every byte."""

import contextlib
from pathlib import Path

import pytest

from mlx_ragtune.clients.gguf_header import read_header, require_gguf
from mlx_ragtune.errors import InputError


def test_the_single_values_are_read_and_lists_are_not(models: Path) -> None:
    header = read_header(models / "qwen3.gguf")
    assert header["general.architecture"] == "qwen3"
    assert "<|im_start|>" in str(header["tokenizer.chat_template"])
    assert isinstance(header["qwen3.block_count"], int)
    assert "tokenizer.ggml.tokens" not in header


def test_a_file_cut_anywhere_in_its_head_is_an_input_error(models: Path, tmp_path: Path) -> None:
    whole, cut = (models / "qwen3.gguf").read_bytes(), tmp_path / "cut.gguf"
    for length in [*range(0, 300, 7), *range(300, 5000, 97)]:
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match="not a GGUF file"):
            read_header(cut)


def test_a_head_with_any_byte_changed_is_read_or_an_input_error(models: Path, tmp_path: Path) -> None:
    whole, bad = bytearray((models / "qwen3.gguf").read_bytes()[:60_000]), tmp_path / "bad.gguf"
    for at in range(0, 400):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        bad.write_bytes(changed)
        with contextlib.suppress(InputError):
            read_header(bad)


def test_what_is_not_a_readable_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "folder.gguf").mkdir()
    for name in ("none.gguf", "folder.gguf"):
        with pytest.raises(InputError, match="no such GGUF file"):
            require_gguf(tmp_path / name)
        with pytest.raises(InputError, match="cannot read"):
            read_header(tmp_path / name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("qwen3.block_count", 0),
        ("qwen3.context_length", 0),
        ("qwen3.context_length", 2**32 - 1),
        ("qwen3.attention.layer_norm_rms_epsilon", 2**32 - 1),  # a float32 that is not a number
    ],
)
def test_a_size_at_which_llama_cpp_aborts_is_an_input_error(key: str, value: int, models: Path, tmp_path: Path) -> None:
    data = bytearray((models / "qwen3.gguf").read_bytes())
    at = data.index(key.encode()) + len(key) + 4
    data[at : at + 4] = value.to_bytes(4, "little")
    (tmp_path / "bad.gguf").write_bytes(data)
    with pytest.raises(InputError, match=f"not a GGUF file: its {key} is"):
        require_gguf(tmp_path / "bad.gguf")
