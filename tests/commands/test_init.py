"""init: a recipe for a folder of papers that is valid as it is written."""

from pathlib import Path

import pytest

from mlx_ragtune.commands.init import write_recipe
from mlx_ragtune.errors import InputError, RecipeError
from mlx_ragtune.recipe import load_recipe


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "My Papers"
    folder.mkdir()
    (tmp_path / "recipes").mkdir()
    (folder / "a.md").write_text("# A\n\nWords of a paper.")
    (folder / "benchmark.jsonl").touch()
    return folder


def test_the_recipe_is_valid_and_names_the_folder(papers: Path, tmp_path: Path) -> None:
    written = write_recipe(papers, out=tmp_path / "recipes" / "mine.yaml", base="Qwen/Qwen3-4B")
    recipe = load_recipe(written)
    assert (recipe.name, recipe.corpus.folder, recipe.base.model) == ("mine", papers, "Qwen/Qwen3-4B")
    assert recipe.dataset.generator is not None


def test_pairs_beside_the_papers_are_used(papers: Path, tmp_path: Path) -> None:
    (papers / "pairs.jsonl").touch()
    written = write_recipe(papers, out=tmp_path / "recipes" / "mine.yaml", base="x/y")
    assert load_recipe(written).dataset.pairs == papers / "pairs.jsonl"


def test_a_recipe_that_exists_is_never_overwritten(papers: Path, tmp_path: Path) -> None:
    out = tmp_path / "recipes" / "mine.yaml"
    out.write_text("mine")
    with pytest.raises(RecipeError, match="already exists"):
        write_recipe(papers, out=out, base="x/y")
    assert out.read_text() == "mine"


def test_without_questions_nothing_is_written(papers: Path, tmp_path: Path) -> None:
    (papers / "benchmark.jsonl").unlink()
    with pytest.raises(InputError, match="benchmark"):
        write_recipe(papers, out=tmp_path / "recipes" / "mine.yaml", base="x/y")
    assert not (tmp_path / "recipes" / "mine.yaml").exists()


def test_a_folder_without_papers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        write_recipe(tmp_path / "empty", out=tmp_path / "x.yaml", base="x/y")
