"""The report stage on the files of a finished evaluation, without models."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlx_ragtune.artifact import Draft, digest_file
from mlx_ragtune.errors import InputError
from mlx_ragtune.evaluation.fairness import Conditions
from mlx_ragtune.jsonl import to_json, write_rows
from mlx_ragtune.recipe import (
    BaseModelSettings,
    CorpusSettings,
    DatasetSettings,
    EvaluateSettings,
    ExportSettings,
    FuseSettings,
    GeneratorSettings,
    JudgeSettings,
    Recipe,
    RegisterSettings,
    RetrievalSettings,
    ScoringSettings,
    TrainSettings,
)
from mlx_ragtune.records import ARMS
from mlx_ragtune.scoring.verdict.decision import compare_arms
from mlx_ragtune.stages.report import report
from tests.pages import made

Make = Callable[..., str]
SENT = {
    "asked": {"questions": 12, "of": 12, "minutes": None},
    "parallel": {"slots": 1, "serial": 12, "differ": {}, "compared": {}},
}
FILES = ("report.html", "report.md", "report.json", "summary.txt")


def recipe_of(project: Path, **changes: Any) -> Recipe:
    """The sections that the stage may see, as the loader leaves them: with absolute paths."""
    dataset = DatasetSettings(pairs=project / "data" / "pairs.jsonl")
    sections = {
        "name": "demo", "seed": 0, "base": BaseModelSettings(model=str(project / "models" / "base")),
        "corpus": CorpusSettings(folder=Path("/Volumes/secretdisk/papers")), "retrieval": RetrievalSettings(),
        "dataset": dataset, "train": TrainSettings(alpha=16), "export": ExportSettings(),
        "register": RegisterSettings(), "evaluate": EvaluateSettings(), "scoring": ScoringSettings(),
        "fuse": FuseSettings(),
    }  # fmt: skip
    return cast(Recipe, SimpleNamespace(**{**sections, **changes}))


def statistics() -> dict[str, Any]:
    kind = {"kind": "grounded", "rows": 5, "share": 1.0, "tokens_min": 10, "tokens_mean": 12.0, "tokens_max": 1200}
    train = {"rows": 5, "groups": 2, "tokens": {"min": 10, "mean": 12.3, "max": 1200}, "kinds": [kind]}
    copy = {"paper": "v1", "original": "p1", "of_paper": 0.5, "of_original": 0.98}
    account = {"read": {"grounded": 9}, "made": {}, "left_out": {"repeats an earlier question": {"grounded": 3}}}
    return {"train": train, "valid": {"rows": 1}, "test": {"rows": 0}, "held_out_copies": [copy], "account": account}


def manifest(folder: Path) -> dict[str, Any]:
    return {
        "key": "k" * 64, "facts": {}, "described": {}, "finished_at": "2026-01-01T00:00:00Z",
        "platform": "Linux", "python": "3.11",
        "packages": {"mlx": "0.32"},
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": digest_file(path)} for path in folder.iterdir()},
    }  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the artifacts that the report reads."""
    (tmp_path / "recipes").mkdir()
    asked = made.questions(12)
    evaluate, train, dataset = (tmp_path / "runs" / name for name in ("evaluate", "train", "dataset"))
    for folder in (evaluate, train, dataset):
        folder.mkdir(parents=True)
    write_rows(evaluate / "questions.jsonl", asked)
    write_rows(evaluate / "used.jsonl", made.answers(asked))
    outcome = compare_arms(made.scores(asked, "base", 1), made.scores(asked, "tuned", 1), asked)
    (evaluate / "verdict.json").write_text(outcome.to_json(), encoding="utf-8")
    conditions = asdict(Conditions("Q8_0", "a" * 64, 4096, "ollama 0.12", {}, (0,)))
    for name, value in (
        ("conditions.json", {"base": conditions, "tuned": conditions}),
        (
            "gates.json",
            {
                "allowed": [],
                "served_prompts": "equal to the training render",
                "reused_answers": {"base": 0, "tuned": 0},
                **SENT,
            },
        ),
        ("retrieval.json", {"hit@3": 1.0}),
        ("refusals.json", {"base": asdict(made.refusal_table(0.0)), "tuned": asdict(made.refusal_table(0.5))}),
    ):
        (evaluate / name).write_text(to_json(value), encoding="utf-8")
    (train / "result.json").write_text(json.dumps({"best_update": 2, "peak_memory_bytes": 2**30, "candidates": []}))
    write_rows(train / "losses.jsonl", [{"update": 1, "epoch": 0.1, "train_loss": 1.0}, {"update": 2, "valid_loss": 1}])
    (dataset / "statistics.json").write_text(json.dumps(statistics()))
    return tmp_path


