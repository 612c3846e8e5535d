"""``ragtune runs``: every run folder is listed, whatever state it is in, and says what differs."""

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mlx_ragtune.artifact import STAGE_FOLDERS, Store, read_artifact, set_link
from mlx_ragtune.cli import main
from mlx_ragtune.commands.runs import link_from, read_run_row, read_runs
from mlx_ragtune.pages.run_rows import RunRow, list_runs
from mlx_ragtune.pipeline import STAGES, stages_of
from mlx_ragtune.run_folders import END_MARK, TRIAL_MARK, claim, record_pruned, record_trial, recorded_end
from tests.test_recipe_layers import BASE

NEEDS = {stage.name: stage.needs for stage in STAGES}


def like(*, engine: str = "served", rehearsal: Any = None) -> Any:
    """As much of a recipe as says which stages it has."""
    return SimpleNamespace(
        evaluate=SimpleNamespace(engine=engine),
        dataset=SimpleNamespace(rehearsal=rehearsal),
        train=SimpleNamespace(preference=None),
    )


PLAIN, REHEARSED, QUICK = like(), like(rehearsal=True), like(engine="mlx")
METRIC_ROWS: Sequence[tuple[str, float, float]] = (("correctness", 0.6, 0.1), ("citation_recall", 0.5, -0.02))


def verdict(primary: str = "correctness") -> dict[str, Any]:
    rows = [
        {"name": name, "unit": "share", "higher_is_better": True, "verdict": "IMPROVED",
         "all": {"tuned_mean": mean, "difference": change, "low": change - 0.05, "high": change + 0.05}}
        for name, mean, change in METRIC_ROWS
    ]  # fmt: skip
    return {"verdict": "IMPROVED", "headline": "better", "against_base": {"primary": primary, "rows": rows}}


def content(stage: str, loss: float) -> Mapping[str, str]:
    """The files that a stage leaves, as far as the list reads them."""
    if stage == "train":
        rows = [{"update": 1, "train_loss": 2.0}, {"update": 2, "train_loss": 1.5, "valid_loss": loss}]
        return {"losses.jsonl": "".join(json.dumps(row) + "\n" for row in rows)}
    if stage == "evaluate":
        return {"verdict.json": json.dumps(verdict())}
    return {"report.html": "page"} if stage == "report" else {"out.txt": stage}


def content_of(folder: Path, stage: str, files: Sequence[str]) -> str:
    linked = read_artifact(folder / STAGE_FOLDERS[stage]) if stage in STAGE_FOLDERS else None
    return linked.content(files) if linked else "b"


