from benchmarks.refusals import KEPT, fit, labelled_rows, table
from mlx_ragtune.scoring.answers.refusal_classifier import WEIGHTS


def test_the_shipped_weights_are_those_of_the_labelled_rows() -> None:
    rows = labelled_rows()
    assert sum(row.name == KEPT for row in rows) >= 190
    weights = table(fit([row for row in rows if row.name != KEPT]))
    assert weights == WEIGHTS.read_text(encoding="utf-8"), "run 'python benchmarks/refusals.py --write'"


def test_no_kept_sentence_is_among_the_fitted_ones() -> None:
    rows = labelled_rows()
    fitted = {row.sentences for row in rows if row.name != KEPT}
    assert not [row for row in rows if row.name == KEPT and row.sentences in fitted]
