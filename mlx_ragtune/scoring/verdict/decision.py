"""Did the tuning help? One verdict from paired scores, by rules fixed before the scores are seen.

A row is EQUIVALENT when two one-sided tests place its difference inside the margin; else IMPROVED or
REGRESSED when its Holm-adjusted cluster sign-flip p is at most alpha and its 1 − alpha interval excludes
0; else INCONCLUSIVE. The Holm correction covers the pre-declared family and the guards together.

The overall verdict follows from the family (its first metric is the primary one) and the guards. The
first rule that applies decides:

1. REGRESSED: a family row regressed, or a guard failed. Gains elsewhere do not outweigh it.
2. IMPROVED: a family row improved, the primary metric is non-inferior at the margin, and every guard
   passed.
3. EQUIVALENT: nothing improved, the primary row is EQUIVALENT and every guard passed.
4. INCONCLUSIVE: anything else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.answers.metrics import FAMILY, GUARDS, METRICS
from mlx_ragtune.scoring.verdict.comparison import Comparison, Guard, MetricRow, Outcome, QuestionDelta, Verdict
from mlx_ragtune.scoring.verdict.guards import guard_of_row
from mlx_ragtune.scoring.verdict.headline import explain, headline
from mlx_ragtune.scoring.verdict.influence import influences
from mlx_ragtune.scoring.verdict.metric_rows import Rules, make_row, not_worse
from mlx_ragtune.scoring.verdict.pairing import Pairs, Scored, match, pair_metric, question_deltas
from mlx_ragtune.scoring.verdict.statistics import holm, sign_flip_p

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

    ``others`` are the p values of further models against the same base, which Holm counts too.
    """
    table = {name: pairs for name in METRICS if (pairs := pair_metric(scored, name)) is not None}
    p_values = {**others, **_tested(table, rules)}
    adjusted = holm(p_values)
    rows = tuple(
        make_row(
            METRICS[name],
            pairs,
            pair_metric(scored, name, both_valid=True),
            rules,
            holm_p=adjusted.get(name),
        )
        for name, pairs in table.items()
    )
    all_guards = (
        *(guard_of_row(row, margin=rules.margin) for row in rows if row.role == "guard"),
        *guards,
    )
    primary = rules.family[0]
    safe = primary in table and not_worse(table[primary], METRICS[primary], rules)
    return Decision(
        verdict=_overall(rows, all_guards, primary, primary_not_worse=safe),
        rows=rows,
        guards=all_guards,
        p_values=p_values,
        primary_not_worse=safe,
    )


def _tested(table: Mapping[str, Pairs], rules: Rules) -> dict[str, float]:
    """Cluster sign-flip p of the family and the guards, where defined."""
    names = [name for name in dict.fromkeys((*rules.family, *GUARDS)) if name in table]
    return {name: sign_flip_p(table[name].differences, table[name].clusters) for name in names}


def _overall(rows: Sequence[MetricRow], guards: Sequence[Guard], primary: str, *, primary_not_worse: bool) -> Verdict:
    verdicts = {row.name: row.verdict for row in rows if row.in_family}
    if "REGRESSED" in verdicts.values() or any(guard.state == "FAIL" for guard in guards):
        return "REGRESSED"
    if any(guard.state != "PASS" for guard in guards):
        return "INCONCLUSIVE"
    if "IMPROVED" in verdicts.values():
        return "IMPROVED" if primary_not_worse else "INCONCLUSIVE"
    return "EQUIVALENT" if verdicts.get(primary) == "EQUIVALENT" else "INCONCLUSIVE"


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


