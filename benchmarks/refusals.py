"""How well are refusals told from answers? Fits the two classifiers and measures them on sentences they have not seen.

    python benchmarks/refusals.py            # each set, by a classifier fitted to the sets before it: two minutes
    python benchmarks/refusals.py --write    # fits them to all rows and writes the tables of weights that are shipped

The rows are ``data/refusals/sentences.jsonl``, without the set "kept"; of English also the answers of the shipped
training pairs, and the paragraphs of the shipped papers, which answer something.
The classifiers are logistic regressions on the features of ``refusal_features`` (English) and ``refusal_kinds`` (the
other languages together), each row scaled to length 1, with an L2 penalty. A feature must occur in ``MIN_ROWS`` or
``MIN_KIND_ROWS`` rows, an English word in ``MIN_WORD_ROWS``; rarer words are topics.
"""

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: the same sums on every machine

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from mlx_ragtune.jsonl import read_dicts
from mlx_ragtune.scoring.answers.refusal import normalized_sentences
from mlx_ragtune.scoring.answers.refusal_classifier import CONSTANT, KIND_WEIGHTS, WEIGHTS, log_odds, scale
from mlx_ragtune.scoring.answers.refusal_features import TOKEN, features
from mlx_ragtune.scoring.answers.refusal_kinds import kind_features
from mlx_ragtune.scoring.answers.refusal_words import word_of

DATA = Path(__file__).parents[1] / "data"
FIRST_SETS = 18
"""The sets that were written before the classifier; the later ones were measured at first sight."""
KEPT, SHIPPED = "kept", "shipped"
MIN_PARAGRAPH = 80
FIRST_KIND_SETS = 5
"""The sets with other languages that were written before their classifier."""
PENALTY, KIND_PENALTY = 0.01, 0.02
MIN_ROWS, MIN_KIND_ROWS = 4, 3
MIN_WORD_ROWS = 8
TOLERANCE = 1e-7

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """A labelled answer."""

    name: str
    sentences: tuple[str, ...]
    refuses: bool
    language: str = "en"


def labelled_rows() -> list[Row]:
    """English sentences in the order of their sets, then the shipped training pairs and paragraphs of papers."""
    sentences = [row for row in read_dicts(DATA / "refusals" / "sentences.jsonl") if row["language"] == "en"]
    rows = [Row(row["set"], tuple(normalized_sentences(row["text"])), row["refuses"]) for row in sentences]
    pairs = read_dicts(DATA / "rag_notes" / "pairs.jsonl")
    rows += [Row(SHIPPED, tuple(normalized_sentences(row["answer"])), row["kind"] == "refusal") for row in pairs]
    notes = (path.read_text(encoding="utf-8") for path in sorted((DATA / "rag_notes" / "papers").glob("*.md")))
    paragraphs = (part for note in notes for part in note.split("\n\n")[1:] if len(part) > MIN_PARAGRAPH)
    return rows + [Row(SHIPPED, tuple(normalized_sentences(paragraph)), refuses=False) for paragraph in paragraphs]


def other_rows() -> list[Row]:
    """Sentences in the other languages, in the order of their sets."""
    rows = [row for row in read_dicts(DATA / "refusals" / "sentences.jsonl") if row["language"] != "en"]
    return [Row(row["set"], tuple(normalized_sentences(row["text"])), row["refuses"], row["language"]) for row in rows]


def known_words(rows: Sequence[Row]) -> set[str]:
    """The features "w:stem" of the words that occur in enough rows."""
    counts = Counter(
        stem for row in rows for stem in {word_of(token).stem for token in TOKEN.findall(" ".join(row.sentences))}
    )
    return {f"w:{stem}" for stem, count in counts.items() if count >= MIN_WORD_ROWS}


def matrix(found: Sequence[set[str]], columns: dict[str, int]) -> sparse.csr_matrix:
    """One row for each set of features, scaled; features without a column are left out."""
    indices = [sorted(columns[name] for name in names if name in columns) for names in found]
    values = [np.full(len(row), scale(names)) for row, names in zip(indices, found, strict=True)]
    starts = np.cumsum([0, *map(len, indices)])
    return sparse.csr_matrix(
        (np.concatenate(values), np.concatenate([np.array(row, dtype=np.int64) for row in indices]), starts),
        shape=(len(found), len(columns)),
    )


