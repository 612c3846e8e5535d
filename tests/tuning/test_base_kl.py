"""The KL term is that of two plain models: the same losses, the same gradient, and no second model in memory."""

import json
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, nn
from mlx_ragtune.errors import InputError
from mlx_ragtune.recipe import KLSettings
from mlx_ragtune.tuning import head
from mlx_ragtune.tuning.adapters import without_adapter
from mlx_ragtune.tuning.base_kl import BaseKL, group_states, value_and_grad
from mlx_ragtune.tuning.engine_mlx_lm import make_batch as whole_rows
from mlx_ragtune.tuning.frozen import FrozenStore, only_layers
from mlx_ragtune.tuning.loop import Loop, group_objective
from mlx_ragtune.tuning.recompute import recomputing
from mlx_ragtune.tuning.schedule import make_plan, micro_batches
from mlx_ragtune.tuning.token_rows import TokenRow
from mlx_ragtune.tuning.workbench import Workbench
from tests.tuning.made import (
    VOCABULARY,
    adapted,
    base_settings,
    counted_peak,
    dataset_settings,
    examples,
    made_model,
    made_rows,
    own_answers,
    relative,
    toy_base,
    train_settings,
)

WEIGHT = 0.7
ADAPTERS: dict[str, tuple[dict[str, Any], int | None]] = {
    "lora": ({}, None),
    "dora on 4-bit": ({"method": "dora"}, 4),
    "last layer only": ({"layers": 1}, None),
}


@cache
def base_of(architecture: str, bits: int | None) -> Any:
    return made_model(architecture, bits=bits)


def mixed_rows(seed: int = 3) -> list[TokenRow]:
    """Rows of contexts, and rehearsal rows with and without siblings."""
    draw = np.random.default_rng(seed)
    task, own = made_rows(draw, [4, 1, 3]), made_rows(draw, [1, 2, 1], prefix=(2, 9))
    return [*task, *(replace(row, id=f"r{row.id}", group=f"r{row.group}", kind="rehearsal") for row in own)]


def plain(
    model: Any, base: Any, rows: list[TokenRow], tokens: Any, *, masked: bool = False
) -> tuple[dict[str, float], Any]:
    """Two forward passes of whole rows, and every logit at once."""
    batch, spans, _ = whole_rows(rows, 1.0)
    targets, steps = batch[:, 1:], mx.arange(1, batch.shape[1])
    mask = mx.logical_and(steps >= spans[:, 0:1], steps < spans[:, 1:])
    chosen = mask * mx.array([[tokens == "all" or row.kind == "rehearsal"] for row in rows])

    def losses(model: Any) -> tuple[mx.array, mx.array, mx.array]:
        logits = model(batch[:, :-1]).astype(mx.float32)
        entropy = nn.losses.cross_entropy(logits, targets)
        loss = (entropy * mask).sum() / mask.sum()
        left_out = -1e9 * (mx.arange(VOCABULARY) == targets[..., None]) * masked
        log_q, log_p = (nn.log_softmax(one + left_out) for one in (logits, base(batch[:, :-1]).astype(mx.float32)))
        kl = ((mx.exp(log_p) * (log_p - log_q)).sum(axis=-1) * chosen).sum() / chosen.sum()
        return loss + WEIGHT * kl, loss, kl

    (_, loss, kl), gradient = nn.value_and_grad(model, losses)(model)
    return {"train_loss": loss.item(), "train_kl": kl.item()}, gradient


def ours(model: Any, rows: list[TokenRow], tokens: Any, folder: Path, **changes: Any) -> tuple[dict[str, float], Any]:
    """The losses and the gradient of one update of the loop."""
    kl = {"weight": WEIGHT, "tokens": tokens, "mask_target": changes.pop("masked", False)}
    settings = train_settings(kl=kl, **changes)
    loop = Loop(model, settings, make_plan(rows, settings, seed=0), folder=folder, seed=0, work={})
    with ExitStack() as stack:
        states = group_states
        if settings.frozen_store:
            store = FrozenStore(folder, 2)
            store.build(model, rows, tokens_per_step=settings.step_tokens, work="w")
            stack.enter_context(only_layers(model, 2, 3, normed=True))
            states = store.answer_states
        stack.enter_context(recomputing(model, settings.grad_checkpoint))
        assert settings.kl is not None
        loop.kl = BaseKL(settings.kl, states)
        return loop._gradient(rows)


