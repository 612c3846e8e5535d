"""The funnel of a generation as text: how many pairs of each task reached each step, and why the others did not."""

from collections.abc import Iterator, Mapping

from mlx_ragtune.synthesis.call_plan import PARTS, Task
from mlx_ragtune.synthesis.near_duplicates import Funnel

SHOWN_REASONS = 3
_STEPS = ("wanted", "asked", "written", "sound", "passed", "kept")
_EXPLAINED = "sound: passes the rules; passed: the model agrees; kept: new, and wanted"


def funnel_lines(
    funnels: Mapping[Task, Funnel], quotas: Mapping[Task, int], *, reasons: int = SHOWN_REASONS
) -> list[str]:
    """One line for each task in at most 80 columns, with its most frequent reasons below; nothing without a call.

    The last line names the kinds that have fewer pairs than the plan wants: a task may make up for another of its kind.
    """
    if not any(funnel.calls for funnel in funnels.values()):
        return []
    counts = {
        task: [quotas.get(task, 0), *(getattr(funnel, step) for step in _STEPS[1:])] for task, funnel in funnels.items()
    }
    lines = ["generated pairs" + "".join(f"{step:>9}" for step in _STEPS)]
    for task, funnel in funnels.items():
        lines.append(f"  {task:<13}" + "".join(f"{count:>9}" for count in counts[task]))
        lines += _reasons(funnel, reasons)
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    lines.append(f"  {'all':<13}" + "".join(f"{count:>9}" for count in total))
    return [*lines, _EXPLAINED, *_shortfall(funnels, quotas)]


def _reasons(funnel: Funnel, most: int) -> Iterator[str]:
    ranked = funnel.rejections.most_common()
    for reason, count in ranked[:most]:
        yield f"{f'      {count} × {reason}':.80}"
    if rest := sum(count for _, count in ranked[most:]):
        yield f"      {rest} × other reasons"
    if funnel.failed_calls:
        yield f"      {funnel.failed_calls} calls failed"


def _shortfall(funnels: Mapping[Task, Funnel], quotas: Mapping[Task, int]) -> Iterator[str]:
    """``228 of 240 pairs: 12 fewer grounded``, if a kind has fewer pairs than its tasks want together."""
    short = []
    for kind, tasks in PARTS.items():
        lacking = sum(quotas.get(task, 0) - (funnels[task].kept if task in funnels else 0) for task in tasks)
        if lacking > 0:
            short.append(f"{lacking} fewer {kind}")
    if short:
        kept = sum(funnel.kept for funnel in funnels.values())
        yield f"{kept} of {sum(quotas.values())} pairs: {', '.join(short)}"
