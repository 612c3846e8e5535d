"""dataset: pairs become training rows, with the contexts that the served retriever would give."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.building.generators import require_generator
from mlx_ragtune.building.pair_sources import (
    contaminated,
    generated_pairs,
    own_rows,
    refusal_wording,
    repaired_ids,
    require_clean,
)
from mlx_ragtune.building.split_files import SPLITS, visible_chunks, write_split
from mlx_ragtune.clients.hub_data import bring_data, parse_hub_data
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.jsonl import read_rows, write_rows
from mlx_ragtune.models.model_folder import check_base
from mlx_ragtune.models.template_dates import frozen_date
from mlx_ragtune.models.vocabulary import stored_template
from mlx_ragtune.pages.account_table import account_table
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Chunk, Document, Example, Pair, Split
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import Retriever
from mlx_ragtune.searching.encoders import require_encoders
from mlx_ragtune.searching.opened import open_retriever
from mlx_ragtune.synthesis.assemble import assemble
from mlx_ragtune.synthesis.balance import TOLERANCE, balance, without_share
from mlx_ragtune.synthesis.benchmark_file import read_resolved
from mlx_ragtune.synthesis.benchmark_view import BenchmarkView, HeldOut, held_out, view_of
from mlx_ragtune.synthesis.contrast import Contrast, Refuse
from mlx_ragtune.synthesis.dedupe import without_duplicates
from mlx_ragtune.synthesis.examine import examine
from mlx_ragtune.synthesis.ledger import (
    ACROSS,
    BENCHMARK,
    CONTROL_TOKEN,
    DUPLICATE,
    FAULTY_ANSWER,
    NO_SHARE,
    OVER_SHARE,
    REFUSAL_KIND,
    TOO_LONG,
    Account,
    Ledger,
    fix_for,
    share_gaps,
)
from mlx_ragtune.synthesis.own_rows import same_prompts, with_control_tokens, with_faulty_answers
from mlx_ragtune.synthesis.rejected import rejected_answers
from mlx_ragtune.synthesis.splits import same_material, split_by_paper, split_by_row
from mlx_ragtune.synthesis.without_passages import Unsupported, without_passages
from mlx_ragtune.tuning.token_rows import NO_ANSWER, Refused, require_fitting
from mlx_ragtune.tuning.train_checks import check_window

LEFT_OUT = "left-out.jsonl"
"""The rows that are not trained on, each with its reason."""
FEW_VALID = 30
"""Below so many validation rows the user is warned: the mean of a loss over n rows varies by its spread ÷ √n."""
SHOWN_REASONS = 3


def check(recipe: Recipe, base: Path) -> None:
    """Raise an error for a base that cannot render rows, or a generator that its server does not have."""
    check_base(base, thinking=recipe.dataset.thinking == "on")
    check_window(base, dataset=recipe.dataset)
    if data := parse_hub_data(str(recipe.dataset.pairs)):
        bring_data(data)
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
    _record_date(inputs["base"], draft)
    for overlap in corpus.held.copies:
        draft.say(f"held out of training: {overlap}")
    ledger = Ledger()
    pairs, prepared = _pairs(recipe, corpus, draft, ledger, base=inputs["base"])
    pairs = _sifted(recipe, pairs, prepared, ledger)
    splits = _splits(recipe, pairs, prepared, corpus.documents)
    ledger.leave_out(ACROSS, [pair.id for pair in pairs if pair.id not in splits])
    sorted_rows = _Sorted(pairs, prepared, splits)
    report, refused = _rows(recipe, sorted_rows, corpus, base=inputs["base"], draft=draft, ledger=ledger)
    account = ledger.account()
    report |= {
        "gate": examine(pairs, corpus.chunks, benchmark=corpus.benchmark, base=inputs["base"], say=draft.say),
        "held_out_copies": [asdict(overlap) for overlap in corpus.held.copies],
        "account": account.as_json(),
    }
    _write_report(draft, report, sorted_rows, ledger)
    for line in _told(recipe, report, account):
        draft.say(line)
    _require_account(recipe, account, refused, draft / LEFT_OUT)
    _require_rows(recipe, report, sorted_rows)
    draft.record(
        **{f"{split}_rows": report[split]["rows"] for split in SPLITS},
        shares=account.train_shares,
        tokens=report["train"]["tokens"],
        held_out_copies=[str(overlap) for overlap in corpus.held.copies],
        too_long=len(refused),
        read_rows=account.rows_read,
        left_out=account.losses,
        lost_share=round(account.lost_share, 4),
    )


def _record_date(base: Path, draft: Draft) -> None:
    """Say and record which date stands in every prompt, where the chat template prints one."""
    if date := frozen_date(stored_template(base)):
        draft.say(f"the chat template prints the current date: all prompts and both exported models have {date}")
        draft.record(template_date=date)


def _corpus(recipe: Recipe, folder: Path, retriever: Retriever) -> _Corpus:
    documents = list(read_rows(folder / "documents.jsonl", Document))
    chunks = list(read_rows(folder / "chunks.jsonl", Chunk))
    benchmark = view_of(read_resolved(recipe.benchmark, documents))
    return _Corpus(documents, chunks, benchmark, held_out(benchmark.papers, documents), retriever)


def _pairs(
    recipe: Recipe, corpus: _Corpus, draft: Draft, ledger: Ledger, *, base: Path
) -> tuple[list[Pair], dict[str, Example]]:
    """The user's pairs or generated ones, all entered in the ledger; and the rows that bring their own prompts."""
    settings = recipe.dataset
    if not settings.pairs:
        allowed = [chunk for chunk in corpus.chunks if chunk.document_id not in corpus.held.papers]
        pairs = generated_pairs(recipe, allowed, corpus.retriever, draft, benchmark=corpus.benchmark, base=base)
        ledger.read(pairs)
        ledger.repair(repaired_ids(draft))
        return pairs, {}
    own = own_rows(settings, corpus.documents)
    ledger.read(own.pairs)
    if own.prepared:
        bad = contaminated(own, corpus.documents, corpus.benchmark, corpus.held)
        ledger.leave_out(BENCHMARK, bad)
        broken = with_control_tokens(own)
        ledger.leave_out(CONTROL_TOKEN, broken)
        faulty = with_faulty_answers(own)
        ledger.leave_out(FAULTY_ANSWER, faulty)
        out = bad.keys() | broken.keys() | faulty.keys()
        return [pair for pair in own.pairs if pair.id not in out], own.prepared
    require_clean(settings.pairs, own.pairs, corpus.benchmark, corpus.held)
    used = [pair for pair in own.pairs if pair.kind != "refusal" or pair.refusal_kind in settings.refusal_kinds]
    ledger.leave_out(REFUSAL_KIND, _ids_without(own.pairs, used))
    return used, {}


