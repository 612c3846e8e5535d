"""Questions without passages: both forms, the same choice each time, none that is refused already."""

import pytest

from mlx_ragtune.clients.ollama_card import trained_frame
from mlx_ragtune.records import Message, Pair
from mlx_ragtune.retrieval.prompt import SYSTEM, build_messages
from mlx_ragtune.synthesis.without_passages import BARE, Unsupported, without_passages

PAIRS = [Pair(f"q{number}", "grounded", f"What  is {number}?", "A.", ("p",)) for number in range(10)]


def made(pairs: list[Pair], share: float = 0.4, seed: int = 0) -> Unsupported:
    return without_passages(pairs, share, refuse=lambda _pair: "No.", seed=seed, build_messages=build_messages)


def test_both_forms_are_made_that_a_plain_question_can_have() -> None:
    rows = made(PAIRS).rows
    _, frame = trained_frame()
    assert [row.messages[0] for row in rows] == [Message("system", SYSTEM)] * 4
    questions = [f"What is {row.id[1]}?" for row in rows]
    users = [row.messages[1].content for row in rows]
    assert users == [frame.around(questions[0]), questions[1], frame.around(questions[2]), questions[3]]
    assert {row.messages[2].content for row in rows} == {"No."}
    assert {(row.kind, row.context_ids, row.papers) for row in rows} == {("refusal", (), ("p",))}
    assert len({row.group for row in rows}) == 4


def test_the_choice_depends_on_the_seed_and_the_pairs_alone() -> None:
    assert made(PAIRS) == made(PAIRS[::-1])
    assert made(PAIRS) != made(PAIRS, seed=1)
    assert {pair.id for pair in made(PAIRS).pairs} == {row.id for row in made(PAIRS).rows}


@pytest.mark.parametrize("share", [0.0, 0.04])
def test_no_share_makes_no_rows(share: float) -> None:
    assert made(PAIRS, share) == Unsupported()


def test_a_question_that_is_refused_already_and_a_taken_id_are_passed_over() -> None:
    refusal = Pair("r", "refusal", PAIRS[0].question, "No.", (), (), "off_corpus")
    taken = Pair(f"q1{BARE}", "grounded", "Other?", "A.", ("p",))
    ids = {pair.id for pair in made([*PAIRS, refusal, taken], 1.0).pairs}
    assert ids == {f"q{number}{BARE}" for number in range(2, 10)} | {f"q1{BARE}{BARE}"}
