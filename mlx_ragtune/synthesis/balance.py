"""Pairs in the proportions of kinds that the recipe asks for."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Kind, Pair

TOLERANCE = 0.05


def _advice(counts: Mapping[Kind, int]) -> str:
    total = sum(counts.values())
    listing = ", ".join(f"{kind}: {count / total:.2f}" for kind, count in counts.items())
    return f"add such pairs, set dataset.balance: keep, or set dataset.shares to those of the pairs: {{{listing}}}"


def without_share(pairs: Sequence[Pair], shares: Mapping[Kind, float]) -> tuple[list[Pair], list[Pair]]:
    """(kept, left out): the pairs of kinds that have a share above 0, and the others."""
    return (
        [pair for pair in pairs if shares.get(pair.kind, 0) > 0],
        [pair for pair in pairs if not shares.get(pair.kind, 0) > 0],
    )


def balance(pairs: Sequence[Pair], shares: Mapping[Kind, float], *, seed: int) -> tuple[list[Pair], list[Pair]]:
    """(kept, left out): the most pairs whose kinds are within 5 points of ``shares``, in their order.

    Pairs are left out by hash; all pairs of a kind with share 0 are left out. Raises InputError when a kind
    with a share has no pairs.
    """
    counts: dict[Kind, int] = {kind: sum(pair.kind == kind for pair in pairs) for kind in shares}
    absent = [kind for kind, share in shares.items() if share > 0 and not counts[kind]]
    if absent and pairs:
        raise InputError(f"no {' and no '.join(absent)} pairs, but dataset.shares asks for them", fix=_advice(counts))
    keep = {kind: count if shares[kind] else 0 for kind, count in counts.items()}
    while total := sum(keep.values()):
        slack = max(TOLERANCE, 1 / total)
        over = [kind for kind, share in shares.items() if keep[kind] / total > share + slack]
        under = [kind for kind, share in shares.items() if keep[kind] / total < share - slack]
        if not (over or under):
            break
        keep[max(keep, key=lambda kind: keep[kind] / total - shares[kind])] -= 1
    ranked = sorted(pairs, key=lambda pair: hashlib.sha256(f"{seed}\0{pair.id}".encode()).digest())
    seen: Counter[Kind] = Counter()
    chosen: set[str] = set()
    for pair in ranked:
        seen[pair.kind] += 1
        if seen[pair.kind] <= keep.get(pair.kind, 0):
            chosen.add(pair.id)
    return [pair for pair in pairs if pair.id in chosen], [pair for pair in pairs if pair.id not in chosen]
