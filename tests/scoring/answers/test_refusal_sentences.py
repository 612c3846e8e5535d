"""Labelled sentences of ``data/refusals``; "kept" ones are in no fit.

``benchmarks/refusals.py`` prints what each set showed at first sight, by a classifier fitted to the sets before it.
"""

import json
from pathlib import Path

import pytest

from mlx_ragtune.scoring.answers.refusal import is_refusal

DATA = Path(__file__).parents[3] / "data" / "refusals" / "sentences.jsonl"
ROWS = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
FITTED = [row for row in ROWS if row["set"] != "kept"]
GROUPS = sorted({(row["set"] if row["language"] == "en" else "all", row["language"], row["refuses"]) for row in FITTED})


@pytest.mark.parametrize(("name", "language", "refuses"), GROUPS)
def test_at_least_97_percent_of_each_class_are_told_apart(name: str, language: str, refuses: bool) -> None:
    rows = [row for row in FITTED if (row["language"], row["refuses"]) == (language, refuses)]
    texts = [row["text"] for row in rows if name in (row["set"], "all")]
    wrong = [text for text in texts if is_refusal(text) != refuses]
    assert len(wrong) <= 0.03 * len(texts), wrong


@pytest.mark.parametrize("refuses", [True, False])
def test_of_english_sentences_that_were_never_fitted_95_percent_of_each_class_are_told_apart(refuses: bool) -> None:
    texts = [row["text"] for row in ROWS if (row["set"], row["language"], row["refuses"]) == ("kept", "en", refuses)]
    assert len(texts) >= 95
    assert sum(is_refusal(text) == refuses for text in texts) >= 0.95 * len(texts)


@pytest.mark.parametrize("refuses", [True, False])
@pytest.mark.parametrize("language", ["de", "fr", "zh", "ja", "ko"])
def test_of_sentences_in_another_language_that_were_never_fitted_most_are_told_apart(
    language: str, refuses: bool
) -> None:
    texts = [
        row["text"] for row in ROWS if (row["set"], row["language"], row["refuses"]) == ("kept", language, refuses)
    ]
    assert len(texts) >= 18
    assert sum(is_refusal(text) == refuses for text in texts) >= 0.85 * len(texts)


def test_the_set_is_large_and_has_both_classes() -> None:
    english = [row["refuses"] for row in ROWS if row["language"] == "en"]
    assert min(english.count(True), english.count(False)) >= 300


@pytest.mark.parametrize("apostrophe", ["'", "’", "‘"])
@pytest.mark.parametrize("emphasis", ["", "**", "_", "`"])
def test_apostrophes_and_emphasis_do_not_decide(apostrophe: str, emphasis: str) -> None:
    text = f"{emphasis}I{apostrophe}m sorry, but I can{apostrophe}t answer that from the papers provided.{emphasis}"
    assert is_refusal(text)


@pytest.mark.parametrize("title", ["Nothing in the Papers: Models That Cannot Answer", "I Don't Know"])
def test_words_in_a_title_do_not_decide(title: str) -> None:
    assert not is_refusal(f'"{title}" finds that 12% of the questions get a wrong answer.')
    assert is_refusal(f'"{title}" does not say how many questions were asked, so I cannot answer.')
