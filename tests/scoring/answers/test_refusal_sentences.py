"""Sentences written against the recognizer: each language's ``first`` set before the code, the others after it.

At first sight the code of the time had right, of refusals and of answers: second set (English) 59% and 94%, third
64% and 94%, fourth 88% and 96%, fifth 84% and 90%, sixth 80% and 93%, seventh 87% and 97%, eighth 93% and 100%;
second sets of the other languages 91% and 91%. The sets from the ninth on, and the third and fourth of the other
languages, are by another author: ninth 84% and 99%, tenth 63% and 95%, eleventh 75% and 90%, twelfth 73% and 93%,
thirteenth 83% and 96%, fourteenth 88% and 91%, fifteenth 90% and 98%, sixteenth 74% and 95%, seventeenth 88% and
97%, eighteenth 85% and 93%; German, French, Chinese, Japanese and Korean third sets 83% and 94%, fourth ones 68%
and 97%. What they showed is in the grammars now, so that they no longer measure the unseen.
"""

import json
from pathlib import Path

import pytest

from mlx_ragtune.scoring.answers.refusal import is_refusal

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parent / "refusal_sentences.jsonl").read_text(encoding="utf-8").splitlines()
]
GROUPS = sorted({(row["set"], row["language"], row["refuses"]) for row in ROWS})


@pytest.mark.parametrize(("name", "language", "refuses"), GROUPS)
def test_at_least_97_percent_of_each_class_are_told_apart(name: str, language: str, refuses: bool) -> None:
    texts = [row["text"] for row in ROWS if (row["set"], row["language"], row["refuses"]) == (name, language, refuses)]
    wrong = [text for text in texts if is_refusal(text) != refuses]
    assert len(wrong) <= 0.03 * len(texts), wrong


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