def _sifted(recipe: Recipe, pairs: list[Pair], prepared: Mapping[str, Example], ledger: Ledger) -> list[Pair]:
    """The pairs without kinds that have no share and without duplicates; within their shares if that is strict."""
    settings = recipe.dataset
    pairs, unwanted = without_share(pairs, settings.shares)
    ledger.leave_out(NO_SHARE, _ids_without(unwanted, ()))
    if prepared:
        pairs, repeated = same_prompts(pairs, prepared)
    else:
        pairs, duplicates = without_duplicates(pairs)
        repeated = {item.id: f"{item.of}, cosine {item.cosine:.2f}" for item in duplicates}
    ledger.leave_out(DUPLICATE, repeated)
    if settings.balance == "drop":
        pairs, surplus = balance(pairs, settings.shares, seed=recipe.seed)
        ledger.leave_out(OVER_SHARE, _ids_without(surplus, ()))
    return pairs


def _ids_without(pairs: Sequence[Pair], kept: Sequence[Pair]) -> list[str]:
    """The ids of the pairs that are not among ``kept``."""
    names = {pair.id for pair in kept}
    return [pair.id for pair in pairs if pair.id not in names]


@dataclass(frozen=True)
class _Sorted:
    """The pairs that are used, the whole rows of those that bring their own prompts, and pair id → split."""

    pairs: list[Pair]
    prepared: dict[str, Example]
    splits: dict[str, Split]


