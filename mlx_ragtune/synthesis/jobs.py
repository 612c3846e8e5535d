"""The table of calls to the generator, in SQLite: a finished call is never made again, whatever ends the process.

A job is pending, ok (some pairs passed), rejected (none did; with the most frequent reason) or error (the
server failed, and the next run tries again). Several processes and recipes may share one table, because
the key of a job covers everything that its outcome depends on. In each process, one thread writes.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mlx_ragtune.errors import ArtifactError, InputError, RagtuneError, ToolError
from mlx_ragtune.jsonl import parse_row, to_json
from mlx_ragtune.records import Pair

State = Literal["pending", "ok", "rejected", "error"]
WAIT_SECONDS = 60.0
"""How long to wait for another process that is writing; it holds the lock for milliseconds."""
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
_SET = "INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Judged:
    """A pair as the model wrote it, with the reason why it was rejected ("" if it was not), and scores.

    ``topic`` is the noun phrase that a refusal of the same question would name. ``scores``: share of the
    answer that the model gives with the passages (``round_trip``) and without them (``closed_book``).
    ``repairs`` are the names of what was mended by rule.
    """

    pair: Pair
    reason: str = ""
    topic: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of a call. ``asked``: pairs asked for; ``unusable``: reason → items that are not pairs."""

    asked: int
    judged: tuple[Judged, ...]
    unusable: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0

    def rejections(self) -> dict[str, int]:
        """Reason → rejected pairs, most frequent first."""
        counts = dict(self.unusable)
        for item in self.judged:
            if item.reason:
                counts[item.reason] = counts.get(item.reason, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def state(self) -> State:
        """ok or rejected."""
        return "ok" if any(not item.reason for item in self.judged) else "rejected"


def job_key(*parts: object) -> str:
    """sha256 of everything that the outcome depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=asdict).encode()).hexdigest()


class Jobs:
    """A job table in one file, which is created if needed.

    Raises ArtifactError when the file is damaged or not a job table, and ToolError when it cannot be
    written: a full disk, missing permissions, another process that keeps it locked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
            self._use_wal()
            self._connection.execute("PRAGMA synchronous=NORMAL")  # fsynced by each checkpoint
            self._connection.execute("PRAGMA wal_autocheckpoint=0")  # a checkpoint for each finished job
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS job (key TEXT PRIMARY KEY, task TEXT NOT NULL, "
                "state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', outcome TEXT) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _use_wal(self) -> None:
        """Turn on write-ahead logging. SQLite does not wait for another process here, so this does."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _failure(self, error: sqlite3.Error) -> RagtuneError:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            return ArtifactError(f"not a usable job table: {error}", where=str(self._path), fix=f"rm {self._path}")
        return ToolError(
            f"cannot use the job table: {error}",
            where=str(self._path),
            fix="free disk space, correct the permissions or end other runs; then run the same command again",
        )

    def __enter__(self) -> "Jobs":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Write everything into the one file, unless another process has it open, and close it."""
        self._connection.close()

    def _run(self, statement: str, *values: Any) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute the statement for each row in one short transaction."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(statement, rows)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def begin(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Add (key, task) of calls that are about to be made; those in the table stay as they are."""
        self._write("INSERT OR IGNORE INTO job (key, task, state) VALUES (?, ?, 'pending')", list(jobs))

    def finished(self, key: str) -> Outcome | None:
        """The outcome from an earlier run; None when the job is pending, failed, unknown or cannot be read."""
        rows = self._run("SELECT outcome FROM job WHERE key = ? AND state IN ('ok', 'rejected')", key)
        try:
            return parse_row(Outcome, json.loads(rows[0][0]), where=f"{self._path}: job {key[:12]}") if rows else None
        except (ValueError, TypeError, InputError):  # of an older format: the call is made again
            return None

    def finish(self, key: str, task: str, outcome: Outcome) -> None:
        """Store the outcome: it survives a kill, and after the checkpoint a power failure."""
        reason = "" if outcome.state == "ok" else next(iter(outcome.rejections()), "no pairs written")
        self._write(_SET, [(key, task, outcome.state, reason, to_json(outcome))])
        self._run("PRAGMA wal_checkpoint(PASSIVE)")  # also puts it into the one file, for copies

    def fail(self, key: str, task: str, reason: str) -> None:
        """Note that the server failed, unless another process has finished the job: the next run tries again."""
        reason = reason.encode(errors="replace").decode()
        self._write(
            "INSERT INTO job VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET state = excluded.state, "
            "reason = excluded.reason WHERE state NOT IN ('ok', 'rejected')",
            [(key, task, "error", reason, None)],
        )

    def counts(self) -> dict[State, int]:
        """State → jobs."""
        counts = dict(self._run("SELECT state, count(*) FROM job GROUP BY state"))
        return {state: counts.get(state, 0) for state in get_args(State)}
