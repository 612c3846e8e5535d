"""The writer: the same bytes for the same model, everything llama.cpp needs, and no file from a bad model."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.gguf.convert import deinterleave, interleave
from mlx_ragtune.gguf.quantize import FILE_TYPES, QuantType
from mlx_ragtune.gguf.writer import estimate_bytes, write_gguf
from mlx_ragtune.models.architectures import ARCHITECTURES as ARCHITECTURE_TABLE
from mlx_ragtune.models.toy import TEMPLATE, Architecture
from tests.clients.test_machine import small_files
from tests.toy_models import ARCHITECTURES, Written, change, copied

KINDS: tuple[QuantType, ...] = ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S")


def fields(file: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


def tensors(file: Path) -> dict[str, Any]:
    return {one.name: one for one in GGUFReader(file).tensors}


def respoiled(folder: Path, spoil: Callable[[dict[str, np.ndarray]], None]) -> Path:
    """The folder with its weights changed."""
    weights = load_file(folder / "model.safetensors")
    spoil(weights)
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("kind", ["F16", "Q4_K_M"])
def test_the_same_input_gives_the_same_bytes(toys: Path, written: Written, tmp_path: Path, kind: QuantType) -> None:
    again = tmp_path / "again.gguf"
    report = write_gguf(toys / "wide", again, type=kind, name="toy-wide")
    first = written("wide", kind).read_bytes()
    assert again.read_bytes() == first
    assert report.sha256 == hashlib.sha256(first).hexdigest()
    assert report.bytes == len(first)


def test_the_report_says_what_was_written(toys: Path, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    report = write_gguf(
        toys / "qwen3", tmp_path / "a.gguf", type="Q8_0", name="toy", progress=lambda at, of: done.append((at, of))
    )
    assert (report.type, report.pretokenizer) == ("Q8_0", "qwen2")
    assert report.tensors == len(tensors(tmp_path / "a.gguf"))
    assert report.template_sha256 == hashlib.sha256(TEMPLATE.encode()).hexdigest()
    assert done[-1][0] == done[-1][1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_known_before_anything_is_written(toys: Path, written: Written, kind: QuantType) -> None:
    actual = written("wide", kind).stat().st_size
    assert 0 <= actual - estimate_bytes(toys / "wide", kind) < 100_000


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_says_its_type_and_norms_stay_float32(written: Written, kind: QuantType) -> None:
    file = written("wide", kind)
    assert fields(file)["general.file_type"] == int(FILE_TYPES[kind])
    for name, tensor in tensors(file).items():
        if name.endswith("_norm.weight"):
            assert tensor.tensor_type == Type.F32, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_dimensions_are_those_of_the_config(toys: Path, written: Written, architecture: Architecture) -> None:
    config = json.loads((toys / architecture / "config.json").read_text())
    found = fields(written(architecture, "F32"))
    name = found["general.architecture"]
    assert name == ARCHITECTURE_TABLE[architecture].gguf
    layers = config["num_hidden_layers"]
    wide = config["intermediate_size"]
    for key, value in (
        ("block_count", config["num_hidden_layers"]),
        ("embedding_length", config["hidden_size"]),
        ("feed_forward_length", [wide] * layers if architecture == "gemma4_text" else wide),
        ("attention.head_count", config["num_attention_heads"]),
        ("attention.head_count_kv", [0, 2] if architecture == "lfm2" else config["num_key_value_heads"]),
        ("context_length", config["max_position_embeddings"]),
    ):
        assert found[f"{name}.{key}"] == value, key
    assert found[f"{name}.rope.freq_base"] == pytest.approx(config.get("rope_theta", 1e6))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bos_and_eos_are_said_outright_and_the_template_is_inside(written: Written, architecture: Architecture) -> None:
    found = fields(written(architecture, "F32"))
    assert found["tokenizer.ggml.add_bos_token"] is (architecture == "gemma4_text")
    assert found["tokenizer.ggml.add_eos_token"] is False
    assert found["tokenizer.chat_template"] == TEMPLATE
    tokens = found["tokenizer.ggml.tokens"]
    assert tokens[found["tokenizer.ggml.eos_token_id"]] == "<|im_end|>"
    assert tokens[found["tokenizer.ggml.padding_token_id"]] == "<|endoftext|>"


def test_llamas_queries_and_keys_are_interleaved_and_nothing_else(toys: Path, written: Written) -> None:
    weights, found = load_file(toys / "llama" / "model.safetensors"), tensors(written("llama", "F32"))
    config = json.loads((toys / "llama" / "config.json").read_text())
    for ours, theirs, heads in (
        ("self_attn.q_proj", "attn_q", config["num_attention_heads"]),
        ("self_attn.k_proj", "attn_k", config["num_key_value_heads"]),
    ):
        before = weights[f"model.layers.1.{ours}.weight"]
        after = found[f"blk.1.{theirs}.weight"].data
        assert not np.array_equal(after, before)
        np.testing.assert_array_equal(after, interleave(before, heads))
    np.testing.assert_array_equal(found["blk.1.attn_v.weight"].data, weights["model.layers.1.self_attn.v_proj.weight"])


def test_qwens_queries_are_left_in_order(toys: Path, written: Written) -> None:
    weights, found = load_file(toys / "qwen3" / "model.safetensors"), tensors(written("qwen3", "F32"))
    np.testing.assert_array_equal(found["blk.0.attn_q.weight"].data, weights["model.layers.0.self_attn.q_proj.weight"])


def test_rows_of_a_head_alternate_between_its_halves() -> None:
    rows = np.arange(16.0, dtype=np.float32).reshape(16, 1)
    mixed = interleave(rows, 2).astype(np.float32)
    assert mixed[:8, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert mixed[8:, 0].tolist() == [8, 12, 9, 13, 10, 14, 11, 15]
    np.testing.assert_array_equal(deinterleave(mixed, 2), rows)


def test_gemmas_norms_are_stored_plus_one(toys: Path, written: Written) -> None:
    weights, found = load_file(toys / "gemma3_text" / "model.safetensors"), tensors(written("gemma3_text", "F32"))
    np.testing.assert_allclose(found["output_norm.weight"].data, weights["model.norm.weight"] + 1, atol=1e-6)
    np.testing.assert_allclose(
        found["blk.0.attn_q_norm.weight"].data, weights["model.layers.0.self_attn.q_norm.weight"] + 1, atol=1e-6
    )


def test_biases_of_qwen2_come_along(toys: Path, written: Written) -> None:
    weights, found = load_file(toys / "qwen2" / "model.safetensors"), tensors(written("qwen2", "F16"))
    np.testing.assert_array_equal(found["blk.1.attn_k.bias"].data, weights["model.layers.1.self_attn.k_proj.bias"])


def test_half_precision_is_rounded_to_nearest(toys: Path, written: Written) -> None:
    weights = load_file(toys / "qwen3" / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    half = tensors(written("qwen3", "F16"))["blk.0.ffn_up.weight"].data
    np.testing.assert_array_equal(half, weights.astype(np.float16))


def test_a_tied_head_is_left_out_and_an_untied_one_written(written: Written) -> None:
    assert "output.weight" not in tensors(written("qwen3", "F16"))
    untied = tensors(written("untied", "F32"))
    np.testing.assert_array_equal(untied["output.weight"].data, untied["token_embd.weight"].data[::-1])


def test_a_shared_head_that_is_stored_twice_is_written_once(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "qwen3", tmp_path / "model")
    respoiled(folder, lambda one: one.update({"lm_head.weight": one["model.embed_tokens.weight"].copy()}))
    write_gguf(folder, tmp_path / "a.gguf", type="F16", name="x")
    assert "output.weight" not in tensors(tmp_path / "a.gguf")


def _drop(name: str) -> Callable[[dict[str, np.ndarray]], None]:
    return lambda weights: weights.__delitem__(name)


def _set(name: str, value: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Callable[[dict[str, np.ndarray]], None]:
    return lambda weights: weights.__setitem__(name, value(weights))


UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_drop(UP), f"{UP}' is missing"),
        (_drop("model.norm.weight"), "'model.norm.weight' is missing"),
        (_set("model.layers.2.mlp.up_proj.weight", lambda one: one[UP]), "a layer beyond num_hidden_layers 2"),
        (_set("model.visual.weight", lambda one: one[UP]), "'model.visual.weight' has no name in GGUF"),
        (
            _set("lm_head.weight", lambda one: one["model.embed_tokens.weight"] + 1),
            "lm_head.weight differs from the embedding",
        ),
        (
            _set("model.embed_tokens.weight", lambda one: one["model.embed_tokens.weight"][:-1]),
            "'model.embed_tokens.weight' has shape",
        ),
        (_set(UP, lambda one: np.full_like(one[UP], np.nan)), "NaN or infinite"),
        (_set(UP, lambda one: np.full_like(one[UP], 1e30)), "F16's maximum 65504"),
    ],
)
def test_weights_that_are_no_model_are_refused_and_leave_nothing(
    toys: Path, tmp_path: Path, spoil: Callable[[dict[str, np.ndarray]], None], said: str
) -> None:
    folder = respoiled(copied(toys / "qwen3", tmp_path / "model"), spoil)
    with pytest.raises(InputError) as caught:
        write_gguf(folder, tmp_path / "a.gguf", type="F16", name="x")
    assert said in caught.value.what
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tie_word_embeddings": False}, "lm_head.weight is missing"),
        ({"model_type": "mamba"}, "mamba"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"vocab_size": "many"}, "many"),
        ({"quantization": {"bits": 4, "group_size": 64}}, "quantized"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(toys: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    folder = copied(toys / "qwen3", tmp_path / "model", **changes)
    with pytest.raises(InputError) as caught:
        write_gguf(folder, tmp_path / "a.gguf", type="F16", name="x")
    assert said in str(caught.value)
    assert not (tmp_path / "a.gguf").exists()


def test_a_folder_without_template_is_refused(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "qwen3", tmp_path / "model")
    change(folder / "tokenizer_config.json", chat_template=None)
    with pytest.raises(InputError, match="no chat template"):
        write_gguf(folder, tmp_path / "a.gguf", type="F16", name="x")


@pytest.mark.parametrize("name", ["", " x", "a/b", "a\\b", "../x", "a\0b", "a\nb"])
def test_a_name_that_could_be_a_path_is_refused(toys: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="not a model name"):
        write_gguf(toys / "qwen3", tmp_path / "a.gguf", type="F16", name=name)


def test_a_disk_that_is_too_small_is_told_before_writing(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda _folder: Small)
    with pytest.raises(ToolError, match=r"[GM]iB of disk"):
        write_gguf(toys / "qwen3", tmp_path / "a.gguf", type="F16", name="x")
    assert not list(tmp_path.iterdir())


def test_a_target_that_cannot_be_written_is_named(toys: Path, tmp_path: Path) -> None:
    target = tmp_path / "file" / "a.gguf"
    (tmp_path / "file").mkdir()
    target.with_name(f".{target.name}.part").mkdir()
    with pytest.raises((ToolError, OSError)):
        write_gguf(toys / "qwen3", target, type="F16", name="x")
    assert not target.exists()


def test_an_old_file_stays_when_the_new_one_fails(toys: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.gguf"
    write_gguf(toys / "qwen3", target, type="F16", name="x")
    before = target.read_bytes()
    folder = respoiled(copied(toys / "qwen3", tmp_path / "model"), _set(UP, lambda one: np.full_like(one[UP], np.inf)))
    with pytest.raises(InputError):
        write_gguf(folder, target, type="F16", name="x")
    assert target.read_bytes() == before


def test_only_the_name_differs_between_files_of_two_names(toys: Path, tmp_path: Path) -> None:
    """``general.name`` is part of the bytes: files that recipes share are written under a name of the model."""
    files = [tmp_path / f"{name}.gguf" for name in ("one", "two", "again")]
    for file, name in zip(files, ("model-a", "model-b", "model-a"), strict=True):
        write_gguf(toys / "qwen3", file, type="Q8_0", name=name)
    one, two, again = (file.read_bytes() for file in files)
    assert one == again
    assert one.replace(b"model-a", b"model-b") == two


def test_a_full_disk_while_writing_names_the_file_and_leaves_nothing(toys: Path, tmp_path: Path) -> None:
    with small_files(50_000), pytest.raises(ToolError, match="cannot write") as caught:
        write_gguf(toys / "qwen3", tmp_path / "a.gguf", type="F16", name="x")
    assert caught.value.where.endswith("a.gguf") or caught.value.where.endswith(".a.gguf.part")
    assert "disk space" in caught.value.fix
    assert not list(tmp_path.iterdir())
