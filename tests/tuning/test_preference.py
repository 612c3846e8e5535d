"""The preference term is that of a plain implementation on whole rows: the same losses, the same gradient."""

from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, nn
from mlx_ragtune.errors import InputError
from mlx_ragtune.recipe import KLSettings, PreferenceSettings
from mlx_ragtune.tuning import head, schedule
from mlx_ragtune.tuning.base_kl import BaseKL, group_states
from mlx_ragtune.tuning.frozen import FrozenStore, only_layers
from mlx_ragtune.tuning.groups import Group, make_groups, shape_of
from mlx_ragtune.tuning.loop import Loop
from mlx_ragtune.tuning.loss import make_batch
from mlx_ragtune.tuning.preference import Preference, log_odds
from mlx_ragtune.tuning.ranks import Ranks
from mlx_ragtune.tuning.recompute import recomputing
from mlx_ragtune.tuning.schedule import make_plan, micro_batches
from mlx_ragtune.tuning.token_rows import TokenRow
from mlx_ragtune.tuning.work import work_of_batch
from tests.tuning.made import VOCABULARY, adapted, made_model, made_rows, relative, train_settings

EXACT = 1e-5
BETA, WEIGHT, KL_WEIGHT = 0.3, 0.7, 0.4
METHODS = ("orpo", "dpo")
ADAPTERS: dict[str, tuple[dict[str, Any], int | None]] = {
    "lora": ({}, None),
    "dora on 4-bit": ({"method": "dora"}, 4),
    "last layer only": ({"layers": 1}, None),
}


@cache
def base_of(architecture: str, bits: int | None) -> Any:
    return made_model(architecture, bits=bits)


def with_rejected(rows: list[TokenRow], seed: int, *, every: int = 3) -> list[TokenRow]:
    """The rows, of which all but every third one have a rejected answer of another length."""
    draw = np.random.default_rng(seed)
    return [
        row
        if index % every == every - 1
        else replace(
            row,
            rejected=np.concatenate(
                [row.tokens[: row.prompt_length], draw.integers(0, VOCABULARY, draw.integers(2, 25))]
            ).astype(np.int32),
        )
        for index, row in enumerate(rows)
    ]


def mixed_rows(seed: int = 3) -> list[TokenRow]:
    """Rows of contexts with and without rejected answers, and rehearsal rows."""
    draw = np.random.default_rng(seed)
    own = made_rows(draw, [1, 2], prefix=(2, 9))
    rehearsal = [replace(row, id=f"r{row.id}", group=f"r{row.group}", kind="rehearsal") for row in own]
    return [*with_rejected(made_rows(draw, [4, 1, 3]), seed), *rehearsal]


def logits_of(model: Any, tokens: Any) -> mx.array:
    """Every logit of one whole row, in float32."""
    logits: mx.array = model(mx.array(tokens[:-1])[None])[0].astype(mx.float32)
    return logits


def likelihood(model: Any, tokens: Any, prompt: int) -> mx.array:
    """Summed log-likelihood of the answer of one whole row."""
    log_p = nn.log_softmax(logits_of(model, tokens))
    targets = mx.array(tokens[1:])
    return mx.take_along_axis(log_p, targets[:, None], axis=-1)[prompt - 1 :, 0].sum()


def pair_term(method: str, chosen: list[Any], rejected: list[Any]) -> tuple[mx.array, mx.array]:
    """(loss, margin) of (log-likelihood, its tokens, the base's log-likelihood) of both answers."""
    if method == "dpo":
        margin = BETA * ((chosen[0] - chosen[2]) - (rejected[0] - rejected[2]))
        return -mx.log(mx.sigmoid(margin)), margin
    means = [one[0] / one[1] for one in (chosen, rejected)]
    odds = [mx.exp(mean) / (1 - mx.exp(mean)) for mean in means]
    return -mx.log(mx.sigmoid(mx.log(odds[0] / odds[1]))), means[0] - means[1]


