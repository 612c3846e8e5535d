"""Whole runs on a Gemma 4 in the hub's layout: both engines, resumed, read by mlx-lm, fused to a text model."""

import json
from pathlib import Path

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten
from mlx_ragtune.models.prompts import prompt_tokens
from mlx_ragtune.records import Message
from mlx_ragtune.tuning import compiled_step
from mlx_ragtune.tuning.compiled_step import Policy
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.logits import next_token_logits
from mlx_ragtune.tuning.merge import adapted_logits, fuse
from tests.models.gemma4_base import gemma4_base
from tests.toy_models import change
from tests.tuning.made import load_arrays, made_adapter, train_settings
from tests.tuning.test_compiled_runs import stop_and_go_on
from tests.tuning.test_run import losses, run_training, weights
from tests.tuning.test_workbench import alone, quick, same

TURN = (Message("system", "Answer from the papers."), Message("user", "What is it?"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the vocabulary's size where mlx-lm looks for it when it is not that of the real models."""
    folder = gemma4_base(tmp_path_factory.mktemp("gemma4"))
    text = json.loads((folder / "config.json").read_text())["text_config"]
    change(folder / "config.json", vocab_size=text["vocab_size"])
    return folder


def test_both_engines_train_the_same_adapter(base: Path, tmp_path: Path) -> None:
    for engine in ("shared-prefix", "mlx-lm"):
        settings = train_settings(engine=engine, batch_size=2, accumulation=3, learning_rate=1e-3)
        run_training(base, tmp_path / engine, settings)
    left, right = losses(tmp_path / "shared-prefix"), losses(tmp_path / "mlx-lm")
    assert [mine["train_loss"] for mine in left] == pytest.approx([other["train_loss"] for other in right], rel=1e-4)
    assert left[-1]["train_loss"] < left[0]["train_loss"]
    learned, reference = weights(tmp_path / "shared-prefix"), weights(tmp_path / "mlx-lm")
    assert set(learned) == set(reference)
    for name, value in learned.items():
        assert np.allclose(value, reference[name], atol=1e-3 * float(mx.abs(value).max()) + 1e-6), name


def test_a_stopped_run_goes_on_to_the_same_bytes(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_step, "ON_CPU", Policy(bucket=16, ceiling=4, least=2))
    settings = quick(dropout=0.2, epochs=2.0)
    assert alone(base, settings, tmp_path / "whole").compiled_shapes > 0

    stop_and_go_on(base, settings, tmp_path, after=3)
    same(tmp_path / "whole", tmp_path / "parts")


def test_mlx_lm_itself_reads_the_adapter(base: Path, tmp_path: Path) -> None:
    from mlx_lm.utils import load

    adapter = made_adapter(base, tmp_path / "adapter")
    loaded = dict(tree_flatten(load(str(base), adapter_path=str(adapter))[0].parameters()))
    arrays = load_arrays(adapter / "adapters.safetensors")
    assert all(mx.array_equal(loaded[name], value).item() for name, value in arrays.items())


def test_the_fused_folder_is_a_text_model_that_mlx_lm_itself_reads(base: Path, tmp_path: Path) -> None:
    from mlx_lm.utils import load

    adapter = made_adapter(base, tmp_path / "adapter")
    fuse(base, adapter, tmp_path / "fused", prompts=[TURN], thinking=False)
    config = json.loads((tmp_path / "fused" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("gemma4_text", ["Gemma4ForCausalLM"])
    names = set(load_arrays(tmp_path / "fused" / "model.safetensors"))
    assert all(name.startswith("model.") for name in names)
    prompt = prompt_tokens(TURN, load_base(base, "fp32").tokenizer, thinking=False)
    expected = adapted_logits(base, adapter, [prompt])
    model = load(str(tmp_path / "fused"))[0]
    np.testing.assert_allclose(np.array(model(mx.array([prompt]))[:, -1]), expected, atol=1e-3)
    assert np.abs(next_token_logits(base, [prompt]) - expected).max() > 0.1
