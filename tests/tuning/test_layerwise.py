"""Logits computed a layer at a time are, bit for bit, those of the whole model in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, tree_map
from mlx_ragtune.models.toy import Architecture, write_toy_model
from mlx_ragtune.tuning import layerwise, logits
from mlx_ragtune.tuning.adapters import load_adapter
from mlx_ragtune.tuning.head import hidden_states, logits_of
from mlx_ragtune.tuning.layerwise import Layerwise
from mlx_ragtune.tuning.lean_kernels import lean_kernels
from mlx_ragtune.tuning.load import load_stored
from mlx_ragtune.tuning.logits import next_token_logits
from mlx_ragtune.tuning.merge import adapted_logits
from tests.tuning.made import counted_peak, load_arrays, made_adapter, toy_base
from tests.tuning.test_fused_folder import stored_as

PROMPTS = [list(range(1, 200)), [7] * 64, list(range(5, 70)), [3] * 65, [2]]
"""Longer than a chunk of 64, of one chunk, of a chunk and one token, and of one token."""


def of_whole_model(model: Any, prompts: Sequence[Sequence[int]], chunk: int) -> npt.NDArray[np.float32]:
    from mlx_lm.models.cache import make_prompt_cache

    model.update(tree_map(lambda weight: weight.astype(mx.float32), model.parameters()))
    model.eval()
    rows = []
    for prompt in prompts:
        tokens, cache = mx.array(list(prompt))[None], make_prompt_cache(model) if len(prompt) > chunk else None
        for start in range(0, len(prompt), chunk):
            states = hidden_states(model, tokens[:, start : start + chunk], cache)
        rows.append(np.array(logits_of(model, states[:, -1])))
    return np.concatenate(rows)


@pytest.mark.parametrize("chunk", [2048, 64])
@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_every_logit_is_equal(tmp_path: Path, architecture: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logits, "CHUNK_TOKENS", chunk)
    base = stored_as(toy_base(tmp_path / "base", architecture), mx.bfloat16)
    model = load_stored(base)
    with lean_kernels(model):
        expected = of_whole_model(model, PROMPTS, chunk)
    assert np.array_equal(next_token_logits(base, PROMPTS), expected)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(expected, of_whole_model(load_stored(base), PROMPTS, chunk), atol=1e-4)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_adapter_counts(tmp_path: Path, method: str) -> None:
    base = toy_base(tmp_path / "base", "qwen3")
    adapter = made_adapter(base, tmp_path / "adapter", method=method)
    model = load_stored(base)
    load_adapter(model, adapter)
    ours = adapted_logits(base, adapter, PROMPTS)
    np.testing.assert_allclose(ours, of_whole_model(model, PROMPTS, 2048), atol=1e-5)
    assert np.abs(ours - next_token_logits(base, PROMPTS)).max() > 0.01


def test_a_head_in_pieces_gives_the_same_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tied in (True, False):
        base = toy_base(tmp_path / f"base-{tied}", "llama")
        if not tied:
            arrays = load_arrays(base / "model.safetensors")
            arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"] * 2
            mx.save_safetensors(str(base / "model.safetensors"), arrays)
            config = (base / "config.json").read_text()
            (base / "config.json").write_text(
                config.replace('"tie_word_embeddings": true', '"tie_word_embeddings": false')
            )
        expected = of_whole_model(load_stored(base), PROMPTS, 2048)
        monkeypatch.setattr(layerwise, "HEAD_VALUES", 64 * 50)
        np.testing.assert_allclose(next_token_logits(base, PROMPTS), expected, atol=1e-5)


def test_memory_is_that_of_a_layer_not_of_the_model(tmp_path: Path) -> None:
    base = tmp_path / "base"
    write_toy_model(base, architecture="llama", hidden=256, layers=16)
    stored_as(base, mx.bfloat16)
    weights = sum(value.nbytes for value in load_arrays(base / "model.safetensors").values())
    assert counted_peak(lambda: next_token_logits(base, [[5] * 20])) < 0.5 * weights


def test_masks_and_caches_of_sliding_windows_are_the_models_own(tmp_path: Path) -> None:
    """A window of 512 and 700 tokens in chunks of 300: the mask of a chunk depends on what came before."""
    base = toy_base(tmp_path / "base", "gemma3_text")
    prompt = [1 + number % 250 for number in range(700)]
    ours = Layerwise(load_stored(base, lazy=True)).logits([prompt], chunk_tokens=300)
    assert np.array_equal(ours, of_whole_model(load_stored(base), [prompt], 300))
