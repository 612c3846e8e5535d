"""The gate after an export: a wrong file and a lost adapter are caught, rounding is let pass."""

import numpy as np
import pytest

from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.gguf.engine_parity import (
    LIMITS,
    Parity,
    check_effect,
    check_parity,
    compare_next_tokens,
    effect_size,
    log_softmax,
)

Listed = list[list[tuple[int, float]]]


def drawn(rows: int = 4, words: int = 50, seed: int = 0, spread: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (rows, words))


def listed(logits: np.ndarray, top: int = 10) -> Listed:
    """What an engine would say: its likeliest tokens with their log probabilities."""
    rows = log_softmax(logits)
    return [[(int(one), float(row[one])) for one in np.argsort(-row)[:top]] for row in rows]


def parity(**changes: object) -> Parity:
    sound: dict[str, object] = {
        "type": "Q8_0",
        "prompts": 8,
        "tokens_equal": True,
        "max_logprob_difference": 0.01,
        "top1_agreement": 1.0,
        "mean_kl": 0.001,
    }
    return Parity(**{**sound, **changes})  # type: ignore[arg-type]


def test_log_probabilities_sum_to_one_however_large_the_logits() -> None:
    values = log_softmax([[1000.0, 1001.0, -1000.0]])
    assert np.exp(values).sum() == pytest.approx(1)
    assert values[0, 1] - values[0, 0] == pytest.approx(1)


def test_the_same_model_has_no_difference() -> None:
    logits = drawn()
    found = compare_next_tokens("F32", logits, listed(logits), tokens_equal=True)
    assert found.prompts == 4
    assert found.top1_agreement == 1
    assert found.max_logprob_difference == pytest.approx(0, abs=1e-12)
    assert found.mean_kl == pytest.approx(0, abs=1e-12)
    check_parity(found, what="tuned.gguf")


def test_kl_is_that_of_the_listed_tokens_and_all_others_as_one() -> None:
    ours = np.log(np.array([[0.5, 0.3, 0.2]]))
    engine = [[(0, float(np.log(0.4))), (1, float(np.log(0.4)))]]
    found = compare_next_tokens("Q8_0", ours, engine, tokens_equal=True)
    assert found.mean_kl == pytest.approx(0.5 * np.log(0.5 / 0.4) + 0.3 * np.log(0.3 / 0.4) + 0.2 * np.log(0.2 / 0.2))
    assert found.max_logprob_difference == pytest.approx(np.log(0.4 / 0.3))


def test_kl_is_never_negative_though_an_engine_lists_few_tokens() -> None:
    ours = np.log(np.array([[0.4, 0.3, 0.3]]))
    engine = [[(0, float(np.log(0.6)))]]
    found = compare_next_tokens("Q8_0", ours, engine, tokens_equal=True)
    assert found.mean_kl == pytest.approx(0.4 * np.log(0.4 / 0.6) + 0.6 * np.log(0.6 / 0.4))
    assert found.mean_kl > 0


def test_a_toss_up_counts_as_agreement_and_a_clear_difference_does_not() -> None:
    ours = np.array([[2.0, 2.0 - 0.02, 0.0], [2.0, 1.0, 0.0]])
    engine = [[(1, -0.7), (0, -0.8)], [(1, -0.7), (0, -0.8)]]
    assert compare_next_tokens("Q8_0", ours, engine, tokens_equal=True).top1_agreement == 0.5


def test_a_flat_distribution_has_no_top_token_to_disagree_on() -> None:
    """Noise of 0.15 in each log probability exchanges the first of 64 tokens that are nearly equally likely."""
    noise = np.random.default_rng(3)
    ours = noise.normal(0, 0.4, (40, 64))
    served = log_softmax(ours + noise.normal(0, 0.15, ours.shape))
    engine = [[(token, float(row[token])) for token in row.argsort()[::-1]] for row in served]
    parity = compare_next_tokens("Q4_K_M", ours, engine, tokens_equal=True)
    assert (served.argmax(1) == ours.argmax(1)).mean() < 0.85
    assert parity.top1_agreement > 0.95
    assert parity.mean_kl < 0.02


def test_another_models_file_is_caught_at_every_type() -> None:
    ours, theirs = drawn(seed=1), drawn(seed=2)
    for kind in LIMITS:
        found = compare_next_tokens(kind, ours, listed(theirs), tokens_equal=True)
        with pytest.raises(ArtifactError, match="the GGUF file differs from the model"):
            check_parity(found, what="tuned.gguf")


def test_limits_grow_as_bits_shrink() -> None:
    order = ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S"]
    assert [*LIMITS] == order
    kls = [limit.mean_kl for limit in LIMITS.values()]
    agreements = [limit.top1_agreement for limit in LIMITS.values()]
    assert kls == sorted(kls)
    assert agreements == sorted(agreements, reverse=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens_equal": False}, "tokenizes the prompts differently than training did"),
        ({"mean_kl": 0.06}, "mean KL 0.06 (limit 0.05)"),
        ({"mean_kl": float("nan")}, "mean KL nan"),
        ({"top1_agreement": 0.5}, "same top token 50% (limit 85%)"),
    ],
)
def test_each_limit_is_enforced_with_its_figure(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        check_parity(parity(**changes), what="base.gguf")
    assert said in caught.value.what
    assert "base.gguf" in caught.value.what
    assert "ragtune export" in caught.value.fix


def test_the_effect_is_zero_for_equal_models_and_grows_with_the_difference() -> None:
    base = drawn()
    slightly, greatly = base + drawn(seed=3, spread=0.1), base + drawn(seed=3, spread=3.0)
    none, small, large = (effect_size(listed(base), listed(one)) for one in (base, slightly, greatly))
    assert none == pytest.approx(0, abs=1e-12)
    assert 0 < small < large


def test_a_token_the_base_did_not_list_counts_as_its_least_likely() -> None:
    base: Listed = [[(0, np.log(0.6)), (1, np.log(0.1))]]
    tuned: Listed = [[(7, np.log(0.5))]]
    assert effect_size(base, tuned) == pytest.approx(0.5 * np.log(0.5 / 0.1) + 0.5 * np.log(0.5))


@pytest.mark.parametrize(("effect", "noise"), [(0.0, 0.0), (0.01, 0.01), (0.019, 0.01), (float("nan"), 0.01)])
def test_an_effect_within_the_noise_of_quantizing_is_lost(effect: float, noise: float) -> None:
    with pytest.raises(ArtifactError, match="quantization noise exceeds the fine-tuning effect"):
        check_effect(effect, noise)


def test_a_clear_effect_passes() -> None:
    check_effect(0.5, 0.01)
    check_effect(1e-6, 0.0)


def test_an_effect_is_never_negative_though_only_some_tokens_are_listed() -> None:
    base: Listed = [[(1, np.log(0.5)), (2, np.log(0.2)), (3, np.log(0.1))]]
    tuned: Listed = [[(1, np.log(0.48)), (2, np.log(0.19)), (4, np.log(0.1))]]
    apart = 0.48 * np.log(0.48 / 0.5) + 0.19 * np.log(0.19 / 0.2)
    assert apart < 0
    assert effect_size(base, tuned) == pytest.approx(apart + 0.33 * np.log(0.33 / 0.3))
    assert effect_size(base, base) == 0
