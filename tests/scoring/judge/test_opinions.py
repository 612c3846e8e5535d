"""What a judge and an embedder add: values for valid answers, the worst for invalid ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Answer, ChatReply, ChatRequest, Nugget, Passage, Question, Score, Validity
from mlx_ragtune.scoring.answers.metrics import FAMILY, METRICS
from mlx_ragtune.scoring.answers.similarity import Vectors
from mlx_ragtune.scoring.judge.model_judge import Cache, Judge
from mlx_ragtune.scoring.judge.opinions import (
    Label,
    Opinion,
    add_opinion,
    by_judge,
    by_similarity,
    calibrated,
    family,
    good_answers,
)


def asked(name: str, *, answerable: bool = True, paper: str = "p") -> Question:
    nuggets = (Nugget("It uses 48GB.", (("48GB",),)),) if answerable else ()
    kind = None if answerable else "near_miss"
    return Question(name, "t", "How much?", answerable, (paper,), "It uses 48GB of memory.", (), nuggets, kind)  # type: ignore[arg-type]


def answered(name: str, text: str) -> Answer:
    return Answer("k", name, "tuned", 0, text, "stop", 5, 5, 1.0)


def scored(name: str, validity: Validity = "ok", model: str = "tuned", **metrics: float) -> Score:
    return Score(name, model, 0, validity, metrics)  # type: ignore[arg-type]


class Yes:
    """A judge that says yes to whatever holds a word, and is asked nothing else."""

    def __init__(self, word: str) -> None:
        self.word, self.asked = word, 0

    def chat(self, request: ChatRequest) -> ChatReply:
        self.asked += 1
        prompt = request.messages[-1].content
        yes = self.word in prompt.split("<answer>")[-1] and "cannot be true" not in prompt
        return ChatReply('{"verdict": "yes"}' if yes else '{"verdict": "no"}', "stop", 1, 1, 0.1)


CONTEXTS = {name: (Passage("c", "p", "The Title", "It uses 48GB of memory."),) for name in ("a", "b", "c", "d")}


def test_valid_answers_are_judged_and_invalid_ones_get_the_worst(tmp_path: Path) -> None:
    questions = [asked("a"), asked("b"), asked("c"), asked("d", answerable=False)]
    answers = [answered("a", "It uses 48GB of memory."), answered("b", ""), answered("c", "x"), answered("d", "")]
    scores = [scored("a"), scored("b", "empty"), scored("c", "transport_error"), scored("d", "empty")]
    backend = Yes("48GB")
    with Cache(tmp_path / "judge.sqlite") as cache:
        opinion = by_judge(Judge(backend.chat, "digest", cache), CONTEXTS)
        found = [one.metrics for one in add_opinion(opinion, scores, answers, questions)]
    assert found[0]["judged_correctness"] == 1.0
    assert found[1] == {"judged_correctness": 0.0, "grounding": 0.0}
    assert found[2] == {}
    assert found[3] == {"grounding": 0.0}  # an unanswerable question has no correctness to lose
    assert backend.asked > 0


def test_every_added_metric_is_known_and_its_worst_is_zero() -> None:
    for name in ("judged_correctness", "grounding", "similarity", "bertscore_f1"):
        assert METRICS[name].worst == 0.0


def letters(texts: Sequence[str]) -> Vectors:
    return np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz48"] for text in texts], dtype=float)


def test_similarity_is_to_the_reference_of_answerable_questions() -> None:
    questions = [asked("a"), asked("d", answerable=False)]
    answers = [answered("a", "It uses 48GB of memory."), answered("d", "I do not know that.")]
    opinion = by_similarity(letters, lambda text: letters(text.split()))
    found = [one.metrics for one in add_opinion(opinion, [scored("a"), scored("d")], answers, questions)]
    assert found[0]["similarity"] == pytest.approx(1)
    assert found[0]["bertscore_f1"] == pytest.approx(1)
    assert found[1] == {}


def test_without_token_vectors_there_is_no_bertscore() -> None:
    opinion = by_similarity(letters, None)
    assert opinion.defined(asked("a")) == ("similarity",)
    assert set(opinion.measure(asked("a"), "It uses memory.")) == {"similarity"}


def test_what_was_scored_before_stays() -> None:
    opinion = Opinion(lambda _question: (), lambda _question, _text: {"grounding": 0.5})
    [found] = add_opinion(opinion, [scored("a", correctness=0.25)], [answered("a", "x")], [asked("a")])
    assert found.metrics == {"correctness": 0.25, "grounding": 0.5}


def test_a_trusted_judges_correctness_is_the_primary_metric() -> None:
    assert family(judge_trusted=False) == FAMILY
    assert family(judge_trusted=True) == ("judged_correctness", *FAMILY[1:])


def test_references_are_good_answers_only_where_their_paper_was_shown() -> None:
    shown = {"a": CONTEXTS["a"], "b": (Passage("c", "other", "Other", "Nothing."),), "d": CONTEXTS["d"]}
    questions = [asked("a"), asked("b"), asked("d", answerable=False)]
    found = good_answers(shown, questions)
    assert [one.question.id for one in found] == ["a"]
    assert found[0].contexts == '"The Title"\nIt uses 48GB of memory.'


def test_good_answers_are_spread_over_the_benchmark() -> None:
    questions = [asked(f"q{at:02}") for at in range(48)]
    found = good_answers({one.id: CONTEXTS["a"] for one in questions}, questions)
    assert len(found) == 12
    assert [one.question.id for one in found[:3]] == ["q00", "q04", "q08"]


def many(count: int) -> tuple[list[Question], list[Score], list[Score]]:
    questions = [asked(f"q{at:03}", paper=f"p{at}") for at in range(count)]
    base = [scored(one.id, model="base", judged_correctness=0.2) for one in questions]
    tuned = [scored(one.id, judged_correctness=0.2 + 0.5 * (at % 2)) for at, one in enumerate(questions)]
    return questions, base, tuned


def test_peoples_labels_correct_a_judge_that_flatters() -> None:
    questions, base, tuned = many(120)
    labels = [Label(one.id, 0.2, 0.2) for one in questions[:60]]  # people see no difference at all
    found = calibrated(base, tuned, questions, labels)
    assert found.mean == pytest.approx(0.25 - 0.25)
    low, high = found.interval(0.95)
    assert low < 0 < high


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ([Label("q000", 0, 0)], "1 human labels"),
        ([Label("nobody", 0, 0)], "labels of questions without a judged answer: nobody"),
    ],
)
def test_too_few_labels_or_unknown_questions_are_refused(labels: list[Label], what: str) -> None:
    questions, base, tuned = many(80)
    with pytest.raises(InputError, match=what):
        calibrated(base, tuned, questions, labels)


def test_a_judge_without_a_verdict_cannot_be_calibrated() -> None:
    questions = [asked("a")]
    with pytest.raises(InputError, match="no verdict on correctness"):
        calibrated([scored("a", model="base")], [scored("a")], questions, [])
