"""The section ``sweep`` of a recipe: what it may vary, and one line for each thing that is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mlx_ragtune.errors import RecipeError
from mlx_ragtune.recipe_load import load_recipe

MINIMAL: dict[str, Any] = {
    "base": {"model": "toy:qwen3"},
    "corpus": {"folder": "papers"},
    "benchmark": "benchmark.jsonl",
    "dataset": {"pairs": "pairs.jsonl"},
    "train": {"alpha": 8},
}

SHARED = "all trials share the rest of the recipe; vary keys of 'train' and 'dataset'"
COMPARED = "it changes the questions that all trials are compared on"
UNUSED = "no effect with 'train.select: loss'; remove 'train.select_best', or change 'train.select'"
THOUSAND = {"low": 1, "high": 1000}


def written(folder: Path, sweep: Any, **train: Any) -> Path:
    (folder / "papers").mkdir(exist_ok=True)
    for name in ("benchmark.jsonl", "pairs.jsonl"):
        (folder / name).touch()
    path = folder / "mine.yaml"
    value = MINIMAL | {"train": MINIMAL["train"] | train, "sweep": sweep}
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path


def problems(folder: Path, sweep: Any, **train: Any) -> list[str]:
    """The lines of the error about a section."""
    with pytest.raises(RecipeError) as failed:
        load_recipe(written(folder, sweep, **train))
    return [line.strip().partition(": ")[2] for line in failed.value.what.splitlines()[1:]]


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("train.rank", [], "an empty list; give at least two values"),
        ("train.rank", [4], "a single value is not a choice; give at least two values, or set the key itself"),
        ("train.rank", [4, 8, 4], "a value is listed twice; give each value once"),
        ("train.rank", 4, "give a list or a range of values, such as [4, 8] or {low: 4, high: 64}, not 4"),
        ("train.rank", [4, 0], "input should be greater than or equal to 1, not 0"),
        ("train.rank", [4, "8"], "input should be a valid integer, not '8'"),
        ("train.rank", {"low": 8, "high": 4}, "an empty range: 'low' (8) is not below 'high' (4)"),
        ("train.rank", {"low": 8, "high": 8}, "an empty range: 'low' (8) is not below 'high' (8)"),
        ("train.rank", {"low": 4}, "a range needs 'high', as in {low: 4, high: 64}"),
        ("train.rank", {}, "a range needs 'low', as in {low: 4, high: 64}"),
        ("train.rank", {"low": 4, "high": 8, "max": 9}, "unknown key 'max' in a range (known: low, high, step, log)"),
        ("train.rank", {"low": 4, "high": 8, "step": 9}, "'step' (9) is not between 0 and the length of the range (4)"),
        ("train.rank", {"low": 4, "high": True}, "'high' is not a number: True"),
        ("train.rank", {"low": 4, "high": 8, "log": 1}, "'log' is true or false, not 1"),
        ("train.rank", {"low": 4, "high": 8.5}, "input should be a valid integer, not 8.5"),
        ("train.rank", {"low": 4, "high": 9, "step": 2.5}, "input should be a valid integer, not 6.5"),
        ("train.learning_rate", {"low": 0, "high": 1e-3, "log": True}, "a logarithmic range starts above 0, not at 0"),
        ("train.learning_rate", {"low": -1.0, "high": 1e-3}, "input should be greater than 0, not -1.0"),
        ("train.lr", [1e-4, 1e-3], "unknown key, did you mean 'train.learning_rate'?"),
        ("learning_rate", [1e-4, 1e-3], "unknown key, did you mean 'train.learning_rate'?"),
        ("train.nonsense", [1, 2], "unknown key of 'train'"),
        ("train", [1, 2], "a section cannot be swept; vary one of its keys"),
        ("base.model", ["a/b", "c/d"], f"cannot be swept: {SHARED}"),
        ("seed", [1, 2], f"cannot be swept: {SHARED}"),
        ("dataset.pairs", ["a.jsonl", "b.jsonl"], f"cannot be swept: {COMPARED}"),
        ("dataset.valid_share", [0.1, 0.2], f"cannot be swept: {COMPARED}"),
        ("dataset.generator.pairs", [1, 2], f"cannot be swept: {COMPARED}, and writes new pairs"),
        ("train.report_to", [["wandb"], []], "cannot be swept: it cannot change a result"),
        ("train.select_best", [2, 4], f"with 2: train.select_best: {UNUSED}"),
        ("train.scale", [1.0, 2.0], "with 1.0: train: give exactly one of 'alpha' and 'scale'"),
    ],
)  # fmt: skip
def test_one_line_says_what_is_wrong_with_a_key(tmp_path: Path, key: str, value: Any, problem: str) -> None:
    assert f"sweep.space: {key}: {problem}" in problems(tmp_path, {"space": {key: value}})


@pytest.mark.parametrize("key", ["train.rank", "train.target_modules", "train.layers", "train.method"])
def test_the_shape_of_an_adapter_that_training_starts_from_cannot_be_swept(tmp_path: Path, key: str) -> None:
    values = {"train.target_modules": [["q_proj"], ["v_proj"]], "train.method": ["lora", "dora"]}.get(key, [2, 4])
    load_recipe(written(tmp_path, {"space": {key: values}}))
    said = problems(tmp_path, {"space": {key: values}}, from_adapter="papers")
    assert said == [f"sweep.space: {key}: cannot be swept with 'train.from_adapter', whose shape all trials have"]
    load_recipe(written(tmp_path, {"space": {"train.learning_rate": [1e-4, 1e-3]}}, from_adapter="papers"))


def test_every_problem_is_listed_with_its_own_line(tmp_path: Path) -> None:
    path = written(tmp_path, {"space": {"train.rank": [], "train.lr": [1, 2], "train.epochs": [1.0, 2.0]}, "trial": 4})
    with pytest.raises(RecipeError) as failed:
        load_recipe(path)
    lines = path.read_text().splitlines()
    for line in failed.value.what.splitlines()[1:]:
        number = int(line.split(":")[1])
        assert any(word in lines[number - 1] for word in ("train.rank", "train.lr", "trial")), line
    assert len(failed.value.what.splitlines()) == 4
    assert "unknown key 'sweep.trial', did you mean 'trials'?" in failed.value.what


@pytest.mark.parametrize(
    ("sweep", "problem"),
    [
        ({"space": {}}, "sweep.space: an empty space; list the keys to vary, or remove it for the default"),
        ({"trials": 0}, "sweep.trials: input should be greater than or equal to 1, not 0"),
        ({"sampler": "grid"}, "sweep.sampler: the default space is not finite, as a grid must be; give 'sweep.space'"),
        (
            {"sampler": "grid", "space": {"train.learning_rate": {"low": 1e-4, "high": 1e-3}}},
            "sweep.space: train.learning_rate: 'sampler: grid' needs a list or a 'step'",
        ),
        (
            {"sampler": "grid", "space": {"train.rank": THOUSAND, "train.layers": dict(THOUSAND)}},
            "sweep.space: more than 100,000 combinations; give fewer values, or 'sampler: tpe'",
        ),
        ({"space": [1]}, "sweep.space: input should be a section with keys, not [1]"),
        ({"space": {"train.epochs": [0.5, 3.0]}}, "sweep.space: train.epochs: with 0.5: train.patience: no effect"),
        ({"storage": "nothing"}, "sweep.storage: not the address of a study; write postgresql://HOST/NAME"),
        ({"storage": "sqlite://"}, "sweep.storage: a study in memory is lost when the sweep stops"),
        ({"storage": "journal:"}, "sweep.storage: a journal needs a path"),
        ({"storage": "postgresql://kim:hunter2@host/x"}, "sweep.storage: a password does not belong in a recipe"),
        ({"storage": "postgresql://host/x?password=hunter2"}, "sweep.storage: a password does not belong in a recipe"),
    ],
)  # fmt: skip
def test_one_line_says_what_is_wrong_with_the_section(tmp_path: Path, sweep: Any, problem: str) -> None:
    found = problems(tmp_path, sweep, patience=2)
    assert [line for line in found if line.startswith(problem)], found
    assert not [line for line in found if "hunter2" in line]


def test_any_key_of_train_and_dataset_may_be_a_list_or_a_range(tmp_path: Path) -> None:
    space = {
        "train.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
        "train.rank": {"low": 4, "high": 64, "log": True},
        "train.dropout": {"low": 0, "high": 0.5, "step": 0.1},
        "train.target_modules": [["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"]],
        "train.clip_norm": [None, 1.0],
        "train.layers": ["all", 8],
        "dataset.max_tokens": [1024, 2048],
        "dataset.refusal_kinds": [["off_corpus"], ["near_miss", "off_corpus"]],
    }
    recipe = load_recipe(written(tmp_path, {"space": space, "trials": 4}))
    assert recipe.sweep is not None
    assert list(recipe.sweep.space or ()) == list(space)


def test_the_section_changes_no_key_of_any_stage() -> None:
    from mlx_ragtune.pipeline import STAGES

    assert [stage.name for stage in STAGES if any(key.startswith("sweep") for key in stage.keys)] == []


REHEARSED = {"pairs": "pairs.jsonl", "rehearsal": {"share": 0.1}}


@pytest.mark.parametrize(
    ("dataset", "key", "values", "problem"),
    [
        (REHEARSED, "dataset.rehearsal.share", [0.1, 0.2], ""),
        (REHEARSED, "dataset.rehearsal.share", [0.1, 0.9], "input should be less than or equal to 0.5, not 0.9"),
        (REHEARSED, "dataset.rehearsal.prompts", ["a", "b"],
         "cannot be swept: it changes the answers that are held out of all trials"),
        (REHEARSED, "dataset.rehearsal", [{"share": 0.1}, {"share": 0.2}],
         "a section cannot be swept; vary one of its keys: dataset.rehearsal.share, dataset.rehearsal.prompts, "
         "dataset.rehearsal.count, dataset.rehearsal.max_tokens"),
        (REHEARSED, "dataset.rehearsal.shares", [0.1, 0.2],
         "unknown key, did you mean 'dataset.rehearsal.share'?"),
        ({"pairs": "pairs.jsonl"}, "dataset.rehearsal.share", [0.1, 0.2],
         "the recipe does not set 'dataset.rehearsal'; add it, or remove 'dataset.rehearsal.share'"),
    ],
)  # fmt: skip
def test_the_share_of_rehearsal_may_be_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Any, key: str, values: Any, problem: str
) -> None:
    monkeypatch.setitem(MINIMAL, "dataset", dataset)
    sweep = {"space": {key: values}}
    if problem:
        assert [line.partition(": ")[2].partition(": ")[2] for line in problems(tmp_path, sweep)] == [problem]
    else:
        assert load_recipe(written(tmp_path, sweep)).sweep is not None


def test_the_default_space_has_the_share_where_the_recipe_has_rehearsal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_ragtune.recipe_sweep import Choices
    from mlx_ragtune.sweeping.space import Space, default_dimensions

    assert "dataset.rehearsal.share" not in dict(default_dimensions(load_recipe(written(tmp_path, {}))))
    monkeypatch.setitem(MINIMAL, "dataset", REHEARSED)
    dimensions = dict(default_dimensions(load_recipe(written(tmp_path, {}))))
    assert dimensions["dataset.rehearsal.share"] == Choices((0.05, 0.1, 0.2))
    assert not Space(dimensions).varies_dataset  # the rows about papers are the same in all trials
    assert Space({"dataset.max_tokens": Choices((1, 2))}).varies_dataset


@pytest.mark.parametrize(
    ("name", "model", "said"),
    [
        ("sweep_16gb", "Qwen/Qwen3-1.7B", "Qwen3-1.7B, 18 trials"),
        ("sweep_32gb", "Qwen/Qwen3-4B", "Qwen3-4B, 600 minutes"),
        ("sweep_64gb", "Qwen/Qwen3-8B", "Qwen3-8B, 27 trials, the best two to a verdict"),
    ],
)
def test_the_readme_says_what_the_sweeps_for_macs_do(name: str, model: str, said: str) -> None:
    root = Path(__file__).parents[1]
    recipe = load_recipe(root / "recipes" / f"{name}.yaml", {}, missing_ok=("benchmark", "corpus.folder"))
    assert recipe.base.model.startswith(model)
    assert f"`ragtune sweep recipes/{name}.yaml`: {said}" in (root / "docs" / "sweeps.md").read_text()
    assert f"`ragtune sweep recipes/{name}.yaml`" in (root / "README.md").read_text()
    settings = recipe.sweep
    assert settings is not None
    assert settings.space is not None
    budget = f"{settings.trials} trials" if settings.trials else f"{settings.minutes:g} minutes"
    assert budget in said
    assert settings.finalists == (2 if "two" in said else 1)
    assert list(settings.space)[:3] == ["train.learning_rate", "train.target_modules", "train.rank"]
