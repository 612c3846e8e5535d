"""The plan tells what the run will do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, nn
from mlx_ragtune.errors import RecipeError, ToolError
from mlx_ragtune.tuning import preflight as module
from mlx_ragtune.tuning.engine_mlx_lm import make_batch as whole_rows
from mlx_ragtune.tuning.loop import group_objective
from mlx_ragtune.tuning.memory import Caps
from mlx_ragtune.tuning.preflight import Preflight, calibrate, describe, plan_run, require_fit
from mlx_ragtune.tuning.run import train
from mlx_ragtune.tuning.schedule import micro_batches
from mlx_ragtune.tuning.work import Work, total, work_of_batch, work_of_whole_rows
from tests.tuning.made import (
    CONFIG,
    adapted,
    base_settings,
    dataset_settings,
    example,
    examples,
    made_model,
    made_rows,
    toy_base,
    train_settings,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_base(tmp_path_factory.mktemp("base"))


def plan(base: Path, rows: dict[str, Any], **changes: Any) -> Preflight:
    settings = train_settings(**{"batch_size": 3, "accumulation": 2} | changes)
    return plan_run(settings, base_settings(), dataset_settings(max_tokens=700), base=base, rows=rows, seed=3)


def test_the_plan_is_what_the_run_does(base: Path, tmp_path: Path) -> None:
    rows = {"train": examples(8, 3), "valid": examples(10, 2)[16:]}
    told = plan(base, rows)
    settings = train_settings(batch_size=3, accumulation=2)
    done = train(
        settings,
        base_settings(),
        dataset_settings(max_tokens=700),
        base=base,
        rows=rows,
        folder=tmp_path,
        seed=3,
        progress=lambda *_: None,
    )
    assert told.plan.updates == done.planned_updates == done.updates
    assert (told.trainable_parameters, told.total_parameters) == (done.trainable_parameters, done.total_parameters)
    assert 0.4 < told.predicted_memory_bytes / done.peak_memory_bytes < 2.5
    assert told.predicted_seconds > 0
    assert told.fits


def test_lengths_are_told_by_kind_and_rows_that_do_not_fit_are_named(base: Path) -> None:
    rows = {
        "train": [*examples(3, 2), example(9, 9, words=100), example(4, 1, kind="refusal")],
        "valid": examples(1, 1),
    }
    told = plan(base, rows)
    assert {kind: one.rows for kind, one in told.lengths.items()} == {"grounded": 6, "refusal": 1}
    assert all(one.shortest <= one.mean <= one.longest for one in told.lengths.values())
    assert [one.id for one in told.refused] == ["9-9"]


def test_sharing_saves_what_it_says(base: Path) -> None:
    together = plan(base, {"train": examples(4, 6), "valid": examples(1, 1)}, batch_size=6)
    alone = plan(base, {"train": examples(24, 1), "valid": examples(1, 1)}, batch_size=6)
    assert together.saving > 0.5
    assert together.saving > alone.saving + 0.2
    assert together.computed_tokens < 0.5 * together.row_tokens


def test_the_kl_term_costs_a_forward_pass_of_the_base_on_its_rows(base: Path) -> None:
    own = [example(9 + number, 0, kind="rehearsal", words=2) for number in range(3)]
    rows = {"train": [*examples(4, 3), *own], "valid": examples(1, 1)}
    off, all_tokens = plan(base, rows), plan(base, rows, kl={"tokens": "all"})
    some = plan(base, rows, kl={"tokens": "rehearsal"})
    assert (off.kl_tokens, off.kl_work) == (0, 0.0)
    assert 0.4 < all_tokens.kl_work < 0.5  # a forward pass is half of a step, and less of its attention
    assert 0 < some.kl_work < all_tokens.kl_work / 3
    assert some.kl_tokens == sum(one.rows * one.answer_mean for name, one in some.lengths.items() if name != "grounded")
    assert "KL to the base" in describe(some)
    assert "KL" not in describe(off)


def test_the_description_names_everything(base: Path) -> None:
    text = describe(plan(base, {"train": examples(4, 3), "valid": examples(1, 1)}))
    for word in ("grounded", "updates", "warm-up", "learning rate", "parameters trained", "GiB", "minutes", "fewer"):
        assert word in text


def test_what_will_not_fit_is_refused_with_the_setting_to_change(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "caps_here", lambda: Caps(usable=2**16, wired=0, cache=0))
    told = plan(base, {"train": examples(4, 3), "valid": examples(1, 1)})
    assert not told.fits
    with pytest.raises(ToolError, match="GiB can be used") as caught:
        require_fit(told, train_settings())
    assert "tokens_per_step" in caught.value.fix


def test_a_row_longer_than_a_step_is_refused_before_anything_runs(base: Path) -> None:
    with pytest.raises(RecipeError, match="tokens_per_step 64"):
        plan(base, {"train": examples(2, 2), "valid": examples(1, 1)}, tokens_per_step=64)


def test_calibration_predicts_the_memory_of_a_larger_batch() -> None:
    model = adapted(made_model("llama", num_hidden_layers=6), train_settings())
    draw = np.random.default_rng(0)
    rows = [row for size in (40, 120, 400) for row in made_rows(draw, [2], prefix=(size, size + 1))]
    batches = sorted((micro_batches(rows[i : i + 2], 4096)[0] for i in (0, 2, 4)), key=lambda one: one[0].tokens)
    config = CONFIG | {"vocab_size": 97}
    measured = calibrate(model, batches[:2], config, recompute=False)
    mx.clear_cache()
    mx.reset_peak_memory()
    mx.eval(nn.value_and_grad(model, group_objective)(model, batches[2]))
    assert measured.memory(work_of_batch(batches[2]).flops(config)) == pytest.approx(mx.get_peak_memory(), rel=0.5)


def test_counted_work_is_that_of_the_arrays() -> None:
    rows = made_rows(np.random.default_rng(1), [3, 2])
    for groups in micro_batches(rows, 4096):
        work = work_of_batch(groups)
        assert work.logit_rows == sum(len(row.tokens) - row.prompt_length for group in groups for row in group.rows)
        assert work.layer_tokens >= sum(group.tokens for group in groups)
    whole = work_of_whole_rows(rows, 32)
    assert whole.layer_tokens == whole_rows(rows, 1.0)[0][:, :-1].size
    assert total([whole, whole]) == Work(2 * whole.layer_tokens, 2 * whole.attention_pairs, 2 * whole.logit_rows)


def test_flops_are_those_of_the_matrix_products_written_out() -> None:
    config = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "num_hidden_layers": 3,
        "vocab_size": 10,
    }
    per_token = 8 * 8 + 8 * 4 + 8 * 4 + 8 * 8 + 3 * 8 * 16
    expected = 3 * (4 * 5 * per_token + 2 * 25 * (2 + 4) * 8) + 4 * 2 * 8 * 10
    assert Work(5, 25, 2).flops(config) == expected
