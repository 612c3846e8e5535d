"""The gate stops parts of prompts, dialogues and control tokens, and counts what rows show together."""

from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Chunk, Pair
from mlx_ragtune.retrieval.prompt import SYSTEM
from mlx_ragtune.synthesis.gate import (
    CONTROL_TOKEN,
    DIALOGUE,
    PROMPT_TEXT,
    THINKING,
    collapsed_openings,
    corpus_findings,
    length_outliers,
    opening,
    row_fault,
    row_faults,
    warnings,
)
from mlx_ragtune.synthesis.generator_prompts import RULES
from mlx_ragtune.synthesis.generator_prompts import SYSTEM as WRITER
from tests.synthesis.corpus import grounded

PAIRS = Path(__file__).parents[2] / "data" / "rag_notes" / "pairs.jsonl"
GOOD = '"LoRA: Low-Rank Adaptation" saves 10 percent of the memory.'


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (f"{GOOD}<|im_end|>", CONTROL_TOKEN),
        (f"{GOOD} The turn ends with '<|im_end|>'.", CONTROL_TOKEN),
        (f"[INST] {GOOD} [/INST]", CONTROL_TOKEN),
        (f"{GOOD}</s>", CONTROL_TOKEN),
        (f"{GOOD}<end_of_turn>", CONTROL_TOKEN),
        (f"<｜Assistant｜>{GOOD}", CONTROL_TOKEN),
        (f"<|channel|>final {GOOD}", CONTROL_TOKEN),
        (f"{GOOD} {SYSTEM}", PROMPT_TEXT),
        (f"Cite the title of each paper you use, in double quotes. {GOOD}", PROMPT_TEXT),
        (f"{GOOD} {WRITER}", PROMPT_TEXT),
        (f"{RULES['grounded'][2]} {GOOD}", PROMPT_TEXT),
        (f'Papers:\n\n[1] "LoRA"\nIt is a method of low rank.\n{GOOD}', PROMPT_TEXT),
        (f"{GOOD}\nUser: And what of time?\nAssistant: It saves time too.", DIALOGUE),
        (f"Question: How much? Answer: {GOOD}", DIALOGUE),
        (f"Answer: {GOOD}", DIALOGUE),
        (f"Okay, the user asks about memory. {GOOD}", THINKING),
    ],
)
def test_what_must_not_be_learned_is_found_in_an_answer(answer: str, reason: str) -> None:
    assert reason in row_faults("How much memory does LoRA save?", answer)
    assert row_fault(replace(grounded("LoRA"), answer=answer)) is not None


def test_a_control_token_in_a_question_is_found_and_only_a_base_that_has_it_minds_a_mask() -> None:
    assert CONTROL_TOKEN in row_faults("What does <|im_start|> mark?", GOOD)
    asked = "What replaces the tokens that BERT masks?"
    assert row_faults(asked, "It is [MASK], according to BERT.") == {}
    assert CONTROL_TOKEN in row_faults(asked, "It is [MASK], according to BERT.", ["[MASK]"])


def test_the_shipped_pairs_pass_the_gate() -> None:
    pairs = list(read_rows(PAIRS, Pair))
    assert [row_faults(pair.question, pair.answer) for pair in pairs if row_faults(pair.question, pair.answer)] == []
    findings = corpus_findings(pairs, [])
    assert findings == {"openings": [], "lengths": [], "control_tokens": {}}


def _pairs(answers: list[str]) -> list[Pair]:
    return [replace(grounded("LoRA"), id=str(number), answer=answer) for number, answer in enumerate(answers)]


def test_an_opening_that_more_than_a_fifth_of_the_answers_share_is_a_finding() -> None:
    same = [f'According to "Paper {number}: A Title", the gain is {number}.' for number in range(9)]
    other = [f"Gain {number} is what {number} reports." for number in range(31)]
    (row,) = collapsed_openings(_pairs(same + other))
    assert (row["opening"], row["answers"], row["of"], row["share"]) == ("according to …", 9, 40, 0.225)
    assert collapsed_openings(_pairs(same[:7] + other)) == []
    assert "vary the wording" in warnings(corpus_findings(_pairs(same + other), []))[0]
    assert opening("“A: B” shows that it is.") == "… shows that"


def test_an_answer_many_times_longer_than_the_others_is_a_finding() -> None:
    answers = [f"It is {'so ' * (10 + number % 7)}and {number}." for number in range(30)]
    assert length_outliers(_pairs(answers)) == []
    (row,) = length_outliers(_pairs([*answers, "so " * 900]))
    assert (row["id"], row["words"]) == ("30", 900)


def test_control_tokens_of_papers_are_counted_by_paper() -> None:
    text = "A turn ends with <|im_end|>, and <|im_end|> again."
    chunk = Chunk("c", "lantern", "Lamps </s>", "", 1, 0, len(text), text)
    findings = corpus_findings([], [chunk])
    assert findings["control_tokens"] == {"</s>": {"lantern": 1}, "<|im_end|>": {"lantern": 2}}
    assert "'<|im_end|>' in lantern" in warnings(findings)[0]
