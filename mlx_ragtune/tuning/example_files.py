"""The files of training rows between the stages: rows in one, their rejected answers in another.

The rejected answers are apart because only ``train.preference`` reads them: without it they change no adapter's key.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Example, Rejected

TRAINED = ("train", "valid")


def rejected_file(split: str) -> str:
    """Name of the file with the rejected answers of a split."""
    return f"rejected-{split}.jsonl"


def example_row(example: Example) -> Mapping[str, Any]:
    """The example as it is written: without its rejected answer."""
    row = asdict(example)
    del row["rejected"]
    return row


def read_examples(folder: Path, *, rejected: bool, rehearsal: Path | None = None) -> dict[str, list[Example]]:
    """The training and validation rows of a data set, with their rejected answers if they are asked for.

    ``rehearsal`` is the artifact with the base's own answers, whose rows are then there under that name.
    """
    rows = {split: list(read_rows(folder / f"examples-{split}.jsonl", Example)) for split in TRAINED}
    for split, own in rows.items() if rejected else ():
        worse = {row.id: row.answer for row in read_rows(folder / rejected_file(split), Rejected)}
        rows[split] = [replace(row, rejected=worse.get(row.id, "")) for row in own]
    if rehearsal is not None:
        rows["rehearsal"] = list(read_rows(rehearsal / "rehearsal.jsonl", Example))
    return rows
