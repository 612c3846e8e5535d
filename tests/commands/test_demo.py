"""demo: the bundled recipe and data in a folder of their own."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner

from mlx_ragtune import bundled as bundled_module
from mlx_ragtune.bundled import bundled
from mlx_ragtune.cli import main
from mlx_ragtune.commands.demo import prepare_demo
from mlx_ragtune.commands.demo_words import DOWNLOAD_MB, MEANINGS, announcement, in_short
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.scoring.verdict.comparison import Verdict

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


def test_what_will_happen_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "demo"
    there: list[bool] = []

    def stop(_folder: Path) -> Path:
        there.append(folder.exists())
        raise ToolError("stopped here")

    monkeypatch.setattr("mlx_ragtune.commands.demo.prepare_demo", stop)
    said = CliRunner().invoke(main, ["demo", str(folder)])
    assert there == [False]
    assert said.stdout == ""
    assert "minutes on two processor cores" in said.stderr
    assert f"a download of about {DOWNLOAD_MB} MB" in said.stderr
    assert "3 GB of disk" in said.stderr
    papers = len(list((ROOT / "data" / "rag_notes" / "papers").glob("*.md")))
    assert f"on {papers} short notes" in said.stderr
    assert said.stderr.index("It asks nothing") < said.stderr.index("stopped here")


def test_a_folder_that_is_refused_is_refused_before_the_announcement(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    said = CliRunner().invoke(main, ["demo", str(tmp_path)])
    assert said.exit_code == InputError.exit_code
    assert "minutes" not in said.stderr


def test_a_second_call_says_that_it_continues(tmp_path: Path) -> None:
    assert "copies papers" in "".join(announcement(tmp_path, resumes=False))
    assert "continues in" in "".join(announcement(tmp_path, resumes=True))


def row(name: str, base: float, tuned: float) -> dict[str, Any]:
    return {"name": name, "all": {"base_mean": base, "tuned_mean": tuned}}


def answer(question: str, gain: float, *, text: str = "It quantizes the frozen weights.") -> dict[str, Any]:
    return {
        "question_id": question, "question": question, "base_text": "I\x1b[2J am", "tuned_text": text,
        "prompted_text": "x", "gain": gain,
    }  # fmt: skip


@pytest.fixture
def report(tmp_path: Path) -> Path:
    data = {
        "outcome": {
            "verdict": "MIXED",
            "against_base": {"rows": [row("correctness", 0.07, 0.33), row("false_refusal", 0.0, 0.04)]},
            "against_prompted": {"rows": [row("correctness", 0.12, 0.33)]},
        },
        "answers": [answer("What is lost?", -1.0), answer("What is won?", 1.0, text="word " * 200)],
        "probes": [{"base": True, "tuned": False}, {"base": True, "tuned": True}, {"base": False, "tuned": False}],
    }
    (tmp_path / "report.json").write_text(json.dumps(data), encoding="utf-8")
    return tmp_path


def test_the_end_says_what_was_compared_what_changed_and_what_to_do_next(report: Path) -> None:
    said = "\n".join(in_short(report, "demo/recipes/demo.yaml"))
    assert "2 questions were put to three models" in said
    assert re.search(r"facts that are right +7% → 12% → 33%", said)
    assert re.search(r"answerable questions, refused +0% → 4%", said), "no figure of the prompt is made up"
    assert re.search(r"general questions answered rightly, of 3 +2 → 1", said)
    assert "Verdict: MIXED. Tuning helped with one thing and harmed another" in said
    assert "What is won?" in said
    assert "What is lost?" not in said
    assert "\x1b" not in said
    assert str(report / "report.html") in said
    assert "ragtune ask demo/recipes/demo.yaml" in said
    assert "ragtune init ~/papers" in said
    assert max(map(len, said.split("\n"))) < 200


def test_where_nothing_was_gained_no_example_is_shown(report: Path) -> None:
    path = report / "report.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, "answers": [answer("What?", 0.0)], "probes": []}), encoding="utf-8")
    said = "\n".join(in_short(report, "r.yaml"))
    assert "gained most" not in said
    assert "general questions" not in said


def test_every_verdict_has_a_meaning() -> None:
    assert set(MEANINGS) == set(get_args(Verdict))


def test_no_command_waits_for_an_answer_on_the_terminal() -> None:
    asks = re.compile(
        r"click\.(?:prompt|confirm|getchar|pause|edit)\(|(?<![\w.])input\(|Prompt\.ask|Confirm\.ask|getpass"
    )
    files = list((ROOT / "mlx_ragtune").rglob("*.py"))
    assert len(files) > 200
    assert [file.name for file in files if asks.search(file.read_text(encoding="utf-8"))] == []