def assert_same(found: tuple[dict[str, float], Any], expected: tuple[dict[str, float], Any]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert expected[0]["train_kl"] > 1e-3
    wanted = dict(nn.utils.tree_flatten(expected[1]))
    assert relative(found[1], {name: wanted[name] for name, _ in nn.utils.tree_flatten(found[1])}) < 1e-5


@pytest.mark.parametrize("tokens", ["rehearsal", "all"])
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3_text", "gemma4_text"])
def test_losses_and_gradient_are_those_of_two_plain_models(
    architecture: str, adapter: str, tokens: str, tmp_path: Path
) -> None:
    changes, bits = ADAPTERS[adapter]
    model = adapted(made_model(architecture, bits=bits), train_settings(**changes))
    rows = mixed_rows()
    assert len(micro_batches(rows, 256)) > 2
    expected = plain(model, base_of(architecture, bits), rows, tokens)
    assert_same(ours(model, rows, tokens, tmp_path, tokens_per_step=256, **changes), expected)


@pytest.mark.parametrize("tokens", ["rehearsal", "all"])
def test_without_the_targets_it_is_that_of_two_plain_models_too(tokens: str, tmp_path: Path) -> None:
    model, rows = adapted(made_model("qwen3"), train_settings()), mixed_rows(6)
    expected = plain(model, base_of("qwen3", None), rows, tokens, masked=True)
    assert_same(ours(model, rows, tokens, tmp_path, tokens_per_step=256, masked=True), expected)
    whole = plain(model, base_of("qwen3", None), rows, tokens)
    assert abs(whole[0]["train_kl"] - expected[0]["train_kl"]) > 1e-3 * whole[0]["train_kl"]
    assert relative(whole[1], expected[1]) > 1e-3


@pytest.mark.parametrize("tokens", ["rehearsal", "all"])
@pytest.mark.parametrize(
    "changes", [{"layers": 1, "frozen_store": True}, {"grad_checkpoint": True}, {"tokens_per_step": 4096}],
    ids=["stored layers", "recomputed", "one micro-batch"],
)  # fmt: skip
def test_every_way_of_computing_gives_the_same(changes: dict[str, Any], tokens: str, tmp_path: Path) -> None:
    model = adapted(made_model("qwen3"), train_settings(layers=changes.get("layers", "all"), method="dora"))
    rows = mixed_rows(4)
    expected = plain(model, base_of("qwen3", None), rows, tokens)
    assert_same(ours(model, rows, tokens, tmp_path, **{"tokens_per_step": 256, **changes}), expected)


def test_the_logits_in_chunks_give_the_same_in_less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made_model("llama", vocab_size=4096)
    draw = np.random.default_rng(1)
    states, base = (mx.array(draw.normal(size=(640, 64)).astype(np.float32)) for _ in range(2))
    targets = mx.array(draw.integers(0, 4096, 640))

    def with_kl(states: mx.array) -> mx.array:
        return head.answer_loss_and_kl(model, states, base, targets=targets, factor=0.5)[0]

    def without(states: mx.array) -> mx.array:
        return head.answer_loss(model, states, targets)

    for losses in (with_kl, without):
        found = []
        for chunk in (2**26, 2**17):
            monkeypatch.setattr(head, "CHUNK_LOGITS", chunk)
            run = partial(mx.value_and_grad(losses), states)
            found.append((*run(), counted_peak(run)))
        (loss, gradient, whole), (parts, gradient_of_parts, less) = found
        assert parts.item() == pytest.approx(loss.item(), rel=3e-6)
        assert relative({"d": gradient_of_parts}, {"d": gradient}) < 1e-6
        assert less < whole / 3


def test_no_activations_of_the_base_are_kept() -> None:
    """Inside of the gradient's function MLX keeps them: the peak was then twice that without the term."""
    model = adapted(made_model("llama", num_hidden_layers=12), train_settings())
    groups = micro_batches(made_rows(np.random.default_rng(0), [6], prefix=(100, 101)), 4096)[0]
    rows = [row for group in groups for row in group.rows]
    peaks = []
    for step in (
        nn.value_and_grad(model, group_objective),
        value_and_grad(BaseKL(KLSettings(tokens="all")), model, rows),
    ):
        peaks.append(counted_peak(partial(step, model, groups)))
    assert peaks[1] < 1.2 * peaks[0]


def test_the_update_in_chunks_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = adapted(made_model("llama"), train_settings()), mixed_rows(5)
    whole = ours(model, rows, "all", tmp_path)
    monkeypatch.setattr(head, "CHUNK_LOGITS", 8 * 32 * VOCABULARY)
    assert sum(len(row.tokens) - row.prompt_length for row in rows) > 3 * 32
    assert_same(ours(model, rows, "all", tmp_path), whole)


def test_the_base_is_the_model_without_adapters_and_dropout() -> None:
    base = made_model("qwen3")
    tokens = mx.array([[1, 2, 3, 4, 5, 6]])
    before = np.array(base(tokens))
    for method in ("lora", "dora"):
        model = adapted(made_model("qwen3"), train_settings(method=method, dropout=0.5))
        mx.random.seed(4)
        with_adapters = np.array(model(tokens))
        with without_adapter(model):
            assert np.array_equal(np.array(model(tokens)), before)
        assert model.training
        mx.random.seed(4)
        assert np.array_equal(np.array(model(tokens)), with_adapters)
        assert not np.allclose(with_adapters, before)


def test_the_adapters_are_back_after_an_error() -> None:
    model = adapted(made_model("llama"), train_settings())
    names = [name for name, _ in nn.utils.tree_flatten(model.trainable_parameters())]
    with pytest.raises(ValueError, match="integral"), without_adapter(model):
        model(mx.array([[1.5]]))
    assert [name for name, _ in nn.utils.tree_flatten(model.trainable_parameters())] == names


def test_only_rows_with_chosen_tokens_go_through_the_base() -> None:
    term = BaseKL(KLSettings(tokens="rehearsal"))
    rows = mixed_rows()
    kept = [row.id for groups in micro_batches(rows, 512) for group in term.groups(groups) for row in group.rows]
    assert sorted(kept) == sorted(row.id for row in rows if row.is_rehearsal)


def test_an_update_without_chosen_tokens_has_no_kl(tmp_path: Path) -> None:
    model = adapted(made_model("llama"), train_settings())
    rows = [row for row in mixed_rows() if not row.is_rehearsal]
    means, gradient = ours(model, rows, "rehearsal", tmp_path)
    assert list(means) == ["train_loss"]
    settings = train_settings()
    off = Loop(model, settings, make_plan(rows, settings, seed=0), folder=tmp_path, seed=0, work={})
    assert relative(gradient, off._gradient(rows)[1]) < 1e-6


def test_the_kl_is_zero_before_training() -> None:
    model = made_model("qwen3")
    from mlx_ragtune.tuning.adapters import apply_adapter
    from mlx_ragtune.tuning.ranks import Ranks

    apply_adapter(model, train_settings(), seed=0)
    means = BaseKL(KLSettings(tokens="all")).measure(model, mixed_rows(), tokens_per_step=256, ranks=Ranks(0, 1))
    assert means["kl"] == pytest.approx(0.0, abs=1e-9)


def test_rehearsal_tokens_without_rehearsal_rows_are_refused() -> None:
    rows = [row for row in mixed_rows() if not row.is_rehearsal]
    with pytest.raises(InputError) as caught:
        BaseKL(KLSettings(tokens="rehearsal")).check(rows)
    assert caught.value.where == "train.kl.tokens"
    BaseKL(KLSettings(tokens="all")).check(rows)


def test_the_term_keeps_the_model_nearer_to_the_base_on_rows_that_it_has_not_seen(tmp_path: Path) -> None:
    rows = {"train": examples(6, 3), "valid": examples(8, 1)[6:], "rehearsal": own_answers(24)}
    base = toy_base(tmp_path / "base")
    last = {}
    with Workbench(
        base, base_settings(), dataset=dataset_settings(), rows=rows, store=tmp_path / "store", say=lambda _text: None
    ) as bench:
        for weight in (1e-6, 10.0):
            settings = train_settings(batch_size=4, accumulation=1, epochs=2.0, kl={"weight": weight})
            folder = tmp_path / f"{weight}"
            bench.train(settings, folder=folder, seed=3, progress=lambda *_: None, rehearsal_share=0.25)
            curve = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
            assert any("train_kl" in row for row in curve)
            assert not any("valid_kl" in row for row in curve)  # no validation row is a rehearsal row
            last[weight] = curve[-1]
    assert 0 < last[10.0]["rehearsal_kl"] < 0.7 * last[1e-6]["rehearsal_kl"]
    assert last[10.0]["rehearsal_loss"] > 0
