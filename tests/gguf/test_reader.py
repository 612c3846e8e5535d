import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from tokenizers import Tokenizer

from mlx_ragtune.errors import InputError, RagtuneError, ToolError
from mlx_ragtune.gguf import reader
from mlx_ragtune.gguf.container import GgufFile
from mlx_ragtune.gguf.metadata import rope_factors
from mlx_ragtune.gguf.reader import Dtype, import_gguf
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.toy import Architecture
from mlx_ragtune.models.weights import Weights
from tests.gguf.fuzz import mutated, survives
from tests.toy_models import ARCHITECTURES, Written, copied

STRINGS = ["the question of a paper", "  two  spaces ", "naïve 日本語 🚀", "x<|im_end|>y<think>", "1234 it's\n\n\tand"]


IMPORTED = [name for name in ARCHITECTURES if name not in ("qwen3_moe", "qwen3_5", "lfm2", "gemma4_text")]


@pytest.mark.parametrize("architecture", ["qwen3_moe", "qwen3_5", "lfm2", "gemma4_text"])
def test_a_file_of_a_family_that_is_only_exported_is_refused_by_name(
    written: Written, tmp_path: Path, architecture: Architecture
) -> None:
    with pytest.raises(InputError, match="cannot be imported from a GGUF file") as caught:
        import_gguf(written(architecture, "F32"), tmp_path / "model")
    assert "hub id" in caught.value.fix
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("architecture", IMPORTED)
def test_a_round_trip_gives_the_same_weights(
    toys: Path, written: Written, tmp_path: Path, architecture: Architecture
) -> None:
    import_gguf(written(architecture, "F32"), tmp_path / "back")
    before, after = Weights(toys / architecture), Weights(tmp_path / "back")
    assert list(before) == list(after)
    for name in before:
        np.testing.assert_allclose(after.float32(name), before.float32(name), rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("architecture", IMPORTED)
def test_a_round_trip_gives_the_same_file(written: Written, tmp_path: Path, architecture: Architecture) -> None:
    first = written(architecture, "F32")
    import_gguf(first, tmp_path / "back")
    write_gguf(tmp_path / "back", tmp_path / "again.gguf", type="F32", name=f"toy-{architecture}")
    one, other = GGUFReader(first), GGUFReader(tmp_path / "again.gguf")
    assert list(one.fields) == list(other.fields)
    for key, field in one.fields.items():
        if key not in ("GGUF.kv_count", "tokenizer.ggml.scores"):
            assert field.contents() == other.fields[key].contents(), key


@pytest.mark.parametrize("architecture", IMPORTED)
def test_a_round_trip_splits_text_the_same(
    toys: Path, written: Written, tmp_path: Path, architecture: Architecture
) -> None:
    import_gguf(written(architecture, "Q8_0"), tmp_path / "back")
    before = Tokenizer.from_file(str(toys / architecture / "tokenizer.json"))
    after = Tokenizer.from_file(str(tmp_path / "back" / "tokenizer.json"))
    for string in STRINGS:
        ids = before.encode(string).ids
        assert after.encode(string).ids == ids
        assert after.decode(ids, skip_special_tokens=False) == before.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_the_template_and_special_tokens_come_along(
    toys: Path, written: Written, tmp_path: Path, architecture: Architecture
) -> None:
    import_gguf(written(architecture, "F16"), tmp_path / "back")
    before = json.loads((toys / architecture / "tokenizer_config.json").read_text())
    after = json.loads((tmp_path / "back" / "tokenizer_config.json").read_text())
    for key in ("chat_template", "eos_token", "pad_token", "add_bos_token"):
        assert after[key] == before[key]
    generation = json.loads((tmp_path / "back" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == json.loads((toys / architecture / "config.json").read_text())["eos_token_id"]


@pytest.mark.parametrize(("dtype", "bound"), [("float16", 1e-3), ("bfloat16", 8e-3)])
def test_weights_are_kept_in_the_type_asked_for(
    toys: Path, written: Written, tmp_path: Path, dtype: Dtype, bound: float
) -> None:
    import_gguf(written("qwen3", "F32"), tmp_path / "back", dtype=dtype)
    before, after = Weights(toys / "qwen3"), Weights(tmp_path / "back")
    for name in before:
        one, other = before.float32(name), after.float32(name)
        assert np.abs(one - other).max() <= bound * np.abs(one).max()
        assert not np.array_equal(one, other)


def test_every_quantized_type_is_read(toys: Path, written: Written, tmp_path: Path) -> None:
    for kind, bound in (("Q8_0", 0.01), ("Q6_K", 0.05), ("Q4_K_M", 0.12)):
        import_gguf(written("wide", kind), tmp_path / kind)  # type: ignore[arg-type]
        one = Weights(toys / "wide").float32("model.layers.1.mlp.up_proj.weight")
        other = Weights(tmp_path / kind).float32("model.layers.1.mlp.up_proj.weight")
        assert 0 < np.abs(one - other).max() < bound * np.abs(one).max()


def test_llama_3_rotary_scaling_is_recognised(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "llama", tmp_path / "model", rope_scaling=llama3(32.0), rope_theta=500000.0)
    write_gguf(folder, tmp_path / "a.gguf", type="F32", name="x")
    import_gguf(tmp_path / "a.gguf", tmp_path / "back")
    assert json.loads((tmp_path / "back" / "config.json").read_text())["rope_scaling"] == llama3(32.0)


def test_other_rotary_divisors_are_refused(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "llama", tmp_path / "model", rope_scaling=llama3(5.0), rope_theta=500000.0)
    write_gguf(folder, tmp_path / "a.gguf", type="F32", name="x")
    with pytest.raises(InputError, match="rope_freqs"):
        import_gguf(tmp_path / "a.gguf", tmp_path / "back")


def llama3(factor: float) -> dict[str, object]:
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def test_rotary_divisors_are_one_for_short_wavelengths_and_the_factor_for_long_ones() -> None:
    config = {"model_type": "llama", "head_dim": 128, "rope_theta": 500000.0, "rope_scaling": llama3(8.0)}
    factors = rope_factors(config)
    assert factors[0] == 1.0
    assert factors[-1] == 8.0
    assert list(factors) == sorted(factors)
    assert len(factors) == 64
    assert rope_factors({**config, "rope_scaling": None}) == ()


def test_nothing_is_left_when_an_import_fails(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "old").write_text("kept")

    def broken(_file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reader, "tokenizer_settings", broken)
    with pytest.raises(ToolError, match="No space left"):
        import_gguf(written("qwen3", "F16"), tmp_path / "back")
    assert [path.name for path in tmp_path.rglob("*")] == ["back", "old"]


def test_an_import_leaves_exactly_these_files(written: Written, tmp_path: Path) -> None:
    import_gguf(written("qwen3", "F16"), tmp_path / "back")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def replaced(source: Path, target: Path, old: bytes, new: bytes) -> Path:
    data = source.read_bytes()
    assert data.count(old) >= 1
    assert len(old) == len(new)
    target.write_bytes(data.replace(old, new))
    return target


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            b"qwen3",
            b"qwen9",
            "architecture 'qwen9' cannot be imported from a GGUF file (supported: gemma3, llama, qwen2, qwen3)",
        ),
        (b"tokenizer.chat_template", b"tokenizer.chat_templatX", "no chat template"),
        (b"tokenizer.ggml.model", b"tokenizer.ggml.modeX", "tokenizer.ggml.model is missing"),
        (b"blk.1.ffn_up.weight", b"blk.1.ffn_uX.weight", "is unknown"),
        (b"blk.1.ffn_up.weight", b"blk.7.ffn_up.weight", "'blk.7.ffn_up.weight' belongs to no layer"),
        (b"blk.1.ffn_up.weight", b"blk.1.attn_q.weight", "the same name"),
        (b"output_norm.weight", b"output_norX.weight", "is unknown"),
        (b"qwen3.block_count", b"qwen3.block_counX", "qwen3.block_count is missing"),
    ],
)
def test_a_file_that_is_no_model_is_refused(
    written: Written, tmp_path: Path, old: bytes, new: bytes, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        import_gguf(replaced(written("qwen3", "F16"), tmp_path / "a.gguf", old, new), tmp_path / "back")
    assert said in caught.value.what
    assert not (tmp_path / "back").exists()


def test_five_hundred_mutated_files_give_a_model_or_a_clear_error(written: Written, tmp_path: Path) -> None:
    whole = written("qwen3", "Q4_K_M").read_bytes()
    outcomes = []
    slowest = 0.0
    for seed in range(500):
        started = time.perf_counter()
        outcomes.append(survives(mutated(whole, random.Random(seed)), tmp_path))
        slowest = max(slowest, time.perf_counter() - started)
    assert outcomes.count(True) > 20
    assert outcomes.count(False) > 200
    assert slowest < 20


def test_weights_that_are_no_numbers_are_refused(written: Written, tmp_path: Path) -> None:
    source = written("qwen3", "F16")
    place = next(one.start for one in GgufFile(source).tensors if one.name == "blk.0.ffn_up.weight")
    data = bytearray(source.read_bytes())
    data[place : place + 2] = b"\x00\x7c"
    (tmp_path / "a.gguf").write_bytes(data)
    with pytest.raises(InputError, match="NaN or infinite"):
        import_gguf(tmp_path / "a.gguf", tmp_path / "back")


def test_the_fuzzer_lets_a_crash_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: Written) -> None:
    def crash(*_arguments: object, **_more: object) -> None:
        raise IndexError("a bug")

    monkeypatch.setattr("tests.gguf.fuzz.import_gguf", crash)
    with pytest.raises(IndexError):
        survives(b"GGUF", tmp_path)
    assert not issubclass(IndexError, RagtuneError)
