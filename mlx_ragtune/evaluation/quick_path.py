"""The words that mark answers of the quick path (``evaluate.engine: mlx``) on every page."""

from dataclasses import replace

from mlx_ragtune.evaluation.fairness import Conditions
from mlx_ragtune.scoring.verdict.comparison import Outcome

SERVER = "none (quick path)"
"""Stands in the place of a server in the conditions of such answers."""
STAMP = (
    "Quick path: answered in MLX by the weights of training with the adapter, not by the exported models at their "
    "server. Good for iterating; the verdict that counts is that of 'evaluate.engine: served'. Latency is not measured."
)
HEADLINE = "Quick path, not the served models: "


def stamps_of_path(*conditions: Conditions | None) -> tuple[str, ...]:
    """The warning for every page when any of the answers come from the quick path."""
    quick = any(side is not None and side.server == SERVER for side in conditions)
    return (STAMP,) if quick else ()


def marked(outcome: Outcome) -> Outcome:
    """The outcome with a headline that says where the answers come from."""
    return replace(outcome, headline=f"{HEADLINE}{outcome.headline}")
