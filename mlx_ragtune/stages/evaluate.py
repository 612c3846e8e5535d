"""evaluate: ask all arms the same questions through the served models; then score and compare.

The arms are the base, the base with training examples in its prompt, and the tuned model. Answers are kept in a log
of their own, keyed by model, prompt and options: scoring again, or resuming after a stop, asks nothing twice. When
requests failed the stage ends unfinished, and the next run sends only those.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.clients.file_digests import base_digest
from mlx_ragtune.clients.machine import PROCESS_BYTES, MemoryNeed, require_memory
from mlx_ragtune.clients.serving import require_embedder, require_judge
from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.asker import TWO, Asker
from mlx_ragtune.evaluation.asking_order import spread
from mlx_ragtune.evaluation.fairness import check_allowed, require_equal
from mlx_ragtune.evaluation.forgetting import probe_rows
from mlx_ragtune.evaluation.items import Item, ItemMaker
from mlx_ragtune.evaluation.noise import FORGETTING, Repeat, noise_facts, probe_scores
from mlx_ragtune.evaluation.overflow import require_fit, require_questions_fit
from mlx_ragtune.evaluation.overlap import SERIAL
from mlx_ragtune.evaluation.prompted import Examples, recipe_examples
from mlx_ragtune.evaluation.quick import QuickAsker
from mlx_ragtune.evaluation.quick_path import marked
from mlx_ragtune.evaluation.second_opinions import ScoredAnswers, add_judgements, add_similarity, judge_facts
from mlx_ragtune.evaluation.sender import Setting
from mlx_ragtune.evaluation.served_prompt import PromptGate
from mlx_ragtune.gguf.sizes import serve_memory
from mlx_ragtune.jsonl import read_json, read_rows, write_rows
from mlx_ragtune.models.prompts import check_question_lengths, context_window, load_tokenizer
from mlx_ragtune.recipe import JudgeSettings, Recipe
from mlx_ragtune.records import Answer, Arm, Document, Sampling, Score
from mlx_ragtune.retrieval.prompt import SYSTEM
from mlx_ragtune.scoring.answers.benchmark_rows import located_questions, read_questions, require_supported_benchmark
from mlx_ragtune.scoring.answers.probes import Probe, read_probes
from mlx_ragtune.scoring.answers.ranking import mean_retrieval_metrics
from mlx_ragtune.scoring.answers.refusal import outcomes, refusal_table
from mlx_ragtune.scoring.answers.score import score_answer
from mlx_ragtune.scoring.answers.shown import answer_shown, shown_table
from mlx_ragtune.scoring.judge.model_judge import SAMPLING
from mlx_ragtune.scoring.judge.opinions import Label, family
from mlx_ragtune.scoring.judge.trust import check_judge
from mlx_ragtune.scoring.verdict.comparison import Guard
from mlx_ragtune.scoring.verdict.decision import compare_arms
from mlx_ragtune.scoring.verdict.distractors import condition_rows
from mlx_ragtune.scoring.verdict.guards import forgetting_guard
from mlx_ragtune.scoring.verdict.origins import origin_counts, provenance
from mlx_ragtune.searching.encoders import require_encoders
from mlx_ragtune.searching.opened import open_retriever
from mlx_ragtune.synthesis.benchmark_file import read_resolved, require_sound
from mlx_ragtune.synthesis.benchmark_view import HeldOut, held_out, view_of
from mlx_ragtune.synthesis.rehearsal_prompts import prompts_file, require_apart
from mlx_ragtune.tuning.decode import MOST_TOKENS
from mlx_ragtune.tuning.resources import decode_memory
from mlx_ragtune.tuning.train_checks import check_window

REPEATED_QUESTIONS = 12
"""So many questions are asked again with other threads, or another engine, to measure the noise."""


def check(recipe: Recipe, base: Path) -> None:
    """Raise now what would fail after the answers.

    InputError: benchmark, probes, labels, ``evaluate.allow``. ToolError: the judge's family, and a judge or an
    embedding model that its server does not have, or too little memory.
    """
    require_sound(recipe.benchmark)
    require_supported_benchmark(recipe.benchmark)
    questions = [(where, question.question) for where, question in located_questions(recipe.benchmark)]
    sampling = recipe.evaluate.sampling
    check_window(base, sampling=sampling)
    check_question_lengths(questions, base, window=sampling.context_tokens)
    require_questions_fit(
        questions,
        load_tokenizer(base),
        sampling,
        thinking=recipe.dataset.thinking == "on",
        window=context_window(base),
    )
    need = memory(recipe, base)
    require_memory("evaluate", need.bytes, fix=need.fix)
    check_allowed(recipe.evaluate.allow)
    if recipe.evaluate.probes is not None:
        probes = read_probes(recipe.evaluate.probes)
        if recipe.dataset.rehearsal is not None:
            require_apart(prompts_file(recipe.dataset.rehearsal.prompts), [probe.prompt for probe in probes])
    require_encoders(recipe.retrieval)
    if recipe.scoring.judge is not None:
        _check_judge(recipe, recipe.scoring.judge)
    if recipe.scoring.similarity is not None:
        require_embedder(recipe.scoring.similarity, context_tokens=sampling.context_tokens)


def memory(recipe: Recipe, base: Path) -> MemoryNeed:
    """The base in MLX, or one of the models in the embedded server; Ollama has its models in a process of its own."""
    if recipe.evaluate.engine == "mlx":
        needed = decode_memory(base, recipe.base.precision, tokens=MOST_TOKENS) + PROCESS_BYTES
        return MemoryNeed(needed, "set base.precision: 4bit, or choose a smaller base")
    return _served_memory(recipe, base) if recipe.register.serve == "llamacpp" else MemoryNeed(PROCESS_BYTES)


def _served_memory(recipe: Recipe, base: Path) -> MemoryNeed:
    """One model in the embedded server."""
    slots, context_tokens = recipe.evaluate.slots, recipe.evaluate.sampling.context_tokens
    needed = serve_memory(base, recipe.export.type, context_tokens=context_tokens, slots=slots)
    fewer = "evaluate.slots or " if slots > 1 else ""
    fix = f"lower {fewer}evaluate.sampling.context_tokens, or choose a smaller export.type"
    return MemoryNeed(needed + PROCESS_BYTES, fix)


def _check_judge(recipe: Recipe, judge: JudgeSettings) -> None:
    generator = recipe.dataset.generator
    check_judge(judge.model, contestants=[recipe.base.model], generator=generator.model if generator else None)
    if judge.labels is not None:
        for _label in read_rows(judge.labels, Label):
            pass
    require_judge(judge, context_tokens=SAMPLING.context_tokens)


@dataclass(frozen=True)
class _Items:
    """Everything that is asked."""

    questions: list[Item]
    variants: list[Item]
    probes: list[Item]

    @property
    def all(self) -> list[Item]:
        return [*self.questions, *self.variants, *self.probes]

    def only(self, asked: Sequence[Item]) -> "_Items":
        """Those that were asked, in the same order."""
        names = {item.question.id for item in asked}
        parts = (self.questions, self.variants, self.probes)
        return _Items(*([item for item in part if item.question.id in names] for part in parts))


def evaluate(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write questions, contexts, ``used.jsonl`` (the answers), scores and ``verdict.json``.

    Raises InputError, before anything is asked, for prompts that do not fit into the context window. Raises
    ToolError when requests failed, or when the conditions of base and tuned differ.
    """
    probes = read_probes(recipe.evaluate.probes) if recipe.evaluate.probes is not None else []
    items = _items(recipe, inputs, probes, draft)
    require_fit(items.all, recipe.evaluate.sampling, window=context_window(inputs["base"]))
    asker = _asked(recipe, inputs, items, draft)
    items = items.only(asker.progress.asked)
    questions = [item.question for item in items.questions]
    write_rows(draft / "questions.jsonl", questions)
    contexts = ({"question_id": item.question.id, "passages": item.passages} for item in items.questions)
    write_rows(draft / "contexts.jsonl", contexts)
    scorer = _Scorer(recipe, inputs, asker)
    scored = scorer.score(items.questions)
    quick = isinstance(asker, QuickAsker)  # whose arithmetic is not varied to measure its noise
    others, repeats = _Others(no_second="the quick path does not measure noise"), list[Repeat]()
    if not isinstance(asker, QuickAsker):
        others = _others(recipe, asker, inputs["base"], spent=len(asker.progress.asked) < len(items.all))
        repeats = _repeats(recipe, asker, scorer, others, probes=(probes, items.probes), draft=draft)
    gate = _check_fairness(recipe, asker, items.questions, repeats, draft)
    _write_retrieval(items.questions, draft)
    _write_refusals(scored, draft)
    _write_shown(scored, draft)
    if items.variants:
        _write_distractors(scorer.score(items.variants, TWO), recipe.scoring.alpha, draft)
    on_probes = {arm: probe_scores(probes, asker.answers(arm, items.probes)) for arm in TWO}
    noise = noise_facts(repeats, {arm: [*scores, *on_probes.get(arm, ())] for arm, scores in scored.scores.items()})
    _write_json(draft / "noise.json", {**noise, "no_second_engine": others.no_second})
    guards = [_forgetting_guard(recipe, asker, (probes, items.probes), noise["floors"], draft)] if probes else []
    trusted = _second_opinions(recipe, inputs, scored, draft)
    write_rows(draft / "used.jsonl", [answer for answers in scored.answers.values() for answer in answers])
    write_rows(draft / "scores.jsonl", [score for scores in scored.scores.values() for score in scores])
    outcome = compare_arms(
        scored.scores["base"],
        scored.scores["tuned"],
        questions,
        prompted=scored.scores.get("prompted", ()),
        margin=recipe.scoring.margin,
        alpha=recipe.scoring.alpha,
        family=family(judge_trusted=trusted),
        guards=guards,
        noise=noise["floors"],
    )
    outcome = replace(marked(outcome) if quick else outcome, origins=origin_counts(questions))
    outcome = replace(outcome, provenance=provenance(questions))
    (draft / "verdict.json").write_text(outcome.to_json(), encoding="utf-8")
    draft.record(
        questions=len(questions),
        answers=sum(map(len, scored.answers.values())),
        served_prompts=str(gate),
        verdict=f"{outcome.verdict} (quick path)" if quick else outcome.verdict,
        headline=outcome.headline,
    )


