"""Runs on one workbench are the runs that they would be alone, whatever ran before."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten
from mlx_ragtune.errors import RecipeError, ToolError
from mlx_ragtune.models.prompts import prompt_tokens
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning import workbench as module
from mlx_ragtune.tuning.decode import decode
from mlx_ragtune.tuning.frozen import FrozenStore
from mlx_ragtune.tuning.lean_kernels import on_cpu
from mlx_ragtune.tuning.run import train
from mlx_ragtune.tuning.training import TrainResult
from mlx_ragtune.tuning.workbench import Workbench
from tests.tuning.made import base_settings, dataset_settings, examples, toy_base, train_settings

ROWS = {"train": examples(4, 2), "valid": examples(6, 1)[4:]}
TIMED = ("seconds", "tokens_per_second", "peak_memory_bytes")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_base(tmp_path_factory.mktemp("base"))


def quick(**changes: Any) -> TrainSettings:
    return train_settings(**({"batch_size": 2, "accumulation": 2, "epochs": 1.5} | changes))


TRIALS = {
    "more rank": quick(rank=8, learning_rate=1e-3),
    "two modules": quick(target_modules=("q_proj", "v_proj"), dropout=0.2),
    "dora": quick(method="dora", grad_checkpoint=True),
    "stored layers": quick(layers=1, frozen_store=True),
    "other optimizer": quick(optimizer="lion", lora_plus_ratio=4.0, tokens_per_step=256),
    "stored layers again": quick(layers=1, frozen_store=True, rank=2, method="dora", tokens_per_step=256),
    "reference engine": quick(engine="mlx-lm", dropout=0.1, epochs=1.0),
    "task": quick(select="task", evals_per_epoch=2, epochs=1.0),
}


def opened(base: Path, folder: Path, **changes: Any) -> Workbench:
    options: dict[str, Any] = {"dataset": dataset_settings(), "rows": ROWS, "store": folder / "store"} | changes
    return Workbench(base, base_settings(), say=lambda _text: None, **options)


def trial(bench: Workbench, settings: TrainSettings, folder: Path, **changes: Any) -> TrainResult:
    options: dict[str, Any] = {"seed": 3, "progress": lambda *_: None} | changes
    return bench.train(settings, folder=folder, **options)


def alone(base: Path, settings: TrainSettings, folder: Path) -> TrainResult:
    folder.mkdir()
    return train(
        settings, base_settings(), dataset_settings(), base=base, rows=ROWS, folder=folder, seed=3,
        progress=lambda *_: None,
    )  # fmt: skip


def facts(result: TrainResult) -> dict[str, Any]:
    return {name: value for name, value in vars(result).items() if name not in TIMED}


def same(left: Path, right: Path) -> None:
    for name in ("adapters.safetensors", "adapter_config.json"):
        assert (left / name).read_bytes() == (right / name).read_bytes(), name
    curves = [
        [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in text.splitlines()]
        for text in ((folder / "losses.jsonl").read_text() for folder in (left, right))
    ]
    assert curves[0] == curves[1]


@pytest.fixture
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_ragtune.tuning.select.MAX_TOKENS", 4)


@pytest.mark.usefixtures("short_answers")
def test_each_trial_of_eight_is_byte_for_byte_the_run_of_its_own(base: Path, tmp_path: Path) -> None:
    with opened(base, tmp_path) as bench:
        shared = {name: trial(bench, settings, tmp_path / name) for name, settings in TRIALS.items()}
    for name, settings in TRIALS.items():
        result = alone(base, settings, tmp_path / f"{name} alone")
        assert facts(result) == facts(shared[name]), name
        same(tmp_path / name, tmp_path / f"{name} alone")


def diverge(bench: Workbench, folder: Path) -> None:
    wild = quick(optimizer="sgd", learning_rate=1e30, clip_norm=None, layers=1, frozen_store=True, grad_checkpoint=True)
    with pytest.raises(ToolError, match="diverged"):
        trial(bench, wild, folder)


def prune(bench: Workbench, folder: Path) -> None:
    result = trial(bench, quick(rank=2, method="dora"), folder, on_validation=lambda update, _loss: update >= 2)
    assert (result.pruned, result.updates, result.planned_updates, result.best_update) == (True, 2, 3, 2)


def prune_reference(bench: Workbench, folder: Path) -> None:
    result = trial(bench, quick(engine="mlx-lm", rank=2), folder, on_validation=lambda _update, _loss: True)
    assert (result.pruned, result.updates, result.planned_updates) == (True, 2, 3)


def interrupt(bench: Workbench, folder: Path) -> None:
    def stop(done: int, _total: int, _note: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trial(bench, quick(layers=1, frozen_store=True, dropout=0.3, grad_checkpoint=True), folder, progress=stop)


def interrupt_inside_a_step(bench: Workbench, folder: Path) -> None:
    """In the middle of a traced forward pass, where the model holds tracers instead of arrays."""
    kind = type(bench.loaded.model.layers[0].self_attn)
    plain, calls = kind.__call__, iter(range(100))

    def call(*given: Any, **options: Any) -> Any:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return plain(*given, **options)

    kind.__call__ = call
    try:
        with pytest.raises(KeyboardInterrupt):
            trial(bench, quick(rank=8), folder)
    finally:
        kind.__call__ = plain


def refuse(bench: Workbench, folder: Path) -> None:
    with pytest.raises(RecipeError, match="tokens_per_step"):
        trial(bench, quick(tokens_per_step=64), folder)


ACCIDENTS = [diverge, prune, prune_reference, interrupt, interrupt_inside_a_step, refuse]


@pytest.mark.parametrize("accident", ACCIDENTS, ids=lambda accident: accident.__name__)
def test_what_happened_to_an_earlier_trial_does_not_matter(base: Path, tmp_path: Path, accident: Any) -> None:
    settings = quick(rank=4, dropout=0.1, epochs=1.0)
    with opened(base, tmp_path) as bench:
        accident(bench, tmp_path / "accident")
        trial(bench, settings, tmp_path / "after")
    alone(base, settings, tmp_path / "alone")
    same(tmp_path / "after", tmp_path / "alone")


@pytest.mark.parametrize("changes", [{"engine": "mlx-lm", "dropout": 0.2}, {"layers": 1, "frozen_store": True}])
def test_answering_at_a_validation_changes_nothing_and_sees_the_whole_model(
    base: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings, seen = quick(**changes), []
    with opened(base, tmp_path) as bench:

        def answer(update: int, _loss: float) -> bool:
            mx.random.normal((3,))
            loaded = bench.loaded
            prompts = [prompt_tokens(row.messages[:-1], loaded.tokenizer, thinking=False) for row in ROWS["valid"]]
            seen.append((update, dict(decode(loaded.model, loaded.tokenizer, prompts, max_tokens=6))))
            return False

        trial(bench, settings, tmp_path / "answering", on_validation=answer)
        with bench.adapted(tmp_path / "answering") as loaded:
            prompts = [prompt_tokens(row.messages[:-1], loaded.tokenizer, thinking=False) for row in ROWS["valid"]]
            final = dict(decode(loaded.model, loaded.tokenizer, prompts, max_tokens=6))
    best = alone(base, settings, tmp_path / "alone").best_update
    same(tmp_path / "answering", tmp_path / "alone")
    assert dict(seen)[best] == final


def test_a_stopped_trial_goes_on_where_it_was_on_another_workbench(base: Path, tmp_path: Path) -> None:
    settings = quick(dropout=0.1)
    with opened(base, tmp_path) as bench, pytest.raises(KeyboardInterrupt):
        trial(bench, settings, tmp_path / "stopped", progress=_stop_at(2), save_seconds=0.0)
    done: list[int] = []
    with opened(base, tmp_path) as bench:
        trial(bench, settings, tmp_path / "stopped", progress=lambda update, *_: done.append(update))
    assert done[0] == 2
    alone(base, settings, tmp_path / "alone")
    same(tmp_path / "stopped", tmp_path / "alone")


def _stop_at(update: int) -> Any:
    def stop(done: int, _total: int, _note: str) -> None:
        if done == update:
            raise KeyboardInterrupt

    return stop


def test_base_rows_and_frozen_layers_are_computed_once(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = dict.fromkeys(("load_base", "tokenize", "_fill"), 0)
    for owner, name in ((module, "load_base"), (module, "tokenize"), (FrozenStore, "_fill")):
        plain = getattr(owner, name)

        def counted(*given: Any, _plain: Any = plain, _name: str = name, **options: Any) -> Any:
            counts[_name] += 1
            return _plain(*given, **options)

        monkeypatch.setattr(owner, name, counted)
    with opened(base, tmp_path) as bench:
        for number, step in enumerate((4096, 256, 4096, 256)):  # what is computed together decides the rounding
            settings = quick(layers=1, rank=number + 1, frozen_store=True, epochs=0.5, tokens_per_step=step)
            trial(bench, settings, tmp_path / str(number))
    assert counts == {"load_base": 1, "tokenize": 2, "_fill": 2}


def test_memory_is_flat_over_twenty_trials_and_free_at_the_end(base: Path, tmp_path: Path) -> None:
    kinds: list[dict[str, Any]] = [
        {"rank": 8},
        {"method": "dora"},
        {"layers": 1, "frozen_store": True},
        {"grad_checkpoint": True},
    ]
    held: list[int] = []
    errors: list[BaseException] = []
    mx.clear_cache()
    before = mx.get_active_memory()
    with opened(base, tmp_path) as bench:
        for number in range(20):
            settings = quick(epochs=0.5, **kinds[number % 4])
            if number % 5 == 4:  # an error that somebody keeps must not keep the arrays of its trial
                settings = quick(optimizer="sgd", learning_rate=1e30, clip_norm=None, **kinds[2 + number % 2])
                with pytest.raises(ToolError) as caught:
                    trial(bench, settings, tmp_path / str(number))
                errors.append(caught.value)
            else:
                trial(bench, settings, tmp_path / str(number))
            held.append(mx.get_active_memory())
            assert mx.get_cache_memory() == 0
        assert len(set(held)) == 1
    assert len(errors) == 4
    mx.clear_cache()
    assert mx.get_active_memory() <= before + 4096


def test_the_workbench_leaves_a_base_without_adapters(base: Path, tmp_path: Path) -> None:
    with opened(base, tmp_path) as bench:
        names = [name for name, _ in tree_flatten(bench.loaded.model.parameters())]
        logits = bench.loaded.model(mx.array([[1, 2, 3]]))
        trial(bench, quick(method="dora"), tmp_path / "trial")
        assert [name for name, _ in tree_flatten(bench.loaded.model.parameters())] == names
        assert mx.array_equal(bench.loaded.model(mx.array([[1, 2, 3]])), logits).item()
        with bench.adapted(tmp_path / "trial") as loaded:
            assert not mx.array_equal(loaded.model(mx.array([[1, 2, 3]])), logits).item()
        assert mx.array_equal(bench.loaded.model(mx.array([[1, 2, 3]])), logits).item()


@pytest.mark.parametrize(("precision", "said"), [("bf16", 1), ("fp32", 0), ("4bit", 0)])
def test_bfloat16_on_a_cpu_is_said_to_be_slow(base: Path, tmp_path: Path, precision: str, said: int) -> None:
    lines: list[str] = []
    model, data = base_settings(precision=precision), dataset_settings()
    with Workbench(base, model, dataset=data, rows=ROWS, store=tmp_path / "store", say=lines.append) as bench:
        trial(bench, quick(epochs=0.5), tmp_path / "run")
    assert sum("bf16 is many times slower than fp32" in line for line in lines) == said * on_cpu()
