"""Every stage of the recipe for 16 GB fits into a Mac with 16 GB, by counted bytes of a model of that shape."""

import json
from pathlib import Path

import pytest

from mlx_ragtune.clients import machine
from mlx_ragtune.clients.machine import PROCESS_BYTES, require_memory, usable_bytes
from mlx_ragtune.errors import ToolError
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.runner import Run
from mlx_ragtune.stages import train as train_stage
from mlx_ragtune.tuning.resources import fitting_changes, train_memory
from tests.tuning.test_resources import QWEN3_4B, headers

GIB = 2**30
RECIPE = Path("recipes/qwen3_4b_16gb.yaml")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return headers(tmp_path_factory.mktemp("qwen3") / "model", QWEN3_4B, "BF16")


def test_every_stage_fits(base: Path, tmp_path: Path) -> None:
    needs = Run(load_recipe(RECIPE), tmp_path / "run", _base=base).memory()
    assert list(needs) == ["train", "fuse", "export", "register", "evaluate"]
    for name, need in needs.items():
        assert need.bytes <= usable_bytes(16 * GIB, platform="darwin"), name


def test_rows_of_the_longest_length_that_it_allows_fit_too(base: Path) -> None:
    recipe = load_recipe(RECIPE)
    needed = train_memory(base, recipe.train, "4bit", row_tokens=recipe.dataset.max_tokens, platform="darwin")
    assert needed + PROCESS_BYTES <= usable_bytes(16 * GIB, platform="darwin")


def test_the_recipe_of_the_experiment_does_not_and_the_changes_that_are_proposed_make_it_fit(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(Path("recipes/qwen3_4b_r16.yaml"))
    for module in (machine, train_stage):
        monkeypatch.setattr(module, "memory_bytes", lambda: 9 * GIB)
    need = Run(recipe, tmp_path / "run", _base=base).memory()["train"]
    with pytest.raises(ToolError, match="train needs about"):
        require_memory("train", need.bytes, fix=need.fix)
    changes = dict(fitting_changes(base, recipe.train, "bf16", limit=9 * GIB - PROCESS_BYTES) or ())
    assert changes
    assert need.fix == "ragtune plan RECIPE " + " ".join(f"--set {key}={value}" for key, value in changes.items())
    update = {key.removeprefix("train."): json.loads(value) for key, value in changes.items() if "train." in key}
    smaller = recipe.train.model_copy(update=update)
    precision = changes.get("base.precision", "bf16")
    assert train_memory(base, smaller, precision) + PROCESS_BYTES <= 9 * GIB  # type: ignore[arg-type]