def _asked(recipe: Recipe, inputs: Inputs, items: "_Items", draft: Draft) -> Asker | QuickAsker:
    """An asker that has asked everything, or as much as the budget allows."""
    if recipe.evaluate.engine == "mlx":
        quick = QuickAsker(recipe, inputs, draft.cache(f"quick-answers-{base_digest(inputs['base'])[:12]}.jsonl"))
        quick.ask_all(items.all, draft.track)
        return quick
    asker = Asker(recipe, inputs, draft.cache(_answers_file(inputs)))
    unasked = {arm: asker.conditions(arm, ()) for arm in TWO}
    require_equal(unasked["base"], unasked["tuned"], allow=recipe.evaluate.allow)  # before hours are spent
    if draft.fresh:
        asker.require_models()  # also when an interrupted --redo had all answers already
    asker.ask_all(items.all, draft.track)
    slots, together = recipe.evaluate.slots, asker.progress.overlap
    if slots > 1 and together is not None and together < SERIAL:
        draft.say(
            f"the server answered one request at a time, though evaluate.slots is {slots}: "
            f"start it with OLLAMA_NUM_PARALLEL={slots}, or set evaluate.slots: 1"
        )
    return asker


def _answers_file(inputs: Inputs) -> str:
    """One file for each base model, so that recipes that tune the same base share its answers."""
    receipts = read_json(inputs["register"] / "receipt.json")
    return f"answers-{receipts['base']['gguf_sha256'][:12]}.jsonl"