def plain(
    model: Any, base: Any, rows: list[TokenRow], method: str, *, kl: bool = False
) -> tuple[dict[str, float], Any]:
    """Every row alone, whole, answer and rejected answer one after the other."""
    tokens = sum(len(row.tokens) - row.prompt_length for row in rows)
    own = sum(len(row.tokens) - row.prompt_length for row in rows if row.is_rehearsal)
    pairs = sum(row.rejected is not None for row in rows)

    def losses(model: Any) -> tuple[mx.array, ...]:
        entropy, term, right, margins, divergence = (mx.array(0.0) for _ in range(5))
        for row in rows:
            prompt, both = row.prompt_length, list[Any]()
            for answer in row.branches:
                both.append([likelihood(model, answer, prompt), len(answer) - prompt, likelihood(base, answer, prompt)])
            entropy = entropy - both[0][0]
            if row.rejected is not None:
                loss, margin = pair_term(method, both[0], both[1])
                term, margins, right = term + loss, margins + margin, right + (margin > 0)
            if row.is_rehearsal:
                log_p, log_q = (nn.log_softmax(logits_of(one, row.tokens))[prompt - 1 :] for one in (base, model))
                divergence = divergence + (mx.exp(log_p) * (log_p - log_q)).sum()
        factor = BETA if method == "orpo" else WEIGHT
        total = entropy / tokens + factor * term / len(rows) + (KL_WEIGHT * divergence / own if kl else 0.0)
        return total, entropy / tokens, divergence / own, term / pairs, right / pairs, margins / pairs

    (_, *figures), gradient = nn.value_and_grad(model, losses)(model)
    names = ["loss", "kl", "preference_loss", "preference_accuracy", "preference_margin"]
    means = {f"train_{name}": one.item() for name, one in zip(names, figures, strict=True) if kl or name != "kl"}
    return means, gradient


def ours(
    model: Any, rows: list[TokenRow], kind: Any, folder: Path, *, kl: bool = False, **changes: Any
) -> tuple[dict[str, float], Any]:
    """The figures and the gradient of one update of the loop."""
    settings = train_settings(**changes)
    loop = Loop(model, settings, make_plan(rows, settings, seed=0), folder=folder, seed=0, work={})
    with ExitStack() as stack:
        states = group_states
        if settings.frozen_store:
            store = FrozenStore(folder, 2)
            store.build(model, rows, tokens_per_step=settings.step_tokens, work="w")
            stack.enter_context(only_layers(model, 2, 3, normed=True))
            states = store.answer_states
        stack.enter_context(recomputing(model, settings.grad_checkpoint))
        term = BaseKL(KLSettings(weight=KL_WEIGHT, tokens="rehearsal"), states) if kl else None
        loop.preference = Preference(PreferenceSettings(method=kind, beta=BETA, weight=WEIGHT), states, term)
        loop.preference.prepare(model, rows, tokens_per_step=settings.step_tokens, ranks=Ranks(0, 1))
        return loop._gradient(rows)


def assert_same(found: tuple[dict[str, float], Any], expected: tuple[dict[str, float], Any]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=EXACT, abs=1e-5)  # a margin is a difference of near numbers
    assert abs(expected[0]["train_preference_margin"]) > 0
    wanted = dict(nn.utils.tree_flatten(expected[1]))
    assert relative(found[1], {name: wanted[name] for name, _ in nn.utils.tree_flatten(found[1])}) < EXACT


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("architecture", "adapter"),
    [
        ("qwen3", "lora"),
        ("gemma3_text", "lora"),
        ("gemma4_text", "lora"),
        ("llama", "dora on 4-bit"),
        ("llama", "last layer only"),
    ],
)
def test_losses_and_gradient_are_those_of_whole_rows(
    architecture: str, adapter: str, method: str, tmp_path: Path
) -> None:
    changes, bits = ADAPTERS[adapter]
    model = adapted(made_model(architecture, bits=bits), train_settings(**changes))
    rows = mixed_rows()
    assert len(micro_batches(rows, 256)) > 2
    expected = plain(model, base_of(architecture, bits), rows, method)
    assert_same(ours(model, rows, method, tmp_path, tokens_per_step=256, **changes), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "changes",
    [{"layers": 1, "frozen_store": True}, {"grad_checkpoint": True}, {"tokens_per_step": 4096}, {"kl": True}],
    ids=["stored layers", "recomputed", "one micro-batch", "with the KL term"],
)
def test_every_way_of_computing_gives_the_same(changes: dict[str, Any], method: str, tmp_path: Path) -> None:
    model = adapted(made_model("qwen3"), train_settings(layers=changes.get("layers", "all"), method="dora"))
    rows = mixed_rows(4)
    expected = plain(model, base_of("qwen3", None), rows, method, kl=changes.get("kl", False))
    assert_same(ours(model, rows, method, tmp_path, **{"tokens_per_step": 256, **changes}), expected)


@pytest.mark.parametrize("method", METHODS)
def test_cut_prefixes_and_padded_branches_give_the_same(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "MOST_PADDING", 1.0)
    model, rows = adapted(made_model("gemma3_text"), train_settings()), mixed_rows(12)
    (groups,) = micro_batches(rows, 4096)
    assert len({group.prefix_length for group in groups}) > 1
    expected = plain(model, base_of("gemma3_text", None), rows, method)
    assert_same(ours(model, rows, method, tmp_path, tokens_per_step=4096), expected)


