"""The same adapter weaker or stronger: the line from the base to the tuned model, and the choice on it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.models.prompts import load_tokenizer, prompt_tokens
from mlx_ragtune.recipe import StrengthSettings
from mlx_ragtune.records import Message
from mlx_ragtune.tuning.adapters import at_strength, load_adapter
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.logits import next_token_logits
from mlx_ragtune.tuning.merge import adapted_logits, fuse
from mlx_ragtune.tuning.strength import StrengthPoint, choose_strength
from mlx_ragtune.tuning.training import TrainResult
from mlx_ragtune.tuning.workbench import Workbench
from tests.tuning.made import (
    base_settings,
    dataset_settings,
    examples,
    made_adapter,
    own_answers,
    toy_base,
    train_settings,
)

ROWS = {"train": examples(6, 3), "valid": examples(8, 1)[6:], "rehearsal": own_answers(16)}
TOKENS = mx.arange(5, 25)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_adapter(base, tmp_path_factory.mktemp("made") / "adapter")


def logits(model: Any) -> np.ndarray[Any, Any]:
    return np.array(model(TOKENS).astype(mx.float32))


def at(base: Path, adapter: Path, strength: float | None) -> np.ndarray[Any, Any]:
    model = load_base(base, "fp32").model
    load_adapter(model, adapter, strength=strength)
    return logits(model)


def weaker(adapter: Path, folder: Path, strength: float) -> Path:
    """The adapter as a run that chose a strength writes it."""
    folder.mkdir()
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["lora_parameters"]["scale"] *= strength
    (folder / "adapter_config.json").write_text(json.dumps({**config, "strength": strength}))
    (folder / "adapters.safetensors").write_bytes((adapter / "adapters.safetensors").read_bytes())
    return folder


def test_zero_is_the_base_one_is_the_adapter_and_the_block_leaves_no_trace(base: Path, adapter: Path) -> None:
    plain = logits(load_base(base, "fp32").model)
    model = load_base(base, "fp32").model
    load_adapter(model, adapter)
    tuned = logits(model)
    assert np.abs(tuned - plain).max() > 0.1
    for strength, expected in ((0.0, plain), (1.0, tuned)):
        with at_strength(model, strength):
            assert np.allclose(logits(model), expected, atol=1e-5)
    with at_strength(model, 0.5):
        half = logits(model)
    assert 0.1 * np.abs(tuned - plain).max() < np.abs(half - plain).max() < np.abs(tuned - plain).max()
    with pytest.raises(KeyError), at_strength(model, 0.25):
        raise KeyError
    assert np.array_equal(logits(model), tuned)


def test_a_strength_is_counted_from_the_trained_adapter_not_from_the_chosen_one(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    chosen = weaker(adapter, tmp_path / "chosen", 0.65)
    assert np.allclose(at(base, chosen, None), at(base, adapter, 0.65), atol=1e-5)
    assert np.allclose(at(base, chosen, 1.0), at(base, adapter, None), atol=1e-5)
    assert np.allclose(at(base, chosen, 0.5), at(base, adapter, 0.5), atol=1e-5)
    assert not np.allclose(at(base, chosen, None), at(base, adapter, None), atol=1e-3)


def test_a_damaged_strength_is_an_error(base: Path, adapter: Path, tmp_path: Path) -> None:
    broken = weaker(adapter, tmp_path / "broken", 0.5)
    config = json.loads((broken / "adapter_config.json").read_text())
    (broken / "adapter_config.json").write_text(json.dumps({**config, "strength": 0}))
    with pytest.raises(ArtifactError, match="cannot read the adapter"):
        at(base, broken, 0.5)


def test_fusing_at_a_strength_merges_the_weaker_adapter(base: Path, adapter: Path, tmp_path: Path) -> None:
    prompts = [(Message("user", text),) for text in ("What is it?", "And who says so, and why?")]
    tokens = [prompt_tokens(turns, load_tokenizer(base), thinking=False) for turns in prompts]
    effects = []
    for strength in (0.25, None):
        target = tmp_path / str(strength)
        report = fuse(base, adapter, target, prompts=prompts, thinking=False, strength=strength)
        effects.append(report.adapter_effect)
        merged, added = next_token_logits(target, tokens), adapted_logits(base, adapter, tokens, strength=strength)
        assert np.allclose(merged, added, atol=2e-3)
    assert effects[0] < 0.7 * effects[1]


def point(scale: float, score: float, increase: float) -> StrengthPoint:
    return StrengthPoint(scale, score, 1 + increase, increase)


LINE = [point(0, 0.1, 0), point(0.25, 0.3, 0.02), point(0.5, 0.5, 0.08), point(0.8, 0.5, 0.09), point(1, 0.6, 0.4)]


@pytest.mark.parametrize(
    ("max_loss", "scale"),
    [(1.0, 1.0), (0.1, 0.5), (0.05, 0.25), (0.01, 0.25)],
    ids=["no guard", "equal scores: the lower loss", "a stricter guard", "none within: the lowest loss"],
)
def test_the_best_score_within_the_limit_is_chosen(max_loss: float, scale: float) -> None:
    assert choose_strength(LINE, max_loss).scale == scale


def scale_of(model: Any) -> float:
    return float(next(module.scale for _, module in model.named_modules() if hasattr(module, "lora_a")))


@pytest.fixture
def scored_by_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stronger, the better the answers: the toy's own ones are all wrong."""
    monkeypatch.setattr("mlx_ragtune.tuning.strength.task_score", lambda model, *_args, **_options: scale_of(model))


