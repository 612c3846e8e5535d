"""Whether the benchmark of a recipe can reach a verdict, said before training by ``validate``, ``plan`` and ``run``.

It never stops a run: answers and costs are worth having without a verdict.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Question
from mlx_ragtune.scoring.answers.benchmark_rows import read_questions
from mlx_ragtune.scoring.judge.opinions import family
from mlx_ragtune.scoring.verdict.possible import Outlook, describe_outlook, outlooks


def verdict_outlook(recipe: Recipe) -> tuple[Outlook, ...]:
    """What each kind of question of the recipe's benchmark can show. Raises InputError for an unreadable row."""
    return outlook_of(recipe, read_questions(recipe.benchmark))


def outlook_of(recipe: Recipe, questions: Sequence[Question]) -> tuple[Outlook, ...]:
    """What each kind of question can show, of questions that are not in the file, or not yet."""
    return outlooks(
        questions,
        comparisons=1 if recipe.evaluate.prompted is None else 2,
        alpha=recipe.scoring.alpha,
        family=family(judge_trusted=recipe.scoring.judge is not None),
    )


def outlook_warnings(found: Sequence[Outlook]) -> list[str]:
    """A line for each kind of question that cannot decide anything; a clear one when none can."""
    lines = [describe_outlook(outlook) for outlook in found if not outlook.decides and outlook.n_questions]
    if any(outlook.decides for outlook in found):
        return [f"warning: {line}" for line in lines]
    return [
        "warning: this benchmark cannot reach a verdict, whatever the models answer: every result will be INCONCLUSIVE",
        *(f"  {line}" for line in lines),
    ]


def outlook_text(found: Sequence[Outlook]) -> str:
    """What each kind of question can show, as the last lines of a plan."""
    return "\n".join(["verdict", *(f"  {describe_outlook(outlook)}" for outlook in found)])


def outlook_json(found: Sequence[Outlook]) -> list[dict[str, Any]]:
    """The same for scripts."""
    return [asdict(outlook) for outlook in found]