def _items(recipe: Recipe, inputs: Inputs, probes: Sequence[Probe], draft: Draft) -> _Items:
    tokenizer = load_tokenizer(inputs["base"])
    documents = list(read_rows(inputs["corpus"] / "documents.jsonl", Document))
    asked = read_resolved(recipe.benchmark, documents)
    held = held_out(view_of(asked).papers, documents)
    examples = _examples(recipe, inputs, tokenizer, draft, held=held)
    with open_retriever(recipe.retrieval, inputs["corpus"]) as retriever:
        maker = ItemMaker(
            retriever,
            tokenizer,
            top_k=recipe.retrieval.top_k,
            thinking=recipe.dataset.thinking == "on",
            examples=examples.messages if examples else (),
        )
        questions = list(maker.questions(asked))
        variants = list(maker.variants(questions, held.copies_of)) if recipe.evaluate.distractors else []
        unmatched = [item.question.id for item in questions if not retriever.matches(item.question.question, 1)]
    if unmatched:
        draft.say(
            f"warning: no passage matches {len(unmatched)} of {len(questions)} questions ({', '.join(unmatched[:5])}): "
            "the models are shown the first passages of the corpus instead"
        )
    draft.record(unmatched_questions=len(unmatched))
    return _Items(questions, variants, list(maker.probes(probes)))


