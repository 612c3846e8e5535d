"""A blind comparison in progress: one plan, the votes on it in an append-only file, the result at the end.

session folder: key (secret) · session.json (n, checks, digest of the plan) · votes.jsonl · unblinded.json
"""

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_ragtune.errors import ArtifactError, InputError, ToolError
from mlx_ragtune.jsonl import RowLog, read_json
from mlx_ragtune.pages.ab_analysis import CHOICES, Choice, analyze, references, report_part
from mlx_ragtune.pages.ab_plan import Reference, Trial, plan_digest, plan_trials
from mlx_ragtune.pages.ab_planted import Item
from mlx_ragtune.pages.report_data import ABPart

Preferences = Mapping[Reference, Mapping[str, str]]
"""What a judge prefers, for each reference: question id → the reference, tuned or tie."""
REASONS = ("right", "grounded", "names its paper", "clear", "complete")
KEY_BYTES = 32


@dataclass(frozen=True)
class Vote:
    """One row of ``votes.jsonl``; ``at`` is the time in UTC."""

    trial: str
    choice: Choice
    reasons: tuple[str, ...]
    at: str


@dataclass
class Session:
    """One plan and the votes on it. A later vote on a trial replaces the earlier one; the file keeps both."""

    folder: Path
    trials: list[Trial]
    n: int
    votes: dict[str, Choice] = field(default_factory=dict)
    judge: Preferences = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def done(self) -> int:
        """Index of the first trial without a vote."""
        return next((at for at, trial in enumerate(self.trials) if trial.id not in self.votes), len(self.trials))

    @property
    def unblinded(self) -> bool:
        """Whether the result has been shown."""
        return (self.folder / "unblinded.json").exists()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from collecting votes on this session; votes of earlier ones are read again.

        Raises ArtifactError at once, with the process, when another one holds the session.
        """
        import filelock

        lock, holder = filelock.FileLock(self.folder / ".lock"), self.folder / ".open"
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            process = holder.read_text(encoding="utf-8").strip() if holder.exists() else "unknown"
            raise ArtifactError(
                f"another 'ragtune ab' is collecting votes on these answers (process {process})",
                where=str(self.folder),
                fix="use the page that is already open, or stop that process with Ctrl-C",
            ) from None
        try:
            _write_atomically(holder, str(os.getpid()))
            with self.lock:
                self.votes = _read_votes(self.folder / "votes.jsonl")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def vote(self, trial: str, choice: str, reasons: Sequence[str] = ()) -> bool:
        """Append a vote, fsynced. False, with nothing written, for an invalid vote or one after the unblinding.

        Raises ToolError when the vote could not be saved; it then does not count.
        """
        known = {planned.id for planned in self.trials}
        chosen = next((valid for valid in CHOICES if valid == choice), None)
        if trial not in known or chosen is None:
            return False
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        row = Vote(trial, chosen, tuple(reason for reason in REASONS if reason in reasons), at)
        with self.lock:
            if self.unblinded:
                return False
            try:
                with RowLog(self.folder / "votes.jsonl") as log:
                    log.append(row)
            except ToolError as error:
                fix = "free disk space or correct the permissions, then vote again"
                raise ToolError(f"the vote was not saved: {error.what}", where=error.where, fix=fix) from None
            self.votes[trial] = chosen
        return True

    def unblind(self) -> bool:
        """Write the result once every trial has a vote; no vote is accepted after that. False before.

        Raises ToolError when the result cannot be written.
        """
        with self.lock:
            if self.done < len(self.trials):
                return False
            if not self.unblinded:
                part = report_part(
                    *(
                        analyze(self.trials, self.votes, against=reference, judge=self.judge.get(reference))
                        for reference in references(self.trials)
                    )
                )
                text = json.dumps(part, ensure_ascii=False, indent=1)
                _write_atomically(self.folder / "unblinded.json", f"{text}\n")
        return True

    def result(self) -> ABPart | None:
        """The result for the report; None before the unblinding. Raises ArtifactError when its file is damaged."""
        if not self.unblinded:
            return None
        path = self.folder / "unblinded.json"
        part = _read_object(path, {"headline", "rows"}, fix=f"rm {path}, then unblind again")
        return {"headline": part["headline"], "rows": part["rows"]}


def open_session(folder: Path, items: Sequence[Item], *, n: int, judge: Preferences | None = None) -> Session:
    """The session in the folder, new or continued.

    A session of a version that did not check its planted answers keeps its votes on real answers and gets new
    planted ones. Raises ArtifactError when the session began with other answers or another ``n``, or when its files are
    damaged; InputError as ``plan_trials``; ToolError when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(folder, error) from None
    key, is_new = _key(folder)
    trials = plan_trials(items, key, n=n)
    described = {"n": n, "checks": sum(trial.kind == "check" for trial in trials), "plan": plan_digest(trials)}
    known = None if is_new else read_session(folder)
    unchecked = known is not None and "checks" not in known and known["n"] == n and references(trials) == ["base"]
    if known is None or unchecked:
        _write_atomically(folder / "session.json", json.dumps(described) + "\n")
    elif known != described:
        raise ArtifactError(
            "this session began with other answers, or with another number of comparisons",
            where=str(folder),
            fix=f"mv {folder} {folder}.old, then run the same command again to start a new session",
        )
    session = Session(folder, trials, n, _read_votes(folder / "votes.jsonl"), judge or {})
    session.result()  # raises for a damaged file before the page is opened
    return session


