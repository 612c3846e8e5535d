"""Asks a judge and an embedding model about answers that are already scored, as far as the recipe names them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Tracker
from mlx_ragtune.clients.serving import open_embedder, open_judge
from mlx_ragtune.evaluation.failed_requests import FailedRequests
from mlx_ragtune.evaluation.items import Item
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.recipe import JudgeSettings, SimilaritySettings
from mlx_ragtune.records import Answer, Arm, Question, Score
from mlx_ragtune.scoring.answers.similarity import PlantedRow, planted_rows
from mlx_ragtune.scoring.judge.model_judge import SAMPLING, Cache, Judge
from mlx_ragtune.scoring.judge.opinions import (
    Label,
    Opinion,
    add_opinion,
    by_judge,
    by_similarity,
    calibrated,
    good_answers,
)
from mlx_ragtune.scoring.judge.trust import Trust, self_test


@dataclass(frozen=True)
class ScoredAnswers:
    """The answers of all arms to the items, and their scores, to which metrics are added in place."""

    items: Sequence[Item]
    answers: Mapping[Arm, Sequence[Answer]]
    scores: Mapping[Arm, list[Score]]

    @property
    def questions(self) -> list[Question]:
        """The questions of the items."""
        return [item.question for item in self.items]


def add_similarity(
    settings: SimilaritySettings, base: Path, scored: ScoredAnswers, *, context_tokens: int, tracker: Tracker
) -> list[PlantedRow]:
    """Add similarity metrics; returns the similarity of the planted answers.

    ``base`` is the exported base model, the default embedding model. Raises ToolError when embedding fails.
    """
    with open_embedder(settings, base, context_tokens=context_tokens) as (embed, token_vectors):
        _add(by_similarity(embed, token_vectors), "embedding answers", scored, tracker)
        return planted_rows(embed, token_vectors)


@contextmanager
def _judge(settings: JudgeSettings, cache: Path) -> Iterator[Judge]:
    """The judge, with a cache. Raises ToolError on leaving when requests failed: the next run sends only those."""
    failures = FailedRequests("judge requests")
    with open_judge(settings, context_tokens=SAMPLING.context_tokens) as backend, Cache(cache) as opened:
        digest = backend.identity()["digest"]
        yield Judge(
            lambda request: failures.ask(backend.chat, request, example=f"judge '{settings.model}'"), digest, opened
        )
    failures.require_none()


def add_judgements(settings: JudgeSettings, cache: Path, scored: ScoredAnswers, *, tracker: Tracker) -> Trust:
    """Test the judge and add its metrics; returns the result of the test.

    Raises ToolError when judge requests failed, after all of them were tried.
    """
    contexts = {item.question.id: item.passages for item in scored.items}
    with _judge(settings, cache) as judge:
        trust = self_test(judge, good_answers(contexts, scored.questions))
        _add(by_judge(judge, contexts), "judging answers", scored, tracker)
    return trust


def judge_facts(settings: JudgeSettings, trust: Trust, scored: ScoredAnswers, *, alpha: float) -> dict[str, Any]:
    """The content of ``judge.json``: the self-test, and the difference corrected by people's labels if there are any.

    Raises InputError for labels that do not fit the questions, or for too few of them.
    """
    facts: dict[str, Any] = {"model": settings.model, "summary": str(trust), **asdict(trust)}
    if settings.labels is not None:
        labels = list(read_rows(settings.labels, Label))
        estimate = calibrated(scored.scores["base"], scored.scores["tuned"], scored.questions, labels)
        low, high = estimate.interval(1 - alpha)
        facts["corrected"] = {"difference": estimate.mean, "low": low, "high": high, "labels": len(labels)}
    return facts


def _add(opinion: Opinion, label: str, scored: ScoredAnswers, tracker: Tracker) -> None:
    opinions = {
        arm: enumerate(add_opinion(opinion, scores, scored.answers[arm], scored.questions))
        for arm, scores in scored.scores.items()
    }
    with tracker(label, sum(map(len, scored.scores.values()))) as track:
        for _ in range(max(map(len, scored.scores.values()), default=0)):
            for arm, numbered in opinions.items():  # question by question: what a backend remembers serves all arms
                for place, score in islice(numbered, 1):
                    scored.scores[arm][place] = score
                    track.advance()
