"""The lean kernels compute what MLX's own compute, keep less, and are gone after the block."""

from collections.abc import Callable
from typing import Any

import mlx_lm.models.llama as llama_module
import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, nn
from mlx_ragtune.tuning import lean_kernels as lean
from mlx_ragtune.tuning.groups import make_groups
from mlx_ragtune.tuning.loop import group_objective
from mlx_ragtune.tuning.prefix import causal_mask
from tests.tuning.made import adapted, counted_peak, made_model, made_rows, relative, train_settings

EXACT = 1e-5
Function = Callable[..., Any]


def test_exponentials_are_right_to_the_last_bits() -> None:
    x = np.linspace(-86.9, 87.9, 200_001, dtype=np.float32)
    expected = np.exp(x.astype(np.float64))
    found = np.array(lean.exp(mx.array(x))).astype(np.float64)
    assert np.max(np.abs(found - expected) / expected) < 2e-7


def test_exponentials_outside_of_float32_are_clipped_and_nan_stays_nan() -> None:
    low, high, hidden, nan = np.array(lean.exp(mx.array([-100.0, 200.0, -np.inf, np.nan]))).tolist()
    assert low == 0
    assert 1e38 < high < np.inf
    assert hidden == 0
    assert np.isnan(nan), "a diverged run must be noticed"


def test_no_exponential_is_subnormal() -> None:
    found = np.array(lean.exp(mx.array(np.linspace(-90, -80, 100_001, dtype=np.float32))))
    assert np.all((found == 0) | (found >= np.finfo(np.float32).tiny))


def test_a_hidden_column_weighs_exactly_nothing() -> None:
    """A tiny weight makes subnormal products, which take Intel processors many times longer."""
    mx.random.seed(4)
    queries, keys, values = (mx.random.normal((1, 2, 40, 8)) for _ in range(3))

    def seen_by_all_but_the_last(values: mx.array) -> mx.array:
        return lean.attention(queries, keys, values, scale=0.3, mask="causal")[:, :, :-1].sum()

    gradient = np.array(mx.grad(seen_by_all_but_the_last)(values))
    assert np.all(gradient[:, :, -1] == 0)
    assert np.all(gradient[:, :, :-1] != 0)


def both(ours: Function, theirs: Function, arrays: list[mx.array]) -> tuple[Any, Any]:
    """(output and gradients by ours, those by theirs) of a loss that weighs every output differently."""

    def run(function: Function) -> dict[str, mx.array]:
        def loss(*arrays: mx.array) -> mx.array:
            output = function(*arrays)
            return (output * mx.cos(mx.arange(output.size)).reshape(output.shape)).sum()

        gradients = mx.grad(loss, argnums=tuple(range(len(arrays))))(*arrays)
        return {"output": function(*arrays), **{str(place): value for place, value in enumerate(gradients)}}

    return run(ours), run(theirs)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
def test_swiglu_is_mlx_lms(dtype: Any) -> None:
    mx.random.seed(0)
    arrays = [(3 * mx.random.normal((2, 5, 32))).astype(dtype) for _ in range(2)]
    found, expected = both(lean.swiglu, llama_module.swiglu, arrays)
    assert found["output"].dtype == dtype
    as_float = [{name: value.astype(mx.float32) for name, value in run.items()} for run in (found, expected)]
    assert relative(*as_float) < (EXACT if dtype == mx.float32 else 2e-2)


@pytest.mark.parametrize("mask", ["causal", None, "window", "rows"], ids=str)
@pytest.mark.parametrize("heads", [(4, 4), (6, 2)], ids=str)
def test_attention_is_mlxs(heads: tuple[int, int], mask: Any) -> None:
    mx.random.seed(1)
    arrays = [mx.random.normal(shape) for shape in ((3, heads[0], 7, 16), (3, heads[1], 20, 16), (3, heads[1], 20, 16))]
    if mask == "window":
        mask = causal_mask(7, 13, 5)
    elif mask == "rows":
        mask = mx.stack([causal_mask(7, 13, window) for window in (3, 9, 20)])[:, None]
    found, expected = both(
        lambda *arrays: lean.attention(*arrays, scale=0.25, mask=mask),
        lambda *arrays: mx.fast.scaled_dot_product_attention(*arrays, scale=0.25, mask=mask),
        arrays,
    )
    assert relative(found, expected) < EXACT


