"""A whole run: the two engines agree, the best is kept, what cannot be done is refused."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten
from mlx_ragtune.errors import ArtifactError, InputError, RecipeError, ToolError
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning import loop, training
from mlx_ragtune.tuning.adapters import apply_adapter
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.ranks import Ranks
from mlx_ragtune.tuning.run import train
from mlx_ragtune.tuning.schedule import Plan, make_plan
from mlx_ragtune.tuning.select import Candidate
from mlx_ragtune.tuning.training import TrainResult
from mlx_ragtune.tuning.workbench import prepare_rows
from tests.clients.test_machine import small_files
from tests.tuning.made import (
    all_files,
    base_settings,
    dataset_settings,
    examples,
    flat,
    load_arrays,
    toy_base,
    train_settings,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_base(tmp_path_factory.mktemp("base"))


ROWS = {"train": examples(6, 3), "valid": examples(9, 2)[12:]}


def run_training(base: Path, folder: Path, settings: TrainSettings, **changes: Any) -> TrainResult:
    options: dict[str, Any] = {"rows": ROWS, "seed": 3, "progress": lambda *_: None} | changes
    return train(settings, base_settings(), dataset_settings(), base=base, folder=folder, **options)


def weights(folder: Path) -> dict[str, mx.array]:
    return load_arrays(folder / "adapters.safetensors")


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "sgd", "lora_plus_ratio": 4.0, "weight_decay": 0.01}, {"clip_norm": 0.05, "schedule": "linear"}],
    ids=["adamw", "sgd and LoRA+", "tight clipping"],
)
def test_both_engines_train_the_same_adapter(base: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    results = {}
    for engine in ("shared-prefix", "mlx-lm"):
        settings = train_settings(engine=engine, batch_size=2, accumulation=3, learning_rate=1e-3, **changes)
        results[engine] = run_training(base, tmp_path / engine, settings)
    ours, theirs = results["shared-prefix"], results["mlx-lm"]
    assert ours.updates == theirs.updates == ours.planned_updates == 6
    assert ours.best_valid_loss == pytest.approx(theirs.best_valid_loss, rel=1e-4)
    tokens = [round(one.tokens_per_second * one.seconds) for one in (ours, theirs)]
    assert tokens[0] == pytest.approx(tokens[1], rel=0.3)  # whole rows: answers alone would be a third
    left, right = losses(tmp_path / "shared-prefix"), losses(tmp_path / "mlx-lm")
    for mine, other in zip(left, right, strict=True):
        assert mine["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert mine["learning_rate"] == pytest.approx(other["learning_rate"])
    learned, reference = weights(tmp_path / "shared-prefix"), weights(tmp_path / "mlx-lm")
    for name, value in learned.items():
        assert np.allclose(value, reference[name], atol=1e-3 * float(mx.abs(value).max()) + 1e-6), name


def test_training_lowers_the_validation_loss_and_says_what_it_took(base: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    result = run_training(
        base, tmp_path, train_settings(epochs=3.0), progress=lambda *what: told.append((what[0], what[1], what[2]))
    )
    curve = [row["valid_loss"] for row in losses(tmp_path) if "valid_loss" in row]
    assert len(curve) == 3
    assert min(curve) < 0.95 * curve[0] or curve[-1] < curve[0]
    assert result.best_valid_loss == min(curve)
    assert [done for done, _, _ in told] == list(range(1, result.planned_updates + 1))
    assert "tokens/s" in told[-1][2]
    assert result.trainable_parameters == sum(value.size for value in weights(tmp_path).values())
    assert result.total_parameters > result.trainable_parameters
    assert result.peak_memory_bytes > 0
    assert result.tokens_per_second > 0
    every = {"update", "epoch", "train_loss", "learning_rate", "tokens", "answer_tokens", "seconds"}
    assert all(every <= set(row) for row in losses(tmp_path))


def test_the_adapter_folder_is_mlx_lms(base: Path, tmp_path: Path) -> None:
    from mlx_lm.utils import load

    run_training(base, tmp_path, train_settings())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["lora_parameters"] == {
        "rank": 4,
        "scale": 2.0,
        "dropout": 0.0,
        "keys": [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")],
    }
    loaded = load(str(base), adapter_path=str(tmp_path))
    there = dict(tree_flatten(loaded[0].parameters()))
    assert all(mx.array_equal(there[name], value).item() for name, value in weights(tmp_path).items())


def test_a_run_leaves_exactly_these_files(base: Path, tmp_path: Path) -> None:
    run_training(base, tmp_path, train_settings(epochs=1.0, batch_size=3, accumulation=1))
    parts = ("optimizer.safetensors", "state.json", "weights.safetensors")
    assert list(all_files(tmp_path)) == sorted(
        [
            "adapter_config.json",
            "adapters.safetensors",
            "losses.jsonl",
            "checkpoints/best-000006/state.json",
            "checkpoints/best-000006/weights.safetensors",
            *(f"checkpoints/update-000006/{part}" for part in parts),
        ]
    )


def test_the_best_is_kept_not_the_last(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(loop, "mean_loss", lambda *_args, **_options: next(scripted))
    result = run_training(base, tmp_path, train_settings(epochs=3.0))
    per_epoch = result.planned_updates // 3
    assert (result.best_update, result.best_valid_loss) == (2 * per_epoch, 1.0)
    assert not result.stopped_early
    kept = load_arrays(tmp_path / f"checkpoints/best-{2 * per_epoch:06d}/weights.safetensors")
    assert all(mx.array_equal(kept[name], value).item() for name, value in weights(tmp_path).items())


def test_patience_stops_after_so_many_validations_without_a_better_loss(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = iter([1.0, 2.0, 2.0, 0.1])
    monkeypatch.setattr(loop, "mean_loss", lambda *_args, **_options: next(scripted))
    result = run_training(base, tmp_path, train_settings(epochs=4.0, patience=2))
    assert result.stopped_early
    assert (result.updates, result.best_valid_loss) == (3 * result.planned_updates // 4, 1.0)


@pytest.mark.parametrize("engine", ["shared-prefix", "mlx-lm"])
def test_a_diverging_run_stops_keeps_the_best_and_names_the_setting(
    base: Path, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Plan.learning_rate
    monkeypatch.setattr(Plan, "learning_rate", lambda plan, at: real(plan, at) if at < 4 else 1e30)
    settings = train_settings(engine=engine, batch_size=9, accumulation=1, epochs=4.0, clip_norm=None, optimizer="sgd")
    if engine == "mlx-lm":
        settings = settings.model_copy(update={"learning_rate": 1e30, "warmup_ratio": 0.0})
    with pytest.raises(ToolError, match=r"the loss is (nan|inf)") as caught:
        run_training(base, tmp_path, settings)
    assert "train.learning_rate" in caught.value.fix
    assert "at update" in str(caught.value)
    kept = list((tmp_path / "checkpoints").glob("best-*"))
    if engine == "shared-prefix":
        assert "best adapter so far" in str(caught.value)
        assert len(kept) == 1
    for path in kept:
        assert math.isfinite(json.loads((path / "state.json").read_text())["loss"])


def test_without_rows_nothing_starts(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no validation rows"):
        run_training(base, tmp_path, train_settings(), rows={"train": ROWS["train"], "valid": []})


def test_reference_engine_refuses_what_it_cannot_do(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not support gradient checkpointing"):
        run_training(base, tmp_path, train_settings(engine="mlx-lm", grad_checkpoint=True))


def test_more_layers_than_the_model_has_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the model has only 2"):
        run_training(base, tmp_path, train_settings(layers=3))


def test_a_tracker_that_is_not_installed_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="tracker") as caught:
        run_training(base, tmp_path, train_settings(report_to=("wandb",)))
    assert caught.value.fix == "pip install wandb"


def test_out_of_memory_names_the_next_setting(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any) -> Any:
        raise RuntimeError("[malloc] Unable to allocate 99999 bytes.")

    monkeypatch.setattr(loop, "group_objective", full)
    monkeypatch.setattr(loop, "make_batch", full)
    with pytest.raises(ToolError, match="out of memory") as caught:
        run_training(base, tmp_path, train_settings())
    assert "train.tokens_per_step (now 4096) to 2048" in caught.value.fix


def test_the_better_answers_win_under_select_task(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = iter([1.0, 1.2, 1.1, 1.3])
    monkeypatch.setattr(loop, "mean_loss", lambda *_args, **_options: next(scripted))
    tried: list[int] = []

    def prefer_the_second(model: Any, tokenizer: Any, kept: Any, rows: Any, *, thinking: bool) -> list[Candidate]:
        tried.extend(sorted(update for update, _ in kept))
        return sorted(
            (Candidate(update, loss, float(loss == 1.2)) for update, loss in kept), key=lambda one: -one.task_score
        )

    monkeypatch.setattr(training, "choose_by_task", prefer_the_second)
    result = run_training(base, tmp_path, train_settings(epochs=4.0, select="task", select_best=3))
    per_epoch = result.planned_updates // 4
    assert tried == [per_epoch, 2 * per_epoch, 3 * per_epoch]
    assert (result.best_update, result.best_valid_loss) == (2 * per_epoch, 1.2)
    assert [one.task_score for one in result.candidates] == [1.0, 0.0, 0.0]


def test_dropout_is_drawn_from_the_seed_and_the_update(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only dropout differs: the adapter's first values and the order of the rows are those of one seed."""
    settings = train_settings(dropout=0.5, epochs=1.0)
    model = load_base(base, "fp32").model
    loaded = load_base(base, "fp32")
    apply_adapter(model, settings, seed=3)
    rows = prepare_rows(ROWS["train"], loaded.tokenizer, dataset_settings())
    plan = make_plan(rows, settings, seed=3)

    def gradients(seed: int, update: int) -> bytes:
        runner = loop.Loop(model, settings, plan, folder=base / "none", seed=seed, work={})
        runner.progress.update = update
        seen: list[bytes] = []
        monkeypatch.setattr(runner.optimizer, "update", lambda _model, gradient: seen.append(flat(gradient).tobytes()))
        model.train()
        runner._one_update(rows[:2], 1.0)
        return seen[0]

    assert gradients(3, 0) == gradients(3, 0)
    assert gradients(3, 0) != gradients(4, 0), "dropout ignores the seed"
    assert gradients(3, 0) != gradients(3, 1), "dropout is the same in every update"


