"""``ragtune review``: what it prints without a terminal, what it writes, and how it ends."""

import json
import os
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Pair, Question
from mlx_ragtune.reviewing.review_items import ReviewItem, benchmark_items
from mlx_ragtune.reviewing.review_log import ReviewLog
from tests.stages.project import edit, make_project, ragtune, recipe_of, rows, run_folder, write_rows

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_project(tmp_path)
    return tmp_path


def log(home: Path) -> ReviewLog:
    return ReviewLog(run_folder(home) / "reviews.jsonl")


def review(home: Path, *options: str) -> Any:
    return ragtune("review", recipe_of(home), *options, cwd=home)


def test_without_a_terminal_the_state_is_printed_and_nothing_is_served_or_written(home: Path) -> None:
    done = review(home)
    assert done.returncode == 0
    assert "questions: 0 of 8 reviewed (0 accepted, 0 rejected, 0 edited)" in done.stdout
    assert "Review all 8: each one counts." in done.stdout
    assert not (home / "runs").exists()
    state = json.loads(review(home, "--what", "benchmark", "--json").stdout)
    assert state["parts"].keys() == {"benchmark"}
    assert state["parts"]["benchmark"]["estimate"] is None
    assert state["reviews"].endswith("runs/small/reviews.jsonl")


def test_a_sample_size_is_kept(home: Path) -> None:
    assert "0 of 3 reviewed" in review(home, "--what", "benchmark", "--sample", "3").stdout
    assert "0 of 3 reviewed" in review(home, "--what", "benchmark").stdout
    assert "0 of 8 reviewed" in review(home, "--what", "benchmark", "--all").stdout


def test_reviews_are_applied_only_when_asked_for_and_the_next_command_is_named(home: Path) -> None:
    path = home / "benchmark.jsonl"
    before = path.read_bytes()
    items = benchmark_items(path)
    log(home).decide(items[0], "reject", reason="wrong")
    log(home).decide(items[1], "accept")
    assert "1 of 2 questions has a defect" in review(home).stdout
    assert path.read_bytes() == before
    done = review(home, "--apply")
    assert done.returncode == 0, done.stderr
    assert "benchmark.jsonl: 7 rows; 1 removed, 0 replaced, 1 accepted, 6 kept without a review" in done.stdout
    assert f"next: ragtune validate {recipe_of(home)}" in done.stderr
    assert (home / "benchmark.jsonl.bak").read_bytes() == before
    questions = list(read_rows(path, Question))
    assert [question.origin for question in questions] == ["reviewed", *["authored"] * 6]
    assert "1 of 2 questions has a defect" in review(home).stdout  # still known, although it has left the file
    assert ragtune("validate", recipe_of(home), cwd=home).returncode == 0


def test_pairs_are_written_to_a_file_of_their_own_with_export(home: Path) -> None:
    source = home / "pairs.jsonl"
    before = source.read_bytes()
    first = next(read_rows(source, Pair))
    log(home).decide(ReviewItem("pairs", first), "reject", reason="trivial")
    done = review(home, "--what", "pairs", "--export", "reviewed.jsonl")
    assert done.returncode == 0, done.stderr
    assert [one["id"] for one in rows(home / "reviewed.jsonl")] == [one["id"] for one in rows(source)][1:]
    assert source.read_bytes() == before
    edit(recipe_of(home), dataset={"pairs": "../reviewed.jsonl"})
    assert ragtune("validate", recipe_of(home), cwd=home).returncode == 0


def test_generated_pairs_are_reviewed_and_given_back_beside_the_recipe(home: Path) -> None:
    pairs = rows(home / "pairs.jsonl")
    edit(recipe_of(home), dataset={"pairs": None, "generator": {"model": "writer"}})
    done = review(home, "--what", "pairs")
    assert done.returncode == 5
    assert "no pairs are generated yet" in done.stderr
    assert f"ragtune dataset {recipe_of(home)}" in done.stderr
    done = review(home)
    assert done.returncode == 0
    assert "pairs are left out: no pairs are generated yet" in done.stderr
    folder = run_folder(home) / "2-dataset"
    folder.mkdir(parents=True)
    write_rows(folder / "generated.jsonl", [{"pair": pair, "task": "grounded"} for pair in pairs])
    log(home).decide(ReviewItem("pairs", next(read_rows(home / "pairs.jsonl", Pair)), "grounded"), "accept")
    done = review(home, "--apply")
    assert done.returncode == 0, done.stderr
    written = home / "recipes" / "small-pairs.jsonl"
    assert len(rows(written)) == len(pairs)
    assert "next: set dataset.pairs: ./small-pairs.jsonl instead of dataset.generator" in done.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--export", "x.jsonl"], "--export writes one file: add --what"),
        (["--apply", "--all"], "use one of --sample, --all, --apply and --export"),
        (["--sample", "3", "--all"], "use one of --sample"),
        (["--sample", "0"], "0 is not in the range"),
    ],
)
def test_options_that_contradict_each_other_are_refused(home: Path, options: list[str], problem: str) -> None:
    done = review(home, *options)
    assert done.returncode == 2
    assert problem in done.stderr


def test_nothing_to_apply_and_damaged_files_are_errors_with_a_fix(home: Path) -> None:
    done = review(home, "--apply")
    assert (done.returncode, "there are no reviews to apply" in done.stderr) == (3, True)
    log(home).decide(benchmark_items(home / "benchmark.jsonl")[0], "accept")
    with log(home).path.open("a") as stream:
        stream.write('{"item": "x", "action": "shrug"}\n')
    done = review(home)
    assert done.returncode == 5
    assert "reviews.jsonl:2" in done.stderr
    (home / "benchmark.jsonl").write_text("{}\n")
    done = review(home)
    assert done.returncode == 3
    assert "benchmark.jsonl:1" in done.stderr


def test_ctrl_c_ends_the_page_with_a_summary_and_keeps_the_reviews(home: Path) -> None:
    command = [sys.executable, "-m", "mlx_ragtune", "review", str(recipe_of(home)), "--no-open", "--reviewer", "Ada"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAGTUNE_OFFLINE": "1"}
    with subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = urlsplit(process.stdout.readline().strip())
        connection = HTTPConnection(address.hostname or "", address.port, timeout=30)
        connection.request("GET", f"{address.path}item?n=0")
        shown = json.loads(connection.getresponse().read())
        assert shown["places"]
        body = json.dumps({"n": 0, "id": shown["id"], "action": "accept"})
        connection.request("POST", f"{address.path}review", body, {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 130
    assert "stopped; the same command continues" in errors
    assert "questions: 1 of 8 reviewed (1 accepted" in errors
    assert "Traceback" not in errors
    assert json.loads(log(home).path.read_text())["reviewer"] == "Ada"
