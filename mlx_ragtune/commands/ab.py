"""``ragtune ab``: a blind comparison of the models' answers by a person, on a local page."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.artifact import STAGE_FOLDERS, OpenRun, digest_file
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.evaluation.quick_path import stamps_of_path
from mlx_ragtune.jsonl import read_json, read_rows
from mlx_ragtune.pages.ab_plan import REFERENCES, Reference, is_usable
from mlx_ragtune.pages.ab_planted import Item
from mlx_ragtune.pages.ab_session import Session, open_session, read_session
from mlx_ragtune.pages.report_data import read_conditions
from mlx_ragtune.records import Answer, Passage, Question, Score

DEFAULT_COMPARISONS = 50


@dataclass(frozen=True)
class _Contexts:
    """One row of ``contexts.jsonl``."""

    question_id: str
    passages: tuple[Passage, ...]


def _passages(path: Path) -> dict[str, tuple[Passage, ...]]:
    """The passages that all models were given, by question id."""
    return {contexts.question_id: contexts.passages for contexts in read_rows(path, _Contexts)}


def _items(evaluate: Path) -> Iterator[Item]:
    """All models' first answers to every question, with the passages that they were given."""
    used = [answer for answer in read_rows(evaluate / "used.jsonl", Answer) if not answer.error]
    texts: dict[tuple[str, str], str] = {}
    for answer in sorted(used, key=lambda answer: answer.seed):
        texts.setdefault((answer.question_id, answer.model), answer.text)
    passages = _passages(evaluate / "contexts.jsonl")
    for question in read_rows(evaluate / "questions.jsonl", Question):
        base, tuned = texts.get((question.id, "base")), texts.get((question.id, "tuned"))
        if base is not None and tuned is not None:
            cluster = question.papers[0] if question.papers else question.id
            prompted = texts.get((question.id, "prompted"))
            yield Item(
                question.id, question.question, base, tuned, cluster, passages[question.id], prompted, asked=question
            )


def _preferences(evaluate: Path) -> dict[Reference, dict[str, str]]:
    """What a trusted judge would prefer, by its correctness: for each reference the reference, tuned or tie."""
    path = evaluate / "judge.json"
    if not path.exists() or not read_json(path)["trusted"]:
        return {}
    judged: dict[str, dict[str, float]] = {}
    for score in read_rows(evaluate / "scores.jsonl", Score):
        if "judged_correctness" in score.metrics:
            judged.setdefault(score.question_id, {}).setdefault(score.model, score.metrics["judged_correctness"])
    return {
        reference: {
            name: _better(values[reference], values["tuned"], reference)
            for name, values in judged.items()
            if {reference, "tuned"} <= values.keys()
        }
        for reference in REFERENCES
    }


def _better(value: float, tuned: float, reference: Reference) -> str:
    if value == tuned:
        return "tie"
    return "tuned" if tuned > value else reference


def open_comparison(run: OpenRun, n: int | None) -> Session:
    """The session on the run's current answers, new or continued; other answers start another session.

    ``n`` comparisons; by default as many as the session began with, or up to ``DEFAULT_COMPARISONS``. Raises
    ArtifactError without answers or for a damaged session.
    """
    evaluate = run.home / STAGE_FOLDERS["evaluate"]
    if not (evaluate / "used.jsonl").exists():
        raise ArtifactError("there are no answers to compare yet", fix="ragtune evaluate RECIPE")
    if stamps_of_path(read_conditions(evaluate / "conditions.json").tuned):
        raise InputError(
            "these are answers of the quick path, not of the models that would be used",
            where="evaluate.engine",
            fix="ragtune evaluate RECIPE with evaluate.engine: served",
        )
    items = list(_items(evaluate))
    folder = run.home / "ab" / digest_file(evaluate / "used.jsonl")[:12]
    if n is None:
        known = read_session(folder)
        n = known["n"] if known else min(DEFAULT_COMPARISONS, sum(is_usable(item) for item in items))
    return open_session(folder, items, n=n, judge=_preferences(evaluate))


def wait_for_result(session: Session) -> str:
    """Wait until the result was unblinded on the page; returns its headline, or "" without one."""
    was_done = session.unblinded
    while was_done or not session.unblinded:
        time.sleep(0.3)
    time.sleep(2)  # the page with the result is on its way
    result = session.result()
    return result["headline"] if result is not None else ""