@pytest.mark.parametrize("seed", [-1, 10**30])
def test_seeds_of_any_size_and_sign_train(base: Path, tmp_path: Path, seed: int) -> None:
    result = run_training(base, tmp_path, train_settings(epochs=0.2, dropout=0.1), seed=seed)
    assert math.isfinite(result.best_valid_loss or math.nan)


def test_the_same_seed_gives_the_same_bytes_in_another_folder(base: Path, tmp_path: Path) -> None:
    """Needed so that a rerun of training can stop there: no path, time or machine is in the artifact's files."""
    for name in ("first", "second"):
        run_training(base, tmp_path / name, train_settings(epochs=1.0, dropout=0.1))
    for file in ("adapters.safetensors", "adapter_config.json"):
        first, second = ((tmp_path / name / file).read_bytes() for name in ("first", "second"))
        assert first == second
        assert str(tmp_path).encode() not in first
    pairs = zip(losses(tmp_path / "first"), losses(tmp_path / "second"), strict=True)
    assert all({**one, "seconds": 0} == {**other, "seconds": 0} for one, other in pairs)


def test_a_full_disk_ends_training_with_the_path_and_the_same_command_resumes(base: Path, tmp_path: Path) -> None:
    settings = train_settings(epochs=1.0)
    with small_files(3000), pytest.raises(ToolError, match=r"cannot write|Unable to write") as caught:
        run_training(base, tmp_path, settings)
    assert str(tmp_path) in caught.value.where
    assert "disk space" in caught.value.fix
    run_training(base, tmp_path, settings)
    assert (tmp_path / "adapters.safetensors").exists()