def _examples(recipe: Recipe, inputs: Inputs, tokenizer: Any, draft: Draft, *, held: HeldOut) -> Examples | None:
    """The examples of the prompted base, written to ``prompted.json``; None without that arm."""
    settings = recipe.evaluate.prompted
    examples = recipe_examples(recipe, inputs, tokenizer, held=held.papers)
    if settings is None or examples is None:
        return None
    if len(examples.chosen) < settings.examples:
        draft.say(
            f"{len(examples.chosen)} of {settings.examples} examples fit into evaluate.prompted.tokens "
            f"({settings.tokens})"
        )
    rows = [{"id": row.id, "kind": row.kind, "question": row.question} for row in examples.chosen]
    _write_json(draft / "prompted.json", {"examples": rows, "tokens": examples.tokens})
    return examples


@dataclass(frozen=True)
class _Others:
    """Settings in which some questions are asked again, by what varies; and why there is no second engine, or ""."""

    settings: Mapping[str, Setting] = field(default_factory=dict)
    no_second: str = ""


def _others(recipe: Recipe, asker: Asker, base: Path, *, spent: bool) -> _Others:
    """One thread in place of several, and for models at Ollama the embedded server on the same files."""
    if recipe.evaluate.sampling.temperature > 0:
        return _Others(no_second="above temperature 0 answers are drawn at random")
    if spent:
        return _Others(no_second="evaluate.budget was spent")
    settings, usual = {}, asker.conditions("base", ()).threads
    if usual != 1:  # a toy model, or one core: waiting threads would cost more than they show
        settings[f"threads {usual or 'of the server'} -> 1"] = Setting(threads=1)
    if not asker.has_second_engine:
        return _Others(settings, "only Ollama's models, from a GGUF file, are also asked in the embedded server")
    try:
        need = _served_memory(recipe, base)
        require_memory("evaluate", need.bytes, fix=need.fix)
    except ToolError as error:
        return _Others(settings, f"in the embedded server, {error.what}")
    return _Others({**settings, "Ollama -> embedded server": Setting(recipe.evaluate.threads, second=True)})


