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
SHORT, FACTOR = 2_500, 8
MAX_RATIO = 20  # 8 times the text: linear is 8, quadratic 64
UNITS = {
    "spaces": " ", "newlines": "\n", "spaces and newlines": " \n", "tabs": "\t", "carriage returns": "\r\n",
    "U+2028": "\u2028", "digits": "1", "numbers": "1 ", "thousands": "1,234,", "quotes": '"', "brackets": "([",
    "one letter": "a", "letters": "a ", "stars": "*", "full stops": ". ", "dashes": "- \n", "list": "\n1. ",
    "table": "| a ", "fences": "```\n\n", "anchors": "48GB ", "negated anchors": "not 48GB ",
    "anchors in one word": "48gb/", "phrase": "the weights are not updated, but it is frozen. ",
    "sentence": "It uses a new adapter with 4 numbers. ", "title": f"{TITLE} ", "quoted title": f'"{TITLE}", ',
    "misspelled title": TITLE.replace("a", "o", 1) + " ", "citing words": "According to Aaa ",
    "quoted titles": '"Aaa Bbb Ccc Ddd", ', "refusals": "the papers do not ", "hedges": "but however, ",
    "identifiers": "NF4 GPT-3 ", "formulas": "$48\\,\\text{GB}$ ", "powers": "10^{-4} ", "struck": "~~a",
    "tags": "<sup>a", "groups": "1 000 ", "number words": "twenty ", "ideographs": "一", "units": "48 GB and ",
    "predicates": "48GB is false, ", "denials": "it is not true that 48GB, ", "contrary": "contrary to what the ",
    "decimal commas": "1,5 % der ",
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
    """Processor time of every metric of one answer, nothing cached; the better of two."""
    best = float("inf")
    for _ in range(2):
        for cached in (normalize._fold_long, negation._clauses, values._long):
            cached.cache_clear()
        started = time.process_time()
        answer = Answer("k", "q", "base", 0, text, "stop", 5, 5, 1.0)
        passages = [Passage("c", "lora", TITLE, "Memory falls to 48GB.")]
        score_answer(ASKED, answer, passages, TITLES, sampling=Sampling())
        claims(text)
        for probe in PROBES:
            passes(probe, text)
            passes(probe, f"```json{text}```")
        best = min(best, time.process_time() - started)
    return best


@pytest.mark.parametrize("name", UNITS)
def test_eight_times_the_text_takes_at_most_twenty_times_the_time(name: str) -> None:
    unit = UNITS[name]
    text = f"a{unit * (SHORT * FACTOR // len(unit))}b"
    assert seconds(text) < MAX_RATIO * max(seconds(text[:SHORT]), 0.02)


def test_long_answers_are_not_kept_in_memory() -> None:
    normalize._fold_long.cache_clear()
    for number in range(50):
        normalize.fold(f"{number} " * 1000)
    assert normalize._fold_long.cache_info().currsize <= 8
