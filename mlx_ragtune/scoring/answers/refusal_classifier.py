"""How likely is it that an answer refuses? Two logistic regressions: of English, and of the other languages.

``benchmarks/refusals.py`` fits them to labelled sentences, measures them on sentences that they have not seen, and
writes their tables of weights.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

from mlx_ragtune.scoring.answers.refusal_features import features
from mlx_ragtune.scoring.answers.refusal_kinds import kind_features

WEIGHTS = Path(__file__).with_name("refusal_weights.tsv")
"""Of English. One feature a line: its name, a tab, its weight in hundredths. The first line is the constant term."""
KIND_WEIGHTS = Path(__file__).with_name("refusal_kind_weights.tsv")
"""Of the other languages, in the same form."""
CONSTANT = "constant"


def scale(found: Collection[str]) -> float:
    """The value of each of the n features of an answer: 1/√n, so that long answers do not weigh more."""
    return 1 / math.sqrt(len(found))


@cache
def weights(path: Path = WEIGHTS) -> Mapping[str, int]:
    """The weight of each feature by its name, in hundredths."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: int(weight) for name, _, weight in (line.rpartition("\t") for line in lines)}


def log_odds(sentences: Sequence[str], table: Mapping[str, int] | None = None, *, language: str = "en") -> float:
    """log P(refuses)/P(answers) of an answer, given as normalized sentences, by the shipped table or another.

    The weights are whole numbers, so that the order in which they are added does not matter.
    """
    english = language == "en"
    table = weights(WEIGHTS if english else KIND_WEIGHTS) if table is None else table
    found = features(sentences, table) if english else kind_features(sentences, language)
    return (table[CONSTANT] + scale(found) * sum(table[name] for name in found if name in table)) / 100