def _splits(
    recipe: Recipe, pairs: Sequence[Pair], prepared: Mapping[str, Example], documents: Sequence[Document]
) -> dict[str, Split]:
    """Pair id → split; pairs across two splits are absent."""
    settings = recipe.dataset
    if settings.split == "none":
        return {pair.id: "train" for pair in pairs}
    shares: dict[str, Any] = {"valid_share": settings.valid_share, "test_share": settings.test_share}
    if prepared:
        return split_by_row({pair.id: prepared[pair.id].group for pair in pairs}, **shares, seed=recipe.seed)
    if settings.split == "row":
        return split_by_row(same_material(pairs), **shares, seed=recipe.seed)
    return split_by_paper(pairs, documents, **shares, seed=recipe.seed)


def _rows(
    recipe: Recipe, found: _Sorted, corpus: _Corpus, *, base: Path, draft: Draft, ledger: Ledger
) -> tuple[dict[str, Any], list[Refused]]:
    """(split → its counts, rows that do not fit), after writing each split's rows."""
    report: dict[str, Any] = {}
    refused: list[Refused] = []
    refuse = refusal_wording(draft, found.pairs)
    for split in SPLITS:
        own = [pair for pair in found.pairs if found.splits.get(pair.id) == split]
        contrast = Contrast(recipe.dataset.contrast or 0.0, refuse)
        rows, assembly = assemble(
            [pair for pair in own if pair.id not in found.prepared],
            corpus.retriever,
            visible_chunks(corpus.chunks, found.pairs, found.splits, split),
            top_k=recipe.retrieval.top_k,
            seed=recipe.seed,
            shares=recipe.dataset.shares,
            build_messages=build_messages,
            contrast=contrast,
        )
        bare = _without_passages(recipe, own, found.prepared, refuse)
        rows += [*bare.rows, *(row for name, row in found.prepared.items() if found.splits.get(name) == split)]
        made = [*contrast.made, *bare.pairs]
        ledger.read(made, made=True)
        rejected = rejected_answers(rows, [*own, *made], corpus.chunks, refuse=refuse, seed=recipe.seed)
        written = write_split(draft, split, rows, settings=recipe.dataset, base=base, rejected=rejected)
        for dropped in assembly.dropped:
            ledger.leave_out(dropped.reason, {dropped.id: dropped.detail}, split=split)
        for row in written.refused:
            empty = row.reason == NO_ANSWER
            ledger.leave_out(row.reason if empty else TOO_LONG, {row.id: "" if empty else row.reason}, split=split)
        ledger.keep(split, written.kept)
        refused += written.refused
        papers = len({paper for pair in own for paper in pair.papers})
        report[split] = {**written.counts, "papers": papers, "assembly": asdict(assembly)}
        if recipe.dataset.contrast:
            report[split]["contrast"] = asdict(contrast.report)
        if recipe.dataset.no_passages:
            report[split]["no_passages"] = len(bare.rows)
    return report, refused


def _without_passages(
    recipe: Recipe, pairs: Sequence[Pair], prepared: Mapping[str, Example], refuse: Refuse
) -> Unsupported:
    usable = [pair for pair in pairs if pair.id not in prepared]
    share = recipe.dataset.no_passages or 0.0
    return without_passages(usable, share, refuse=refuse, seed=recipe.seed, build_messages=build_messages)


def _write_report(draft: Draft, report: Mapping[str, Any], found: _Sorted, ledger: Ledger) -> None:
    """Write the statistics, the rows left out with their reasons, and the pairs that were kept as authored pairs."""
    _write_statistics(draft / "statistics.json", report)
    left_out = ledger.listing()
    write_rows(draft / LEFT_OUT, left_out)
    gone = {row.id for row in left_out}
    if not found.prepared:
        write_rows(draft / "pairs.jsonl", [pair for pair in found.pairs if pair.id not in gone])