def make_run(
    home: Path,
    name: str,
    *,
    until: str = "report",
    rank: int = 4,
    loss: float = 1.25,
    recipe: Any = PLAIN,
    candidates: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """A run with artifacts that fit together, each made from the content of the earlier ones."""
    store, folder = Store(home / "runs"), home / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"train": {"rank": rank, "alpha": 8}, "seed": 0}
    for at, stage in enumerate(stages_of(recipe)):
        key = f"{at}{rank:02d}" + "a" * 61
        described = {
            "stage": stage.name,
            "settings": settings if stage.name == "train" else {},
            "inputs": {need: content_of(folder, need, files) for need, files in stage.needs.items()},
            "files": {"benchmark": "q" * 64} if stage.name == "evaluate" else {},
        }
        draft = store.open_draft(stage.name, key)
        for file, text in content(stage.name, loss).items():
            (draft / file).write_text(text)
        if stage.name == "train":
            draft.record(best_valid_loss=loss, best_update=2, updates=2, seconds=90.0, peak_memory_bytes=2**30,
                         tokens_per_second=100.0, candidates=list(candidates))  # fmt: skip
        artifact = store.finish(draft, stage.name, {"key": key, "described": described, "seconds": 10.0})
        set_link(folder / stage.folder, artifact.folder)
        if stage.name == until:
            break
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("papers", "recipes", "runs"):
        (tmp_path / folder).mkdir()
    for name in ("pairs", "benchmark"):
        (tmp_path / f"{name}.jsonl").touch()
    (tmp_path / "recipes" / "small.yaml").write_text(BASE)
    monkeypatch.delenv("RAGTUNE_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["runs", *arguments])


def row(home: Path, name: str) -> RunRow:
    return read_run_row(home / "runs" / name, NEEDS)


def test_a_run_is_finished_with_the_stages_that_its_recipe_has(home: Path) -> None:
    for name, recipe in (("plain", PLAIN), ("rehearsed", REHEARSED)):
        make_run(home, name, recipe=recipe)
        assert (row(home, name).state, row(home, name).problems) == ("finished", ()), name
    make_run(home, "quick", recipe=QUICK)
    for name in ("4-fuse", "5-export", "6-register"):
        (home / "runs" / "quick" / name).unlink()
    assert (row(home, "quick").state, row(home, "quick").problems) == ("finished", ())
    (home / "runs" / "rehearsed" / "2b-rehearse").unlink()
    assert row(home, "rehearsed").state == "partial"
    assert "3-train: made from an earlier result of rehearse" in row(home, "rehearsed").problems


def test_finished_runs_show_what_differs_loss_metrics_time_and_memory(home: Path) -> None:
    make_run(home, "small")
    make_run(home, "other", rank=8, loss=1.5)
    claim(home / "runs" / "other", home / "recipes" / "small.yaml", {"train.rank": 8})
    done = call()
    assert done.exit_code == 0, done.output
    for text in ("rank 4", "1.2500", "1.5000", "60.0% (+10.0)", "+5.0 to +15.0", "50.0% (−2.0)", "90 s", "1.0 GiB",
                 "finished: IMPROVED"):  # fmt: skip
        assert text in done.stdout, text
    assert "loss correct facts right paper training" in " ".join(done.stdout.split("──")[0].split())
    assert "alpha" not in done.stdout
    assert max(map(len, done.stdout.split("\n"))) <= 80
    rows = json.loads(call("--json").stdout)
    assert {(one["name"], one["state"], one["seconds"], one["train_seconds"]) for one in rows} == {
        ("small", "finished", 80.0, 90.0), ("other", "finished", 80.0, 90.0),
    }  # fmt: skip
    assert [one["variant"] for one in rows if one["name"] == "other"] == [{"train.rank": 8}]


def test_the_score_of_the_kept_checkpoint_has_a_column_and_that_of_a_rung_stands_in_brackets(home: Path) -> None:
    candidates = [{"update": 1, "task_score": 0.875}, {"update": 2, "task_score": 0.625}]
    make_run(home, "small", candidates=candidates)
    early = make_run(home, "early", until="dataset", rank=8)
    looks = [{"rung": at, "share": 0.1, "score": 0.25 + at / 8, "valid_loss": 2.5 - at, "updates": 7 + at}
             for at in range(2)]  # fmt: skip
    trial = {"study": "s", "trial": 3, "state": "pruned", "why": "w", "score": 0.5, "updates": 8, "seconds": 4.0}
    record_pruned(early, "not among the best")
    record_trial(early, trial | {"looks": looks})
    found = row(home, "early")
    assert (found.state, found.why, found.score, found.rung_score) == ("pruned", "not among the best", None, 0.25)
    assert [(point.update, point.valid_loss) for point in found.losses] == [(7, 2.5), (8, 1.5)]
    assert row(home, "small").score == 0.625
    lines = call().stdout.splitlines()
    assert "state loss score correct facts" in " ".join(call().stdout.split("──")[0].split())
    assert [line.split()[1:3] for line in lines if line.startswith("small")] == [["1.2500", "0.625"]]
    assert [line.split()[1] for line in lines if line.startswith("early")] == ["(0.250)"]
    assert "trial 3: pruned" in call().stdout
    assert max(map(len, lines)) <= 80


def test_a_trial_that_was_trained_and_pruned_when_it_was_scored_has_no_score(home: Path) -> None:
    folder = make_run(home, "small", until="train")
    with recorded_end(folder, lambda: "", until="train"):
        pass
    record_pruned(folder, "out of memory")
    record_trial(folder, {"study": "s", "trial": 1, "state": "pruned", "score": 0.5, "looks": [], "updates": 2,
                          "seconds": 1.0})  # fmt: skip
    found = row(home, "small")
    assert (found.state_text, found.stage, found.why, found.score) == (
        "trial 1: pruned",
        "train",
        "out of memory",
        None,
    )


def test_the_primary_metric_comes_first_that_of_most_runs(home: Path) -> None:
    folders = [make_run(home, name, rank=rank) for name, rank in (("a", 4), ("b", 8), ("c", 16))]
    for folder in folders[:2]:
        rewrite(folder, "7-evaluate", "verdict.json", json.dumps(verdict("citation_recall")))
    assert list_runs(read_runs(home / "runs", NEEDS)).metrics == ["citation_recall", "correctness"]


def test_the_run_that_changed_last_comes_first(home: Path) -> None:
    for at, name in enumerate(("a", "b", "c")):
        folder = make_run(home, name, until="corpus")
        for path in (folder, folder / "1-corpus"):
            os.utime(path, (1000 + 100 * (at % 2), 1000 + 100 * (at % 2)), follow_symlinks=False)
    assert next(one.name for one in read_runs(home / "runs", NEEDS)) == "b"


def test_settings_come_from_the_artifacts_and_else_from_the_recipe(home: Path) -> None:
    recipe = home / "recipes" / "small.yaml"
    make_run(home, "small", until="train", rank=4)
    claim(home / "runs" / "small", recipe, {"train.dropout": 0.1})
    recipe.write_text(BASE.replace("rank: 4", "rank: 64"))
    settings = row(home, "small").settings
    assert (settings["train.rank"], settings["train.dropout"]) == (4, 0.1)
    assert "name" not in settings
    assert row(home, "small").problems == ("its recipe has changed since: train.rank 4 → 64",)


@pytest.mark.parametrize("state", ["failed", "interrupted"])
def test_a_run_that_ended_early_says_where_and_why(home: Path, state: str) -> None:
    folder = make_run(home, "small", until="dataset")
    error = ValueError("the loss is not finite") if state == "failed" else KeyboardInterrupt()
    with pytest.raises(type(error)), recorded_end(folder, lambda: "train", until="report"):
        raise error
    assert (row(home, "small").state, row(home, "small").stage) == (state, "train")
    said = call().stdout
    assert f"{state}: train" in said
    assert ("the loss is not finite" in said) == (state == "failed")
    with recorded_end(folder, lambda: "", until="dataset"):
        pass
    assert row(home, "small").state_text == "up to dataset"


def test_a_killed_process_is_an_interrupted_run_and_a_living_one_is_running(home: Path) -> None:
    folder = make_run(home, "small", until="dataset")
    (folder / ".running").write_text("4242\ntrain\n")
    (folder / ".lock").touch()
    assert row(home, "small").state_text == "interrupted: train"
    with (folder / ".lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert row(home, "small").state_text == "running: train"


def test_a_result_that_was_made_from_an_earlier_result_is_left_out(home: Path) -> None:
    folder = make_run(home, "small")
    other = make_run(home, "other", rank=8)
    set_link(folder / "3-train", (other / "3-train").resolve())
    manifest = (folder / "3-train" / "manifest.json").resolve()
    value = json.loads(manifest.read_text())
    (manifest.parent / "adapters.safetensors").write_text("x")
    value["files"]["adapters.safetensors"] = {"bytes": 1, "sha256": "c" * 64}
    manifest.write_text(json.dumps(value))
    found = row(home, "small")
    assert "4-fuse: made from an earlier result of train" in found.problems
    assert found.metrics == ()
    assert found.state_text == "up to train"


DAMAGE = {
    "a manifest that is no JSON": lambda folder: (folder / "3-train" / "manifest.json").write_text("{"),
    "a manifest that is a list": lambda folder: (folder / "3-train" / "manifest.json").write_text("[]"),
    "a manifest without inputs": lambda folder: edited(folder, lambda value: value["described"].pop("inputs")),
    "settings that are a number": lambda folder: edited(folder, lambda value: value["described"].update(settings=3)),
    "a file that is missing": lambda folder: (folder / "3-train" / "losses.jsonl").unlink(),
    "facts that are text": lambda folder: edited(folder, lambda value: value["facts"].update(
        best_valid_loss="low", seconds=None, candidates=7, peak_memory_bytes="much")),
    "losses that are torn": lambda folder: rewrite(folder, "3-train", "losses.jsonl", '{"update": 1, "train_l'),
    "losses without an update": lambda folder: rewrite(folder, "3-train", "losses.jsonl", '{"loss": 1}\n'),
    "a loss that is not finite": lambda folder: rewrite(
        folder, "3-train", "losses.jsonl", '{"update": 1, "train_loss": NaN}\n'),
    "a verdict of another version": lambda folder: rewrite(folder, "7-evaluate", "verdict.json", '{"old": 1}'),
    "a verdict with an unknown metric": lambda folder: rewrite(
        folder, "7-evaluate", "verdict.json", json.dumps(verdict()).replace("citation_recall", "unheard_of")),
    "an artifact that was removed": lambda folder: (folder / "7-evaluate").resolve().rename(folder / "gone"),
    "a file in the place of a stage": lambda folder: ((folder / "8-report").unlink(), (folder / "8-report").touch()),
    "a loop of links": lambda folder: ((folder / "8-report").unlink(), (folder / "8-report").symlink_to("8-report")),
    "marks that are damaged": lambda folder: [(folder / name).write_bytes(b"\xff\0[")
                                              for name in (".recipe", ".settings", END_MARK, ".running")],
    "a trial without looks": lambda folder: (folder / TRIAL_MARK).write_text('{"study": 1, "trial": "x"}'),
    "a trial whose looks are text": lambda folder: (folder / TRIAL_MARK).write_text(
        '{"study": "s", "trial": 1, "state": "finished", "score": "x", "updates": [], "looks": "none"}'),
    "a recipe whose name is not UTF-8": lambda folder: (folder / ".recipe").write_bytes(b"../recipes/\xfd.yaml"),
    "a recipe that is gone": lambda folder: (folder / ".recipe").write_text("../recipes/gone.yaml"),
}  # fmt: skip


def edited(folder: Path, change: Any) -> None:
    path = (folder / "3-train" / "manifest.json").resolve()
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def rewrite(folder: Path, stage: str, name: str, text: str) -> None:
    path = (folder / stage).resolve()
    (path / name).write_text(text)
    value = json.loads((path / "manifest.json").read_text())
    value["files"][name]["bytes"] = len(text)
    (path / "manifest.json").write_text(json.dumps(value))


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_broken_run_is_listed_with_the_others_and_on_the_page(home: Path, kind: str) -> None:
    make_run(home, "sound", rank=8)
    folder = make_run(home, "small")
    claim(folder, home / "recipes" / "small.yaml")
    DAMAGE[kind](folder)
    done = call("--html", "all.html")
    assert done.exit_code == 0, done.output
    assert "sound" in done.stdout
    found = row(home, "small")
    assert found.problems or found.state in ("interrupted", "damaged") or found.valid_loss is None, kind
    for problem in found.problems:
        assert problem[:40] in " ".join(done.stdout.split()), kind
    assert (home / "all.html").read_text().count("<tr data-run=") == 2
    assert json.loads(call("--json").stdout)


def test_folders_that_are_not_runs_are_not_listed(home: Path) -> None:
    (home / "runs" / "notes").mkdir()
    (home / "runs" / ".store").mkdir()
    (home / "runs" / "file.txt").touch()
    assert call().stdout == "no runs yet; next: ragtune run RECIPE\n"
    assert json.loads(call("--json").stdout) == []
    (home / "runs").rename(home / "elsewhere")
    assert call().stdout == "no runs yet; next: ragtune run RECIPE\n"


def test_losses_and_metrics_of_other_data_are_said_not_to_be_comparable(home: Path) -> None:
    make_run(home, "small")
    other = make_run(home, "other", rank=8)
    edited(other, lambda value: value["described"]["inputs"].update(base="another"))
    stage = (other / "7-evaluate" / "manifest.json").resolve()
    stage.write_text(stage.read_text().replace("q" * 64, "p" * 64))
    notes = list_runs([row(home, "other"), row(home, "small")]).notes()
    assert notes == [
        "Validation losses of runs with different data sets or base models cannot be compared. "
        "There are 2: other; small.",
        "Metrics of runs with different benchmarks cannot be compared. There are 2: other; small.",
    ]


def test_links_of_the_page_lead_to_the_reports(home: Path) -> None:
    make_run(home, "small+train.rank=8")
    (home / "pages").mkdir()
    assert call("--html", "pages/all.html").exit_code == 0
    text = (home / "pages" / "all.html").read_text()
    assert 'href="../runs/small+train.rank=8/8-report/report.html"' in text
    assert (home / "pages" / "../runs/small+train.rank=8/8-report/report.html").read_text() == "page"


@pytest.mark.parametrize(("name", "address"), [("javascript:x", "javascript%3Ax/r.html"), ("a b%", "a%20b%25/r.html")])
def test_a_name_cannot_become_another_kind_of_address(tmp_path: Path, name: str, address: str) -> None:
    assert link_from(tmp_path / "page.html", str(tmp_path / name / "r.html")) == address


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_read(home: Path) -> None:
    done = call("--html", "no/such/page.html")
    assert done.exit_code == 2
    assert done.stdout == ""


def test_a_run_that_was_only_claimed_is_not_started(home: Path) -> None:
    claim(home / "runs" / "small", home / "recipes" / "small.yaml")
    assert row(home, "small").state_text == "not started"
    assert row(home, "small").settings["train.rank"] == 4
