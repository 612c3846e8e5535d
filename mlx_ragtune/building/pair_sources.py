"""The pairs of a recipe: the user's own, or those of its generator."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from mlx_ragtune.artifact import Draft
from mlx_ragtune.building.generators import common_digest, open_generators, say_what_leaves
from mlx_ragtune.building.row_lengths import require_room
from mlx_ragtune.clients.hub_data import bring_data, parse_hub_data
from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import read_dicts, write_rows
from mlx_ragtune.recipe import DatasetSettings, Recipe
from mlx_ragtune.records import Chunk, Document, Pair
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import Retriever
from mlx_ragtune.synthesis.benchmark_guard import BenchmarkGuard
from mlx_ragtune.synthesis.benchmark_view import BenchmarkView, HeldOut
from mlx_ragtune.synthesis.call_plan import Plan, make_plan
from mlx_ragtune.synthesis.dedupe import contamination
from mlx_ragtune.synthesis.generate import Sources, generate
from mlx_ragtune.synthesis.jobs import Jobs
from mlx_ragtune.synthesis.off_corpus import CLOSE, FIELDS, is_near, off_corpus_fields
from mlx_ragtune.synthesis.own_rows import OwnRows, passages_of, question_variants, read_own
from mlx_ragtune.synthesis.plan_bounds import require_possible
from mlx_ragtune.synthesis.refusals import RefusalWording, own_wordings
from mlx_ragtune.synthesis.writable import is_writable, why_not_writable

GENERATED = "generated.jsonl"


def own_rows(settings: DatasetSettings, documents: Sequence[Document]) -> OwnRows:
    """The user's pairs, or rows with prompts of their own. Raises InputError with all problems and their lines."""
    assert settings.pairs is not None  # noqa: S101 (the caller checks it)
    data = parse_hub_data(str(settings.pairs))
    return read_own(
        bring_data(data).files if data else [settings.pairs],
        documents,
        format=settings.format,
        columns=settings.columns,
        build_messages=build_messages,
    )


def require_clean(path: Path, pairs: Sequence[Pair], benchmark: BenchmarkView, held: HeldOut) -> None:
    """Raise InputError for pairs that use the benchmark's papers, or copies of them, or repeat its questions."""
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


def contaminated(
    rows: OwnRows, documents: Sequence[Document], benchmark: BenchmarkView, held: HeldOut
) -> dict[str, str]:
    """Id → what a row with a prompt of its own would teach of the benchmark: a question, or a passage of a paper."""
    variants = [variant for pair in rows.pairs for variant in question_variants(pair)]
    asked = contamination(variants, benchmark, held).questions
    found = {item.id: f"asks '{item.of}'" for item in asked}
    shown = passages_of([document for document in documents if document.id in held.papers])
    for pair in rows.pairs:
        if pair.id not in found and (paper := shown(rows.prepared[pair.id])):
            found[pair.id] = f"shows a passage of '{paper}'"
    return found


def planned(
    recipe: Recipe,
    chunks: Sequence[Chunk],
    retriever: Retriever,
    *,
    benchmark: BenchmarkView,
    say: Callable[[str], None] = lambda _text: None,
) -> tuple[Plan, Sources]:
    """The calls to the recipe's generator, and what they are about; no pair asks what the benchmark asks.

    Nothing is written on chunks that state nothing, and off-corpus questions are about fields that the corpus does not
    cover. ``say`` is told what is left out. Raises InputError when the papers cannot give the pairs.
    """
    settings = recipe.dataset.generator
    assert settings is not None  # noqa: S101 (the recipe has pairs or a generator)
    reasons = Counter(filter(None, map(why_not_writable, chunks)))
    if reasons:
        say(f"nothing is written on {reasons.total()} of {len(chunks)} passages:")
        for reason, count in reasons.most_common():
            say(f"  {count} × {reason}")
    writable = [chunk for chunk in chunks if is_writable(chunk)]
    if chunks and not writable:
        raise InputError(
            f"none of the {len(chunks)} passages can be asked about",
            where="corpus",
            fix="read the passages: ragtune search RECIPE; add papers with running text",
        )
    fields = off_corpus_fields(retriever, seed=recipe.seed) if recipe.dataset.shares.get("refusal") else list(FIELDS)
    if not fields:
        say("the papers cover every field that is known here: there are no off-corpus questions")
    plan = make_plan(writable, settings, recipe.dataset.shares, seed=recipe.seed, fields=fields)
    quoted = settings.answers == "quoted"
    require_possible(plan, chunks=len(writable), pairs_per_call=settings.pairs_per_call, quoted=quoted)
    guard = BenchmarkGuard(benchmark)

    def barred(pair: Pair) -> str:
        if pair.refusal_kind == "off_corpus" and is_near(pair.question, retriever):
            return CLOSE
        return guard.reason(pair)

    return plan, Sources({chunk.id: chunk for chunk in chunks}, retriever, recipe.retrieval.top_k, barred)


def generated_pairs(
    recipe: Recipe, chunks: Sequence[Chunk], retriever: Retriever, draft: Draft, *, benchmark: BenchmarkView, base: Path
) -> list[Pair]:
    """Pairs by the recipe's generator, none of which asks what the benchmark asks.

    Finished calls stay in ``jobs.sqlite`` and are never made again. Before the first request, InputError is raised for
    rows that would be too long and for pairs that the papers cannot give.
    """
    settings = recipe.dataset.generator
    assert settings is not None  # noqa: S101 (the recipe has pairs or a generator)
    plan, sources = planned(recipe, chunks, retriever, benchmark=benchmark, say=draft.say)
    require_room(recipe, chunks, base)
    say_what_leaves(settings, draft.say)
    with ExitStack() as stack:
        backends = [stack.enter_context(backend) for backend in open_generators(settings)]
        digest = common_digest(settings, backends)
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
            say=draft.say,
        )
    write_rows(draft / GENERATED, report.rows)
    draft.record(yield_share=round(report.yield_share, 3), rejections=report.rejections, repairs=report.repairs)
    return report.pairs


def repaired_ids(draft: Draft) -> list[str]:
    """The generated pairs that a rule changed before they were kept; none of the user's own."""
    generated = draft / GENERATED
    return [row["pair"]["id"] for row in read_dicts(generated) if row["repairs"]] if generated.exists() else []


def refusal_wording(draft: Draft, pairs: Sequence[Pair]) -> RefusalWording:
    """How refusals are worded that are made for these pairs: with the generator's topics, or as the pairs' own."""
    generated = draft / GENERATED
    topics = {row["pair"]["id"]: row["topic"] for row in read_dicts(generated)} if generated.exists() else {}
    return RefusalWording(topics, own_wordings(pairs))
