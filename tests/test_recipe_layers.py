"""Variants of a recipe: ``extends`` in a file, ``--set`` on the command line, and their names."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.errors import RecipeError
from mlx_ragtune.recipe_layers import MAX_NAME, parse_settings, recorded
from mlx_ragtune.recipe_load import load_recipe

BASE = """\
base: {model: "toy:qwen3", precision: fp32}
corpus: {folder: ../papers}
dataset:
  pairs: ../pairs.jsonl
  shares: {grounded: 0.5, synthesis: 0.3, refusal: 0.2}
train:
  rank: 4
  alpha: 8
  target_modules: [q_proj, v_proj]
benchmark: ../benchmark.jsonl
evaluate:
  sampling: {max_tokens: 99, context_tokens: 2048}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project with a complete recipe ``recipes/base.yaml``."""
    for folder in ("papers", "recipes", "recipes/deep"):
        (tmp_path / folder).mkdir()
    for name in ("pairs", "benchmark"):
        (tmp_path / f"{name}.jsonl").touch()
    write(tmp_path, "base", BASE)
    return tmp_path


def write(home: Path, name: str, text: str) -> Path:
    path = home / "recipes" / f"{name}.yaml"
    path.write_text(text)
    return path


def refused(path: Path, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides or {})
    return str(caught.value)


def test_a_recipe_that_extends_another_holds_only_what_differs(home: Path) -> None:
    path = write(home, "mine", "extends: base.yaml\ntrain: {rank: 8}\nevaluate: {sampling: {max_tokens: 50}}\n")
    recipe, base = load_recipe(path), load_recipe(home / "recipes" / "base.yaml")
    assert (recipe.name, recipe.train.rank, recipe.train.alpha) == ("mine", 8, 8)
    assert (recipe.evaluate.sampling.max_tokens, recipe.evaluate.sampling.context_tokens) == (50, 2048)
    assert recipe.model_copy(update={"name": "base", "train": base.train, "evaluate": base.evaluate}) == base


def test_lists_and_shares_are_replaced_as_a_whole(home: Path) -> None:
    text = "extends: base.yaml\ntrain: {target_modules: [o_proj]}\ndataset: {shares: {grounded: 1.0}}\n"
    recipe = load_recipe(write(home, "mine", text))
    assert recipe.train.target_modules == ("o_proj",)
    assert recipe.dataset.shares == {"grounded": 1.0}


def test_null_takes_a_value_back(home: Path) -> None:
    text = "extends: base.yaml\ntrain: {alpha: null, scale: 2, rank: null, clip_norm: null}\n"
    train = load_recipe(write(home, "mine", text)).train
    assert (train.alpha, train.scale, train.rank, train.clip_norm) == (None, 2, 16, None)


def test_a_chain_of_recipes_is_read_and_each_path_starts_at_its_own_file(home: Path) -> None:
    write(home, "deep/middle", "extends: ../base.yaml\ntrain: {rank: 8}\ndataset: {pairs: own.jsonl}\n")
    (home / "recipes" / "deep" / "own.jsonl").touch()
    recipe = load_recipe(write(home, "mine", "extends: deep/middle.yaml\ntrain: {alpha: 32}\n"))
    assert (recipe.train.rank, recipe.train.alpha) == (8, 32)
    assert recipe.corpus.folder == home / "papers"
    assert recipe.dataset.pairs == home / "recipes" / "deep" / "own.jsonl"


def test_recipes_that_extend_each_other_are_refused(home: Path) -> None:
    write(home, "a", "extends: b.yaml\n")
    write(home, "b", "extends: a.yaml\n")
    said = refused(home / "recipes" / "a.yaml")
    assert "b.yaml:1: extends: the recipes extend each other" in said
    assert "extend each other" in refused(write(home, "own", "extends: ./own.yaml\n" + BASE))
    (home / "recipes" / "link.yaml").symlink_to("a.yaml")
    write(home, "b", "extends: link.yaml\n")
    assert "extend each other" in refused(home / "recipes" / "a.yaml")


def test_an_error_names_the_file_and_the_line_that_the_value_came_from(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    write(home, "deep/middle", "extends: ../base.yaml\ntrain:\n  rnk: 8\n  dropout: 2\n")
    write(home, "mine", "extends: deep/middle.yaml\nbenchmark: gone.jsonl\n")
    said = refused(Path("recipes/mine.yaml"), {"train.epochs": "many", "train.alfa": 1})
    assert "recipes/deep/middle.yaml:3: unknown key 'train.rnk', did you mean 'rank'?" in said
    assert "recipes/deep/middle.yaml:4: train.dropout: input should be less than 1, not 2" in said
    assert "recipes/mine.yaml:2: benchmark: 'gone.jsonl' does not exist" in said
    assert "--set train.epochs=many: train.epochs: input should be a valid number, not 'many'" in said
    assert "--set train.alfa=1: unknown key 'train.alfa', did you mean 'alpha'?" in said
    assert "edit recipes/mine.yaml, recipes/deep/middle.yaml, then: ragtune validate recipes/mine.yaml" in said


def test_an_item_of_a_replaced_list_is_not_looked_for_in_the_recipe_below(home: Path) -> None:
    said = refused(home / "recipes" / "base.yaml", {"train.target_modules": ["bad_proj"]})
    assert "--set train.target_modules=[bad_proj]: train.target_modules" in said
    assert "1 problem " in said


def test_a_section_stays_where_the_file_has_it_and_an_unreadable_value_is_one_problem(home: Path) -> None:
    path = write(home, "mine", BASE.replace("  alpha: 8\n", ""))
    assert "mine.yaml:6: train: give exactly one of" in refused(path, {"train.rank": 8})
    assert "1 problem " in refused(home / "recipes" / "base.yaml", {"benchmark": "a\x07b"})


def test_keys_that_contradict_each_other_are_said_with_both_places(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    said = refused(write(home, "mine", "extends: base.yaml\ntrain: {scale: 2}\n").relative_to(home))
    assert (
        "recipes/mine.yaml:2: train: give exactly one of 'alpha' and 'scale' ('train.alpha' is from "
        "recipes/base.yaml:8, 'train.scale' is from recipes/mine.yaml:2; 'train.alpha: null' takes it back)"
    ) in said
    load_recipe(Path("recipes/mine.yaml"), {"train.alpha": None})
    said = refused(Path("recipes/base.yaml"), {"dataset.generator": {"model": "x"}})
    assert "('dataset.pairs' is from recipes/base.yaml:4, 'dataset.generator' is from --set dataset.generator" in said


def test_a_path_may_not_leave_the_project_through_a_recipe_that_is_extended(home: Path) -> None:
    outside = home.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "base.yaml").write_text(BASE)
    assert "outside the project" in refused(write(home, "mine", "extends: ../../outside/base.yaml\n"))
    (home / "recipes" / "link.yaml").symlink_to(outside / "base.yaml")
    assert "outside the project" in refused(write(home, "mine", "extends: link.yaml\n"))


@pytest.mark.parametrize(
    ("extends", "said"),
    [
        ("gone.yaml", "extends: 'gone.yaml' does not exist"),
        ("deep", "extends: 'deep' is not a file"),
        ("[base.yaml]", "extends: input should be the path of a recipe"),
        ("", "extends: input should be the path of a recipe"),
        ('""', "extends: '' is not a file"),
        ("../papers/../../x", "extends:"),
    ],
)
def test_what_cannot_be_extended_is_said_with_its_line(home: Path, extends: str, said: str) -> None:
    assert f"mine.yaml:1: {said}" in refused(write(home, "mine", f"extends: {extends}\n{BASE}"))


def test_a_recipe_that_is_extended_and_cannot_be_parsed_is_named(home: Path) -> None:
    write(home, "broken", "train: {rank: 8\n")
    said = refused(write(home, "mine", "extends: broken.yaml\n"))
    assert "broken.yaml:2: not valid YAML" in said


def test_set_changes_one_key_and_keeps_the_rest(home: Path) -> None:
    path = home / "recipes" / "base.yaml"
    recipe = load_recipe(path, {"train.rank": 8, "evaluate.sampling.max_tokens": 50, "corpus.folder": "."})
    assert (recipe.train.rank, recipe.train.alpha, recipe.evaluate.sampling.max_tokens) == (8, 8, 50)
    assert recipe.corpus.folder == home / "recipes"
    assert load_recipe(path, {"train": {"rank": 8}}).train.rank == 8


def test_equal_settings_have_one_name_whatever_their_order_and_spelling(home: Path) -> None:
    path = home / "recipes" / "base.yaml"
    orders = itertools.permutations(["train.rank=8", "train.learning_rate=1e-4", "train.target_modules=[q_proj]"])
    names = {load_recipe(path, parse_settings(order)).name for order in orders}
    assert names == {"base+train.learning_rate=0.0001+train.rank=8+train.target_modules=q_proj"}
    same = ["train={rank: 8, learning_rate: 0.00010, target_modules: ['q_proj']}"]
    assert load_recipe(path, parse_settings(same)).name in names
    assert load_recipe(path, {"train.epochs": 2}).name == load_recipe(path, {"train.epochs": 2.0}).name
    assert load_recipe(path, {"train.learning_rate": 1e30}).name == "base+train.learning_rate=1e30"


def test_the_parts_of_a_value_are_one_value(home: Path) -> None:
    path = home / "recipes" / "base.yaml"
    parts = {"dataset.shares.refusal": 0.25, "dataset.shares.grounded": 0.75}
    recipe = load_recipe(path, parts)
    assert recipe.dataset.shares == {"refusal": 0.25, "grounded": 0.75}
    assert recipe.name == load_recipe(path, {"dataset.shares": dict(reversed(parts_of(parts).items()))}).name
    assert "'shares' must sum to 1, not 0.25" in refused(path, {"dataset.shares.refusal": 0.25})


def parts_of(settings: dict[str, float]) -> dict[str, float]:
    return {key.rpartition(".")[2]: value for key, value in settings.items()}


def test_names_are_short_safe_and_different(home: Path) -> None:
    path = home / "recipes" / "base.yaml"
    variants: list[dict[str, Any]] = [
        {"base.model": "toy:qwen3"},
        {"base.model": "Qwen/Qwen3-4B"},
        {"base.model": "Qwen-Qwen3-4B"},
        {"corpus.folder": "../papers"},
        {"corpus.folder": ".."},
        {"dataset.shares": {"grounded": 1.0}},
        {"dataset.shares": {"refusal": 1.0}},
        {"evaluate.prompted": {}},
        {"evaluate.prompted": None},
        {"register.name": "null", "register.serve": "ollama"},
        {"register.name": None, "register.serve": "ollama"},
        {"evaluate.seeds": list(range(500)), "evaluate.sampling.temperature": 1.0},
        {"evaluate.seeds": list(range(501)), "evaluate.sampling.temperature": 1.0},
        {"train.rank": 8, "train.alpha": 16, "train.dropout": 0.05, "train.learning_rate": 1 / 3, "train.epochs": 7.5},
        {"train.rank": 8, "train.alpha": 16, "train.dropout": 0.05, "train.learning_rate": 1 / 3, "train.epochs": 7.6},
    ]
    names = [load_recipe(path, variant).name for variant in variants]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= MAX_NAME
        assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+=.,_-"), name


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"train": {"rank": 8}, "train.rank": 4}, "--set train.rank=4: 'train.rank' is set twice"),
        ({"dataset.generator": None, "dataset.generator.model": "x"}, "is set twice"),
        ({"dataset.generator.model": "x", "dataset.generator": None}, "is set twice"),
        ({"dataset.shares": {"refusal": 1.0}, "dataset.shares.grounded": 1.0}, "is set twice"),
        ({"dataset.shares.grounded": 1.0, "dataset.shares": {"refusal": 1.0}}, "is set twice"),
        ({"dataset.shares": {"refusal": 1.0}, "dataset": {"shares": {"refusal": 1.0}}}, "is set twice"),
        ({"dataset.shares.refusal.x": 1.0}, "dataset.shares"),
        ({"train.rank.x.y": 1}, "train.rank: input should be a valid integer"),
        ({"extends": "other.yaml"}, "extends: can only be written in a recipe file"),
        ({"name": "x"}, "unknown key 'name'"),
        ({"seed.x": 1}, "seed: input should be a valid integer"),
        ({"train..rank": 8}, "unknown key 'train.'"),
        ({"corpus.folder": "a\x1bb"}, "corpus.folder: control characters are not allowed"),
        ({"corpus.folder": "../../.."}, "outside the project"),
        ({"base.model": None}, "missing key 'base.model'"),
        ({"trian.rank": 8}, "--set trian.rank=8: unknown key 'trian', did you mean 'train'?"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(home: Path, overrides: dict[str, Any], said: str) -> None:
    assert said in refused(home / "recipes" / "base.yaml", overrides)


@pytest.mark.parametrize("text", ["train.rank", "=8", "", "train.rank=[", "train.rank=*x", "seed=!!python/none x"])
def test_what_is_not_a_setting_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(RecipeError, match="--set "):
        parse_settings([text])


def test_values_of_settings_are_yaml() -> None:
    settings = ["a=1e-4", "b=[x, 2]", "c=", "d=no", "e=true", "f=x=y", 'g="8"', "h={k: 1}"]
    values = list(parse_settings(settings).values())
    assert values == [1e-4, ("x", 2), None, "no", True, "x=y", "8", {"k": 1}]


def test_recorded_settings_lead_to_the_same_recipe_again(home: Path) -> None:
    path = home / "recipes" / "base.yaml"
    overrides = parse_settings(
        ["corpus.folder=./../papers/", "train.epochs=2.0", "train.rank=null", "dataset.shares={refusal: 1}",
         "evaluate.prompted={}"]
    )  # fmt: skip
    recipe = load_recipe(path, overrides)
    again = load_recipe(path, recorded(overrides, load_recipe(path, overrides)))
    assert again == recipe
