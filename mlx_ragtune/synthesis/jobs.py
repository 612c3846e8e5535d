"""The table of calls, in SQLite: what was answered stays answered, whatever kills the process.

A job is pending, ok (some pairs passed), rejected (none did, with the commonest reason) or error (the
server failed, and the next run tries again). Only one thread writes.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.jsonl import parse_row, to_json
from mlx_ragtune.records import Pair

State = Literal["pending", "ok", "rejected", "error"]


@dataclass(frozen=True)
class Judged:
    """A pair as the model wrote it, with the reason why it was rejected ("" when it was not), and scores.

    ``topic`` is the noun phrase that a refusal of the same question would name. ``scores``: share of the
    answer that the model gives with the passages (``round_trip``) and without (``closed_book``).
    """

    pair: Pair
    reason: str = ""
    topic: str = ""
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a call came to. ``asked``: pairs asked for; ``unusable``: reason → items that were no pair."""

    asked: int
    judged: tuple[Judged, ...]
    unusable: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0

    def rejections(self) -> dict[str, int]:
        """Reason → pairs lost by it, commonest first."""
        counts = dict(self.unusable)
        for one in self.judged:
            if one.reason:
                counts[one.reason] = counts.get(one.reason, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def state(self) -> State:
        """ok or rejected."""
        return "ok" if any(not one.reason for one in self.judged) else "rejected"


def job_key(*parts: object) -> str:
    """sha256 of everything that the answer depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=asdict).encode()).hexdigest()


class Jobs:
    """A job table in one file, opened or made. Raises ArtifactError when the file is something else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(path, timeout=5, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")  # to disk at each checkpoint
            self._connection.execute("PRAGMA wal_autocheckpoint=0")  # a checkpoint for each finished job
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS job (key TEXT PRIMARY KEY, task TEXT NOT NULL, "
                "state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', outcome TEXT) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            raise self._broken(error) from None

    def _broken(self, error: sqlite3.Error) -> ArtifactError:
        return ArtifactError(f"not a usable job table: {error}", where=str(self._path), fix=f"rm {self._path}")

    def __enter__(self) -> "Jobs":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Write everything into the one file and close it."""
        self._connection.close()

    def _run(self, statement: str, *values: Any) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from None

    def begin(self, jobs: Iterable[tuple[str, str]]) -> None:
        """(key, task) of calls to come; those that are in the table stay as they are."""
        self._run("BEGIN")
        for key, task in jobs:
            self._run("INSERT OR IGNORE INTO job (key, task, state) VALUES (?, ?, 'pending')", key, task)
        self._run("COMMIT")

    def finished(self, key: str) -> Outcome | None:
        """What the call came to in an earlier run; None when it is pending, failed, or unknown."""
        rows = self._run("SELECT outcome FROM job WHERE key = ? AND state IN ('ok', 'rejected')", key)
        if not rows:
            return None
        return parse_row(Outcome, json.loads(rows[0][0]), where=f"{self._path}: job {key[:12]}")

    def finish(self, key: str, task: str, outcome: Outcome) -> None:
        """Keep what the call came to: on disk when this returns."""
        reason = "" if outcome.state == "ok" else next(iter(outcome.rejections()), "no pairs written")
        self._set(key, task, outcome.state, reason, to_json(outcome))

    def fail(self, key: str, task: str, reason: str) -> None:
        """The server failed: the call is tried again by the next run."""
        self._set(key, task, "error", reason, None)

    def _set(self, key: str, task: str, state: State, reason: str, outcome: str | None) -> None:
        self._run("INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?)", key, task, state, reason, outcome)
        self._run("PRAGMA wal_checkpoint(PASSIVE)")  # so that a copy of the one file has it too

    def counts(self) -> dict[State, int]:
        """State → jobs."""
        found = dict(self._run("SELECT state, count(*) FROM job GROUP BY state"))
        return {state: found.get(state, 0) for state in get_args(State)}
