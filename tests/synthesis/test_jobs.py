"""The job table keeps what was finished, in a real SQLite file."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.errors import ArtifactError, ToolError
from mlx_ragtune.synthesis.jobs import Jobs, Judged, Outcome, job_key
from tests.synthesis.corpus import CHUNKS, grounded, synthesis

GOOD = Judged(grounded("LoRA"), scores={"round_trip": 0.5})
BAD = Judged(synthesis("LoRA", "DoRA"), "not plain prose", "the memory")
OUTCOME = Outcome(4, (GOOD, BAD), {"pair not written": 2}, 3, 200, 1.5)


def test_an_outcome_comes_back_as_it_was(tmp_path: Path) -> None:
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        jobs.finish("key", "grounded", OUTCOME)
        assert jobs.finished("key") == OUTCOME
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        assert jobs.finished("key") == OUTCOME
        assert jobs.finished("other") is None


def test_each_job_is_in_one_of_four_states(tmp_path: Path) -> None:
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        jobs.begin([(name, "grounded") for name in "abcd"])
        assert jobs.counts() == {"pending": 4, "ok": 0, "rejected": 0, "error": 0}
        jobs.finish("a", "grounded", OUTCOME)
        jobs.finish("b", "grounded", replace(OUTCOME, judged=(BAD,)))
        jobs.fail("c", "grounded", "connection refused")
        assert jobs.counts() == {"pending": 1, "ok": 1, "rejected": 1, "error": 1}


def test_failed_and_pending_jobs_are_not_finished(tmp_path: Path) -> None:
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        jobs.begin([("a", "grounded")])
        jobs.fail("b", "grounded", "connection refused")
        assert jobs.finished("a") is jobs.finished("b") is None
        jobs.finish("b", "grounded", OUTCOME)
        assert jobs.finished("b") == OUTCOME


def test_beginning_again_forgets_nothing(tmp_path: Path) -> None:
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        jobs.finish("a", "grounded", OUTCOME)
        jobs.begin([("a", "grounded")])
        assert jobs.finished("a") == OUTCOME


def test_the_commonest_reason_of_a_rejected_job_can_be_read_with_any_sqlite(tmp_path: Path) -> None:
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        jobs.finish("a", "grounded", Outcome(4, (BAD,), {"pair not written": 3}))
    connection = sqlite3.connect(tmp_path / "jobs.sqlite")
    assert connection.execute("SELECT state, reason FROM job").fetchall() == [("rejected", "pair not written")]
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_rejections_are_counted_commonest_first() -> None:
    assert list(OUTCOME.rejections().items()) == [("pair not written", 2), ("not plain prose", 1)]
    assert (OUTCOME.state, Outcome(4, ()).state) == ("ok", "rejected")


def test_a_reader_sees_finished_jobs_while_the_run_goes_on(tmp_path: Path) -> None:
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        jobs.finish("a", "grounded", OUTCOME)
        with Jobs(tmp_path / "jobs.sqlite") as other:
            assert other.counts()["ok"] == 1
            jobs.finish("b", "grounded", OUTCOME)
            assert other.counts()["ok"] == 2


def test_a_closed_table_is_one_file(tmp_path: Path) -> None:
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        jobs.finish("a", "grounded", OUTCOME)
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.sqlite"]


def test_a_copy_of_the_one_file_has_everything_while_the_run_goes_on(tmp_path: Path) -> None:
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        for number in range(5):
            jobs.finish(f"{number}", "grounded", OUTCOME)
        (tmp_path / "copy.sqlite").write_bytes((tmp_path / "jobs.sqlite").read_bytes())
        with Jobs(tmp_path / "copy.sqlite") as copy:
            assert copy.counts()["ok"] == 5


def test_another_file_in_its_place_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    path.write_text("these are my notes, not a database" * 50)
    with pytest.raises(ArtifactError, match="not a usable job table") as caught:
        Jobs(path)
    assert caught.value.fix == f"rm {path}"
    assert path.read_text().startswith("these are my notes")


def test_two_processes_share_one_table(tmp_path: Path) -> None:
    """Connections of two threads lock each other as those of two processes do."""
    path = tmp_path / "jobs.sqlite"

    def work(name: str) -> None:
        with Jobs(path) as jobs:
            for number in range(30):
                jobs.begin([(f"{name}-{number}", "grounded"), (f"both-{number}", "grounded")])
                jobs.finish(f"{name}-{number}", "grounded", OUTCOME)
                jobs.finish(f"both-{number}", "grounded", OUTCOME)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(work, "abc"))
    with Jobs(path) as jobs:
        assert jobs.counts() == {"pending": 0, "ok": 120, "rejected": 0, "error": 0}


def test_a_failure_does_not_replace_what_another_process_finished(tmp_path: Path) -> None:
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        jobs.finish("a", "grounded", OUTCOME)
        jobs.fail("a", "grounded", "connection refused")
        assert jobs.finished("a") == OUTCOME
        jobs.fail("b", "grounded", "the server said \ud83d")
        jobs.fail("b", "grounded", "again")
        assert jobs.counts()["error"] == 1


def test_an_outcome_of_an_older_format_is_asked_for_again(tmp_path: Path) -> None:
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        for number, outcome in enumerate(["{", '{"asked": 1}', "null", None]):
            jobs._write("INSERT INTO job VALUES (?, 'grounded', 'ok', '', ?)", [(f"{number}", outcome)])
            assert jobs.finished(f"{number}") is None


def test_a_table_that_cannot_be_written_is_a_tool_error_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        jobs.finish("a", "grounded", OUTCOME)
        jobs._run("PRAGMA max_page_count=4")
        with pytest.raises(ToolError, match="database or disk is full") as caught:
            jobs.finish("b", "grounded", replace(OUTCOME, judged=(GOOD,) * 400))
        assert not caught.value.fix.startswith("rm")
        assert jobs.finished("a") == OUTCOME
        monkeypatch.setattr("mlx_ragtune.synthesis.jobs.WAIT_SECONDS", 0.05)
        holder = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with Jobs(tmp_path / "jobs.sqlite") as other, pytest.raises(ToolError, match="database is locked"):
            other.fail("c", "grounded", "reason")
        holder.execute("ROLLBACK")
        holder.close()
    with pytest.raises(ToolError, match="unable to open"):
        Jobs(tmp_path / "absent" / "jobs.sqlite")


def test_a_key_depends_on_every_part() -> None:
    base = job_key(CHUNKS[0], "v1", "sha256:model")
    assert base == job_key(replace(CHUNKS[0]), "v1", "sha256:model")
    assert len({
        base,
        job_key(replace(CHUNKS[0], text="other"), "v1", "sha256:model"),
        job_key(CHUNKS[0], "v2", "sha256:model"),
        job_key(CHUNKS[0], "v1", "sha256:other"),
    }) == 4  # fmt: skip
    assert len(base) == 64
