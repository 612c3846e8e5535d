"""Good answers, spoilt in every known way: the metric that is named falls, and no headline metric rises."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from mlx_ragtune.records import Nugget, Question, Score
from mlx_ragtune.scoring.answers.metrics import FAMILY, GUARDS, METRICS
from mlx_ragtune.scoring.answers.score import score_answer
from tests.scoring.made import SAMPLING, TITLES, answer, passage, question, unanswerable


@dataclass(frozen=True)
class Good:
    """A question with its context and a good answer; what to negate, and which entity to swap for which."""

    question: Question
    context: str
    text: str
    verb: tuple[str, str]
    entity: tuple[str, str]


def _good(
    name: str,
    paper: str,
    text: str,
    nuggets: tuple[Nugget, ...],
    verb: tuple[str, str],
    entity: tuple[str, str],
) -> Good:
    made = question(id=name, papers=(paper,), nuggets=nuggets, keywords=(), question=f"What about {name}?")
    return Good(made, text, f'According to "{TITLES[paper]}", {text}', verb, entity)


GOODS = (
    _good(
        "memory", "qlora", "QLoRA lowers the memory of a 65B model to less than 48GB.",
        (Nugget("QLoRA lowers memory to less than 48GB.", (("QLoRA",), ("memory",), ("48GB",))),),
        ("lowers", "does not lower"), ("QLoRA lowers", "RAGAS lowers"),
    ),
    _good(
        "latency", "lora", "a merged LoRA model has no additional inference latency at rank 4.",
        (Nugget("A merged LoRA has no inference latency.", (("merged LoRA",), ("inference latency",))),),
        ("has no additional", "has considerable additional"), ("merged LoRA", "merged PoisonedRAG"),
    ),
    _good(
        "agreement", "ragas", "RAGAS agreed with the human annotators in 95% of cases for faithfulness.",
        (Nugget("RAGAS agreed in 95% for faithfulness.", (("agreed",), ("95%",), ("faithfulness",))),),
        ("agreed", "never agreed"), ("faithfulness", "verbosity"),
    ),
    _good(
        "rates", "lora_plus", "LoRA+ sets a learning rate for B that is 16 times that of A.",
        (Nugget("LoRA+ sets a higher learning rate for B, 16 times.", (("LoRA+",), ("for B",), ("16",))),),
        ("sets", "does not set"), ("LoRA+ sets", "QLoRA sets"),
    ),
    _good(
        "middle", "lost", "accuracy is lowest when the document stands in the middle of 20 documents.",
        (Nugget("Accuracy is lowest in the middle.", (("lowest", "worst"), ("in the middle",))),),
        ("is lowest", "is not lowest"), ("in the middle", "at the beginning"),
    ),
    _good(
        "tasks", "flan", "tuning on more than 60 tasks improves zero-shot results of the 137B model.",
        (Nugget("Tuning on 60 tasks improves zero-shot results.", (("60",), ("improves",), ("zero-shot",))),),
        ("improves", "never improves"), ("zero-shot", "supervised"),
    ),
)  # fmt: skip
REFUSED = (unanswerable("off_corpus", id="capital"), unanswerable("near_miss", id="cost", papers=("qlora",)))
REFUSAL = "The provided papers do not contain the answer to this question."
FABRICATED = 'According to "Adaptive Rank Merging for Small Language Models", '

Spoil = Callable[[Good], str]


def _without_title(good: Good) -> str:
    return good.text.split('", ', 1)[1]


def _next(good: Good) -> str:
    return GOODS[(GOODS.index(good) + 1) % len(GOODS)].text


def _change_number(good: Good) -> str:
    head, tail = good.text.split('", ', 1)
    return f'{head}", ' + re.sub(r"\d+", lambda match: str(int(match[0]) + 13), tail)


def _swap(good: Good, pair: tuple[str, str]) -> str:
    assert pair[0] in good.text
    head, tail = good.text.split('", ', 1)
    return f'{head}", ' + tail.replace(*pair)


CORRUPTIONS: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "empty": (lambda _good: "", ("invalid", "correctness", "citation_recall", "prose_style")),
    "three words": (lambda good: " ".join(good.text.split()[:3]), ("invalid", "correctness", "prose_style")),
    "think leak": (lambda good: f"<think>Hm.</think>{good.text}", ("invalid", "prose_style", "correctness")),
    "turn token": (lambda good: f"{good.text}<|im_end|>", ("invalid", "correctness", "citation_recall")),
    "prompt repeated": (lambda good: f'[1] "A title"\n{good.text}', ("invalid", "correctness")),
    "next question": (lambda good: f"{good.text}\n\nQuestion: And then?\nAnswer: No.", ("invalid", "correctness")),
    "negated": (lambda good: _swap(good, good.verb), ("correctness",)),
    "number changed": (_change_number, ("number_grounding",)),
    "entity swapped": (lambda good: _swap(good, good.entity), ("correctness",)),
    "another question's answer": (_next, ("correctness", "citation_recall")),
    "fabricated title": (
        lambda good: FABRICATED + _without_title(good),
        ("fabricated_title", "citation_recall"),
    ),
    "title left out": (_without_title, ("citation_recall", "citation_rate")),
    "markdown": (lambda good: f"## Answer\n\n- {good.text}\n- **Done.**", ("prose_style",)),
    "refusal": (lambda _good: REFUSAL, ("false_refusal", "correctness", "citation_recall", "substantive")),
    "loop": (lambda good: " ".join([good.text] * 5), ("invalid", "correctness")),
}


def _score(good: Good, text: str) -> Score:
    passages = [passage(good.question.papers[0], good.context)]
    return score_answer(good.question, answer(text), passages, TITLES, sampling=SAMPLING)


def _value(score: Score, name: str) -> float | None:
    return float(score.validity != "ok") if name == "invalid" else score.metrics.get(name)


def _gain(before: Score, after: Score, name: str) -> float:
    left, right = _value(before, name), _value(after, name)
    if left is None or right is None:
        return 0.0
    return right - left if METRICS[name].higher_is_better else left - right


@pytest.mark.parametrize("good", GOODS, ids=lambda good: good.question.id)
def test_the_good_answers_are_perfect(good: Good) -> None:
    score = _score(good, good.text)
    assert score.validity == "ok"
    for name, metric in METRICS.items():
        if metric.unit == "share" and (value := _value(score, name)) is not None:
            assert value == float(metric.higher_is_better), name


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("good", GOODS, ids=lambda good: good.question.id)
def test_the_named_metric_falls_and_no_headline_metric_rises(good: Good, name: str) -> None:
    spoil, named = CORRUPTIONS[name]
    before, after = _score(good, good.text), _score(good, spoil(good))
    for metric in named:
        assert _gain(before, after, metric) < 0, f"{metric} did not fall: {spoil(good)}"
    for metric in (*FAMILY, *GUARDS):
        assert _gain(before, after, metric) <= 0, f"{metric} rose: {spoil(good)}"


@pytest.mark.parametrize("name", ["memory", "agreement", "rates", "tasks"])
def test_a_changed_number_costs_correctness_where_it_is_the_answer(name: str) -> None:
    good = next(good for good in GOODS if good.question.id == name)
    assert _gain(_score(good, good.text), _score(good, _change_number(good)), "correctness") < 0


@pytest.mark.parametrize("asked", REFUSED, ids=lambda asked: asked.id)
@pytest.mark.parametrize("text", ["", "It is Paris", GOODS[0].text, f"{REFUSAL} But generally, it is Paris."])
def test_a_spoilt_refusal_costs_its_metric(asked: Question, text: str) -> None:
    metric = f"refusal_{asked.refusal_kind}"
    good, bad = (
        score_answer(asked, answer(one), [passage("lora")], TITLES, sampling=SAMPLING) for one in (REFUSAL, text)
    )
    assert (good.metrics[metric], bad.metrics[metric]) == (1.0, 0.0)
