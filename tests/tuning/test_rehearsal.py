"""Training with the base's own answers among the rows: the choice, the mixing, and the loss on those held out."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.errors import RecipeError
from mlx_ragtune.recipe import RehearsalSettings
from mlx_ragtune.tuning.loop import Loop, mean_loss
from mlx_ragtune.tuning.preflight import plan_run
from mlx_ragtune.tuning.rehearsal import choose_rehearsal, rows_for_share
from mlx_ragtune.tuning.schedule import updates_of_epoch
from mlx_ragtune.tuning.token_rows import TokenRow
from mlx_ragtune.tuning.workbench import Workbench
from tests.tuning.made import (
    base_settings,
    dataset_settings,
    examples,
    load_arrays,
    own_answers,
    toy_base,
    train_settings,
)

ROWS = {"train": examples(6, 3), "valid": examples(8, 1)[6:], "rehearsal": own_answers(40)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_base(tmp_path_factory.mktemp("base"))


def opened(base: Path, folder: Path, rows: Any = ROWS) -> Workbench:
    return Workbench(
        base, base_settings(), dataset=dataset_settings(), rows=rows, store=folder / "store", say=lambda _text: None
    )


def curve(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def row(number: int, kind: Any = "rehearsal") -> TokenRow:
    return TokenRow(f"{kind}-{number}", f"{kind}-{number}", kind, np.arange(4, dtype=np.int32) + number, 2)


# --- the choice


@pytest.mark.parametrize(("tasks", "share", "rows"), [(90, 0.1, 10), (121, 0.2, 30), (100, 0.5, 100), (7, 0.0, 0)])
def test_the_share_is_that_of_all_training_rows(tasks: int, share: float, rows: int) -> None:
    assert rows_for_share(tasks, share) == rows


def test_a_smaller_share_is_part_of_a_larger_one_and_what_is_held_out_stays() -> None:
    usable = [row(number) for number in range(100)]
    small, large = (choose_rehearsal(usable, task_rows=100, share=share, seed=3) for share in (0.1, 0.3))
    assert {one.id for one in small.train} < {one.id for one in large.train}
    assert small.held == large.held
    assert len(small.held) == 10
    assert not {one.id for one in large.train} & {one.id for one in large.held}
    assert choose_rehearsal(usable, task_rows=100, share=0.1, seed=4).held != small.held
    few = choose_rehearsal(usable[:20], task_rows=10, share=0.1, seed=3)
    assert len(few.held) == 8


def test_too_few_answers_are_an_error_with_both_numbers_and_the_largest_share() -> None:
    usable = [row(number) for number in range(50)]
    with pytest.raises(RecipeError, match=r"100 rehearsal rows are 50% .* only 42 usable answers") as error:
        choose_rehearsal(usable, task_rows=100, share=0.5, seed=0)
    assert error.value.fix is not None
    share = float(error.value.fix.split("at most ")[1].split(",")[0])
    assert len(choose_rehearsal(usable, task_rows=100, share=share, seed=0).train) <= 42
    with pytest.raises(RecipeError, match="only 0 usable"):
        choose_rehearsal(usable[:5], task_rows=100, share=0.0, seed=0)


# --- the mixing


def test_every_epoch_has_the_same_rehearsal_rows_among_the_others() -> None:
    tasks = [row(number, "grounded") for number in range(90)]
    own = choose_rehearsal([row(number) for number in range(40)], task_rows=90, share=0.1, seed=1).train
    epochs = [updates_of_epoch([*tasks, *own], 10, seed=1, epoch=epoch) for epoch in range(3)]
    for epoch in epochs:
        names = Counter(one.id for rows in epoch for one in rows if one.is_rehearsal)
        assert names == Counter(one.id for one in own)
        assert sum(any(one.is_rehearsal for one in rows) for rows in epoch) > 3  # not all in one update
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("changes", [{}, {"engine": "mlx-lm"}, {"layers": 1, "frozen_store": True}])
def test_a_run_trains_on_the_share_and_measures_the_rest(base: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    seen: list[list[str]] = []
    settings = train_settings(epochs=2.0, batch_size=4, accumulation=1, evals_per_epoch=2, **changes)
    plain = Loop._gradient

    def noting(self: Loop, rows: Any) -> Any:
        seen.append([one.id for one in rows if one.is_rehearsal])
        return plain(self, rows)

    with opened(base, tmp_path) as bench, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_gradient", noting)
        result = bench.train(settings, folder=tmp_path, seed=3, progress=lambda *_: None, rehearsal_share=0.25)
        held = choose_rehearsal(bench._rehearsal, task_rows=18, share=0.25, seed=3).held
        untouched = mean_loss(bench.loaded.model, held, tokens_per_step=4096)
        with bench.adapted(tmp_path) as tuned:
            kept = mean_loss(tuned.model, held, tokens_per_step=4096)
    assert (result.train_rows, result.rehearsal_rows, result.rehearsal_held_rows) == (18, 6, 8)
    assert result.base_rehearsal_loss == pytest.approx(untouched, rel=1e-5)
    assert result.rehearsal_loss == pytest.approx(kept, rel=1e-3)
    validated = [one for one in curve(tmp_path) if "valid_loss" in one]
    assert len(validated) > 2
    assert all(one["rehearsal_loss"] > 0 for one in validated)
    if settings.engine == "shared-prefix":
        trained = Counter(name for names in seen for name in names)
        assert len(trained) == 6
        assert set(trained.values()) == {2}  # each once an epoch
        assert not set(trained) & {one.id for one in held}


def test_rehearsal_keeps_the_base_nearer_to_its_own_answers(base: Path, tmp_path: Path) -> None:
    settings = train_settings(epochs=6.0, batch_size=4, accumulation=1, learning_rate=2e-2)
    with opened(base, tmp_path) as bench:
        loss = {}
        for share in (0.0, 0.5):
            folder = tmp_path / str(share)
            loss[share] = bench.train(
                settings, folder=folder, seed=3, progress=lambda *_: None, rehearsal_share=share
            ).rehearsal_loss
    assert loss[0.5] is not None
    assert loss[0.0] is not None
    assert loss[0.5] < loss[0.0]


def test_a_run_without_rehearsal_is_the_same_beside_rehearsal_rows(base: Path, tmp_path: Path) -> None:
    settings = train_settings(epochs=1.0, batch_size=4, accumulation=1)
    for name, rows in (("with", ROWS), ("without", {key: ROWS[key] for key in ("train", "valid")})):
        with opened(base, tmp_path, rows) as bench:
            result = bench.train(settings, folder=tmp_path / name, seed=3, progress=lambda *_: None)
        assert (result.rehearsal_rows, result.base_rehearsal_loss) == (0, None)
        assert all("rehearsal_loss" not in one for one in curve(tmp_path / name))
    assert (tmp_path / "with" / "adapters.safetensors").read_bytes() == (
        tmp_path / "without" / "adapters.safetensors"
    ).read_bytes()


def test_a_resumed_run_with_rehearsal_is_the_unbroken_one(base: Path, tmp_path: Path) -> None:
    settings = train_settings(epochs=2.0, batch_size=4, accumulation=1)

    def stop(done: int, _total: int, _note: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with opened(base, tmp_path) as bench:
        options: dict[str, Any] = {"seed": 3, "rehearsal_share": 0.2}
        bench.train(settings, folder=tmp_path / "whole", progress=lambda *_: None, **options)
        with pytest.raises(KeyboardInterrupt):
            bench.train(settings, folder=tmp_path / "broken", progress=stop, save_seconds=0.0, **options)
        bench.train(settings, folder=tmp_path / "broken", progress=lambda *_: None, **options)
    whole, broken = (load_arrays(tmp_path / name / "adapters.safetensors") for name in ("whole", "broken"))
    assert all(np.array_equal(value, broken[key]) for key, value in whole.items())


def test_the_plan_counts_rehearsal_rows_as_a_kind(base: Path) -> None:
    dataset = dataset_settings(rehearsal=RehearsalSettings(share=0.25))
    settings = train_settings(epochs=1.0)
    preflight = plan_run(settings, base_settings(), dataset, base=base, rows=ROWS, seed=3)
    assert preflight.lengths["rehearsal"].rows == 6
    assert preflight.plan.rows == 24
