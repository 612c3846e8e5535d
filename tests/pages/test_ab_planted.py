"""Planted answers of the blind comparison: never a right one. Three arms: each question in one comparison only."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.pages.ab_analysis import analyze, references
from mlx_ragtune.pages.ab_plan import Trial, plan_trials
from mlx_ragtune.pages.ab_planted import Item, is_bad, is_right, planted_answer
from mlx_ragtune.pages.ab_server import render_page
from mlx_ragtune.pages.ab_session import Vote, open_session
from mlx_ragtune.records import Nugget, Question
from tests.pages import outside_planted_rows
from tests.pages.test_ab_server import KEY, choose, items

ASKED = Question(
    "layers", "t", "How many layers does the encoder have?", True, ("bert",),
    "The encoder has 12 layers.", (), (Nugget("12 layers", (("12 layers", "twelve layers"),)),),
)  # fmt: skip
OFF_CORPUS = Question("paris", "t", "What is the capital of France?", False, refusal_kind="off_corpus")


def rank(item: Item) -> bytes:
    return hashlib.sha256(item.question_id.encode()).digest()


def item(asked: Question, base: str, tuned: str = "It has 24 heads in every one of its blocks.") -> Item:
    return Item(asked.id, asked.question, base, tuned, asked.papers[0] if asked.papers else asked.id, asked=asked)


def other(name: str, fact: str, base: str) -> Item:
    """A question about another paper."""
    return item(
        Question(
            name,
            "t",
            f"What does {name} say?",
            True,
            (name,),
            f"It says that {fact} were read.",
            (),
            (Nugget(fact, ((fact,),)),),
        ),
        base,
    )


@pytest.mark.parametrize(
    "text",
    [
        "The encoder has 12 layers.",
        "It is built from twelve layers with one head each.",
        "It does not have 24 layers, and it has 12 layers.",
        "It does not have 12 layers.",  # a contradiction by rule may be right in truth
        "The encoder uses 12 blocks in total.",  # right in words that the benchmark does not list
        "The passages do not say how many layers the encoder has.",
        "I don't know.",
        "",
        "twelve",
    ],
)
def test_what_may_be_right_or_refuses_or_is_cut_is_never_planted(text: str) -> None:
    assert not is_bad(ASKED, text)


def test_a_whole_answer_to_something_else_is_bad() -> None:
    assert is_bad(ASKED, "The corpus was collected from newspapers in four countries.")
    assert is_bad(OFF_CORPUS, "The corpus was collected from newspapers in four countries.")


@pytest.mark.parametrize(
    "text",
    ["I cannot answer that.", "Das steht nicht in den Texten.", "The papers are silent on this, with no capital."],
)
def test_where_refusing_is_right_no_refusal_or_denial_is_planted(text: str) -> None:
    assert not is_bad(OFF_CORPUS, text)


def test_an_answerable_question_without_facts_cannot_be_checked_and_gets_none() -> None:
    bare = replace(ASKED, nuggets=())
    assert not is_bad(bare, "The corpus was collected from newspapers in four countries.")
    assert planted_answer(item(bare, "x"), [other("news", "four countries", "It says four countries.")], rank) is None


@pytest.mark.parametrize(
    "text",
    [
        "It is not trained with kingma updates in either phase.",  # the fact denied: right, if the rule misreads it
        "The method moves along gradients rescaled by moments.",  # right in words of the reference only
    ],
)
def test_what_speaks_of_the_fact_is_not_planted_even_if_it_scores_zero(text: str) -> None:
    fact = Nugget("Adam", (("adam", "kingma"),))
    asked = Question("o", "t", "Which optimizer?", True, ("p",), "Adam: gradients rescaled by moments.", (), (fact,))
    assert not is_bad(asked, text)
    assert is_bad(asked, "The corpus was collected from newspapers in four countries.")


@pytest.mark.parametrize(("key", "text", "bad"), [*outside_planted_rows.ROWS, *outside_planted_rows.SECOND])
def test_only_surely_bad_texts_of_an_outsider_are_planted(key: str, text: str, bad: bool) -> None:
    assert is_bad(outside_planted_rows.QUESTIONS[key], text) is bad


@pytest.mark.parametrize(
    "text", ["Nothing of the harvest is lost in dry years.", "It remains the same in all of those."]
)
def test_an_answer_that_may_hold_for_this_question_too_is_not_planted(text: str) -> None:
    """A denial beside a question to which no may be the answer; a text with nothing of its own paper."""
    clean = outside_planted_rows.QUESTIONS["clean"]
    fact = Nugget("the same / nothing", (("the same", "nothing"),))
    harvest = Question("harvest", "t", "Does it fall in dry years?", True, ("farm",), text, (), (fact,))
    assert planted_answer(item(clean, "It does."), [item(harvest, text)], rank) is None


def test_anothers_answer_that_answers_this_question_is_passed_over() -> None:
    happens = other("gpt", "12 layers", "It says that the model has 12 layers as well.")
    assert planted_answer(item(ASKED, "It has 24."), [happens], rank) is None
    good = other("news", "four countries", "It says that newspapers of four countries were read.")
    assert planted_answer(item(ASKED, "It has 24."), [happens, good], rank) == good.base_text


def test_the_answer_to_a_question_in_the_same_words_is_not_planted() -> None:
    """Two papers may have the same answer, in words that no list of facts has."""
    alike = replace(ASKED, id="decoder", question="How many layers does the decoder have?", papers=("gpt",))
    dozen = replace(alike, reference="It was built with a full dozen.", nuggets=(Nugget("dozen", (("dozen",),)),))
    twin = item(dozen, "They were built with a dozen of blocks.")
    assert planted_answer(item(ASKED, "It has 24."), [twin], rank) is None
    assert planted_answer(item(ASKED, "It has 24."), [replace(twin, asked=replace(dozen, question="Why?"))], rank)


def test_a_number_of_the_reference_is_never_planted_in_another_notation() -> None:
    assert not is_bad(ASKED, "It is made of twelve blocks of equal size in total.")
    assert is_bad(ASKED, "It is made of eleven blocks of equal size in total.")


def test_a_wrong_answer_to_another_question_is_replaced_by_its_reference() -> None:
    refused = other("news", "four countries", "I cannot answer that from the passages.")
    assert planted_answer(item(ASKED, "It has 24."), [refused], rank) == "It says that four countries were read."


def test_a_models_own_answer_is_not_planted_against_it() -> None:
    news = other("news", "four countries", "It says that newspapers of four countries were read.")
    mine = item(ASKED, news.base_text, "It says that  FOUR countries were read.")
    assert planted_answer(mine, [news], rank) is None


def planted(trials: Sequence[Trial]) -> list[tuple[Question, str]]:
    return [
        (trial.item.asked, trial.left_text if trial.left == "planted" else trial.right_text)
        for trial in trials
        if trial.kind == "check" and trial.item.asked
    ]


def test_every_planted_answer_of_a_plan_is_bad_and_stands_beside_a_right_one() -> None:
    trials = plan_trials(items(80, prompted=True), KEY, n=80)
    assert len(planted(trials)) == 4
    assert all(is_bad(question, text) for question, text in planted(trials))
    for trial in trials:
        if trial.kind == "check":
            real = trial.right_text if trial.left == "planted" else trial.left_text
            assert trial.item.asked is not None
            assert is_right(trial.item.asked, real)


def test_without_a_right_answer_to_show_beside_it_nothing_is_planted() -> None:
    wrong = [replace(one, tuned_text="Nothing of it is known.", base_text="Many of them.") for one in items()]
    assert planted(plan_trials(wrong, KEY, n=40)) == []


def test_a_session_without_planted_answers_says_so(tmp_path: Path) -> None:
    bare = [replace(one, asked=None) for one in items()]
    page = render_page(open_session(tmp_path, bare, n=8), at=None, nonce="n")
    assert "no answer could be made that is surely wrong" in page
    assert "1 checks your attention" in render_page(open_session(tmp_path / "b", items(), n=8), at=None, nonce="n")


def test_with_three_arms_half_of_the_pairs_belong_to_each_comparison_and_no_question_to_both() -> None:
    real = [trial for trial in plan_trials(items(prompted=True), KEY, n=30) if trial.kind == "real"]
    assert Counter(trial.against for trial in real) == {"base": 15, "prompted": 15}
    assert len({trial.item.question_id for trial in real}) == 30
    assert all({trial.left, trial.right} == {trial.against, "tuned"} for trial in real)


def test_equal_answers_shift_a_question_to_the_other_comparison() -> None:
    same = [replace(one, prompted_text=one.tuned_text) for one in items(10, prompted=True)]
    mixed = same + [replace(one, question_id=f"r{one.question_id}") for one in items(10, prompted=True)]
    real = [trial for trial in plan_trials(mixed, KEY, n=20) if trial.kind == "real"]
    assert Counter(trial.against for trial in real) == {"base": 10, "prompted": 10}
    assert all(trial.left_text != trial.right_text for trial in real)


def test_both_comparisons_are_in_the_result(tmp_path: Path) -> None:
    session = open_session(tmp_path, items(prompted=True), n=24)
    assert references(session.trials) == ["base", "prompted"]
    page = render_page(session, at=None, nonce="n")
    assert "12 pairs are about one, 12 about the other" in page
    assert "With 12 and 12 votes" in page
    for trial in session.trials:
        session.vote(trial.id, choose(trial, "tuned") if trial.against == "base" or trial.kind == "check" else "tie")
    assert session.unblind()
    result = json.loads((tmp_path / "unblinded.json").read_text())
    assert "The tuned model is preferred: 12 votes for tuned, 0 for base, 0 without" in result["headline"]
    assert "No preference shown: 0 votes for tuned, 0 for base with examples in its prompt, 12" in result["headline"]
    rows = {row["label"]: row["value"] for row in result["rows"]}
    assert rows["against the base: tuned preferred"] == "12"
    assert rows["against the base with examples in its prompt: tie"] == "12"
    assert rows["repeats with the same vote"] == "2 of 2"
    assert rows["planted bad answers noticed"] == "1 of 1"


def test_two_sign_tests_are_holm_adjusted(tmp_path: Path) -> None:
    """Six of six votes are p = .031: enough for one comparison, not for the smaller of two."""
    session = open_session(tmp_path, items(prompted=True), n=12)
    for trial in session.trials:
        session.vote(trial.id, choose(trial, "tuned") if trial.against == "base" or trial.kind == "check" else "tie")
    assert analyze(session.trials, session.votes).sign_p < 0.05
    assert session.unblind()
    assert "preferred:" not in (session.result() or {"headline": ""})["headline"]


def test_a_session_with_unchecked_planted_answers_keeps_the_votes_on_real_ones(tmp_path: Path) -> None:
    first = open_session(tmp_path, items(), n=8)
    for trial in first.trials:
        first.vote(trial.id, "left")
    described = json.loads((tmp_path / "session.json").read_text())
    (tmp_path / "session.json").write_text(json.dumps({"n": described["n"], "plan": "of an earlier version"}))
    votes = [Vote(**json.loads(line)) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
    checks = {trial.id for trial in first.trials if trial.kind == "check"}
    kept = [vote for vote in votes if vote.trial not in checks]  # an earlier version gave checks other ids
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(vote.__dict__) + "\n" for vote in kept))
    again = open_session(tmp_path, items(), n=8)
    assert {trial.id for trial in again.trials if trial.id not in again.votes} == checks
    assert json.loads((tmp_path / "session.json").read_text()) == described
    (tmp_path / "session.json").write_text(json.dumps({"n": 9, "plan": "of an earlier version"}))
    with pytest.raises(ArtifactError, match="another number"):
        open_session(tmp_path, items(), n=8)


def test_the_real_trials_of_two_arms_have_the_ids_of_earlier_versions() -> None:
    trials = {trial.item.question_id: trial for trial in plan_trials(items(), KEY, n=40) if trial.kind == "real"}
    assert [(trials[name].id, trials[name].left) for name in ("q0", "q1", "q39")] == [
        ("faaf8338d28ef8dd", "tuned"), ("0da6b658889e2767", "tuned"), ("9cc0ac944cb04bf0", "base"),
    ]  # fmt: skip
