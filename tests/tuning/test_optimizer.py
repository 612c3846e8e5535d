"""Optimizers by name: each lowers a loss, LoRA+ raises B's rate, and the rate is what the schedule says."""

from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, nn, tree_flatten
from mlx_ragtune.tuning.adapters import apply_adapter
from mlx_ragtune.tuning.optimizer import make_optimizer, set_learning_rate
from tests.tuning.made import made_model, train_settings

NAMES = ("adamw", "adam", "sgd", "lion", "adafactor")


class Line(nn.Module):
    """One adapter's two matrices, fitted to a target."""

    def __init__(self) -> None:
        super().__init__()
        draw = np.random.default_rng(0)
        self.lora_a = mx.array(draw.normal(0, 0.5, (4, 2)).astype(np.float32))
        self.lora_b = mx.array(draw.normal(0, 0.5, (2, 4)).astype(np.float32))

    def loss(self) -> mx.array:
        return ((self.lora_a @ self.lora_b - mx.eye(4)) ** 2).sum()


def fitted(optimizer: Any, steps: int = 60) -> list[float]:
    model = Line()
    step = nn.value_and_grad(model, lambda one: one.loss())
    losses = []
    for _ in range(steps):
        value, gradient = step(model)
        optimizer.update(model, gradient)
        mx.eval(model.parameters(), optimizer.state)
        losses.append(float(value.item()))
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_each_optimizer_lowers_a_loss(name: str) -> None:
    losses = fitted(make_optimizer(train_settings(optimizer=name, learning_rate=0.02)))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_reaches_those_that_know_it(name: str) -> None:
    optimizer = make_optimizer(train_settings(optimizer=name, weight_decay=0.25))
    assert getattr(optimizer, "weight_decay", None) == (None if name == "adam" else 0.25)


def test_adam_corrects_its_bias() -> None:
    """Without it the first step of Adam is a tenth of the rate's, or many times it."""
    model = Line()
    before = np.array(model.lora_a)
    optimizer = make_optimizer(train_settings(optimizer="adamw", learning_rate=0.01))
    gradient = {"lora_a": mx.full((4, 2), 3.0), "lora_b": mx.zeros((2, 4))}
    optimizer.update(model, gradient)
    np.testing.assert_allclose(before - np.array(model.lora_a), 0.01, rtol=1e-4)


@pytest.mark.parametrize("ratio", [1.0, 16.0])
def test_lora_plus_moves_b_by_its_ratio(ratio: float) -> None:
    model = Line()
    before = {name: np.array(value) for name, value in tree_flatten(model.parameters())}
    settings = train_settings(optimizer="sgd", learning_rate=0.5, lora_plus_ratio=ratio)
    optimizer = make_optimizer(settings)
    optimizer.init(model.trainable_parameters())
    set_learning_rate(optimizer, 0.01, settings)
    optimizer.update(model, {name: mx.ones_like(mx.array(value)) for name, value in before.items()})
    moved = {name: float((before[name] - np.array(value)).mean()) for name, value in tree_flatten(model.parameters())}
    assert moved["lora_a"] == pytest.approx(0.01, rel=1e-4)
    assert moved["lora_b"] == pytest.approx(0.01 * ratio, rel=1e-4)


def test_a_schedule_of_steps_is_raised_for_b_too() -> None:
    settings = train_settings(optimizer="sgd", lora_plus_ratio=4.0)
    optimizer = make_optimizer(settings, lambda step: 0.1 / (step + 1))
    model = made_model("llama")
    apply_adapter(model, settings, seed=0)
    before = {name: np.array(value) for name, value in tree_flatten(model.trainable_parameters())}
    ones = nn.utils.tree_map(mx.ones_like, model.trainable_parameters())
    optimizer.update(model, ones)
    for name, value in tree_flatten(model.trainable_parameters()):
        moved = float((before[name] - np.array(value)).mean())
        assert moved == pytest.approx(0.4 if name.endswith("lora_b") else 0.1, rel=1e-3), name


def test_the_rate_is_set_for_the_coming_update() -> None:
    settings = train_settings(optimizer="adamw", learning_rate=1.0)
    optimizer = make_optimizer(settings)
    set_learning_rate(optimizer, 3e-4, settings)
    assert float(optimizer.learning_rate.item()) == pytest.approx(3e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_float32_and_of_the_adapters_only(name: str) -> None:
    """On a base in bfloat16, whose weights have no state."""
    model = made_model("llama")
    model.set_dtype(mx.bfloat16)
    apply_adapter(model, train_settings(), seed=0)
    optimizer = make_optimizer(train_settings(optimizer=name))
    optimizer.init(model.trainable_parameters())
    arrays = {
        path: value for path, value in tree_flatten(optimizer.state) if isinstance(value, mx.array) and value.size > 1
    }
    assert all(".lora_" in path for path in arrays)
    assert {value.dtype for value in arrays.values()} <= {mx.float32}
    adapters = dict(tree_flatten(model.trainable_parameters()))
    assert {value.dtype for value in adapters.values()} == {mx.float32}
    assert sum(value.size for value in arrays.values()) <= 2 * sum(value.size for value in adapters.values())
