import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlx_ragtune.records import ChatReply, ChatRequest, Nugget
from mlx_ragtune.scoring.judge.model_judge import SCHEMA, Cache, Judge, Judgement, cache_key, claims, read_verdict
from tests.scoring.made import question, unanswerable

MEMORY = Nugget("Memory falls to 48GB.", (("48GB",),))
SPEED = Nugget("It is quick.", (("quick",),))
ASKED = question(nuggets=(MEMORY, SPEED))


class Oracle:
    """A judge that reads: ``says`` gets the prompt's parts and answers yes, no, or rubbish."""

    def __init__(self, says: Callable[[str, str], str]) -> None:
        self.says = says
        self.requests: list[ChatRequest] = []

    def chat(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        prompt = request.messages[-1].content
        kind = "grounded" if "<sources>" in prompt else "contradicts" if "cannot be true" in prompt else "states"
        text = self.says(kind, prompt)
        return ChatReply(text, "stop", 10, 5, 0.1)


def _reply(verdict: bool) -> str:
    return json.dumps({"verdict": "yes" if verdict else "no"})


def _literal(kind: str, prompt: str) -> str:
    """States what it contains word for word; contradicts with 'never'; grounded when the sources hold it."""
    parts = re.search(r"<(?:answer|sources)>\n(.*)\n</(?:answer|sources)>", prompt, re.DOTALL)
    assert parts
    if kind == "contradicts":
        return _reply("never" in parts[1])
    wanted = re.search(r"Fact: (.*)|<sentence>\n(.*)\n</sentence>", prompt)
    assert wanted
    return _reply((wanted[1] or wanted[2]).strip(".") in parts[1])


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "judge.sqlite") as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "correctness", "grounding"),
    [
        ("Memory falls to 48GB. It is quick.", 1.0, 1.0),
        ("Memory falls to 48GB.", 0.5, 1.0),
        ("Memory falls to 48GB. It is never so.", 0.0, 0.5),
        ("The provided papers do not say it.", 0.0, None),
        ("", 0.0, None),
    ],
)
def test_correctness_and_grounding_by_hand(
    cache: Cache, text: str, correctness: float, grounding: float | None
) -> None:
    judge = Judge(Oracle(_literal).chat, "digest", cache)
    found = judge.judge(ASKED, text, "Memory falls to 48GB. And more.")
    assert (found.correctness, found.grounding) == (correctness, grounding)
    assert judge.n_missing == 0


def test_questions_without_an_answer_have_no_correctness(cache: Cache) -> None:
    judge = Judge(Oracle(_literal).chat, "digest", cache)
    assert judge.judge(unanswerable(), "It is quick.", "x").correctness is None


def test_a_missing_verdict_makes_the_value_undefined_and_is_counted(cache: Cache) -> None:
    judge = Judge(
        Oracle(lambda kind, prompt: "Well, maybe" if "quick" in prompt else _literal(kind, prompt)).chat, "d", cache
    )
    found = judge.judge(ASKED, "Memory falls to 48GB. It is fast.", "Memory falls to 48GB")
    assert found.correctness is None
    assert (judge.n_missing, judge.n_verdicts) == (1, 3)
    assert "judged_correctness" not in found.metrics()


def test_requests_carry_the_schema_and_are_greedy_without_thinking(cache: Cache) -> None:
    oracle = Oracle(_literal)
    Judge(oracle.chat, "digest", cache).states("Q?", "It is quick.", "It is quick.")
    (request,) = oracle.requests
    assert request.schema == SCHEMA
    assert not request.think
    assert request.sampling.temperature == 0.0


def test_a_verdict_is_asked_for_once_even_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    results: list[Judgement] = []
    for expected in (4, 0):
        oracle = Oracle(_literal)
        with Cache(path) as cache:
            results.append(Judge(oracle.chat, "digest", cache).judge(ASKED, "It is quick and good.", "It is quick"))
        assert len(oracle.requests) == expected
    assert results[0] == results[1]


def test_another_judge_asks_again(cache: Cache) -> None:
    for digest in ("one", "two"):
        oracle = Oracle(_literal)
        Judge(oracle.chat, digest, cache).states("Q?", "It is quick.", "It is quick.")
        assert len(oracle.requests) == 1
    assert cache_key("one", "p") != cache_key("two", "p") != cache_key("two", "q")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"verdict": "yes"}', True),
        (' {"verdict":"no"}\n', False),
        ('{"verdict": "maybe"}', None),
        ('{"verdict": true}', None),
        ('{"verdict": ["yes"]}', None),
        ('{"verdict": "yes", "why": "so"}', None),
        ('["yes"]', None),
        ("yes", None),
        ("", None),
    ],
)
def test_only_what_the_schema_asks_for_is_a_verdict(reply: str, expected: bool | None) -> None:
    assert read_verdict(reply) is expected


def test_refusals_and_scraps_claim_nothing() -> None:
    text = "The provided papers do not say how much. LoRA is small and quick. Yes."
    assert claims(text) == ["LoRA is small and quick."]