def _told(recipe: Recipe, report: Mapping[str, Any], account: Account) -> list[str]:
    """What the user is told: the table, shares that miss their targets, and too few validation rows."""
    lines = account_table(account.as_json()).split("\n")
    gaps = share_gaps(account, recipe.dataset.shares, tolerance=TOLERANCE)
    if gaps:
        lines.append(f"training rows by kind: {', '.join(gaps)}; all are used (dataset.balance: keep)"
                     if recipe.dataset.balance == "keep" else f"training rows by kind: {', '.join(gaps)}")  # fmt: skip
    lines += _told_of_contrast(report)
    lines += _told_of_split(recipe, report["valid"]["rows"], report["valid"]["papers"])
    return lines


def _told_of_contrast(report: Mapping[str, Any]) -> list[str]:
    """Splits with fewer contrast pairs than the recipe asks for, and why."""
    lines = []
    for split in SPLITS:
        if (contrast := report[split].get("contrast")) and contrast["made"] < contrast["wanted"]:
            why = "; ".join(f"{count} × {reason}" for reason, count in contrast["skipped"].items())
            lines.append(f"{split}: {contrast['made']} of {contrast['wanted']} contrast pairs made; passed over: {why}")
    return lines


def _told_of_split(recipe: Recipe, valid: int, papers: int) -> list[str]:
    """What the validation split cannot show."""
    if recipe.dataset.split == "none":
        return ["no validation (dataset.split: none): training cannot show overfitting, and keeps its last checkpoint"]
    lines = []
    if recipe.dataset.split == "row":
        lines.append(
            "warning: dataset.split: row validates on the papers of training: the validation loss is optimistic, and "
            "shows nothing about other papers"
        )
    if 0 < valid < FEW_VALID:
        share = recipe.dataset.valid_share
        enough = min(0.5, share * FEW_VALID / valid)
        fix = f"set dataset.valid_share to {enough:.2g} or more" if enough > share else "write more pairs"
        on_papers = f" on {papers} paper{'s' * (papers > 1)}" if papers else ""
        rows, are = ("1 validation row", "is") if valid == 1 else (f"{valid} validation rows", "are")
        lines.append(
            f"warning: {rows}{on_papers} {are} too few to choose a checkpoint by: differences between checkpoints are "
            f"mostly chance; {fix}"
        )
    return lines


def _require_account(recipe: Recipe, account: Account, refused: Sequence[Refused], listing: Path) -> None:
    """Raise InputError for rows that are too long and may not be, or when too many rows are left out."""
    if recipe.dataset.on_too_long == "fail":
        require_fitting(refused)
    if account.lost_share <= recipe.dataset.max_loss:
        return
    reasons = list(account.losses.items())[:SHOWN_REASONS]
    lines = "\n".join(f"  {count} × {reason}" for reason, count in reasons)
    fix = next(filter(None, (fix_for(reason) for reason, _ in reasons)), "correct these rows")
    raise InputError(
        f"{sum(account.losses.values())} of {account.rows_asked} rows are left out ({account.lost_share:.0%}), "
        f"dataset.max_loss is {recipe.dataset.max_loss:.0%}:\n{lines}",
        where=str(listing),
        fix=f"{fix}; to train on the rest, --set dataset.max_loss={_above(account.lost_share):g}",
    )


def _above(share: float) -> float:
    """The share rounded up to whole percent."""
    return min(1.0, math.ceil(share * 100) / 100)


def _require_rows(recipe: Recipe, report: Mapping[str, Any], found: _Sorted) -> None:
    """Raise InputError when there are no training rows, or no validation rows although there may be."""
    settings = recipe.dataset
    if report["train"]["rows"] and (report["valid"]["rows"] or settings.split == "none"):
        return
    papers = {paper for pair in found.pairs for paper in pair.papers}
    one_paper = settings.split == "paper" and not found.prepared and len(papers) < 2
    raise InputError(
        f"{report['train']['rows']} training and {report['valid']['rows']} validation rows, but both are needed",
        fix="write pairs on a second paper, or set dataset.split: row (validation on the same paper) or none"
        if one_paper
        else "write more pairs on more papers, or set a larger dataset.valid_share, or dataset.split: none",
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
