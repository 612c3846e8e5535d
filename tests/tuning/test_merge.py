"""The fused folder is the base plus the adapter, complete, and read by those who must read it."""

import json
import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten
from mlx_ragtune.errors import ArtifactError, InputError, ToolError
from mlx_ragtune.models.vocabulary import read_vocabulary
from mlx_ragtune.tuning import fused_folder, logits
from mlx_ragtune.tuning.merge import fuse
from tests.clients.test_machine import small_files
from tests.tuning.made import all_files, counted_peak, examples, load_arrays, made_adapter, toy_base, train_settings

PROMPTS = [one.messages[:-1] for one in examples(2, 2)]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("changes", [{}, {"method": "dora"}, {"layers": 1, "target_modules": ("q_proj",)}], ids=str)
def test_fused_is_base_plus_adapter(tmp_path: Path, architecture: str, changes: dict[str, Any]) -> None:
    base = toy_base(tmp_path / "base", architecture)
    adapter = made_adapter(base, tmp_path / "adapter", **changes)
    report = fuse(base, adapter, tmp_path / "fused", prompts=PROMPTS, thinking=False)
    assert report.max_logit_difference < 1e-4
    assert report.top1_agreement == 1.0
    assert report.adapter_effect > 0.01
    assert report.fused_layers == (1 if "layers" in changes else 14)


def test_the_folder_is_complete_and_read_by_mlx_lm_and_transformers(tmp_path: Path) -> None:
    from mlx_lm import load
    from transformers import AutoTokenizer

    base = toy_base(tmp_path / "base")
    fuse(base, made_adapter(base, tmp_path / "adapter"), tmp_path / "fused", prompts=PROMPTS, thinking=False)
    assert set(all_files(tmp_path / "fused")) == set(all_files(base))
    loaded = load(str(tmp_path / "fused"))
    names = {name for name, _ in tree_flatten(loaded[0].parameters())}
    assert not [name for name in names if "lora" in name]
    ours = AutoTokenizer.from_pretrained(str(tmp_path / "fused"))
    assert ours.chat_template == AutoTokenizer.from_pretrained(str(base)).chat_template
    assert "quantization" not in json.loads((tmp_path / "fused" / "config.json").read_text())


