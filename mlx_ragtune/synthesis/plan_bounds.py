"""What a plan can give at most, compared with what is wanted of it: known before the first request."""

from collections import Counter
from collections.abc import Mapping

from mlx_ragtune.errors import InputError
from mlx_ragtune.synthesis.call_plan import ANGLES, Plan, Task

ON_CHUNKS: tuple[Task, ...] = ("grounded", "partial", "false_premise")
"""Tasks whose pairs are written on one chunk."""
DERIVED: tuple[Task, ...] = ("without_paper", "wrong_section")
"""Tasks whose pairs are made from grounded pairs."""


def most_pairs(plan: Plan, *, chunks: int, pairs_per_call: int) -> dict[Task, tuple[int, str]]:
    """Task → (the most pairs that it can give, how that comes about), for the tasks of the plan that have a bound.

    A chunk gives ``pairs_per_call`` pairs for each angle; more of the same call would repeat its questions.
    """
    written: Counter[Task] = Counter()
    for call in plan.calls:
        written[call.task] += call.pairs
    bounds: dict[Task, tuple[int, str]] = {}
    for task in plan.quotas:
        if task in ON_CHUNKS:
            most = chunks * len(ANGLES) * pairs_per_call
            bounds[task] = most, f"{chunks} passages × {len(ANGLES)} angles × {pairs_per_call} pairs"
        elif task == "synthesis":
            bounds[task] = written[task], "two pairs on each two similar passages of two papers"
        elif task in DERIVED:
            bounds[task] = plan.quotas.get("grounded", 0), "one for each grounded pair"
    return bounds


def require_possible(plan: Plan, *, chunks: int, pairs_per_call: int) -> None:
    """Raise InputError, with all numbers and the quota that fits, when a task cannot give what the plan wants of it."""
    bounds = most_pairs(plan, chunks=chunks, pairs_per_call=pairs_per_call)
    lacking = {task: bound for task, bound in bounds.items() if bound[0] < plan.quotas[task]}
    if not lacking:
        return
    lines = "\n".join(
        f"  {task}: {plan.quotas[task]} wanted, {most} at most ({how})" for task, (most, how) in lacking.items()
    )
    raise InputError(
        f"the papers cannot give {sum(plan.quotas.values())} pairs:\n{lines}",
        where="dataset.generator.pairs",
        fix=_fix(plan.quotas, lacking),
    )


def _fix(quotas: Mapping[Task, int], lacking: Mapping[Task, tuple[int, str]]) -> str:
    if set(lacking) <= set(DERIVED):
        return "lower the share of refusal in dataset.shares: most refusals are made from grounded pairs"
    fits = int(sum(quotas.values()) * min(most / quotas[task] for task, (most, _) in lacking.items()))
    return f"add papers, or set dataset.generator.pairs to {fits} or fewer" if fits else "add papers"