def made_report(project: Path, recipe: Recipe | None = None) -> dict[str, str]:
    """The written files by name."""
    folders = {name: project / "runs" / name for name in ("evaluate", "train", "dataset")}
    (folders["evaluate"] / "manifest.json").unlink(missing_ok=True)
    (folders["evaluate"] / "manifest.json").write_text(json.dumps(manifest(folders["evaluate"])))
    draft = Draft(project / "draft")
    draft.folder.mkdir(exist_ok=True)
    report(recipe or recipe_of(project), folders | {"votes": project / "ab"}, draft)
    assert sorted(path.name for path in draft.folder.iterdir()) == sorted(FILES)
    return {name: (draft / name).read_text(encoding="utf-8") for name in FILES}


def test_a_run_without_probes_judge_or_similarity_has_a_report(project: Path) -> None:
    files = made_report(project)
    data = json.loads(files["report.json"])
    assert data["title"] == "demo: base vs. tuned"
    assert data["judge"] is None
    assert data["losses"][1] == {"update": 2, "train_loss": None, "valid_loss": 1, "rehearsal_loss": None}
    assert {"label": "peak memory", "value": "1.00 GiB"} in data["training"]
    assert {"label": "rows read", "value": "9"} in data["dataset"]
    assert {"label": "left out: repeats an earlier question", "value": "3"} in data["dataset"]
    assert "<h2>Judge</h2>" not in files["report.html"]
    assert {"label": "packages.mlx", "value": "0.32"} in data["versions"]


def test_no_password_and_no_absolute_path_reaches_any_file(project: Path) -> None:
    secret = "http://user:hunter2@host:11434"
    generator = GeneratorSettings(model=str(project / "models" / "g.gguf"), hosts=(secret, secret))
    recipe = recipe_of(
        project,
        register=RegisterSettings.model_construct(**{**dict(RegisterSettings()), "host": secret}),
        dataset=DatasetSettings.model_construct(**{**dict(DatasetSettings(generator=generator))}),
        scoring=ScoringSettings.model_construct(
            **{**dict(ScoringSettings()), "judge": JudgeSettings.model_construct(model="granite", host=secret)}
        ),
    )
    evaluate = project / "runs" / "evaluate"
    gates = {"allowed": [{"name": "server", "base": secret, "tuned": "x", "fix": "", "allowed": True}],
             "served_prompts": f"not read from {secret}",
             "reused_answers": {"base": 0, "tuned": 0}, **SENT}  # fmt: skip
    (evaluate / "gates.json").write_text(to_json(gates))
    files = made_report(project, recipe)
    for name, text in files.items():
        assert "hunter2" not in text, name
        assert "user:" not in text, name
        assert str(project) not in text, name
        assert "secretdisk" not in text, name
    settings = {fact["label"]: fact["value"] for fact in json.loads(files["report.json"])["settings"]}
    assert settings["register.host"] == "http://host:11434"
    assert settings["base.model"] == "models/base"
    assert settings["corpus.folder"] == "papers"


def test_the_blind_result_of_exactly_these_answers_is_shown(project: Path) -> None:
    used = project / "runs" / "evaluate" / "used.jsonl"
    for folder, headline in ((digest_file(used)[:12], "these answers"), ("0" * 12, "other answers")):
        (project / "ab" / folder).mkdir(parents=True)
        result = {"headline": headline, "rows": [{"label": "tie", "value": "2"}]}
        (project / "ab" / folder / "unblinded.json").write_text(json.dumps(result))
    files = made_report(project)
    assert "these answers" in files["report.html"]
    assert "other answers" not in files["report.html"]
    asked = made.questions(12)
    write_rows(used, [replace(answer, text="A changed answer.") for answer in made.answers(asked)])
    assert json.loads(made_report(project)["report.json"])["blind"] is None


