"""How likely is it that an English answer refuses? A logistic regression whose weights are in ``refusal_weights.tsv``.

``benchmarks/refusals.py`` fits it to labelled sentences, measures it on sentences that it has not seen, and writes
the table.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

from mlx_ragtune.scoring.answers.refusal_features import features

WEIGHTS = Path(__file__).with_name("refusal_weights.tsv")
"""One feature a line: its name, a tab, and its weight in hundredths. The first line is the constant term."""
CONSTANT = "constant"


def scale(found: Collection[str]) -> float:
    """The value of each of the n features of an answer: 1/√n, so that long answers do not weigh more."""
    return 1 / math.sqrt(len(found))


@cache
def weights() -> Mapping[str, int]:
    """The weight of each feature by its name, in hundredths."""
    lines = WEIGHTS.read_text(encoding="utf-8").splitlines()
    return {name: int(weight) for name, _, weight in (line.rpartition("\t") for line in lines)}


def log_odds(sentences: Sequence[str], table: Mapping[str, int] | None = None) -> float:
    """log P(refuses)/P(answers) of an English answer, given as normalized sentences, by the shipped table or another.

    The weights are whole numbers, so that the order in which they are added does not matter.
    """
    table = weights() if table is None else table
    found = features(sentences, table)
    return (table[CONSTANT] + scale(found) * sum(table[name] for name in found if name in table)) / 100
