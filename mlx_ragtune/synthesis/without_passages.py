"""Questions without passages: some answerable questions once more, with nothing to answer from, and a refusal.

    question, its passages            ─► its answer      (the pair itself)
    Papers: (none), Question: …       ─► a refusal       (every other one; the form of a prompt, with nothing found)
    the bare question                 ─► a refusal       (the rest; what a server's own chat sends)

Both have the system text of every prompt. Without such rows a tuned model has never seen a question that is asked
without passages, and may answer it from memory.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlx_ragtune.records import Example, Message, Pair
from mlx_ragtune.synthesis.assemble import BuildMessages
from mlx_ragtune.synthesis.contrast import Refuse
from mlx_ragtune.synthesis.visible_corpus import by_hash

BARE = "~bare"
"""Ending of the id of such a pair; before it stands the id of the pair that it was made of."""
_QUESTION = "\n\nQuestion: "


@dataclass(frozen=True)
class Unsupported:
    """The pairs that were made, and their training rows, in the same order."""

    pairs: tuple[Pair, ...] = ()
    rows: tuple[Example, ...] = ()


def without_passages(
    pairs: Sequence[Pair], share: float, *, refuse: Refuse, seed: int, build_messages: BuildMessages
) -> Unsupported:
    """Such rows for a share of the answerable pairs, chosen by the seed and the pairs' ids alone.

    Each row is a group of its own. A pair whose new id is taken, or whose question is refused already, is passed over.
    """
    taken = {pair.id for pair in pairs}
    refused = {pair.question for pair in pairs if pair.kind == "refusal"}
    usable = [pair for pair in pairs if pair.kind != "refusal"]
    wanted = round(share * len(usable))
    usable = [pair for pair in usable if f"{pair.id}{BARE}" not in taken and pair.question not in refused]
    chosen = sorted(usable, key=lambda pair: by_hash(seed, "bare", pair.id))[:wanted]
    made = [
        Pair(f"{pair.id}{BARE}", "refusal", pair.question, refuse(pair), pair.papers, (), "near_miss")
        for pair in chosen
    ]
    return Unsupported(
        tuple(made), tuple(_row(pair, build_messages, framed=number % 2 == 0) for number, pair in enumerate(made))
    )


def _row(pair: Pair, build_messages: BuildMessages, *, framed: bool) -> Example:
    system, user = build_messages((), pair.question)
    if not framed:
        user = replace(user, content=user.content.rpartition(_QUESTION)[2])
    group = hashlib.sha256(f"bare\0{pair.id}".encode()).hexdigest()[:12]
    messages = (system, user, Message("assistant", pair.answer))
    return Example(pair.id, pair.kind, group, messages, pair.papers)