@pytest.mark.parametrize("name", ["verdict.json", "used.jsonl", "conditions.json", "refusals.json"])
def test_a_damaged_file_is_named(name: str, project: Path) -> None:
    (project / "runs" / "evaluate" / name).write_text('{"x": 1}')
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        made_report(project)


def test_answers_with_line_separators_are_read(project: Path) -> None:
    asked = made.questions(12)
    answers = [replace(answer, text="one\u2028two\u0085three") for answer in made.answers(asked)]
    write_rows(project / "runs" / "evaluate" / "used.jsonl", answers)
    assert "one\u2028two" in made_report(project)["report.html"]


@pytest.fixture
def three_arms(project: Path) -> Path:
    """The same project, asked with examples in the prompt of the base, in parallel, in part."""
    asked = made.questions(12)
    evaluate = project / "runs" / "evaluate"
    base, prompted, tuned = (made.scores(asked, arm, 1) for arm in ARMS)
    outcome = compare_arms(base, tuned, asked, prompted=prompted)
    (evaluate / "verdict.json").write_text(outcome.to_json(), encoding="utf-8")
    write_rows(evaluate / "used.jsonl", made.answers(asked, ARMS))
    conditions = asdict(Conditions("Q8_0", "a" * 64, 4096, "ollama 0.12", {}, (0,)))
    part = {"n": 11, "correctness": 0.5, "false_refusal": 0.1}
    none = {"n": 1, "correctness": None, "false_refusal": None}
    for name, value in (
        ("conditions.json", dict.fromkeys(ARMS, conditions)),
        ("refusals.json", {arm: asdict(made.refusal_table(0.5)) for arm in ARMS}),
        ("shown.json", {"shown": 11, "of": 12, "arms": {arm: {"shown": part, "not_shown": none} for arm in ARMS}}),
        ("noise.json", {"compared": 4, "varied": ["slots 1 -> 4"], "differ": {"base": 1}, "floors": {"invalid": 0.02}}),
        ("prompted.json", {"examples": [{"id": "e", "kind": "grounded", "question": "What is PEFT?"}], "tokens": 77}),
        (
            "gates.json",
            {
                "allowed": [],
                "served_prompts": "equal to the training render",
                "reused_answers": {"base": 3, "prompted": 4, "tuned": 5},
                "asked": {"questions": 12, "of": 30, "minutes": 2.5},
                "parallel": {"slots": 4, "serial": 6, "differ": {"base": 2}, "compared": {"base": 6}},
            },
        ),
    ):
        (evaluate / name).write_text(to_json(value), encoding="utf-8")
    return project


def test_a_run_with_three_arms_has_a_report_with_all_of_them(three_arms: Path) -> None:
    files = made_report(three_arms)
    data = json.loads(files["report.json"])
    assert data["title"] == "demo: base and prompted base vs. tuned"
    assert data["outcome"]["against_prompted"]["verdict"]
    assert data["answers"][0]["prompted_text"].startswith("According to the prompted model")
    assert data["conditions"][0] == {
        "name": "answers from an earlier run", "base": "3", "prompted": "4", "tuned": "5", "equal": True,
    }  # fmt: skip
    for text in (files["summary.txt"], files["report.md"], files["report.html"]):
        flat = " ".join(text.split())
        assert "The answer is in what was shown: 11 of 12." in flat
        assert "asked: 12 of 30 within 2.5 minutes" in flat
        assert "Raise evaluate.budget: 18 of 30 questions were not asked." in flat
    assert "What is PEFT?" in files["report.html"]


@pytest.mark.parametrize("name", ["shown.json", "noise.json", "prompted.json", "gates.json"])
def test_a_damaged_file_of_the_new_ones_is_named(name: str, three_arms: Path) -> None:
    path = three_arms / "runs" / "evaluate" / name
    value = json.loads(path.read_text())
    broken = {**value, "parallel": {}} if name == "gates.json" else {**value, "x": 1}
    path.write_text(json.dumps(broken))
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        made_report(three_arms)