def test_an_adapter_trained_on_a_4bit_base_goes_onto_full_precision_weights(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base", "llama")
    adapter = made_adapter(base, tmp_path / "adapter", precision="4bit")
    fuse(base, adapter, tmp_path / "fused", prompts=PROMPTS, thinking=False)
    plain, fused, delta = (load_arrays(path) for path in (
        base / "model.safetensors", tmp_path / "fused" / "model.safetensors", adapter / "adapters.safetensors",
    ))  # fmt: skip
    name = "model.layers.1.mlp.up_proj"
    expected = plain[f"{name}.weight"] + 2.0 * (delta[f"{name}.lora_a"] @ delta[f"{name}.lora_b"]).T
    assert np.allclose(np.array(fused[f"{name}.weight"]), np.array(expected), atol=1e-6)
    assert mx.array_equal(fused["model.embed_tokens.weight"], plain["model.embed_tokens.weight"]).item()


def test_a_bfloat16_base_stays_bfloat16_and_keeps_a_small_delta(tmp_path: Path) -> None:
    """The delta is added in float32 and rounded once; adding it in bfloat16 would lose most of it."""
    base = toy_base(tmp_path / "base", "llama")
    arrays = {name: value.astype(mx.bfloat16) for name, value in load_arrays(base / "model.safetensors").items()}
    mx.save_safetensors(str(base / "model.safetensors"), arrays, metadata={"format": "mlx"})
    report = fuse(base, made_adapter(base, tmp_path / "adapter"), tmp_path / "fused", prompts=PROMPTS, thinking=False)
    fused = load_arrays(tmp_path / "fused" / "model.safetensors")
    assert report.dtype == "bfloat16"
    assert {value.dtype for value in fused.values()} == {mx.bfloat16}
    assert not mx.array_equal(fused["model.layers.0.mlp.up_proj.weight"], arrays["model.layers.0.mlp.up_proj.weight"])


def test_large_models_are_written_in_shards_with_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlx_lm import load

    monkeypatch.setattr(fused_folder, "SHARD_BYTES", 100_000)
    base = toy_base(tmp_path / "base")
    fuse(base, made_adapter(base, tmp_path / "adapter"), tmp_path / "fused", prompts=PROMPTS, thinking=False)
    index = json.loads((tmp_path / "fused" / "model.safetensors.index.json").read_text())
    shards = sorted((tmp_path / "fused").glob("model-*.safetensors"))
    assert len(shards) > 1
    assert set(index["weight_map"].values()) == {path.name for path in shards}
    assert load(str(tmp_path / "fused"))


def test_an_adapter_that_does_nothing_is_refused(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter", size=0.0)
    with pytest.raises(ArtifactError, match="changes nothing") as caught:
        fuse(base, adapter, tmp_path / "fused", prompts=PROMPTS, thinking=False)
    assert "learning_rate" in caught.value.fix


def test_a_fused_model_that_is_not_the_adapted_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = toy_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter")
    real = fused_folder._merging

    def wrong(layer: Any) -> Any:
        merged = real(layer)
        return lambda rows, first: 1.5 * merged(rows, first)

    monkeypatch.setattr(fused_folder, "_merging", wrong)
    with pytest.raises(ArtifactError, match="differs from base plus adapter"):
        fuse(base, adapter, tmp_path / "fused", prompts=PROMPTS, thinking=False)


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    assert train_settings(rank=16, alpha=32.0).lora_scale == 2.0
    assert train_settings(rank=16, alpha=32.0, rank_stabilized=True).lora_scale == 8.0


def test_the_same_adapter_gives_the_same_files(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter")
    for name in ("first", "second"):
        fuse(base, adapter, tmp_path / name, prompts=PROMPTS, thinking=False)
    for file in all_files(tmp_path / "first"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


def test_every_file_of_the_tokenizer_comes_along_also_through_links(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base")
    for name in fused_folder.CARRIED:
        if not (base / name).exists():
            (tmp_path / f"store-{name}").write_text(f"content of {name}")
            (base / name).symlink_to(tmp_path / f"store-{name}")
    (tmp_path / "fused").mkdir()
    fused_folder.carry(base, tmp_path / "fused", {})
    for name in fused_folder.CARRIED:
        assert (tmp_path / "fused" / name).read_bytes() == (base / name).read_bytes()
        assert not (tmp_path / "fused" / name).is_symlink()


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field of less than 16 KiB."""
    length = len(content)
    return bytes([number << 3 | 2, length & 0x7F | 0x80, length >> 7]) + content


def piece(text: str, score: float, *, unknown: bool) -> bytes:
    """A piece of SentencePiece's ModelProto."""
    return field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + (b"\x18\x02" if unknown else b""))


def test_scores_of_a_sentencepiece_model_reach_the_export_of_both(tmp_path: Path) -> None:
    """Without ``tokenizer.model`` in the fused folder, base and tuned would get different token scores."""
    base = toy_base(tmp_path / "base", "mistral")
    pieces = read_vocabulary(base).tokens
    (base / "tokenizer.model").write_bytes(
        b"".join(piece(text, -0.5 * n, unknown=text == "<unk>") for n, text in enumerate(pieces))
    )
    adapter = made_adapter(base, tmp_path / "adapter")
    fuse(base, adapter, tmp_path / "fused", prompts=PROMPTS, thinking=False)
    assert read_vocabulary(tmp_path / "fused") == read_vocabulary(base)


def test_a_prompt_beyond_the_window_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 100}))
    (base / "model.safetensors").unlink()
    with pytest.raises(InputError, match="the base model reads at most 100"):
        fuse(base, tmp_path / "none", tmp_path / "fused", prompts=PROMPTS, thinking=False)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3_text", "gemma4_text"])
def test_long_prompts_in_chunks_have_the_logits_of_the_whole(
    tmp_path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = toy_base(tmp_path / "base", architecture)
    prompts = [list(range(1, 200)), [7] * 64, list(range(5, 70))]
    whole = logits.next_token_logits(base, prompts)
    monkeypatch.setattr(logits, "CHUNK_TOKENS", 64)
    np.testing.assert_allclose(logits.next_token_logits(base, prompts), whole, atol=2e-4)


def test_memory_of_a_prompt_grows_with_its_length_not_with_its_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention over 24,000 tokens at once ended the process: 2^31 scores and more."""
    base, peaks = toy_base(tmp_path / "base"), []
    monkeypatch.setattr(logits, "CHUNK_TOKENS", 256)
    for tokens in (512, 2048):
        peaks.append(counted_peak(partial(logits.next_token_logits, base, [[3] * tokens])))
    assert peaks[1] < 8 * peaks[0], "four times, and some buffers; the square would be sixteen times"


@pytest.mark.parametrize("damage", ["truncated", "missing", "other model"])
def test_a_damaged_adapter_is_told_apart_from_a_bug(tmp_path: Path, damage: str) -> None:
    base = toy_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter")
    file = adapter / "adapters.safetensors"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-50])
    elif damage == "missing":
        file.unlink()
    else:
        mx.save_safetensors(str(file), {"model.layers.0.mlp.up_proj.lora_a": mx.ones((3, 3))})
    with pytest.raises(ArtifactError) as caught:
        fuse(base, adapter, tmp_path / "fused", prompts=PROMPTS, thinking=False)
    assert caught.value.where == str(adapter)


def test_a_full_disk_while_fusing_names_the_folder(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter")
    with small_files(10_000), pytest.raises(ToolError, match="cannot write") as caught:
        fuse(base, adapter, tmp_path / "fused", prompts=PROMPTS, thinking=False)
    assert caught.value.where == str(tmp_path / "fused")
    assert "MiB needed" in caught.value.what
