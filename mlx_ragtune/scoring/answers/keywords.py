"""Keyword coverage, the metric of the source experiment: kept for comparison with old runs; it decides nothing.

It penalizes concise answers and ignores negation, so it is secondary.
"""

from mlx_ragtune.scoring.answers.anchors import AnchorText
from mlx_ragtune.scoring.answers.normalize import fold


def keyword_coverage(text: str, groups: tuple[tuple[str, ...], ...]) -> float | None:
    """Share of the alias groups with at least one alias in the answer; None without groups."""
    if not groups:
        return None
    said = AnchorText(fold(text))
    return sum(bool(said.find(aliases)) for aliases in groups) / len(groups)
