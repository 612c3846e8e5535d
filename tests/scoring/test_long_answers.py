"""Scoring takes time linear in an answer's length, whatever the answer is made of."""

import time

import pytest

from mlx_ragtune.records import Answer, Nugget, Passage, Sampling
from mlx_ragtune.scoring.answers import negation, normalize, values
from mlx_ragtune.scoring.answers.probes import JsonCheck, NumberCheck, Probe, passes
from mlx_ragtune.scoring.answers.score import score_answer
from mlx_ragtune.scoring.judge.model_judge import claims
from tests.scoring.made import TITLES, question

TITLE = next(iter(TITLES.values()))
SHORT, FACTOR = 1_000, 8
MAX_RATIO = 12  # 8 times the text: linear is 8, quadratic 64; found where a thirteenth of the short time is quadratic
MIN_SECONDS = 0.01  # below, a time is mostly noise
TRIES = 3  # a busy machine may disturb one measurement
UNITS = {
    "spaces": " ", "newlines": "\n", "spaces and newlines": " \n", "tabs": "\t", "carriage returns": "\r\n",
    "U+2028": "\u2028", "digits": "1", "numbers": "1 ", "thousands": "1,234,", "quotes": '"', "brackets": "([",
    "one letter": "a", "letters": "a ", "stars": "*", "full stops": ". ", "dashes": "- \n", "list": "\n1. ",
    "table": "| a ", "fences": "```\n\n", "anchors": "48GB ", "negated anchors": "not 48GB ",
    "anchors in one word": "48gb/", "phrase": "the weights are not updated, but it is frozen. ",
    "sentence": "It uses a new adapter with 4 numbers. ", "title": f"{TITLE} ", "quoted title": f'"{TITLE}", ',
    "misspelled title": TITLE.replace("a", "o", 1) + " ", "citing words": "According to Aaa ",
    "quoted titles": '"Aaa Bbb Ccc Ddd", ', "refusals": "the papers do not ", "hedges": "but however, ",
    "formulas": "$48\\,\\text{GB}$ ",
    "groups": "1 000 ", "number words": "twenty ", "ideographs": "一", "units": "48 GB and ",
    "predicates": "48GB is false, ", "denials": "it is not true that 48GB, ", "contrary": "contrary to what the ",
    "decimal commas": "1,5 % der ",
    "identifiers": "NF4 GPT-3 ", "turn tokens": "<|im_end|>", "mentioned tokens": "the <s> tag and ", "ticks": "`<s>` ",
    "labels": "\nUser: a b c", "questions": "\nQuestion: why? ", "headings": '\n[1] "A title"\n',
    "single quotes": "'Aaa Bbb' ", "references": "\n[1] Aaa, B. (2020). Ccc ddd eee. F, 2020",
    "colons": "in Aaa Bbb: Ccc Ddd Eee ", "names": "Aaa and ",
    "by authors": "Aaa Bbb by Ccc and ",
    "sizes": "512 x 512 ", "joined titles": '"Aaa Bbb Ccc" and ', "one block": "ab", "contractions": "aren't ",
    "copied": "Memory falls to 48GB. ", "ordinary title": "The Attention paper ", "book": "《标题》",
}  # fmt: skip
NUGGETS = (
    Nugget("Memory falls to 48GB.", (("48GB", "forty-eight"),)),
    Nugget("The weights are not updated.", (("weights",), ("updated", "frozen"))),
)
ASKED = question(nuggets=NUGGETS)
PROBES = [
    Probe(check.type, "fact", "?", check, "", "")
    for check in (JsonCheck("json_keys", ("a",)), NumberCheck("number", 3.0))
]


def seconds(text: str) -> float:
    """Processor time of every metric of one answer, nothing cached."""
    titles = {**TITLES, "attention": "Attention"}
    for cached in (normalize._fold_long, negation._clauses, values._long):
        cached.cache_clear()
    started = time.process_time()
    answer = Answer("k", "q", "base", 0, text, "stop", 5, 5, 1.0)
    passages = [Passage("c", "lora", TITLE, "Memory falls to 48GB.")]
    score_answer(ASKED, answer, passages, titles, sampling=Sampling(), system=TITLE)
    claims(text)
    for probe in PROBES:
        passes(probe, text)
        passes(probe, f"```json{text}```")
    return time.process_time() - started


@pytest.mark.parametrize("name", UNITS)
def test_eight_times_the_text_takes_at_most_twelve_times_the_time(name: str) -> None:
    unit = UNITS[name]
    text = f"a{unit * (SHORT * FACTOR // len(unit))}b"
    ratios = (seconds(text) / max(seconds(text[:SHORT]), MIN_SECONDS) for _ in range(TRIES))
    assert any(ratio < MAX_RATIO for ratio in ratios)


def test_long_answers_are_not_kept_in_memory() -> None:
    normalize._fold_long.cache_clear()
    for number in range(50):
        normalize.fold(f"{number} " * 1000)
    assert normalize._fold_long.cache_info().currsize <= 8
