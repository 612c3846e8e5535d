"""Recipes: what is read, what is refused, and how it is said."""

from pathlib import Path

import pytest

from mlx_ragtune.errors import RecipeError
from mlx_ragtune.recipe import PROJECTIONS, load_recipe

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))

SMALL = """\
base: {model: "toy:qwen3", precision: fp32}
corpus: {folder: papers}
dataset: {pairs: pairs.jsonl}
train: {rank: 4, alpha: 8}
benchmark: benchmark.jsonl
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "papers").mkdir()
    (tmp_path / "recipes").mkdir()
    for name in ("pairs", "benchmark"):
        (tmp_path / f"{name}.jsonl").touch()
    return tmp_path


def write(home: Path, text: str, name: str = "small") -> Path:
    path = home / f"{name}.yaml"
    path.write_text(text)
    return path


def problems(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_every_recipe_in_the_folder_is_valid() -> None:
    assert {path.stem for path in RECIPES} >= {
        "demo", "smoke", "qwen3_4b_r16", "qwen3_4b_low_forgetting", "qwen3_8b", "qwen3_4b_16gb",
    }  # fmt: skip
    for path in RECIPES:
        assert load_recipe(path).name == path.stem


def test_the_source_experiment_is_a_recipe_to_the_letter() -> None:
    recipe = load_recipe(ROOT / "recipes" / "qwen3_4b_r16.yaml")
    train = recipe.train
    assert (recipe.base.model, recipe.base.precision) == ("Qwen/Qwen3-4B", "bf16")
    assert (train.rank, train.alpha, train.dropout, train.epochs) == (16, 32, 0.05, 3)
    assert (train.batch_size, train.accumulation, train.learning_rate) == (2, 8, 2e-4)
    assert (train.schedule, train.warmup_ratio, train.target_modules) == ("cosine", 0.05, PROJECTIONS)
    assert (recipe.dataset.max_tokens, recipe.dataset.valid_share) == (2048, 0.05)
    assert (recipe.export.type, recipe.register.serve) == ("Q8_0", "ollama")


def test_a_recipe_is_named_by_its_file_and_its_paths_become_absolute(home: Path) -> None:
    recipe = load_recipe(write(home, SMALL, "mine"))
    assert recipe.name == "mine"
    assert recipe.corpus.folder == home / "papers"
    assert "unknown key 'name'" in problems(write(home, SMALL + "name: other\n"))


def test_all_problems_come_at_once_each_with_its_line(home: Path) -> None:
    text = SMALL.replace("{rank: 4, alpha: 8}", "\n  rnk: 4\n  alpha: 8\n  alpha: 9\n  dropout: 2\n  epochs: many")
    said = problems(write(home, text + "bogus: 1\n"))
    assert "small.yaml:5: unknown key 'train.rnk', did you mean 'rank'?" in said
    assert "small.yaml:7: duplicate key 'alpha' (first on line 6)" in said
    assert "small.yaml:8: train.dropout: input should be less than 1, not 2" in said
    assert "small.yaml:9: train.epochs:" in said
    assert "small.yaml:11: unknown key 'bogus'" in said
    assert "5 problems" in said


def test_exponents_without_a_dot_are_numbers_and_no_is_text(home: Path) -> None:
    recipe = load_recipe(write(home, SMALL.replace("alpha: 8", "alpha: 8, learning_rate: 1e-5")))
    assert recipe.train.learning_rate == 1e-5
    assert "not 'no'" in problems(write(home, SMALL.replace("alpha: 8", "alpha: 8, grad_checkpoint: no")))


def test_numbers_in_quotes_are_not_numbers(home: Path) -> None:
    assert "not '4'" in problems(write(home, SMALL.replace("rank: 4", "rank: '4'")))


@pytest.mark.parametrize("value", [".nan", ".inf", "-1", "0"])
def test_a_learning_rate_that_is_no_rate_is_refused(home: Path, value: str) -> None:
    assert "train.learning_rate" in problems(
        write(home, SMALL.replace("alpha: 8", f"alpha: 8, learning_rate: {value}"))
    )


def test_alpha_and_scale_exclude_each_other(home: Path) -> None:
    assert "exactly one of 'alpha' and 'scale'" in problems(
        write(home, SMALL.replace("alpha: 8", "alpha: 8, scale: 2"))
    )
    assert "exactly one of 'alpha' and 'scale'" in problems(write(home, SMALL.replace(", alpha: 8", "")))


def test_alpha_over_rank_is_the_scale_and_rslora_takes_the_root(home: Path) -> None:
    assert load_recipe(write(home, SMALL)).train.lora_scale == 2
    stabilized = SMALL.replace("alpha: 8", "alpha: 8, rank_stabilized: true")
    assert load_recipe(write(home, stabilized)).train.lora_scale == 4


def test_shares_must_sum_to_one(home: Path) -> None:
    text = SMALL.replace("pairs.jsonl}", "pairs.jsonl, shares: {grounded: 0.6, synthesis: 0.2, refusal: 0.1}}")
    assert "must sum to 1, not 0.9" in problems(write(home, text))


def test_pairs_and_generator_exclude_each_other(home: Path) -> None:
    text = SMALL.replace("pairs.jsonl}", "pairs.jsonl, generator: {model: x}}")
    assert "exactly one of 'pairs' and 'generator'" in problems(write(home, text))


def test_a_missing_file_is_named_with_its_key(home: Path) -> None:
    (home / "pairs.jsonl").unlink()
    assert "small.yaml:3: dataset.pairs: 'pairs.jsonl' does not exist" in problems(write(home, SMALL))


def test_a_path_outside_the_project_and_the_home_folder_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home / "nobody"))
    said = problems(write(home, SMALL.replace("folder: papers", "folder: /etc")))
    assert "'/etc' is outside the project" in said
    assert "outside the project" in problems(write(home, SMALL.replace("folder: papers", "folder: ../../etc")))


def test_a_link_out_of_the_project_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home / "nobody"))
    (home / "link").symlink_to("/etc")
    assert "outside the project" in problems(write(home, SMALL.replace("folder: papers", "folder: link")))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text\n"])
def test_a_file_that_is_not_a_mapping_is_not_a_recipe(home: Path, text: str) -> None:
    assert "not a recipe" in problems(write(home, text))


def test_broken_yaml_names_the_line(home: Path) -> None:
    assert "small.yaml:2" in problems(write(home, "base: {model: x\ntrain: ]\n"))


def test_an_absent_recipe_names_the_next_command(tmp_path: Path) -> None:
    said = problems(tmp_path / "none.yaml")
    assert "cannot be read" in said
    assert "ragtune init" in said


def test_python_tags_are_not_run(home: Path) -> None:
    marker = home / "ran"
    text = SMALL.replace("rank: 4", f"rank: !!python/object/apply:os.mkdir ['{marker}']")
    problems(write(home, text))
    assert not marker.exists()


def test_anchors_cannot_blow_up(home: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases" in problems(write(home, "\n".join(lines)))


def test_every_key_is_documented() -> None:
    from mlx_ragtune.recipe import Recipe

    def walk(model: type) -> list[str]:
        missing = []
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            inner = field.annotation
            if hasattr(inner, "model_fields"):
                missing += walk(inner)
            elif not field.description:
                missing.append(f"{model.__name__}.{name}")
        return missing

    assert walk(Recipe) == []
