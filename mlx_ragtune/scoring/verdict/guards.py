"""Guards: losses that no gain may outweigh. A guard can turn a verdict down, never up."""

from collections.abc import Mapping

from mlx_ragtune.errors import InputError
from mlx_ragtune.scoring.verdict.comparison import Guard, GuardState, MetricRow
from mlx_ragtune.scoring.verdict.statistics import mcnemar_p


def _state(loss: float, *, significantly_worse: bool, margin: float) -> GuardState:
    """FAIL when significantly worse; WARN when worse by more than the margin; else PASS."""
    if significantly_worse:
        return "FAIL"
    return "WARN" if loss > margin + 1e-12 else "PASS"


def guard_of_row(row: MetricRow, *, margin: float) -> Guard:
    """The guard on a metric that already has a row."""
    return Guard(
        name=row.name,
        label=row.label,
        state=_state(-row.gain, significantly_worse=row.verdict == "REGRESSED", margin=margin),
        base=row.all.base_mean,
        tuned=row.all.tuned_mean,
        detail=f"{100 * row.all.base_mean:.1f}% → {100 * row.all.tuned_mean:.1f}%, {row.all.n_questions} questions",
    )


def forgetting_guard(
    base: Mapping[str, bool], tuned: Mapping[str, bool], *, margin: float, alpha: float, noise: float = 0.0
) -> Guard:
    """The guard on general probes (M8): ``base`` and ``tuned`` map each probe's id to whether it passed.

    Significance is the exact McNemar test at ``alpha``. Raises InputError unless both models answered the
    same probes, at least one.
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
        state=_state((losses - gains) / n, significantly_worse=worse, margin=margin),
        base=sum(base.values()) / n,
        tuned=sum(tuned.values()) / n,
        detail=f"{n} probes: {losses} lost, {gains} gained",
    )
