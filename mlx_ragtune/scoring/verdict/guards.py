"""Guards: losses that no gain may outweigh. A guard can turn a verdict down, never up."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mlx_ragtune.errors import InputError
from mlx_ragtune.scoring.verdict.comparison import Guard, GuardState, MetricRow
from mlx_ragtune.scoring.verdict.metric_rows import MIN_CLUSTERS, Rules
from mlx_ragtune.scoring.verdict.pairing import Pairs, Scored, pair_metric
from mlx_ragtune.scoring.verdict.statistics import Codes, Floats, mcnemar_p

MUCH_LONGER, LONGER = 2.0, 1.5
"""Ratios of median answer lengths: a reader who gets twice the text for the same facts has lost time."""
SHORT_WORDS = 50
"""An answer of fewer words counts as this long: from 5 words to 40 is a sentence more, not verbosity."""
RESAMPLES = 999


def _state(loss: float, *, significantly_worse: bool, margin: float) -> GuardState:
    """FAIL when surely worse; WARN when worse by more than the margin; else PASS."""
    if significantly_worse:
        return "FAIL"
    return "WARN" if loss > margin + 1e-12 else "PASS"


def guard_of_row(row: MetricRow, *, margin: float) -> Guard:
    """The guard on a metric that already has a row."""
    return Guard(
        name=row.name,
        label=row.label,
        state=_state(-row.gain, significantly_worse=row.verdict == "REGRESSED", margin=max(margin, row.noise or 0.0)),
        base=row.all.base_mean,
        tuned=row.all.tuned_mean,
        detail=f"{100 * row.all.base_mean:.1f}% → {100 * row.all.tuned_mean:.1f}%, {row.all.n_questions} questions",
    )


def forgetting_guard(
    base: Mapping[str, bool], tuned: Mapping[str, bool], *, margin: float, alpha: float, noise: float = 0.0
) -> Guard:
    """The guard on general probes (M8): ``base`` and ``tuned`` map each probe's id to whether it passed.

    Significance is the exact McNemar test at ``alpha``, for itself: the probes are other questions. ``noise`` is
    the share of probes that numerical noise alone can lose: that many losses do not count in the test. Raises
    InputError unless both models answered the same probes, at least one.
    """
    if base.keys() != tuned.keys() or not base:
        raise InputError(
            f"the probes differ: {len(base)} for base, {len(tuned)} for tuned",
            fix="ask both models the same probes",
        )
    losses = sum(base[name] and not tuned[name] for name in base)
    gains = sum(tuned[name] and not base[name] for name in base)
    n = len(base)
    beyond = max(0, losses - math.ceil(noise * n - 1e-9))
    p = mcnemar_p(beyond, gains) if beyond > gains else 1.0
    return Guard(
        name="forgetting",
        label="General probes",
        state=_state((losses - gains) / n, significantly_worse=p <= alpha, margin=max(margin, noise)),
        base=sum(base.values()) / n,
        tuned=sum(tuned.values()) / n,
        detail=f"{n} probes: {losses} lost, {gains} gained",
    )


def verbosity_guards(scored: Scored, rules: Rules) -> Sequence[Guard]:
    """The guard on answer length, where ``answer_words`` is known: median words, tuned ÷ base.

    Over the answerable questions that neither model refused: an answer is longer than a refusal. FAIL when
    the 1 − alpha interval of the ratio lies above ``MUCH_LONGER`` and still does after the noise floor; WARN
    when the ratio is above ``LONGER`` after the noise floor. Fewer than ``MIN_CLUSTERS`` answers never fail.
    """
    measured = pair_metric(scored, "answer_words")
    pairs = _answered(scored, measured, pair_metric(scored, "false_refusal")) if measured else None
    if pairs is None:
        return ()
    base, tuned = float(np.median(pairs.base)), float(np.median(pairs.tuned))
    ratio = _ratio(pairs.base, pairs.tuned)
    noise = rules.noise.get("answer_words", 0.0) / max(base, SHORT_WORDS)
    several = pairs.base.size >= MIN_CLUSTERS and ratio > MUCH_LONGER
    sure = several and _lowest_ratio(pairs, rules.alpha) - noise > MUCH_LONGER
    state: GuardState = "FAIL" if sure else "WARN" if ratio - noise > LONGER else "PASS"
    detail = f"median {base:,.0f} → {tuned:,.0f} words"
    return (Guard("verbosity", "Answer length", state, base, tuned, detail),)


def _answered(scored: Scored, pairs: Pairs, refused: Pairs | None) -> Pairs | None:
    """The questions whose answers are compared by length; None where there is none."""
    known = {question.id: question.answerable for question in scored.questions}
    refusals: set[str] = set()
    if refused is not None:
        both = zip(refused.question_ids, refused.base, refused.tuned, strict=True)
        refusals = {name for name, left, right in both if left > 0 or right > 0}
    keep = np.array([known[name] and name not in refusals for name in pairs.question_ids])
    return pairs.only(keep) if keep.any() else None


def _ratio(base: Floats, tuned: Floats) -> float:
    return max(float(np.median(tuned)), SHORT_WORDS) / max(float(np.median(base)), SHORT_WORDS)


def _lowest_ratio(pairs: Pairs, alpha: float) -> float:
    """The lower end of the 1 − alpha interval of the ratio of medians: a bootstrap over papers, fixed seed.

    With fewer than ``MIN_CLUSTERS`` papers over questions: so few papers would repeat each other.
    """
    groups = int(pairs.clusters.max()) + 1
    codes: Codes = pairs.clusters if groups >= MIN_CLUSTERS else np.arange(pairs.base.size, dtype=np.intp)
    members = [np.flatnonzero(codes == code) for code in range(int(codes.max()) + 1)]
    generator = np.random.default_rng(20_126)
    ratios = []
    for draw in generator.integers(0, len(members), (RESAMPLES, len(members))):
        chosen = np.concatenate([members[code] for code in draw])
        ratios.append(_ratio(pairs.base[chosen], pairs.tuned[chosen]))
    return float(np.quantile(ratios, alpha / 2))
