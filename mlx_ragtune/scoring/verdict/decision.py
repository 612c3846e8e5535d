"""Did the tuning help? One verdict from paired scores, by rules written down before anyone looks.

A row is EQUIVALENT when its difference is surely inside the margin; else IMPROVED or REGRESSED when its
Holm-adjusted cluster sign-flip p is at most alpha and its 1 − alpha interval leaves out 0; else
INCONCLUSIVE. Holm runs over the pre-declared family and the guards together.

The whole, from the family (its first metric is the primary one) and the guards, first that applies:

1. REGRESSED: a family row regressed, or a guard is broken. Gains elsewhere do not buy it back.
2. IMPROVED: a family row improved, the primary is surely not worse by more than the margin, and every
   guard holds.
3. EQUIVALENT: nothing improved, the primary row is EQUIVALENT and every guard holds.
4. INCONCLUSIVE: anything else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.answers.metrics import FAMILY, GUARDS, METRICS
from mlx_ragtune.scoring.verdict.comparison import Comparison, Guard, MetricRow, QuestionDelta, Verdict
from mlx_ragtune.scoring.verdict.guards import guard_of_row
from mlx_ragtune.scoring.verdict.headline import explain, headline
from mlx_ragtune.scoring.verdict.influence import influences
from mlx_ragtune.scoring.verdict.metric_rows import Rules, make_row, not_worse
from mlx_ragtune.scoring.verdict.pairing import Pairs, Scored, match, pair_metric, question_deltas
from mlx_ragtune.scoring.verdict.statistics import holm, sign_flip_p

WORST = 5


@dataclass(frozen=True)
class Decision:
    """What decides: rows, guards, raw p values of the Holm family, and the verdict."""

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

    ``others`` are p values that Holm has to count too, those of further models against the same base.
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
    vetoes = (
        *(guard_of_row(row, margin=rules.margin) for row in rows if row.role == "guard"),
        *guards,
    )
    primary = rules.family[0]
    safe = primary in table and not_worse(table[primary], METRICS[primary], rules)
    return Decision(
        verdict=_overall(rows, vetoes, primary, primary_not_worse=safe),
        rows=rows,
        guards=vetoes,
        p_values=p_values,
        primary_not_worse=safe,
    )


def _tested(table: Mapping[str, Pairs], rules: Rules) -> dict[str, float]:
    """Cluster sign-flip p of the family and the guards, where defined."""
    names = [name for name in dict.fromkeys((*rules.family, *GUARDS)) if name in table]
    return {name: sign_flip_p(table[name].differences, table[name].clusters) for name in names}


def _overall(rows: Sequence[MetricRow], guards: Sequence[Guard], primary: str, *, primary_not_worse: bool) -> Verdict:
    verdicts = {row.name: row.verdict for row in rows if row.in_family}
    if "REGRESSED" in verdicts.values() or any(guard.state == "BROKEN" for guard in guards):
        return "REGRESSED"
    if any(guard.state != "HOLDS" for guard in guards):
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


def _check(rules: Rules) -> None:
    unknown = [name for name in rules.family if name not in METRICS or not METRICS[name].judged]
    if unknown or not rules.family:
        raise InputError(
            f"no such metric to judge by: {', '.join(unknown) or '(none given)'}",
            fix=f"choose the family from: {', '.join(name for name, metric in METRICS.items() if metric.judged)}",
        )


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
    """Base against tuned, question by question, with the verdict and what it rests on.

    ``family`` names the metrics that decide, declared before the scores are seen, the primary first.
    ``guards`` are further vetoes (``forgetting_guard``). Raises InputError when the scores do not match
    question by question and seed by seed, or the family names no metric.
    """
    rules = Rules(margin, alpha, tuple(dict.fromkeys(family)))
    _check(rules)
    return _report(match(base, tuned, questions), rules, guards, {})


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
    """Several tuned models against one base: each as ``compare`` has it, Holm over all of them together.

    The more models are tried, the surer each has to be: with ten, one looks better by luck.
    """
    rules = Rules(margin, alpha, tuple(dict.fromkeys(family)))
    _check(rules)
    matched = {name: match(base, scores, questions) for name, scores in tuned.items()}
    tested = {}
    for model, scored in matched.items():
        table = {name: pairs for name in METRICS if (pairs := pair_metric(scored, name)) is not None}
        tested[model] = {f"{model}/{name}": p for name, p in _tested(table, rules).items()}
    return {
        model: _report(
            scored,
            rules,
            guards.get(model, ()),
            {name: p for other, found in tested.items() if other != model for name, p in found.items()},
        )
        for model, scored in matched.items()
    }


def _report(scored: Scored, rules: Rules, guards: Sequence[Guard], others: Mapping[str, float]) -> Comparison:
    decision = decide(scored, rules, guards, others)
    known = {row.name for row in decision.rows}
    found = tuple(
        one
        for row in decision.rows
        if row.in_family
        for one in influences(_pairs(scored, row.name), row, decision.p_values, rules)
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
        influence=found,
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