def _rules(margin: float, alpha: float, family: Sequence[str]) -> Rules:
    """Checked rules. Raises InputError for an unusable margin, alpha or family."""
    for name, value, limit in (("margin", margin, 1.0), ("alpha", alpha, 0.5)):
        if not 0 < value < limit:  # NaN too
            raise InputError(f"{name} is {value:g}", where=name, fix=f"choose a number between 0 and {limit:g}")
    unknown = [name for name in family if name not in METRICS or not METRICS[name].judged]
    if unknown or not family:
        raise InputError(
            f"not a metric that can decide: {', '.join(unknown) or '(none given)'}",
            fix=f"choose the family from: {', '.join(name for name, metric in METRICS.items() if metric.judged)}",
        )
    return Rules(margin, alpha, tuple(dict.fromkeys(family)))


def compare(
    base: Sequence[Score],
    tuned: Sequence[Score],
    questions: Sequence[Question],
    *,
    margin: float = 0.05,
    alpha: float = 0.05,
    family: Sequence[str] = FAMILY,
    guards: Sequence[Guard] = (),
) -> Comparison:
    """The tuned model compared with the base, question by question, with the verdict and its reasons.

    ``family`` names the metrics that decide, declared before the scores are seen, the primary first.
    ``guards`` are added to those on metrics (``forgetting_guard``). Raises InputError when the scores do
    not match question by question and seed by seed, or for an unusable margin, alpha or family.
    """
    rules = _rules(margin, alpha, family)
    return _comparison(match(base, tuned, questions), rules, guards, {})


def compare_all(
    base: Sequence[Score],
    tuned: Mapping[str, Sequence[Score]],
    questions: Sequence[Question],
    *,
    margin: float = 0.05,
    alpha: float = 0.05,
    family: Sequence[str] = FAMILY,
    guards: Mapping[str, Sequence[Guard]] = MappingProxyType({}),
) -> dict[str, Comparison]:
    """Several tuned models against one base: each as in ``compare``, with one Holm correction over all.

    The more models are compared, the stronger the evidence each one needs: of ten, one looks better by chance.
    """
    rules = _rules(margin, alpha, family)
    matched = {name: match(base, scores, questions) for name, scores in tuned.items()}
    tested = {}
    for model, scored in matched.items():
        table = {name: pairs for name in METRICS if (pairs := pair_metric(scored, name)) is not None}
        tested[model] = {f"{model}/{name}": p for name, p in _tested(table, rules).items()}
    return {
        model: _comparison(
            scored,
            rules,
            guards.get(model, ()),
            {name: p for other, p_values in tested.items() if other != model for name, p in p_values.items()},
        )
        for model, scored in matched.items()
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
    the base. ``noise`` maps a metric to how far numerical noise alone moves its difference, in its unit: a
    difference inside it decides nothing. Raises InputError as ``compare``.
    """
    rules = _rules(margin, alpha, family)
    sides = {"base": base, "prompted": prompted} if prompted else {"base": base}
    matched = {name: match(scores, tuned, questions) for name, scores in sides.items()}
    tested = {name: _tested(pair_all(scored), rules) for name, scored in matched.items()}
    against = {name: _comparison(scored, rules, guards, others_of(tested, name)) for name, scored in matched.items()}
    first = against["base"]
    return Outcome(first.verdict, first.headline, first, against.get("prompted"))


def pair_all(scored: Scored) -> dict[str, Pairs]:
    """Every metric that is defined for at least one question."""
    return {name: pairs for name in METRICS if (pairs := pair_metric(scored, name)) is not None}


def others_of(tested: Mapping[str, Mapping[str, float]], name: str) -> dict[str, float]:
    """The p values of the other comparisons, under names of their own."""
    return {f"{other}/{metric}": p for other, ps in tested.items() if other != name for metric, p in ps.items()}


def _comparison(scored: Scored, rules: Rules, guards: Sequence[Guard], others: Mapping[str, float]) -> Comparison:
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
    return replace(
        comparison,
        headline=headline(comparison),
        reasons=explain(comparison, primary_not_worse=decision.primary_not_worse),
    )


def _pairs(scored: Scored, name: str) -> Pairs:
    pairs = pair_metric(scored, name)
    if pairs is None:
        raise AssertionError(name)  # it has a row, so it has pairs
    return pairs