def _repeats(
    recipe: Recipe,
    asker: Asker,
    scorer: "_Scorer",
    others: _Others,
    *,
    probes: tuple[Sequence[Probe], Sequence[Item]],
    draft: Draft,
) -> list[Repeat]:
    """What was asked a second time under other conditions.

    At temperature 0 questions that are asked one by one were also asked in parallel: 12 more requests for each arm.
    Base and tuned are asked some of them, and as many probes, in the other settings. ``probes`` are given with their
    items.
    """
    if recipe.evaluate.sampling.temperature > 0:
        return []
    repeats, serial, slots = [], asker.serial_items(), recipe.evaluate.slots
    if slots > 1:
        for arm in asker.arms:
            both = (asker.answers(arm, serial), asker.answers_under(arm, serial, parallel=True))
            repeats.append(scorer.repeat(arm, serial, f"slots 1 -> {slots}", both))
    chosen, general = spread(serial, REPEATED_QUESTIONS), spread(probes[1], REPEATED_QUESTIONS)
    for varied, setting in others.settings.items():
        asker.ask_again([*chosen, *general], draft.track, setting)
        for arm in TWO:
            asked = partial(asker.answers_under, arm, parallel=slots > 1)
            repeats.append(scorer.repeat(arm, chosen, varied, (asked(chosen), asked(chosen, setting))))
            answers = asked(general), asked(general, setting)
            scores = probe_scores(probes[0], answers[0]), probe_scores(probes[0], answers[1])
            repeats.append(Repeat(arm, varied, answers, scores))
    return repeats


def _check_fairness(
    recipe: Recipe, asker: Asker | QuickAsker, items: Sequence[Item], repeats: Sequence[Repeat], draft: Draft
) -> PromptGate:
    """Refuse unequal conditions; write the conditions, what was allowed and asked, and whether prompts were checked."""
    conditions = {arm: asker.conditions(arm, items) for arm in asker.arms}
    _write_json(draft / "conditions.json", {arm: asdict(conditions[arm]) for arm in asker.arms})
    allowed = require_equal(conditions["base"], conditions["tuned"], allow=recipe.evaluate.allow)
    gate = asker.gate(items)
    total = len(read_questions(recipe.benchmark))
    gates = {
        "allowed": [asdict(difference) for difference in allowed],
        "served_prompts": str(gate),
        "reused_answers": dict(asker.progress.reused),
        "asked": {"questions": len(items), "of": total, "minutes": recipe.evaluate.budget},
        "parallel": None if isinstance(asker, QuickAsker) else _parallel(recipe, asker, repeats),
    }
    _write_json(draft / "gates.json", gates)
    return gate


def _parallel(recipe: Recipe, asker: Asker, repeats: Sequence[Repeat]) -> dict[str, Any]:
    """How many questions were asked beside others, and how many answers that changed."""
    beside = [repeat for repeat in repeats if repeat.varied.startswith("slots")]
    return {
        "slots": recipe.evaluate.slots,
        "serial": len(asker.serial_items()),
        "overlap": asker.progress.overlap,
        "differ": {repeat.arm: len(repeat.different) for repeat in beside},
        "compared": {repeat.arm: len(repeat.both) for repeat in beside},
    }


class _Scorer:
    """Scores the answers of all arms to a list of items."""

    def __init__(self, recipe: Recipe, inputs: Inputs, asker: Asker | QuickAsker) -> None:
        documents = read_rows(inputs["corpus"] / "documents.jsonl", Document)
        self._titles = {document.id: document.title for document in documents}
        self._sampling = Sampling(**recipe.evaluate.sampling.model_dump())
        self._asker = asker

    def score(self, items: Sequence[Item], arms: Sequence[Arm] = ()) -> ScoredAnswers:
        """The answers to the items and their scores, in the order of items and seeds; by default of all arms."""
        answers = {arm: self._asker.answers(arm, items) for arm in arms or self._asker.arms}
        return ScoredAnswers(items, answers, {arm: self._scores(items, answers[arm]) for arm in answers})

    def repeat(
        self, arm: Arm, items: Sequence[Item], varied: str, answers: tuple[list[Answer], list[Answer]]
    ) -> Repeat:
        """Answers of one arm under two conditions, scored."""
        return Repeat(arm, varied, answers, (self._scores(items, answers[0]), self._scores(items, answers[1])))

    def _scores(self, items: Sequence[Item], answers: Sequence[Answer]) -> list[Score]:
        by_id = {item.question.id: item for item in items}
        scores = []
        for answer in answers:
            item = by_id[answer.question_id]
            score = score_answer(
                item.question, answer, item.passages, self._titles, sampling=self._sampling, system=SYSTEM
            )
            scores.append(score)
        return scores