def test_the_logits_in_chunks_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = adapted(made_model("llama"), train_settings()), mixed_rows(5)
    whole = ours(model, rows, "orpo", tmp_path)
    monkeypatch.setattr(head, "CHUNK_LOGITS", 32 * VOCABULARY)
    assert_same(ours(model, rows, "orpo", tmp_path), whole)


def test_an_answer_and_its_rejected_answer_are_branches_of_one_prefix_in_one_micro_batch() -> None:
    rows = with_rejected(made_rows(np.random.default_rng(6), [5, 2, 4], prefix=(40, 60)), 6, every=100)
    for limit in (160, 512, 4096):
        seen = []
        for groups in micro_batches(rows, limit):
            batch = make_batch(groups)
            assert shape_of(groups).tokens <= limit
            assert all(batch.parents[left] == batch.parents[right] for _, left, right in batch.pairs)
            seen += [name for name, _, _ in batch.pairs]
        assert sorted(seen) == sorted(row.id for row in rows)


def test_the_prompt_of_a_pair_is_computed_once() -> None:
    row = with_rejected(made_rows(np.random.default_rng(7), [1], prefix=(400, 401), tail=(8, 9)), 7)[0]
    (group,) = make_groups([row])
    apart = [make_groups([replace(row, id=str(n), tokens=one, rejected=None)]) for n, one in enumerate(row.branches)]
    assert group.prefix_length > 390
    assert work_of_batch([group]).layer_tokens < 0.6 * sum(work_of_batch(one).layer_tokens for one in apart)
    assert work_of_batch([group]).logit_rows == sum(len(one) - row.prompt_length for one in row.branches)


def test_rows_without_rejected_answers_make_the_same_batch_as_ever() -> None:
    rows = made_rows(np.random.default_rng(8), [3, 1])
    batch = make_batch(make_groups(rows))
    assert batch.counted is None
    assert batch.pairs == ()
    paired = make_batch([Group((with_rejected(rows[:1], 8)[0],), 0)])
    assert paired.counted is not None
    assert len(paired.counted) == len(rows[0].tokens) - rows[0].prompt_length


def test_before_training_dpo_has_no_margin_and_half_a_bit_of_loss() -> None:
    model, rows = made_model("qwen3"), mixed_rows(9)
    from mlx_ragtune.tuning.adapters import apply_adapter

    apply_adapter(model, train_settings(), seed=1)  # B is 0: the model is its base
    term = Preference(PreferenceSettings(method="dpo"))
    term.prepare(model, rows, tokens_per_step=256, ranks=Ranks(0, 1))
    found = term.measure(model, rows, tokens_per_step=512, ranks=Ranks(0, 1))
    assert found["preference_loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert found["preference_margin"] == pytest.approx(0, abs=1e-4)


def test_the_share_of_pairs_in_the_right_order_is_that_of_the_likelihoods() -> None:
    draw = np.random.default_rng(10)
    model, rows = adapted(made_model("llama"), train_settings()), with_rejected(made_rows(draw, [4, 4, 4]), 10)
    means = []
    for row in rows:
        if row.rejected is not None:
            left, right = (
                likelihood(model, one, row.prompt_length).item() / (len(one) - row.prompt_length)
                for one in row.branches
            )
            means.append(left - right)
    found = Preference(PreferenceSettings()).measure(model, rows, tokens_per_step=256, ranks=Ranks(0, 1))
    assert found["preference_accuracy"] == pytest.approx(np.mean(np.array(means) > 0))
    assert found["preference_margin"] == pytest.approx(np.mean(means), rel=1e-4)
    assert 0 < found["preference_accuracy"] < 1


def test_the_log_odds_and_their_gradient_are_finite_from_certain_to_impossible() -> None:
    means = mx.array([-1e-9, -1e-5, -0.1, -0.6931, -0.6932, -2.0, -60.0])
    odds, slope = log_odds(means), mx.grad(lambda x: log_odds(x).sum())(means)
    assert mx.isfinite(odds).all().item()
    assert mx.isfinite(slope).all().item()
    p = np.exp(np.array(means[2:6], dtype=np.float64))
    assert np.array(odds[2:6]) == pytest.approx(np.log(p / (1 - p)), rel=1e-4)
    assert np.array(slope[2:6]) == pytest.approx(1 / (1 - p), rel=1e-4)


def test_rows_without_any_rejected_answer_are_refused() -> None:
    with pytest.raises(InputError, match="no training row has a rejected answer"):
        Preference(PreferenceSettings()).check(made_rows(np.random.default_rng(11), [2]))
