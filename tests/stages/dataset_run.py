"""The data set stage alone, on a toy base and the corpus of the small project."""

from pathlib import Path

import pytest

from mlx_ragtune.artifact import Draft
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.stages.dataset import dataset
from tests.stages.project import make_project
from tests.stages.test_corpus_dataset import run_corpus


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "toy"
    write_toy_model(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draft, _ = run_corpus(make_project(tmp_path_factory.mktemp("corpus") / "project"))
    return draft.folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


def build(recipe: Path, base: Path, corpus: Path, name: str = "dataset") -> tuple[Draft, list[str]]:
    """The finished draft, in the folder ``name`` beside the recipe, and what the stage said."""
    said: list[str] = []
    draft = Draft(recipe.parent / name, say=said.append)
    draft.folder.mkdir()
    dataset(load_recipe(recipe), {"corpus": corpus, "base": base}, draft)
    return draft, said