def test_large_scores_neither_overflow_nor_vanish() -> None:
    mx.random.seed(2)
    arrays = [8 * mx.random.normal((1, 2, 9, 8)) for _ in range(3)]
    found, expected = both(
        lambda *arrays: lean.attention(*arrays, scale=1.0, mask="causal"),
        lambda *arrays: mx.fast.scaled_dot_product_attention(*arrays, scale=1.0, mask="causal"),
        arrays,
    )
    assert relative(found, expected) < EXACT


def test_shares_and_their_normalizer_are_those_of_softmax() -> None:
    scores = mx.concatenate([10 * mx.random.normal((3, 50)), 300 * mx.ones((1, 50)), mx.full((1, 50), -300.0)])
    shares, normalizer = lean.softmax(scores)
    assert np.allclose(np.array(shares), np.array(mx.softmax(scores, axis=-1)), atol=1e-6)
    assert np.allclose(np.array(normalizer), np.array(mx.logsumexp(scores, axis=-1)), rtol=1e-6)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma3_text", "gemma4_text"])
def test_loss_and_gradient_of_a_model_stay_the_same(architecture: str) -> None:
    model = adapted(made_model(architecture), train_settings())
    groups = make_groups(made_rows(np.random.default_rng(3), [3, 2]))
    expected = nn.value_and_grad(model, group_objective)(model, groups)
    with lean.lean_kernels(model):
        found = nn.value_and_grad(model, group_objective)(model, groups)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=EXACT)
    assert relative(found[1], expected[1]) < EXACT


def test_other_types_and_sinks_go_to_the_built_in_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def built_in(*_arrays: mx.array, **options: Any) -> mx.array:
        asked.append(options)
        return mx.zeros(1)

    call = lean._attention_or(built_in)
    small = mx.zeros((1, 1, 2, 4))
    call(small.astype(mx.bfloat16), small, small, scale=1.0, mask="causal")
    call(small, small, small, scale=1.0, mask=mx.zeros((2, 2)))
    call(small, small, small, scale=1.0, mask=None, sinks=mx.zeros(1))
    assert len(asked) == 3
    call(small, small, small, scale=1.0, mask="causal")
    assert len(asked) == 3


def test_the_functions_are_as_before_afterwards_even_after_an_error() -> None:
    model = made_model("llama")
    before = (llama_module.swiglu, mx.fast.scaled_dot_product_attention)

    def fail() -> None:
        with lean.lean_kernels(model):
            assert llama_module.swiglu is not before[0]
            assert mx.fast.scaled_dot_product_attention is not before[1]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (llama_module.swiglu, mx.fast.scaled_dot_product_attention) == before


def chained(function: Function, shape: tuple[int, ...], calls: int) -> int:
    """Bytes at most that the gradient of so many calls, each on the output of the one before, needs."""

    def loss(x: mx.array) -> mx.array:
        for _ in range(calls):
            x = function(x)
        return x.sum()

    x = mx.random.normal(shape)
    mx.eval(x)
    return counted_peak(lambda: mx.grad(loss)(x))


def test_swiglu_keeps_its_inputs_only() -> None:
    """Each call adds its output. MLX's own keeps the sigmoid and SiLU of the gate too."""
    calls, size = 16, 4 * 2**18
    assert chained(lambda x: lean.swiglu(x, x), (2**18,), calls) < 1.5 * calls * size
    assert chained(lambda x: llama_module.swiglu(x, x), (2**18,), calls) > 2 * calls * size


def test_the_backward_pass_of_attention_keeps_no_scores() -> None:
    calls, shape = 16, (1, 4, 256, 8)
    scores = 4 * 4 * 256 * 256
    options: dict[str, Any] = {"scale": 0.3, "mask": "causal"}
    built_in = mx.fast.scaled_dot_product_attention
    assert chained(lambda x: built_in(x, x, x, **options), shape, calls) > calls * scores
    assert chained(lambda x: lean.attention(x, x, x, **options), shape, calls) < calls * scores / 2
