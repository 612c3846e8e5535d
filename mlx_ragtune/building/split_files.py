"""The rows of a split as files, and the chunks that its contexts may come from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.models.prompts import load_tokenizer
from mlx_ragtune.recipe import DatasetSettings
from mlx_ragtune.records import Chunk, Example, Pair, Rejected, Split
from mlx_ragtune.synthesis.token_statistics import describe
from mlx_ragtune.tuning.example_files import example_row, rejected_file
from mlx_ragtune.tuning.token_rows import Refused, tokenize

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def visible_chunks(
    chunks: Sequence[Chunk], pairs: Sequence[Pair], splits: Mapping[str, Split], split: Split
) -> list[Chunk]:
    """The chunks that contexts of this split may come from: training never sees papers that validate or test."""
    wanted = {"train"} if split == "train" else {"train", split}
    papers = {paper for pair in pairs if splits.get(pair.id) in wanted for paper in pair.papers}
    return [chunk for chunk in chunks if chunk.document_id in papers]


@dataclass(frozen=True)
class WrittenSplit:
    """What was written of a split: the rows' ids, the rows that do not fit, and counts for ``statistics.json``."""

    kept: tuple[str, ...]
    refused: tuple[Refused, ...]
    counts: dict[str, Any]


def write_split(
    draft: Draft,
    split: Split,
    rows: Sequence[Example],
    *,
    settings: DatasetSettings,
    base: Path,
    rejected: Sequence[Rejected] = (),
) -> WrittenSplit:
    """Write the split's files without the rows that are too long, and the rejected answers that fit."""
    worse = {row.id: row.answer for row in rejected}
    tokens, refused = tokenize(
        [replace(row, rejected=worse.get(row.id, "")) for row in rows],
        load_tokenizer(base),
        thinking=settings.thinking == "on",
        max_tokens=settings.max_tokens,
        on_too_long="drop",
    )
    dropped = {row.id for row in refused}
    kept = [row for row in rows if row.id not in dropped]
    write_rows(draft / f"examples-{split}.jsonl", map(example_row, kept))
    paired = {row.id for row in tokens if row.rejected is not None}
    write_rows(draft / rejected_file(split), [row for row in rejected if row.id in paired])
    counts: dict[str, Any] = {"rows": len(kept), "tokens": {}, "too_long": sorted(dropped)}
    if kept:
        write_rows(draft / f"{split}.jsonl", ({"messages": row.messages} for row in kept))
        statistics = describe(kept, {row.id: len(row.tokens) for row in tokens})
        total = statistics.total
        counts |= {
            "groups": statistics.groups,
            "kinds": [asdict(kind) for kind in statistics.kinds],
            "tokens": {"min": total.tokens_min, "mean": round(total.tokens_mean, 1), "max": total.tokens_max},
        }
    return WrittenSplit(tuple(row.id for row in kept), tuple(refused), counts)