def read_session(folder: Path) -> dict[str, Any] | None:
    """``n``, ``checks`` and ``plan`` of the session in the folder, or None. Raises ArtifactError for a damaged file.

    Sessions whose planted answers were not checked have no ``checks``.
    """
    path = folder / "session.json"
    if not path.exists():
        return None
    fix = f"mv {folder} {folder}.old, then run the same command again to start a new session"
    described = _read_object(path, {"n", "plan"}, optional={"checks"}, fix=fix)
    if not isinstance(described["n"], int) or not isinstance(described["plan"], str):
        raise ArtifactError("the file is damaged: 'n' or 'plan' has the wrong type", where=str(path), fix=fix)
    return described


def _read_object(path: Path, keys: set[str], *, fix: str, optional: Collection[str] = ()) -> dict[str, Any]:
    """The JSON object in a file of the session. Raises ArtifactError unless it has exactly these keys."""
    try:
        value = read_json(path)
    except InputError as error:
        raise ArtifactError(f"the file is damaged: {error.what}", where=str(path), fix=fix) from None
    if not isinstance(value, dict) or set(value) - set(optional) != keys:
        raise ArtifactError(f"the file is damaged: expected the keys {sorted(keys)}", where=str(path), fix=fix)
    return value


def _key(folder: Path) -> tuple[bytes, bool]:
    """The session's secret key, and whether it is new. A damaged key is replaced only while there is no vote."""
    path = folder / "key"
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip() if path.exists() else ""
    except OSError as error:
        raise ArtifactError(
            f"cannot read the key: {error.strerror}", where=str(path), fix=f"chmod u+r {path}"
        ) from None
    if re.fullmatch(rf"[0-9a-f]{{{2 * KEY_BYTES}}}", text):
        return bytes.fromhex(text), False
    if _read_votes(folder / "votes.jsonl"):
        raise ArtifactError(
            "the key is missing or damaged, so the votes cannot be assigned to models",
            where=str(path),
            fix=f"restore the file, or start again: mv {folder} {folder}.old",
        )
    key = secrets.token_bytes(KEY_BYTES)
    _write_atomically(path, key.hex())
    return key, True


def _read_votes(path: Path) -> dict[str, Choice]:
    """The last vote on each trial. A last line that was cut short by a kill was never confirmed and is removed."""
    if not path.exists():
        return {}
    try:
        with RowLog(path) as log:
            return {vote.trial: vote.choice for vote in log.rows(Vote)}
    except InputError as error:
        raise ArtifactError(error.what, where=error.where, fix="remove this line") from None


def _write_atomically(path: Path, text: str) -> None:
    """Write a file that only its owner can read, fsynced, in one step. Raises ToolError."""
    aside = path.with_name(f"{path.name}.part")
    try:
        aside.unlink(missing_ok=True)
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except OSError as error:
        raise _not_written(path, error) from None


def _not_written(path: Path, error: OSError) -> ToolError:
    fix = "free disk space or correct the permissions, then try again"
    return ToolError(f"cannot write: {error.strerror or error}", where=str(path), fix=fix)
