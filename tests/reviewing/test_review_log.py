"""The log of reviews: nothing that was saved is lost, later lines win, a changed item is open again."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.errors import ArtifactError, ToolError
from mlx_ragtune.records import Question
from mlx_ragtune.reviewing.review_log import ReviewLog
from tests.reviewing.made_reviews import changed, pair, question, refused


def test_later_lines_win_and_a_skip_decides_nothing(tmp_path: Path) -> None:
    log, item = ReviewLog(tmp_path / "reviews.jsonl", reviewer="Ada"), question()
    log.decide(item, "accept")
    log.decide(item, "reject", reason="wrong", note="no")
    review = ReviewLog(log.path).reviews.current(item)
    assert review is not None
    assert (review.action, review.reason, review.note, review.reviewer) == ("reject", "wrong", "no", "Ada")
    assert review.at.endswith("Z")
    assert len(log.path.read_text().splitlines()) == 2


def test_a_changed_item_needs_a_new_review_and_another_origin_does_not_change_it(tmp_path: Path) -> None:
    log, item = ReviewLog(tmp_path / "reviews.jsonl"), question()
    log.decide(item, "accept")
    assert log.reviews.current(changed(item)) is None
    assert log.reviews.is_stale(changed(item))
    assert isinstance(item.row, Question)
    renamed = replace(item, row=replace(item.row, origin="reviewed", topic="other"))
    assert log.reviews.current(renamed) is not None
    assert not log.reviews.is_stale(renamed)


def test_an_edit_counts_for_the_item_before_and_after_it_was_applied(tmp_path: Path) -> None:
    log, item = ReviewLog(tmp_path / "reviews.jsonl"), pair()
    after = changed(item)
    log.decide(item, "edit", edited=vars(after.row))
    assert log.reviews.current(item) is not None
    assert log.reviews.current(after) is not None
    assert log.reviews.is_stale(changed(after))


def test_undo_takes_back_the_last_decision_only_and_brings_back_the_one_before(tmp_path: Path) -> None:
    log = ReviewLog(tmp_path / "reviews.jsonl")
    for item, action in ((question(), "accept"), (pair(), "accept"), (question(), "skip")):
        log.decide(item, action)  # type: ignore[arg-type]
    assert log.undo() == "benchmark/q0"
    review = log.reviews.current(question())
    assert review is not None
    assert review.action == "accept"
    assert [log.undo(), log.undo(), log.undo()] == ["pairs/p0", "benchmark/q0", None]
    assert log.reviews.current(question()) is None
    assert len(log.path.read_text().splitlines()) == 6  # nothing is ever removed


def test_two_processes_see_each_other(tmp_path: Path) -> None:
    first, second = ReviewLog(tmp_path / "reviews.jsonl"), ReviewLog(tmp_path / "reviews.jsonl")
    first.decide(question(), "accept")
    second.decide(refused(), "accept")
    assert first.reviews.by_item.keys() == second.reviews.by_item.keys() == {"benchmark/q0", "benchmark/o0"}


KILLED = """
import sys
from pathlib import Path
from mlx_ragtune.reviewing.review_log import ReviewLog
from tests.reviewing.made_reviews import question
log = ReviewLog(Path(sys.argv[1]))
for at in range(10_000):
    log.decide(question(at), "accept")
    print(at, flush=True)
"""


def test_a_kill_loses_no_saved_decision(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        confirmed = [int(process.stdout.readline()) for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
        confirmed += [int(line) for line in process.stdout.read().split()]
    with path.open("a") as stream:
        stream.write('{"item": "benchmark/q3", "action": "rej')  # what a kill inside a write would leave
    log = ReviewLog(path)
    assert {f"benchmark/q{at}" for at in confirmed} <= log.reviews.by_item.keys()
    log.decide(pair(), "accept")
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_damaged_line_and_a_folder_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    log = ReviewLog(tmp_path / "reviews.jsonl")
    log.decide(question(), "accept")
    with log.path.open("a") as stream:
        stream.write('{"item": 3}\n')
    with pytest.raises(ArtifactError) as caught:
        assert log.reviews
    assert caught.value.where.endswith("reviews.jsonl:2")
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolError, match="the review was not saved"):
        ReviewLog(tmp_path / "file" / "reviews.jsonl").decide(question(), "accept")
