"""What to try next, derived from a comparison: imperative sentences without a full stop."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from mlx_ragtune.records import Validity
from mlx_ragtune.scoring.verdict.comparison import Comparison, Guard, MetricRow

UNUSABLE_SHARE = 0.8
"""Above this share of unusable answers of either model nothing is decided: too few questions have two answers."""
SAME_SHARE = 0.5
"""Above this share of unusable answers of either model no two models are called equivalent: worst values agree."""
NOTABLE_SHARE = 0.1
"""From this share on, unusable answers are worth a change of the settings."""
REFUSES_ENOUGH = 0.5
MANY_PAPERS = 150
ROUND_DIFFERENCES = (0.1, 0.2, 0.3)
"""What to aim for where the margin would take more papers than ``MANY_PAPERS``."""

MORE_TOKENS = "raise evaluate.sampling.max_tokens: many answers are cut off"
LESS_REPEATING = "set evaluate.sampling.repeat_penalty, for example to 1.1: many answers repeat themselves"
MENDS: dict[Validity, str] = {
    "truncated": MORE_TOKENS,
    "repetition_loop": LESS_REPEATING,
    "prompt_overflow": "raise evaluate.sampling.context_tokens, or lower retrieval.top_k",
    "think_leak": "set dataset.thinking to the way the base model was trained, so that no reasoning is in the answers",
    "prompt_leak": "read the answers that copy the prompt: check the chat template",
    "turn_token_leak": "check the chat template: control tokens stand in the answers",
    "empty": "read the empty answers in the report: the chat template or the end token is a likely cause",
    "self_dialogue": "read the answers that continue with questions of their own: check the chat template",
    "too_short": "read the answers that are too short in the report",
}
MENDS_TUNED: dict[Validity, str] = {
    **MENDS,
    "self_dialogue": "check that training rows end with the end token: answers continue with questions of their own",
    "too_short": "write longer answers in the training pairs",
}
"""Where the tuned model is the one to mend, training can be changed too."""
FORGETS = "add general questions to the training pairs, or lower train.learning_rate or train.epochs"


def most_unusable(validities: Sequence[Validity], share: float = UNUSABLE_SHARE) -> bool:
    """Whether more than ``share`` of the answers are unusable."""
    return sum(kind != "ok" for kind in validities) > share * len(validities)


def advice(comparison: Comparison) -> tuple[str, ...]:
    """What to try next, most important first; empty when nothing needs a change."""
    steps = [
        *_on_unusable(comparison),
        *(step for guard in comparison.guards if (step := _on_guard(guard))),
        *(step for row in comparison.rows if (step := _on_loss(row))),
        *_on_size(comparison),
    ]
    return tuple(dict.fromkeys(steps))


def _on_unusable(comparison: Comparison) -> Iterable[str]:
    """The setting behind the most frequent problem of each model whose unusable answers are many."""
    for mends, kinds in (
        (MENDS, [kind for delta in comparison.questions for kind in delta.base_validity]),
        (MENDS_TUNED, [kind for delta in comparison.questions for kind in delta.tuned_validity]),
    ):
        wrong = Counter(mends[kind] for kind in kinds if kind in mends)
        if wrong.total() >= NOTABLE_SHARE * len(kinds) > 0:
            yield wrong.most_common(1)[0][0]


def _on_guard(guard: Guard) -> str | None:
    if guard.state == "PASS":
        return None
    return {
        "forgetting": FORGETS,
        "false_refusal": "lower dataset.shares.refusal, or add answerable training pairs",
        "verbosity": "shorten the answers in the training pairs",
    }.get(guard.name)


def _on_loss(row: MetricRow) -> str | None:
    if not row.in_family:
        return None
    if row.name == "refusal_near_miss" and (row.verdict == "REGRESSED" or row.all.tuned_mean < REFUSES_ENOUGH):
        return "add training rows that refuse questions the papers almost answer"
    if row.name == "refusal_off_corpus" and (row.verdict == "REGRESSED" or row.all.tuned_mean < REFUSES_ENOUGH):
        return "add training rows that refuse questions outside the papers"
    if row.verdict != "REGRESSED":
        return None
    if row.name in ("correctness", "judged_correctness"):
        return "lower train.learning_rate or train.epochs, or add training pairs"
    if row.name == "citation_recall":
        return "name the paper in every answer of the training pairs"
    return None


def _on_size(comparison: Comparison) -> Iterable[str]:
    """More papers, where the primary metric is undecided for want of them: as many as a person might ask about."""
    row = comparison.row(comparison.primary)
    if comparison.verdict != "INCONCLUSIVE" or row is None or row.verdict != "INCONCLUSIVE" or row.rests_on_invalid:
        return
    if row.needed_clusters is None:
        return
    each = row.all.n_questions / row.all.n_clusters
    for difference in (comparison.margin, *ROUND_DIFFERENCES):
        papers = math.ceil(row.needed_clusters * min(1.0, comparison.margin / difference) ** 2)
        if row.all.n_clusters < papers <= MANY_PAPERS or difference == ROUND_DIFFERENCES[-1]:
            papers = max(papers, row.all.n_clusters + 1)
            what = f"{papers:,} papers with {each:.0f} question{'s' * (round(each) != 1)} each"
            yield f"ask about more papers: about {what} decide a difference of {100 * difference:g} points"
            return