def fit(rows: Sequence[Row]) -> dict[str, int]:
    """The weights of English."""
    known = known_words(rows)
    found = [features(row.sentences, known) for row in rows]
    weights = regression(found, rows, penalty=PENALTY, min_rows=MIN_ROWS)
    return {name: weight for name, weight in weights.items() if weight or name in known or name == CONSTANT}


def fit_kinds(rows: Sequence[Row]) -> dict[str, int]:
    """The weights of the other languages."""
    found = [kind_features(row.sentences, row.language) for row in rows]
    weights = regression(found, rows, penalty=KIND_PENALTY, min_rows=MIN_KIND_ROWS)
    return {name: weight for name, weight in weights.items() if weight or name == CONSTANT}


def regression(found: Sequence[set[str]], rows: Sequence[Row], *, penalty: float, min_rows: int) -> dict[str, int]:
    """The weight of each feature that occurs in enough rows, after the constant term, in hundredths."""
    counts = Counter(name for names in found for name in names)
    names = sorted(name for name, count in counts.items() if count >= min_rows)
    inputs = matrix(found, {name: column for column, name in enumerate(names)})
    transposed = inputs.T.tocsr()
    signs = np.array([1.0 if row.refuses else -1.0 for row in rows])

    def loss(parameters: Floats) -> tuple[float, Floats]:
        margins = signs * (inputs @ parameters[:-1] + parameters[-1])
        value = np.logaddexp(0, -margins).sum() + penalty / 2 * (parameters[:-1] @ parameters[:-1])
        slopes = -signs / (1 + np.exp(margins))
        return float(value), np.append(transposed @ slopes + penalty * parameters[:-1], slopes.sum())

    start = np.zeros(len(names) + 1)
    options = {"maxiter": 5000, "maxfun": 10000, "gtol": TOLERANCE, "ftol": 0.0, "maxcor": 30}
    best = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    hundredths = np.rint(best * 100).astype(int).tolist()
    return {CONSTANT: hundredths.pop()} | dict(zip(names, hundredths, strict=True))


def table(weights: dict[str, int]) -> str:
    """The text of the shipped table."""
    return "".join(f"{name}\t{weight}\n" for name, weight in weights.items())


def right(rows: Sequence[Row], weights: dict[str, int]) -> tuple[int, int, int, int]:
    """(refusals told, refusals, answers told, answers)."""
    told = Counter[bool]()
    for row in rows:
        told[row.refuses] += (log_odds(row.sentences, weights, language=row.language) > 0) == row.refuses
    refusals = sum(row.refuses for row in rows)
    return told[True], refusals, told[False], len(rows) - refusals


def main() -> None:
    """Print what each set showed at first sight, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the table of weights")
    arguments = parser.parse_args()
    rows, others = labelled_rows(), other_rows()
    seen, seen_others = ([row for row in group if row.name != KEPT] for group in (rows, others))
    if arguments.write:
        WEIGHTS.write_text(table(fit(seen)), encoding="utf-8")
        KIND_WEIGHTS.write_text(table(fit_kinds(seen_others)), encoding="utf-8")
        return
    names = [name for name in dict.fromkeys(row.name for row in rows) if name not in (SHIPPED, KEPT)]
    shipped = [row for row in rows if row.name == SHIPPED]
    print("set          refusals      answers")
    for place, name in enumerate([*names[FIRST_SETS:], KEPT], start=FIRST_SETS):
        before = [row for row in seen if row.name in names[:place]]
        told = right([row for row in rows if row.name == name], fit(before + shipped))
        print(f"{name:<11}{_share(*told[:2])}  {_share(*told[2:])}", flush=True)
    _print_others(others, seen_others)


def _print_others(others: Sequence[Row], seen: Sequence[Row]) -> None:
    names = list(dict.fromkeys(row.name for row in seen))
    print("\nset   language  refusals      answers")
    for place, name in enumerate([*names[FIRST_KIND_SETS:], KEPT], start=FIRST_KIND_SETS):
        weights = fit_kinds([row for row in seen if row.name in names[:place]])
        for language in sorted({row.language for row in others if row.name == name}):
            told = right([row for row in others if (row.name, row.language) == (name, language)], weights)
            print(f"{name:<5} {language:<7}{_share(*told[:2])}  {_share(*told[2:])}", flush=True)


def _share(part: int, whole: int) -> str:
    return f"{part:>4}/{whole:<4}{100 * part / whole:5.1f}%" if whole else " " * 15


if __name__ == "__main__":
    main()