def _write_retrieval(items: Sequence[Item], draft: Draft) -> None:
    """How well the retriever did on the answerable questions, once for both models."""
    rankings = [(item.ranked_papers, item.question.papers) for item in items if item.question.answerable]
    _write_json(draft / "retrieval.json", mean_retrieval_metrics(rankings))


def _write_refusals(scored: ScoredAnswers, draft: Draft) -> None:
    tables = {arm: asdict(refusal_table(outcomes(scored.questions, scores))) for arm, scores in scored.scores.items()}
    _write_json(draft / "refusals.json", tables)


def _write_shown(scored: ScoredAnswers, draft: Draft) -> None:
    """How many answerable questions have their answer in the passages, and how the arms do with and without."""
    shown = {item.question.id for item in scored.items if answer_shown(item.question, item.passages)}
    _write_json(draft / "shown.json", shown_table(scored.questions, scored.scores, shown))


def _write_distractors(scored: ScoredAnswers, alpha: float, draft: Draft) -> None:
    rows = condition_rows(scored.scores["base"], scored.scores["tuned"], scored.questions, alpha=alpha)
    write_rows(draft / "distractors.jsonl", rows)


def _forgetting_guard(
    recipe: Recipe,
    asker: Asker | QuickAsker,
    probes: tuple[Sequence[Probe], Sequence[Item]],
    floors: Mapping[str, float],
    draft: Draft,
) -> Guard:
    """The guard on the probes, given with their items; ``floors`` are those of ``noise_facts``."""
    rows = probe_rows(probes[0], {arm: asker.answers(arm, probes[1]) for arm in TWO})
    write_rows(draft / "probes.jsonl", rows)
    base, tuned = {row.id: row.base for row in rows}, {row.id: row.tuned for row in rows}
    noise = floors.get(FORGETTING, 0.0)
    return forgetting_guard(base, tuned, margin=recipe.scoring.margin, alpha=recipe.scoring.alpha, noise=noise)


def _second_opinions(recipe: Recipe, inputs: Inputs, scored: ScoredAnswers, draft: Draft) -> bool:
    """Add similarity and judged metrics, as far as the recipe asks for them; whether a judge is trusted to decide."""
    similarity, served = recipe.scoring.similarity, recipe.evaluate.engine == "served"
    if similarity is not None and similarity.model is None and not served:
        draft.say("similarity is not measured: it needs the exported base, or a model in scoring.similarity.model")
    elif similarity is not None:
        planted = add_similarity(
            similarity,
            inputs["export"] / "base.gguf" if served else inputs["base"],  # not used where a model is named
            scored,
            context_tokens=recipe.evaluate.sampling.context_tokens,
            tracker=draft.track,
        )
        _write_json(draft / "similarity.json", [asdict(row) for row in planted])
    if recipe.scoring.judge is None:
        return False
    trust = add_judgements(recipe.scoring.judge, draft.cache("judge.sqlite"), scored, tracker=draft.track)
    facts = judge_facts(recipe.scoring.judge, trust, scored, alpha=recipe.scoring.alpha)
    _write_json(draft / "judge.json", facts)
    return trust.trusted


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8", errors="replace")
