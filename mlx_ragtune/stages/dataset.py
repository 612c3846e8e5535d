"""dataset: pairs become training rows, with the contexts that the served retriever would give."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.clients.protocol import ChatBackend
from mlx_ragtune.clients.serving import open_generators
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.jsonl import read_rows, write_rows
from mlx_ragtune.models.model_folder import check_base
from mlx_ragtune.models.prompts import load_tokenizer
from mlx_ragtune.recipe import GeneratorSettings, Recipe
from mlx_ragtune.records import Chunk, Document, Example, Pair, Question, Split
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import Retriever, open_retriever
from mlx_ragtune.synthesis.assemble import assemble
from mlx_ragtune.synthesis.authored import read_pairs
from mlx_ragtune.synthesis.balance import balance
from mlx_ragtune.synthesis.call_plan import make_plan
from mlx_ragtune.synthesis.dedupe import contamination, without_duplicates
from mlx_ragtune.synthesis.generate import Sources, generate
from mlx_ragtune.synthesis.jobs import Jobs
from mlx_ragtune.synthesis.splits import split_by_paper
from mlx_ragtune.synthesis.token_statistics import describe
from mlx_ragtune.tuning.token_rows import tokenize

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def check(_recipe: Recipe, base: Path) -> None:
    """Raise InputError for a base whose chat template or tokenizer cannot render rows."""
    check_base(base)


def dataset(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write chat JSONL for each split (mlx_lm reads it too), the rows with their origin, and statistics."""
    documents = list(read_rows(inputs["corpus"] / "documents.jsonl", Document))
    chunks = list(read_rows(inputs["corpus"] / "chunks.jsonl", Chunk))
    settings, seed = recipe.dataset, recipe.seed
    questions = list(read_rows(recipe.benchmark, Question))
    retriever = open_retriever(inputs["corpus"] / "index.sqlite", inputs["corpus"] / "chunks.jsonl")
    if settings.pairs:
        authored = _authored(settings.pairs, documents, questions)
        pairs = [one for one in authored if one.kind != "refusal" or one.refusal_kind in settings.refusal_kinds]
    else:
        held = {paper for one in questions for paper in one.papers}
        pairs = _generated(recipe, [one for one in chunks if one.document_id not in held], retriever, draft)
    pairs, duplicates = without_duplicates(pairs)
    pairs, left_out = balance(pairs, settings.shares, seed=seed)
    splits = split_by_paper(
        pairs, documents, valid_share=settings.valid_share, test_share=settings.test_share, seed=seed
    )
    across = [pair.id for pair in pairs if pair.id not in splits]
    report: dict[str, Any] = {}
    for split in SPLITS:
        mine = [pair for pair in pairs if splits.get(pair.id) == split]
        rows, assembly = assemble(
            mine,
            retriever,
            _visible(chunks, pairs, splits, split),
            top_k=recipe.retrieval.top_k,
            seed=seed,
            shares=settings.shares,
            build_messages=build_messages,
        )
        report[split] = {**_write(draft, split, rows, recipe, inputs["base"]), "assembly": asdict(assembly)}
    report |= {
        "duplicates": [asdict(one) for one in duplicates],
        "left_out_for_shares": [pair.id for pair in left_out],
        "left_out_across_splits": across,
    }
    (draft / "statistics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if not report["train"]["rows"] or not report["valid"]["rows"]:
        raise InputError(
            f"{report['train']['rows']} training and {report['valid']['rows']} validation rows: both are needed",
            fix="write more pairs, on more papers, or set a larger dataset.valid_share",
        )
    draft.record(
        **{f"{split}_rows": report[split]["rows"] for split in SPLITS},
        shares=report["train"]["assembly"]["shares_got"],
        tokens=report["train"]["tokens"],
    )


def _authored(path: Path, documents: Sequence[Document], questions: Sequence[Question]) -> list[Pair]:
    """The user's own pairs. Raises InputError for what the benchmark asks, or rests on, as well."""
    pairs = read_pairs(path, documents)
    found = contamination(pairs, questions)
    bad = sorted({*found.papers, *(one.id for one in found.questions)})
    if bad:
        papers = sorted({paper for shared in found.papers.values() for paper in shared})
        raise InputError(
            f"{len(bad)} pairs rest on papers of the benchmark ({', '.join(papers[:5])}) or repeat its questions: "
            f"{', '.join(bad[:5])}",
            where=str(path),
            fix="remove these pairs, or these papers' questions: what is trained cannot be tested",
        )
    return pairs


def _generated(recipe: Recipe, chunks: Sequence[Chunk], retriever: Retriever, draft: Draft) -> list[Pair]:
    """Pairs by the recipe's generator; what was answered stays in ``jobs.sqlite`` and is never asked twice."""
    settings = recipe.dataset.generator
    assert settings is not None  # noqa: S101 (the recipe has pairs or a generator)
    plan = make_plan(chunks, settings, recipe.dataset.shares, seed=recipe.seed)
    sources = Sources({one.id: one for one in chunks}, retriever, recipe.retrieval.top_k)
    with ExitStack() as stack:
        backends = [stack.enter_context(one) for one in open_generators(settings)]
        digest = _one_digest(settings, backends)
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


def _one_digest(settings: GeneratorSettings, backends: Sequence[ChatBackend]) -> str:
    """The digest of the generating model. Raises ToolError when the hosts hold different ones under its name."""
    digests = [one.identity()["digest"] for one in backends]
    if len(set(digests)) > 1:
        listing = "\n".join(f"  {host}: {digest}" for host, digest in zip(settings.hosts, digests, strict=True))
        raise ToolError(
            f"the hosts hold different models as '{settings.model}':\n{listing}",
            where="dataset.generator.hosts",
            fix=f"ollama pull {settings.model} on each of them",
        )
    return digests[0]


def _visible(chunks: Sequence[Chunk], pairs: Sequence[Pair], splits: Mapping[str, Split], split: Split) -> list[Chunk]:
    """The chunks that may stand in this split's contexts: training sees only papers that train."""
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
    dropped = {one.id for one in refused}
    kept = [row for row in rows if row.id not in dropped]
    write_rows(draft / f"examples-{split}.jsonl", kept)
    write_rows(draft / f"{split}.jsonl", ({"messages": row.messages} for row in kept))
    if not kept:
        return {"rows": 0, "tokens": {}, "too_long": sorted(dropped)}
    lengths = {row.id: len(row.tokens) for row in tokens}
    statistics = describe(kept, lengths, max_tokens=settings.max_tokens)
    total = statistics.total
    return {
        "rows": len(kept),
        "groups": statistics.groups,
        "kinds": [asdict(one) for one in statistics.kinds],
        "tokens": {"min": total.tokens_min, "mean": round(total.tokens_mean, 1), "max": total.tokens_max},
        "too_long": sorted(dropped),
    }
