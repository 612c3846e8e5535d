"""The fixed prompts that fuse and export are checked on: rows of the data set and questions of the benchmark."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Example, Message
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import Retriever

EACH = 5
"""Number of prompts from each source."""


def fixed_prompts(
    dataset: Path, questions: Sequence[str], *, retriever: Retriever, top_k: int
) -> list[tuple[Message, ...]]:
    """Up to ``EACH`` prompts of validation rows (training rows if there are none) and as many of the questions."""
    examples: Sequence[Example] = list(islice(read_rows(dataset / "examples-valid.jsonl", Example), EACH))
    if not examples:
        examples = list(islice(read_rows(dataset / "examples-train.jsonl", Example), EACH))
    chosen = questions[:: max(1, len(questions) // EACH)][:EACH]
    asked = [build_messages(retriever.search(text, top_k), text) for text in chosen]
    return [*(example.messages[:-1] for example in examples), *asked]
