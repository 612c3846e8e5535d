"""Keyword coverage, the source experiment's metric: kept for comparison with old runs; decides nothing.

It punishes a concise answer and cannot see a negation, which is why it is secondary.
"""

from mlx_ragtune.scoring.answers.normalize import fold, has_any


def keyword_coverage(text: str, groups: tuple[tuple[str, ...], ...]) -> float | None:
    """Share of the alias groups of which at least one alias occurs in the answer; None without groups."""
    if not groups:
        return None
    folded = fold(text)
    return sum(has_any(folded, aliases) for aliases in groups) / len(groups)
