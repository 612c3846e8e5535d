"""demo: the bundled recipe and data in a folder of their own."""

from pathlib import Path

import pytest

from mlx_ragtune import bundled as bundled_module
from mlx_ragtune.bundled import bundled
from mlx_ragtune.commands.demo import prepare_demo
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.recipe_load import load_recipe

ROOT = Path(__file__).parents[2]


def test_an_empty_folder_becomes_a_project_that_validates(tmp_path: Path) -> None:
    recipe = load_recipe(prepare_demo(tmp_path / "new" / "demo"))
    assert recipe.benchmark.is_relative_to(tmp_path)
    assert recipe.corpus.folder is not None
    assert len(list(recipe.corpus.folder.glob("*.md"))) > 60
    assert recipe.dataset.pairs is not None
    assert recipe.evaluate.probes is not None
    assert recipe.dataset.pairs.is_file()
    assert recipe.evaluate.probes.is_file()


def test_a_second_call_keeps_what_was_changed_and_restores_what_was_deleted(tmp_path: Path) -> None:
    recipe = prepare_demo(tmp_path)
    recipe.write_text("seed: 8\n", encoding="utf-8")
    paper = tmp_path / "data" / "rag_notes" / "papers" / "lora.md"
    paper.unlink()
    (tmp_path / "runs").mkdir()
    (tmp_path / "notes.txt").touch()
    assert prepare_demo(tmp_path) == recipe
    assert recipe.read_text(encoding="utf-8") == "seed: 8\n"
    assert paper.read_bytes() == (ROOT / "data" / "rag_notes" / "papers" / "lora.md").read_bytes()
    assert not list(tmp_path.rglob(".copy-*"))


def test_a_copy_that_was_stopped_is_completed(tmp_path: Path) -> None:
    (tmp_path / "data" / "probes").mkdir(parents=True)
    assert prepare_demo(tmp_path).is_file()


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"not empty: it contains thesis\.tex") as refused:
        prepare_demo(tmp_path)
    assert refused.value.fix.startswith("ragtune demo FOLDER")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").touch()
    with pytest.raises(InputError, match="not a folder"):
        prepare_demo(tmp_path / "demo")


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not a folder"):
        prepare_demo(tmp_path / "file" / "demo")


def test_a_full_disk_is_a_clear_error_and_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ToolError, match="cannot write the demo: No space left on device"):
        prepare_demo(tmp_path / "demo")
    assert [path for path in (tmp_path / "demo").rglob("*") if path.is_file()] == []


def test_a_wheels_files_come_before_those_beside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundled("data/probes/general.jsonl") == ROOT / "data" / "probes" / "general.jsonl"
    monkeypatch.setattr(bundled_module, "_PACKAGE", tmp_path / "mlx_ragtune")
    inside = tmp_path / "mlx_ragtune" / "bundled" / "recipes"
    inside.mkdir(parents=True)
    (tmp_path / "recipes").mkdir()
    assert bundled("recipes") == inside


def test_an_incomplete_installation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_module, "_PACKAGE", tmp_path)
    with pytest.raises(ToolError, match="data/probes is missing"):
        bundled("data/probes")
