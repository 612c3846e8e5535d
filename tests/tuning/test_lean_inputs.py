"""LoRA layers compute what mlx-lm's compute, without keeping inputs that a norm or SwiGLU has just made."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx_lm.models.llama as llama_module
import numpy as np
import pytest
from mlx_lm.tuner.lora import LoRALinear

from mlx_ragtune.clients.runtime_mlx import mx, nn
from mlx_ragtune.tuning import lean_inputs as lean
from mlx_ragtune.tuning.groups import make_groups
from mlx_ragtune.tuning.lean_kernels import lean_kernels
from mlx_ragtune.tuning.loop import group_objective
from mlx_ragtune.tuning.recompute import recomputing
from tests.tuning.made import adapted, counted_peak, made_model, made_rows, relative, train_settings

EXACT = 1e-5


@contextmanager
def only_inputs(model: Any) -> Iterator[None]:
    """``lean_inputs`` without the other lean kernels."""
    with lean.lean_inputs(model, [(llama_module, "swiglu")]):
        yield


def step(model: Any, groups: Any) -> Any:
    return nn.value_and_grad(model, group_objective)(model, groups)


@pytest.fixture
def lean_layers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The LoRA layers that do not keep their input, in the order of their calls."""
    layers: list[Any] = []
    real = lean._lora

    def noted(layer: Any, *rest: Any) -> mx.array:
        layers.append(layer)
        return real(layer, *rest)

    monkeypatch.setattr(lean, "_lora", noted)
    return layers


def names_of(model: Any, layers: list[Any]) -> set[str]:
    places = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    return {places[id(layer)] for layer in layers}


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("llama", {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}),
        ("qwen3", {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}),
        ("gemma3_text", {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}),
    ],
)
def test_the_layers_after_a_norm_and_after_swiglu_are_lean(
    architecture: str, expected: set[str], lean_layers: list[Any]
) -> None:
    model = adapted(made_model(architecture), train_settings())
    with lean_kernels(model):
        mx.eval(step(model, make_groups(made_rows(np.random.default_rng(0), [2]))))
    assert names_of(model, lean_layers) == expected


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("bits", [None, 4], ids=["float", "4bit"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "qwen3_5", "lfm2", "gemma3_text"])
def test_loss_and_gradient_stay_the_same(architecture: str, bits: int | None, *, recompute: bool) -> None:
    model = adapted(made_model(architecture, bits=bits), train_settings())
    groups = make_groups(made_rows(np.random.default_rng(3), [3, 2]))
    expected = step(model, groups)
    mx.eval(expected)
    with lean_kernels(model), recomputing(model, recompute):
        found = step(model, groups)
        mx.eval(found)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=EXACT)
    assert relative(found[1], expected[1]) < EXACT


@pytest.mark.parametrize("changes", [{"dropout": 0.2}, {"method": "dora"}], ids=str)
def test_dropout_and_dora_stay_as_they_are(changes: dict[str, Any], lean_layers: list[Any]) -> None:
    model = adapted(made_model("llama"), train_settings(**changes))
    groups = make_groups(made_rows(np.random.default_rng(3), [2]))
    mx.random.seed(9)
    expected = step(model, groups)
    mx.eval(expected)
    with only_inputs(model):
        mx.random.seed(9)
        found = step(model, groups)
        mx.eval(found)
    assert not lean_layers
    assert relative(found[1], expected[1]) < EXACT


def test_a_pass_that_is_not_for_training_notes_nothing(lean_layers: list[Any]) -> None:
    model = adapted(made_model("llama"), train_settings())
    model.eval()
    with only_inputs(model):
        mx.eval(group_objective(model, make_groups(made_rows(np.random.default_rng(3), [2]))))
    assert not lean_layers


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_a_quarter_less_is_kept(monkeypatch: pytest.MonkeyPatch, *, recompute: bool) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6}
    model = adapted(made_model("llama", **sizes), train_settings())
    groups = make_groups(made_rows(np.random.default_rng(3), [1] * 4, prefix=(200, 201), tail=(20, 21)))
    with lean_kernels(model), recomputing(model, recompute):
        found = counted_peak(lambda: step(model, groups))
        monkeypatch.setattr(lean, "_lora", lambda layer, plain, made: plain(layer, made.array))
        assert found < 0.75 * counted_peak(lambda: step(model, groups))


def notes() -> int:
    """How many inputs are noted in this process; a compiled function keeps those of its trace, which have no data."""
    gc.collect()
    return sum(isinstance(one, lean._Made) for one in gc.get_objects())


def test_nothing_is_held_when_a_step_is_done() -> None:
    model = adapted(made_model("llama"), train_settings())
    groups = make_groups(made_rows(np.random.default_rng(3), [2]))
    before = notes()
    with only_inputs(model):
        mx.eval(step(model, groups))
        assert notes() == before
        active = mx.get_active_memory()
        for _ in range(3):
            mx.eval(step(model, groups))
        assert notes() == before
        assert mx.get_active_memory() == active


def test_the_classes_are_as_before_afterwards_even_after_an_error() -> None:
    model = adapted(made_model("llama"), train_settings())
    before = (LoRALinear.__call__, nn.RMSNorm.__call__, llama_module.swiglu)

    def fail() -> None:
        with only_inputs(model):
            assert LoRALinear.__call__ is not before[0]
            assert nn.RMSNorm.__call__ is not before[1]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (LoRALinear.__call__, nn.RMSNorm.__call__, llama_module.swiglu) == before
