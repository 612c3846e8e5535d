"""What the data set depends on of a benchmark."""

from pathlib import Path

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Question


def dataset_view(benchmark: Path) -> list[list[object]]:
    """The id, papers and text of each question, in order. Raises InputError for a broken row."""
    return [[question.id, list(question.papers), question.question] for question in read_rows(benchmark, Question)]
