"""The file that ``ragtune draft`` writes, and its receipt: what a person wrote, edited or reviewed is never lost."""

import json
import os
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import digest_json
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.records import Question

RECEIPT = "draft.json"
"""In the run's folder: the papers that were set aside, and the digest of each drafted row as it was written."""


@dataclass(frozen=True)
class Receipt:
    """What an earlier draft wrote."""

    papers: tuple[str, ...] = ()
    rows: Mapping[str, str] = field(default_factory=dict)


def read_receipt(home: Path) -> Receipt:
    """The receipt of a run; an empty one where there is none that can be read."""
    try:
        value = json.loads((home / RECEIPT).read_text(encoding="utf-8"))
        return Receipt(tuple(map(str, value["papers"])), {str(name): str(row) for name, row in value["rows"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Receipt()


def write_receipt(
    home: Path, *, papers: Sequence[str], drafted: Collection[Question], about: Mapping[str, Any]
) -> None:
    """Note what was drafted. Raises ToolError when the run's folder cannot be written."""
    value = {
        "papers": list(papers),
        "written_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **about,
        "rows": {question.id: digest_json(asdict(question)) for question in drafted},
    }
    aside = home / f".{RECEIPT}"
    try:
        aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        aside.replace(home / RECEIPT)
    except OSError as error:
        raise _cannot_write(home / RECEIPT, error) from None


def is_there(path: Path) -> bool:
    """Whether the benchmark file exists and holds anything."""
    try:
        return path.exists() and bool(path.read_text(encoding="utf-8", errors="replace").strip())
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), fix="check its permissions") from None


def of_people(questions: Sequence[Question], receipt: Receipt) -> list[Question]:
    """The questions that a person wrote, reviewed or edited: all but those that are exactly as they were drafted."""
    return [
        question
        for question in questions
        if question.origin != "drafted" or receipt.rows.get(question.id) != digest_json(asdict(question))
    ]


def write_benchmark(path: Path, questions: Sequence[Question], *, replace: bool) -> Path | None:
    """Write the questions in one step. Returns the copy of the former file, None where there was none.

    Without ``replace`` a file that appeared meanwhile is not overwritten. Raises InputError for that, ToolError when
    it cannot be written.
    """
    path = Path(os.path.realpath(path))
    aside = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    backup = None
    try:
        try:
            write_rows(aside, questions)
            if replace and path.exists():
                backup = _free_name(path)
                shutil.copy2(path, backup)
            elif is_there(path):
                raise InputError("it exists by now", where=str(path), fix="ragtune draft RECIPE --redo")
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from None
    return backup


def _free_name(path: Path) -> Path:
    """``NAME.bak``, or the first of ``NAME.bak2``, ``NAME.bak3``, … that is free."""
    number = 1
    while (backup := path.with_name(f"{path.name}.bak{number if number > 1 else ''}")).exists():
        number += 1
    return backup


def _cannot_write(path: Path, error: OSError) -> ToolError:
    return ToolError(
        f"cannot be written: {error.strerror or error}",
        where=str(path),
        fix="free disk space or correct the permissions, then run the same command again; replies are kept",
    )
