"""What is kept depends on the order of the calls, not on the order in which they finish."""

import itertools
from dataclasses import replace

from mlx_ragtune.synthesis.dedupe import Vectorizer
from mlx_ragtune.synthesis.jobs import Judged, Outcome
from mlx_ragtune.synthesis.near_duplicates import REMEMBERED, REPEATED, Selection
from tests.synthesis.corpus import METHODS, grounded, near_miss

WORDS = ("memory", "latency", "ranking", "colour", "training", "length", "noise", "price", "speed", "depth")


def good(number: int, method: str = "LoRA", **scores: float) -> Judged:
    pair = grounded(method, number)
    asked = f"How does {method} change {WORDS[number % 10]} and {WORDS[(number * 3 + 1) % 10]} of {METHODS[number]}?"
    return Judged(replace(pair, id=f"{method}-{number}", question=asked), scores=scores)


def outcome(*judged: Judged) -> Outcome:
    return Outcome(len(judged), judged)


def selection(**quotas: int) -> Selection:
    return Selection(quotas, Vectorizer([]))  # type: ignore[arg-type]


def test_any_order_of_finishing_keeps_the_same() -> None:
    outcomes = [outcome(good(0), good(1)), None, outcome(good(2), good(3)), outcome(good(4))]
    kept = set()
    for order in itertools.permutations(range(4)):
        chosen = selection(grounded=4)
        for number in order:
            chosen.deliver(number, "grounded", f"key{number}", outcomes[number])
        kept.add(tuple(one.pair.id for one in chosen.kept["grounded"]))
        assert chosen.taken == {"key0", "key1", "key2"}
    assert kept == {("LoRA-0", "LoRA-1", "LoRA-2", "LoRA-3")}


def test_calls_after_the_quota_is_met_are_not_taken_up() -> None:
    chosen = selection(grounded=1)
    chosen.deliver(0, "grounded", "a", outcome(good(0), good(1)))
    chosen.deliver(1, "grounded", "b", outcome(good(2)))
    assert chosen.full("grounded")
    assert chosen.taken == {"a"}
    assert (chosen.funnels["grounded"].asked, chosen.funnels["grounded"].passed) == (2, 2)
    assert len(chosen.kept["grounded"]) == 1


def test_a_repeated_question_is_counted_as_such_also_across_tasks() -> None:
    chosen = selection(grounded=5, partial=5)
    chosen.deliver(0, "grounded", "a", outcome(good(0)))
    again = replace(good(0), pair=replace(good(0).pair, id="again"))
    chosen.deliver(1, "partial", "b", outcome(again, good(1)))
    assert chosen.funnels["partial"].rejections == {REPEATED: 1}
    assert [one.pair.id for one in chosen.kept["partial"]] == ["LoRA-1"]


def test_a_refusal_may_repeat_an_answerable_question() -> None:
    chosen = selection(grounded=5, without_paper=5)
    chosen.deliver(0, "grounded", "a", outcome(good(0)))
    contrast = Judged(replace(near_miss("LoRA"), question=good(0).pair.question))
    chosen.deliver(1, "without_paper", "b", outcome(contrast))
    assert chosen.funnels["without_paper"].kept == 1


def test_a_quarter_of_the_quota_may_be_known_from_memory() -> None:
    chosen = selection(grounded=8)
    chosen.deliver(0, "grounded", "a", outcome(*(good(number, closed_book=0.9) for number in range(5))))
    assert chosen.funnels["grounded"].kept == 2
    assert chosen.funnels["grounded"].rejections == {REMEMBERED: 3}
    chosen.deliver(1, "grounded", "b", outcome(*(good(number + 5, "DoRA", closed_book=0.7) for number in range(5))))
    assert chosen.funnels["grounded"].kept == 7


def test_the_funnel_tells_rules_from_the_models_checks() -> None:
    chosen = selection(grounded=8)
    judged = (good(0), replace(good(1), reason="not plain prose"), replace(good(2), reason="model: no"))
    chosen.deliver(0, "grounded", "a", Outcome(5, judged, {"pair not written": 2}))
    chosen.deliver(1, "grounded", "b", None)
    funnel = chosen.funnels["grounded"]
    assert (funnel.calls, funnel.failed_calls) == (2, 1)
    assert (funnel.asked, funnel.written, funnel.sound, funnel.passed, funnel.kept) == (5, 3, 2, 1, 1)
    assert funnel.rejections == {"pair not written": 2, "not plain prose": 1, "model: no": 1}
