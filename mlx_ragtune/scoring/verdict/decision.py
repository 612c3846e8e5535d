"""Did the tuning help? One verdict from paired scores, by rules fixed before the scores are seen.

Every metric is tested by one t test on cluster means (``statistics.widened_estimate``); its p value and its
interval come from the same estimate. One Holm correction covers the pre-declared family, the guards, and
all models that are compared. The verdict of a row is the first of these that applies:

1. EQUIVALENT: two one-sided tests place the difference inside the margin.
2. IMPROVED or REGRESSED: the adjusted p of a difference beyond the noise floor is at most alpha.
3. INCONCLUSIVE: anything else, and what rests on unusable answers (``metric_rows.rests_on_invalid``).

A guard is FAIL when it is surely worse: adjusted, beyond its interval and beyond the noise floor; WARN when
it is worse by more than the margin but not surely. The general probes are other questions than the benchmark's
and are tested on their own, at alpha: a correction over the benchmark's metrics would only hide what was lost.
A warning is said and never changes the word.

The overall verdict is the first of these that applies:

1. INCONCLUSIVE: no question was answered by both, or more than 80% (``advice.UNUSABLE_SHARE``) of the answers
   of either model are unusable. Then nearly all that is compared are worst values, not answers.
2. MIXED: a family row improved, and a guard failed or another family row regressed.
3. INCONCLUSIVE: nothing is surely different apart from how many answers are unusable: a row of the family
   rests on them, or only the guard on them failed.
4. REGRESSED: a family row regressed, or a guard failed.
5. IMPROVED: a family row improved, and the primary metric (the first) is non-inferior at the margin.
6. EQUIVALENT: the primary row is EQUIVALENT, no row improved, and at most half (``advice.SAME_SHARE``) of the
   answers of either model are unusable.
7. INCONCLUSIVE: anything else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.answers.metrics import FAMILY, GUARDS, METRICS
from mlx_ragtune.scoring.verdict.advice import SAME_SHARE, UNUSABLE_SHARE
from mlx_ragtune.scoring.verdict.comparison import Comparison, Guard, MetricRow, Outcome, QuestionDelta, Verdict
from mlx_ragtune.scoring.verdict.guards import guard_of_row, verbosity_guards
from mlx_ragtune.scoring.verdict.headline import Reference, in_words, join_arms
from mlx_ragtune.scoring.verdict.influence import influences
from mlx_ragtune.scoring.verdict.metric_rows import Rules, make_row, not_worse, tested_p
from mlx_ragtune.scoring.verdict.pairing import Pairs, Scored, match, pair_metric, question_deltas, unusable_shares
from mlx_ragtune.scoring.verdict.statistics import holm

WORST = 5


@dataclass(frozen=True)
class Decision:
    """The verdict with its rows, guards and the unadjusted p values of the Holm family."""

    verdict: Verdict
    rows: tuple[MetricRow, ...]
    guards: tuple[Guard, ...]
    p_values: dict[str, float]
    primary_not_worse: bool


def decide(
    scored: Scored,
    rules: Rules,
    guards: Sequence[Guard] = (),
    others: Mapping[str, float] = MappingProxyType({}),
) -> Decision:
    """The verdict on matched scores, by the rules at the head of this module.

    ``others`` are the p values of further comparisons, which Holm counts too.
    """
    table = _pair_all(scored)
    p_values = {**others, **_tested(table, rules)}
    adjusted = holm(p_values)
    rows = tuple(
        make_row(
            METRICS[name],
            pairs,
            pair_metric(scored, name, both_valid=True),
            rules,
            holm_p=adjusted.get(name),
            tests=max(1, len(p_values)),
        )
        for name, pairs in table.items()
    )
    all_guards = (
        *(guard_of_row(row, margin=rules.margin) for row in rows if row.role == "guard"),
        *verbosity_guards(scored, rules),
        *guards,
    )
    primary = rules.family[0]
    safe = primary in table and not_worse(table[primary], METRICS[primary], rules)
    unusable = max(unusable_shares(scored)) if scored.questions else 1.0
    verdict = _overall(rows, all_guards, primary, primary_not_worse=safe)
    undecided = unusable > UNUSABLE_SHARE or (verdict == "EQUIVALENT" and unusable > SAME_SHARE)
    return Decision(
        verdict="INCONCLUSIVE" if undecided else verdict,
        rows=rows,
        guards=all_guards,
        p_values=p_values,
        primary_not_worse=safe,
    )


def _pair_all(scored: Scored) -> dict[str, Pairs]:
    """Every metric that is defined for at least one question."""
    return {name: pairs for name in METRICS if (pairs := pair_metric(scored, name)) is not None}


def _tested(table: Mapping[str, Pairs], rules: Rules) -> dict[str, float]:
    """The unadjusted p values of the family and the guards, where defined."""
    names = [name for name in dict.fromkeys((*rules.family, *GUARDS)) if name in table]
    return {name: tested_p(table[name], METRICS[name], rules) for name in names}


def _overall(rows: Sequence[MetricRow], guards: Sequence[Guard], primary: str, *, primary_not_worse: bool) -> Verdict:
    """Rules 2 to 7."""
    family = {row.name: row for row in rows if row.in_family}
    words = [row.verdict for row in family.values()]
    failed = {guard.name for guard in guards if guard.state == "FAIL"}
    if "IMPROVED" in words:
        if failed or "REGRESSED" in words:
            return "MIXED"
        return "IMPROVED" if primary_not_worse else "INCONCLUSIVE"
    if "REGRESSED" in words or failed - {"invalid"}:
        return "REGRESSED"
    if failed or any(row.rests_on_invalid for row in family.values()):
        return "INCONCLUSIVE"
    return "EQUIVALENT" if primary in family and family[primary].verdict == "EQUIVALENT" else "INCONCLUSIVE"


def _loss(delta: QuestionDelta, family: Sequence[str]) -> float:
    """How much one question lost over the family: the sum of its worse differences."""
    losses = 0.0
    for name in family:
        if name in delta.metrics:
            base, tuned = delta.metrics[name]
            losses += max(0.0, base - tuned if METRICS[name].higher_is_better else tuned - base)
    return losses


def _worst(deltas: Sequence[QuestionDelta], rules: Rules) -> tuple[str, ...]:
    """Up to ``WORST`` questions that lost most: by the primary metric, then by the whole family."""
    ranked = sorted(
        (-_loss(delta, rules.family[:1]), -_loss(delta, (*rules.family, "false_refusal")), delta.question_id)
        for delta in deltas
    )
    return tuple(name for _, lost, name in ranked if lost < 0)[:WORST]


def _rules(
    margin: float, alpha: float, family: Sequence[str], noise: Mapping[str, float] = MappingProxyType({})
) -> Rules:
    """Checked rules. Raises InputError for an unusable margin, alpha, family or noise floor."""
    for name, value, limit in (("margin", margin, 1.0), ("alpha", alpha, 0.5)):
        if not 0 < value < limit:  # NaN too
            raise InputError(f"{name} is {value:g}", where=name, fix=f"choose a number between 0 and {limit:g}")
    unknown = [name for name in family if name not in METRICS or not METRICS[name].judged]
    if unknown or not family:
        raise InputError(
            f"not a metric that can decide: {', '.join(unknown) or '(none given)'}",
            fix=f"choose the family from: {', '.join(name for name, metric in METRICS.items() if metric.judged)}",
        )
    for name, floor in noise.items():
        if not 0 <= floor < math.inf:
            raise InputError(f"the noise floor of {name} is {floor:g}", fix="measure the noise again")
    return Rules(margin, alpha, tuple(dict.fromkeys(family)), noise)


def compare(
    base: Sequence[Score],
    tuned: Sequence[Score],
    questions: Sequence[Question],
    *,
    margin: float = 0.05,
    alpha: float = 0.05,
    family: Sequence[str] = FAMILY,
    guards: Sequence[Guard] = (),
    noise: Mapping[str, float] = MappingProxyType({}),
) -> Comparison:
    """The tuned model compared with the base, question by question, with the verdict and its reasons.

    ``family`` names the metrics that decide, declared before the scores are seen, the primary first.
    ``guards`` are added to those on metrics (``forgetting_guard``). ``noise`` is as in ``compare_arms``. Raises
    InputError when the scores do not match question by question and seed by seed, or for an unusable margin,
    alpha, family or noise floor.
    """
    return _comparison(match(base, tuned, questions), _rules(margin, alpha, family, noise), guards, {})


def compare_all(
    base: Sequence[Score],
    tuned: Mapping[str, Sequence[Score]],
    questions: Sequence[Question],
    *,
    margin: float = 0.05,
    alpha: float = 0.05,
    family: Sequence[str] = FAMILY,
    guards: Mapping[str, Sequence[Guard]] = MappingProxyType({}),
    noise: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> dict[str, Comparison]:
    """Several tuned models against one base: each as in ``compare``, with one Holm correction over all.

    ``guards`` and ``noise`` are given for each model. The more models are compared, the stronger the evidence each
    one needs: of ten, one looks better by chance.
    """
    rules = {name: _rules(margin, alpha, family, noise.get(name, {})) for name in tuned}
    matched = {name: match(base, scores, questions) for name, scores in tuned.items()}
    tested = {name: _tested(_pair_all(scored), rules[name]) for name, scored in matched.items()}
    return {
        name: _comparison(scored, rules[name], guards.get(name, ()), _others(tested, name))
        for name, scored in matched.items()
    }


def compare_arms(
    base: Sequence[Score],
    tuned: Sequence[Score],
    questions: Sequence[Question],
    *,
    prompted: Sequence[Score] = (),
    margin: float = 0.05,
    alpha: float = 0.05,
    family: Sequence[str] = FAMILY,
    guards: Sequence[Guard] = (),
    noise: Mapping[str, float] = MappingProxyType({}),
) -> Outcome:
    """The tuned model compared with the base and, where it was asked, with the prompted base.

    One Holm correction covers both comparisons. ``guards`` count in both: the prompted base has the weights of
    the base. ``noise`` maps a metric to how far numerical noise alone moves its difference, in its
    unit: a difference inside it decides nothing. Raises InputError as ``compare``.
    """
    rules = _rules(margin, alpha, family, noise)
    sides: dict[Reference, Sequence[Score]] = {"base": base, "prompted": prompted} if prompted else {"base": base}
    matched = {name: match(scores, tuned, questions) for name, scores in sides.items()}
    tested = {name: _tested(_pair_all(scored), rules) for name, scored in matched.items()}
    against = {
        name: _comparison(scored, rules, guards, _others(tested, name), name) for name, scored in matched.items()
    }
    return join_arms(against["base"], against.get("prompted"))


def _others(tested: Mapping[Any, Mapping[str, float]], name: str) -> dict[str, float]:
    """The p values of the other comparisons, under names of their own."""
    return {f"{other}/{test}": p for other, tests in tested.items() if other != name for test, p in tests.items()}


def _comparison(
    scored: Scored,
    rules: Rules,
    guards: Sequence[Guard],
    others: Mapping[str, float],
    reference: Reference = "base",
) -> Comparison:
    decision = decide(scored, rules, guards, others)
    known = {row.name for row in decision.rows}
    influence = tuple(
        influence
        for row in decision.rows
        if row.in_family
        for influence in influences(_pairs(scored, row.name), row, decision.p_values, rules)
    )
    deltas = question_deltas(scored, [row.name for row in decision.rows])
    comparison = Comparison(
        verdict=decision.verdict,
        headline="",
        reasons=(),
        primary=rules.family[0],
        family=rules.family,
        untested=tuple(name for name in rules.family if name not in known),
        margin=rules.margin,
        alpha=rules.alpha,
        n_questions=len(scored.questions),
        n_clusters=len({delta.cluster for delta in deltas}),
        rows=decision.rows,
        guards=decision.guards,
        influence=influence,
        questions=deltas,
        worst_regressions=_worst(deltas, rules),
        dropped=scored.dropped,
    )
    return in_words(comparison, reference, primary_not_worse=decision.primary_not_worse)


def _pairs(scored: Scored, name: str) -> Pairs:
    pairs = pair_metric(scored, name)
    if pairs is None:
        raise AssertionError(name)  # it has a row, so it has pairs
    return pairs
