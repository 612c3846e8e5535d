"""A judge request that failed is unfinished work: the verdicts so far are kept, the next run asks for the others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.artifact import silent
from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation import second_opinions
from mlx_ragtune.evaluation.failed_requests import MAX_IN_A_ROW
from mlx_ragtune.evaluation.items import Item
from mlx_ragtune.evaluation.second_opinions import ScoredAnswers, add_judgements
from mlx_ragtune.recipe import JudgeSettings
from mlx_ragtune.records import Answer, ChatReply, ChatRequest, Nugget, Passage, Question, Score

SETTINGS = JudgeSettings(model="granite")
FAILED = ToolError("Ollama answered 500: no", where="http://127.0.0.1:1")


class Backend:
    """A judge that always says yes, except where ``fails`` raises."""

    def __init__(self, fails: Callable[[int], None]) -> None:
        self.fails, self.asked = fails, 0

    def identity(self) -> dict[str, str]:
        return {"digest": "d"}

    def chat(self, _request: ChatRequest) -> ChatReply:
        self.asked += 1
        self.fails(self.asked)
        return ChatReply('{"verdict": "yes"}', "stop", 1, 1, 0.1)


def scored() -> ScoredAnswers:
    """Three questions, whose answers of both models differ."""
    items, answers, scores = [], {"base": [], "tuned": []}, {"base": [], "tuned": []}  # type: ignore[var-annotated]
    for name in ("a", "b", "c"):
        fact = f"Study {name} uses {ord(name)} GB of memory."
        nugget = Nugget(fact, ((f"{ord(name)} GB",),))
        question = Question(name, "t", f"How much is {name}?", True, ("p",), fact, (), (nugget,))
        items.append(Item(question, (Passage("c", "p", "Title", fact),), (), (), "", 0))
        for model in ("base", "tuned"):
            text = f"The {model} says that it is {name} here."
            answers[model].append(Answer("k", name, model, 0, text, "stop", 1, 1, 1.0))
            scores[model].append(Score(name, model, 0, "ok", {}))
    return ScoredAnswers(items, answers, scores)  # type: ignore[arg-type]


def run(monkeypatch: pytest.MonkeyPatch, cache: Path, fails: Callable[[int], None]) -> tuple[Backend, ScoredAnswers]:
    backend, answers = Backend(fails), scored()

    @contextmanager
    def opened(*_arguments: Any, **_keywords: Any) -> Iterator[Backend]:
        yield backend

    monkeypatch.setattr(second_opinions, "open_judge", opened)
    try:
        add_judgements(SETTINGS, cache, answers, tracker=silent)
    finally:
        monkeypatch.undo()
    return backend, answers


def every_fourth(number: int) -> None:
    if number % 4 == 0:
        raise FAILED


def never(_number: int) -> None:
    pass


def always(_number: int) -> None:
    raise FAILED


def test_failed_judge_requests_leave_the_run_unfinished_and_only_they_are_sent_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole, _ = run(monkeypatch, tmp_path / "whole.sqlite", never)
    cache = tmp_path / "judge.sqlite"
    with pytest.raises(
        ToolError, match=r"judge requests failed: \d+ × Ollama answered 500: no \(first: judge 'granite'"
    ):
        run(monkeypatch, cache, every_fourth)
    again, answers = run(monkeypatch, cache, never)
    assert 0 < again.asked < whole.asked
    assert all("judged_correctness" in score.metrics for model in answers.scores.values() for score in model)
    third, _ = run(monkeypatch, cache, always)  # everything is in the cache
    assert third.asked == 0


def test_a_judge_that_fails_every_time_is_noticed_early(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=f"stopped after {MAX_IN_A_ROW} failed judge requests in a row"):
        run(monkeypatch, tmp_path / "judge.sqlite", always)


def test_a_question_too_long_for_the_judge_is_a_missing_verdict_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def overflow(number: int) -> None:
        if number == 1:
            raise PromptOverflowError(9000, 8192, where="server")

    backend, _ = run(monkeypatch, tmp_path / "judge.sqlite", overflow)
    assert backend.asked > 1