@pytest.mark.usefixtures("scored_by_scale")
def test_a_run_tries_every_strength_on_the_held_out_answers(base: Path, tmp_path: Path) -> None:
    said: list[str] = []
    result = tried(base, tmp_path, max_loss=50.0, say=said.append)
    assert [one.scale for one in result.strengths] == [0.0, 0.25, 0.5, 1.0]
    assert [one.task_score for one in result.strengths] == [0.0, 0.5, 1.0, 2.0]  # the scale is alpha 8 over rank 4
    assert result.strengths[0].rehearsal_loss == pytest.approx(result.base_rehearsal_loss, rel=1e-6)
    assert result.strengths[0].loss_increase == 0.0
    assert len({one.rehearsal_loss for one in result.strengths}) == 4
    assert result.strength == 1.0
    assert "strength" not in json.loads((tmp_path / "adapter_config.json").read_text())
    assert [line for line in said if line.startswith("strength 0.25: task score 0.500, ")]


@pytest.mark.usefixtures("scored_by_scale")
@pytest.mark.parametrize(("max_loss", "strength"), [(0.3, 0.5), (0.01, 0.25)])
def test_the_chosen_strength_is_folded_into_the_adapter(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_loss: float, strength: float
) -> None:
    monkeypatch.setattr(
        "mlx_ragtune.tuning.strength.mean_loss", lambda model, *_args, **_options: 3 + scale_of(model) / 5
    )
    result = tried(base, tmp_path, max_loss=max_loss, say=lambda _text: None)
    assert result.strength == strength
    assert result.rehearsal_loss == pytest.approx(3 + 2 * strength / 5)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["strength"] == strength
    assert config["lora_parameters"]["scale"] == 2 * strength


def tried(base: Path, folder: Path, *, max_loss: float, say: Any) -> TrainResult:
    strength = StrengthSettings(scales=(1.0, 0.25, 0.5), max_loss=max_loss)
    settings = train_settings(epochs=2.0, batch_size=4, accumulation=1, strength=strength)
    with Workbench(
        base, base_settings(), dataset=dataset_settings(), rows=ROWS, store=folder / "store", say=say
    ) as bench:
        return bench.train(settings, folder=folder, seed=3, progress=lambda *_: None, rehearsal_share=0.0)


def test_a_pruned_run_tries_no_strength(base: Path, tmp_path: Path) -> None:
    settings = train_settings(epochs=2.0, evals_per_epoch=2, batch_size=4, accumulation=1, strength=StrengthSettings())
    bench = Workbench(base, base_settings(), dataset=dataset_settings(), rows=ROWS, store=tmp_path, say=lambda _: None)
    with bench:
        result = bench.train(
            settings, folder=tmp_path, seed=3, progress=lambda *_: None, rehearsal_share=0.0,
            on_validation=lambda _update, _loss: True,
        )  # fmt: skip
    assert (result.pruned, result.strengths, result.strength) == (True, (), 1.0)
