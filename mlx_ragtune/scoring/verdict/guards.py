"""Vetoes: what a gain must not be bought with. A guard never makes a verdict good, only bad."""

from collections.abc import Mapping

from mlx_ragtune.errors import InputError
from mlx_ragtune.scoring.verdict.comparison import Guard, GuardState, MetricRow
from mlx_ragtune.scoring.verdict.statistics import mcnemar_p


def _state(loss: float, *, surely_worse: bool, margin: float) -> GuardState:
    """BROKEN when surely worse; STRAINED when worse by more than the margin; else HOLDS."""
    if surely_worse:
        return "BROKEN"
    return "STRAINED" if loss > margin + 1e-12 else "HOLDS"


def guard_of_row(row: MetricRow, *, margin: float) -> Guard:
    """The guard on a metric that was compared anyway."""
    return Guard(
        name=row.name,
        label=row.label,
        state=_state(-row.gain, surely_worse=row.verdict == "REGRESSED", margin=margin),
        base=row.all.base_mean,
        tuned=row.all.tuned_mean,
        detail=f"{100 * row.all.base_mean:.1f} % → {100 * row.all.tuned_mean:.1f} %, {row.all.n_questions} questions",
    )


def forgetting_guard(base: Mapping[str, bool], tuned: Mapping[str, bool], *, margin: float, alpha: float) -> Guard:
    """The guard on general probes (M8): ``base`` and ``tuned`` map each probe's id to whether it passed.

    Surely worse by the exact McNemar test at ``alpha``. Raises InputError unless both answered the same
    probes, at least one.
    """
    if base.keys() != tuned.keys() or not base:
        raise InputError(
            f"the probes differ: {len(base)} for base, {len(tuned)} for tuned",
            fix="ask both models the same probes",
        )
    losses = sum(base[name] and not tuned[name] for name in base)
    gains = sum(tuned[name] and not base[name] for name in base)
    n = len(base)
    worse = losses > gains and mcnemar_p(losses, gains) <= alpha
    return Guard(
        name="forgetting",
        label="General probes",
        state=_state((losses - gains) / n, surely_worse=worse, margin=margin),
        base=sum(base.values()) / n,
        tuned=sum(tuned.values()) / n,
        detail=f"{n} probes: {losses} lost, {gains} gained",
    )