def test_the_result_is_json_on_every_rank(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_training(base, tmp_path, train_settings(epochs=0.2))
    json.dumps(asdict(result), allow_nan=False)
    monkeypatch.setattr(training, "find_ranks", lambda: Ranks(1, 1))
    other = run_training(base, tmp_path / "other", train_settings(epochs=0.2))
    assert json.loads(json.dumps(asdict(other), allow_nan=False))["best_valid_loss"] is None


def test_a_torn_losses_file_of_a_killed_run_is_written_again(base: Path, tmp_path: Path) -> None:
    settings = train_settings(epochs=1.0)
    run_training(base, tmp_path, settings)
    whole = losses(tmp_path)
    text = (tmp_path / "losses.jsonl").read_text()
    (tmp_path / "losses.jsonl").write_text(text[:-20])
    run_training(base, tmp_path, settings)
    assert losses(tmp_path) == whole


def test_checkpoints_of_a_different_run_are_refused_in_plain_words(base: Path, tmp_path: Path) -> None:
    run_training(base, tmp_path, train_settings(epochs=0.2))
    with pytest.raises(ArtifactError, match="the checkpoints belong to a different run") as caught:
        run_training(base, tmp_path, train_settings(epochs=0.2, rank=2))
    assert "train.rank: 4 in the checkpoint, 2 now" in caught.value.what
    assert caught.value.fix.startswith("rm -r ")
