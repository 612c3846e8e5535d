"""``ragtune ab``: a blind comparison of both models' answers by a person, on a page of this machine alone."""

import json
from collections.abc import Iterator
from pathlib import Path

from mlx_ragtune.artifact import digest_file
from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.jsonl import parse_row, read_rows
from mlx_ragtune.pages.ab_plan import Item
from mlx_ragtune.pages.ab_server import Session, open_session
from mlx_ragtune.pipeline import stage_named
from mlx_ragtune.records import Answer, Passage, Question, Score
from mlx_ragtune.runner import Run

MOST = 50


def _items(evaluate: Path) -> Iterator[Item]:
    """Both models' first answers to every question, with what both were shown."""
    used = [one for one in read_rows(evaluate / "used.jsonl", Answer) if not one.error]
    texts: dict[tuple[str, str], str] = {}
    for one in sorted(used, key=lambda answer: answer.seed):
        texts.setdefault((one.question_id, one.model), one.text)
    passages = {}
    for line in (evaluate / "contexts.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        passages[row["question_id"]] = tuple(parse_row(Passage, one, where="contexts.jsonl") for one in row["passages"])
    for question in read_rows(evaluate / "questions.jsonl", Question):
        both = [texts.get((question.id, model)) for model in ("base", "tuned")]
        if both[0] is not None and both[1] is not None:
            cluster = question.papers[0] if question.papers else question.id
            yield Item(question.id, question.question, both[0], both[1], cluster, passages[question.id])


def _preferences(evaluate: Path) -> dict[str, str]:
    """What a trusted judge would have preferred, by its correctness: base, tuned or tie."""
    path = evaluate / "judge.json"
    if not path.exists() or not json.loads(path.read_text(encoding="utf-8"))["trusted"]:
        return {}
    judged: dict[str, dict[str, float]] = {}
    for score in read_rows(evaluate / "scores.jsonl", Score):
        if "judged_correctness" in score.metrics:
            judged.setdefault(score.question_id, {}).setdefault(score.model, score.metrics["judged_correctness"])
    both = {name: values for name, values in judged.items() if len(values) == 2}
    return {name: _better(values) for name, values in both.items()}


def _better(values: dict[str, float]) -> str:
    if values["base"] == values["tuned"]:
        return "tie"
    return "tuned" if values["tuned"] > values["base"] else "base"


def open_comparison(run: Run, n: int | None) -> Session:
    """The session on the run's present answers, begun or gone on with; answers that changed begin another.

    ``n`` comparisons; by default as many as the session began with, else up to 50. Raises ArtifactError
    without answers.
    """
    evaluate = run.home / stage_named("evaluate").folder
    if not (evaluate / "used.jsonl").exists():
        raise ArtifactError(
            "there are no answers to compare yet", fix=f"ragtune evaluate recipes/{run.recipe.name}.yaml"
        )
    items = list(_items(evaluate))
    folder = run.home / "ab" / digest_file(evaluate / "used.jsonl")[:12]
    if n is None:
        begun = folder / "session.json"
        different = sum(one.base_text.split() != one.tuned_text.split() for one in items)
        n = json.loads(begun.read_text(encoding="utf-8"))["n"] if begun.exists() else min(MOST, different)
    return open_session(folder, items, n=n, judge=_preferences(evaluate))
