"""The gate over all rows of a data set: what is certain ends the stage, the rest is printed and counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.prompts import load_tokenizer
from mlx_ragtune.records import Chunk, Pair
from mlx_ragtune.retrieval.control_tokens import neutral
from mlx_ragtune.synthesis.benchmark_guard import BenchmarkGuard, guard_report
from mlx_ragtune.synthesis.benchmark_view import BenchmarkView
from mlx_ragtune.synthesis.gate import SHOWN, corpus_findings, warnings


def special_tokens(tokenizer: Any) -> frozenset[str]:
    """The texts that a tokenizer takes for special tokens; those of white space only are none."""
    texts = {str(token) for token in tokenizer.all_special_tokens}
    texts |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return frozenset(text for text in texts if text.strip())


def examine(
    pairs: Sequence[Pair],
    chunks: Iterable[Chunk],
    *,
    benchmark: BenchmarkView,
    base: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What the gate finds in the rows and the papers, for ``statistics.json``; warnings are said.

    ``benchmark``: reason → ids of pairs that come close to it. Raises InputError when a pair or a passage holds a
    special token of the base's tokenizer that prompts do not show with spaces.
    """
    passages = list(chunks)
    _require_no_specials(pairs, passages, special_tokens(load_tokenizer(base)))
    findings = corpus_findings(pairs, passages)
    close = guard_report(pairs, BenchmarkGuard(benchmark))
    for line in (*warnings(findings), *_close_lines(close)):
        say(line)
    return {**findings, "benchmark": close}


def _close_lines(close: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        f"{len(ids)} pairs: '{reason}': {', '.join(ids[:SHOWN])}; read them, and remove what teaches the benchmark"
        for reason, ids in close.items()
    ]


def _require_no_specials(pairs: Sequence[Pair], chunks: Sequence[Chunk], specials: frozenset[str]) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for pair in pairs:
        counts.update(
            ("pair " + pair.id, token) for token in specials if token in pair.answer or token in neutral(pair.question)
        )
    for chunk in chunks:
        shown = neutral(f"{chunk.title}\n{chunk.text}")
        counts.update((f"paper {chunk.document_id}", token) for token in specials if token in shown)
    if counts:
        listing = "\n".join(f"  {where}: '{token}'" for where, token in list(counts)[:SHOWN])
        raise InputError(
            f"{len(counts)} texts hold special tokens of the base's tokenizer:\n{listing}",
            fix="write the token with a space in it, or choose another base",
        )
