"""dataset: pairs become training rows, with the contexts that the served retriever would give."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.clients.ollama_address import effective_host, pull_command
from mlx_ragtune.clients.protocol import ChatBackend
from mlx_ragtune.clients.serving import open_generators, require_generator
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.jsonl import read_rows, write_rows
from mlx_ragtune.models.model_folder import check_base
from mlx_ragtune.models.prompts import load_tokenizer
from mlx_ragtune.recipe import GeneratorSettings, Recipe
from mlx_ragtune.records import Chunk, Document, Example, Pair, Split
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import Retriever
from mlx_ragtune.searching.encoders import require_encoders
from mlx_ragtune.searching.opened import open_retriever
from mlx_ragtune.synthesis.assemble import assemble
from mlx_ragtune.synthesis.authored import read_pairs
from mlx_ragtune.synthesis.balance import balance
from mlx_ragtune.synthesis.benchmark_guard import BenchmarkGuard
from mlx_ragtune.synthesis.benchmark_view import BenchmarkView, HeldOut, held_out, read_view
from mlx_ragtune.synthesis.call_plan import make_plan
from mlx_ragtune.synthesis.dedupe import contamination, without_duplicates
from mlx_ragtune.synthesis.examine import examine
from mlx_ragtune.synthesis.generate import Sources, generate
from mlx_ragtune.synthesis.jobs import Jobs
from mlx_ragtune.synthesis.splits import split_by_paper
from mlx_ragtune.synthesis.token_statistics import describe
from mlx_ragtune.tuning.token_rows import tokenize
from mlx_ragtune.tuning.train_checks import check_window

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


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


def _build(recipe: Recipe, inputs: Inputs, draft: Draft, retriever: Retriever) -> None:
    documents = list(read_rows(inputs["corpus"] / "documents.jsonl", Document))
    chunks = list(read_rows(inputs["corpus"] / "chunks.jsonl", Chunk))
    settings, seed = recipe.dataset, recipe.seed
    benchmark = read_view(recipe.benchmark)
    held = held_out(benchmark.papers, documents)
    for overlap in held.copies:
        draft.say(f"held out of training: {overlap}")
    if settings.pairs:
        authored = _authored(settings.pairs, documents, benchmark, held)
        pairs = [pair for pair in authored if pair.kind != "refusal" or pair.refusal_kind in settings.refusal_kinds]
    else:
        allowed = [chunk for chunk in chunks if chunk.document_id not in held.papers]
        pairs = _generated(recipe, allowed, retriever, draft)
    pairs, duplicates = without_duplicates(pairs)
    pairs, left_out = balance(pairs, settings.shares, seed=seed)
    splits = split_by_paper(
        pairs, documents, valid_share=settings.valid_share, test_share=settings.test_share, seed=seed
    )
    report: dict[str, Any] = {}
    for split in SPLITS:
        own = [pair for pair in pairs if splits.get(pair.id) == split]
        rows, assembly = assemble(
            own,
            retriever,
            _visible(chunks, pairs, splits, split),
            top_k=recipe.retrieval.top_k,
            seed=seed,
            shares=settings.shares,
            build_messages=build_messages,
        )
        report[split] = {**_write(draft, split, rows, recipe, inputs["base"]), "assembly": asdict(assembly)}
    report |= {
        "gate": examine(pairs, chunks, benchmark=benchmark, base=inputs["base"], say=draft.say),
        "held_out_copies": [asdict(overlap) for overlap in held.copies],
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
        held_out_copies=[str(overlap) for overlap in held.copies],
        too_long=sum(len(report[split]["too_long"]) for split in SPLITS),
    )


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


def _authored(path: Path, documents: Sequence[Document], benchmark: BenchmarkView, held: HeldOut) -> list[Pair]:
    """The user's own pairs.

    Raises InputError for pairs that use the benchmark's papers, or copies of them, or repeat its questions.
    """
    pairs = read_pairs(path, documents)
    shared = contamination(pairs, benchmark, held)
    bad = sorted({*shared.papers, *(duplicate.id for duplicate in shared.questions)})
    if bad:
        papers = sorted({paper for used in shared.papers.values() for paper in used})
        copies = [f"\n  {overlap}" for overlap in held.copies if overlap.paper in papers]
        raise InputError(
            f"{len(bad)} pairs use papers of the benchmark ({', '.join(papers[:5])}) or repeat its questions: "
            f"{', '.join(bad[:5])}{''.join(copies[:5])}",
            where=str(path),
            fix="remove these pairs, or the benchmark's questions about these papers",
        )
    return pairs


def _generated(recipe: Recipe, chunks: Sequence[Chunk], retriever: Retriever, draft: Draft) -> list[Pair]:
    """Pairs by the recipe's generator. Finished calls stay in ``jobs.sqlite`` and are never made again."""
    settings = recipe.dataset.generator
    assert settings is not None  # noqa: S101 (the recipe has pairs or a generator)
    plan = make_plan(chunks, settings, recipe.dataset.shares, seed=recipe.seed)
    barred = BenchmarkGuard(read_view(recipe.benchmark)).reason
    sources = Sources({chunk.id: chunk for chunk in chunks}, retriever, recipe.retrieval.top_k, barred)
    with ExitStack() as stack:
        backends = [stack.enter_context(backend) for backend in open_generators(settings)]
        digest = _common_digest(settings, backends)
        track = stack.enter_context(draft.track("writing pairs", settings.pairs))
        jobs = stack.enter_context(Jobs(draft.cache("jobs.sqlite")))
        report = generate(
            plan,
            sources,
            backends=backends,
            jobs=jobs,
            settings=settings,
            model_digest=digest,
            progress=track,
        )
    write_rows(draft / "generated.jsonl", report.rows)
    draft.record(yield_share=round(report.yield_share, 3), rejections=report.rejections)
    return report.pairs


