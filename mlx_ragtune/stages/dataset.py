"""dataset: pairs become training rows, with the contexts that the served retriever would give."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.building.generators import require_generator
from mlx_ragtune.building.pair_sources import authored_pairs, generated_pairs
from mlx_ragtune.building.split_files import SPLITS, visible_chunks, write_split
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.models.model_folder import check_base
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Chunk, Document, Pair, Split
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import Retriever
from mlx_ragtune.searching.encoders import require_encoders
from mlx_ragtune.searching.opened import open_retriever
from mlx_ragtune.synthesis.assemble import assemble
from mlx_ragtune.synthesis.balance import balance
from mlx_ragtune.synthesis.benchmark_view import BenchmarkView, HeldOut, held_out, read_view
from mlx_ragtune.synthesis.dedupe import without_duplicates
from mlx_ragtune.synthesis.splits import split_by_paper
from mlx_ragtune.tuning.train_checks import check_window


def check(recipe: Recipe, base: Path) -> None:
    """Raise an error for a base that cannot render rows, or a generator that its server does not have."""
    check_base(base, thinking=recipe.dataset.thinking == "on")
    check_window(base, dataset=recipe.dataset)
    if recipe.dataset.generator is not None:
        require_generator(recipe.dataset.generator)
    require_encoders(recipe.retrieval)


def dataset(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write the rows of each split with their origin (``examples-SPLIT.jsonl``), and statistics.

    The same rows as chat messages are in ``train.jsonl``, ``valid.jsonl`` and ``test.jsonl``, which
    ``mlx_lm.lora --data`` reads; a split without rows has no such file.
    """
    with open_retriever(recipe.retrieval, inputs["corpus"]) as retriever:
        _build(recipe, inputs, draft, retriever)


@dataclass(frozen=True)
class _Corpus:
    """What the corpus stage wrote, and what of it must teach nothing."""

    documents: list[Document]
    chunks: list[Chunk]
    benchmark: BenchmarkView
    held: HeldOut
    retriever: Retriever


def _build(recipe: Recipe, inputs: Inputs, draft: Draft, retriever: Retriever) -> None:
    corpus = _corpus(recipe, inputs["corpus"], retriever)
    for overlap in corpus.held.copies:
        draft.say(f"held out of training: {overlap}")
    pairs = _pairs(recipe, corpus, draft)
    pairs, duplicates = without_duplicates(pairs)
    pairs, left_out = balance(pairs, recipe.dataset.shares, seed=recipe.seed)
    splits = _splits(recipe, pairs, corpus.documents)
    report = _rows(recipe, pairs, splits, corpus, base=inputs["base"], draft=draft)
    report |= {
        "held_out_copies": [asdict(overlap) for overlap in corpus.held.copies],
        "duplicates": [asdict(duplicate) for duplicate in duplicates],
        "left_out_for_shares": [pair.id for pair in left_out],
        "left_out_across_splits": [pair.id for pair in pairs if pair.id not in splits],
    }
    _write_statistics(draft / "statistics.json", report)
    _require_rows(report, pairs)
    draft.record(
        **{f"{split}_rows": report[split]["rows"] for split in SPLITS},
        shares=report["train"]["assembly"]["shares_got"],
        tokens=report["train"]["tokens"],
        held_out_copies=[str(overlap) for overlap in corpus.held.copies],
        too_long=sum(len(report[split]["too_long"]) for split in SPLITS),
    )


def _corpus(recipe: Recipe, folder: Path, retriever: Retriever) -> _Corpus:
    documents = list(read_rows(folder / "documents.jsonl", Document))
    chunks = list(read_rows(folder / "chunks.jsonl", Chunk))
    benchmark = read_view(recipe.benchmark)
    return _Corpus(documents, chunks, benchmark, held_out(benchmark.papers, documents), retriever)


def _pairs(recipe: Recipe, corpus: _Corpus, draft: Draft) -> list[Pair]:
    """The user's pairs of the kinds that the recipe uses, or generated ones."""
    settings = recipe.dataset
    if settings.pairs:
        authored = authored_pairs(settings.pairs, corpus.documents, corpus.benchmark, corpus.held)
        return [pair for pair in authored if pair.kind != "refusal" or pair.refusal_kind in settings.refusal_kinds]
    allowed = [chunk for chunk in corpus.chunks if chunk.document_id not in corpus.held.papers]
    return generated_pairs(recipe, allowed, corpus.retriever, draft)


def _splits(recipe: Recipe, pairs: Sequence[Pair], documents: Sequence[Document]) -> dict[str, Split]:
    """Pair id → split; pairs across two splits are absent."""
    settings = recipe.dataset
    return split_by_paper(
        pairs, documents, valid_share=settings.valid_share, test_share=settings.test_share, seed=recipe.seed
    )


def _rows(
    recipe: Recipe, pairs: Sequence[Pair], splits: Mapping[str, Split], corpus: _Corpus, *, base: Path, draft: Draft
) -> dict[str, Any]:
    """Write each split's rows; returns split → its counts."""
    report: dict[str, Any] = {}
    for split in SPLITS:
        rows, assembly = assemble(
            [pair for pair in pairs if splits.get(pair.id) == split],
            corpus.retriever,
            visible_chunks(corpus.chunks, pairs, splits, split),
            top_k=recipe.retrieval.top_k,
            seed=recipe.seed,
            shares=recipe.dataset.shares,
            build_messages=build_messages,
        )
        written = write_split(draft, split, rows, settings=recipe.dataset, base=base)
        report[split] = {**written, "assembly": asdict(assembly)}
    return report


def _require_rows(report: Mapping[str, Any], pairs: Sequence[Pair]) -> None:
    """Raise InputError when there are no training rows, or no validation rows."""
    if report["train"]["rows"] and report["valid"]["rows"]:
        return
    papers = {paper for pair in pairs for paper in pair.papers}
    raise InputError(
        f"{report['train']['rows']} training and {report['valid']['rows']} validation rows, but both are needed",
        fix="write pairs on a second paper: pairs on one paper are never split"
        if len(papers) < 2
        else "write more pairs on more papers, or set a larger dataset.valid_share",
    )


def _write_statistics(path: Path, report: Mapping[str, Any]) -> None:
    try:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ToolError(
            f"cannot be written: {error.strerror}",
            where=str(path),
            fix="free disk space, then run the same command again",
        ) from None