def _common_digest(settings: GeneratorSettings, backends: Sequence[ChatBackend]) -> str:
    """The digest of the generating model. Raises ToolError when the hosts have different models under its name."""
    digests = [backend.identity()["digest"] for backend in backends]
    if len(set(digests)) > 1:
        listing = "\n".join(f"  {host}: {digest}" for host, digest in zip(settings.hosts, digests, strict=True))
        raise ToolError(
            f"the hosts have different models named '{settings.model}':\n{listing}",
            where="dataset.generator.hosts",
            fix="; ".join(pull_command(effective_host(host), settings.model) for host in settings.hosts),
        )
    return digests[0]


def _visible(chunks: Sequence[Chunk], pairs: Sequence[Pair], splits: Mapping[str, Split], split: Split) -> list[Chunk]:
    """The chunks that contexts of this split may come from: training never sees papers that validate or test."""
    wanted = {"train"} if split == "train" else {"train", split}
    papers = {paper for pair in pairs if splits.get(pair.id) in wanted for paper in pair.papers}
    return [chunk for chunk in chunks if chunk.document_id in papers]


def _write(draft: Draft, split: Split, rows: list[Example], recipe: Recipe, base: Path) -> dict[str, Any]:
    """Write the split's files; returns its counts and token statistics."""
    settings = recipe.dataset
    tokens, refused = tokenize(
        rows,
        load_tokenizer(base),
        thinking=settings.thinking == "on",
        max_tokens=settings.max_tokens,
        on_too_long=settings.on_too_long,
    )
    dropped = {row.id for row in refused}
    kept = [row for row in rows if row.id not in dropped]
    write_rows(draft / f"examples-{split}.jsonl", kept)
    if not kept:
        return {"rows": 0, "tokens": {}, "too_long": sorted(dropped)}
    write_rows(draft / f"{split}.jsonl", ({"messages": row.messages} for row in kept))
    lengths = {row.id: len(row.tokens) for row in tokens}
    statistics = describe(kept, lengths)
    total = statistics.total
    return {
        "rows": len(kept),
        "groups": statistics.groups,
        "kinds": [asdict(kind) for kind in statistics.kinds],
        "tokens": {"min": total.tokens_min, "mean": round(total.tokens_mean, 1), "max": total.tokens_max},
        "too_long": sorted(dropped),
    }
