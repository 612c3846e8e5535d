"""Is a benchmark question sound: does its own reference get full marks, by the scorer that marks the answers?"""

from collections.abc import Iterator, Mapping, Sequence

from mlx_ragtune.records import Answer, Nugget, Passage, Question, Sampling, Score
from mlx_ragtune.scoring.answers.anchors import AnchorText
from mlx_ragtune.scoring.answers.citation import find_citations, without_titles
from mlx_ragtune.scoring.answers.normalize import fold, words
from mlx_ragtune.scoring.answers.nuggets import nugget_state
from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.scoring.answers.score import score_answer

SAMPLING = Sampling(max_tokens=2**20, context_tokens=2**20)


def question_problems(question: Question, titles: Mapping[str, str], sources: Sequence[str] = ()) -> Iterator[str]:
    """What is wrong with a question, apart from the names of its papers.

    ``titles``: those of all papers, by id; ``sources``: the texts of the question's own, where titles may be quoted.
    """
    for name in ("id", "question"):
        if not words(getattr(question, name)):
            yield f"{name} is empty"
    if question.answerable and question.refusal_kind is not None:
        yield f"an answerable question has no refusal_kind, this one has {question.refusal_kind}"
    if not question.answerable and question.refusal_kind is None:
        yield "an unanswerable question needs refusal_kind: near_miss or off_corpus"
    if question.refusal_kind == "off_corpus" and question.papers and not question.answerable:
        yield "an off_corpus question has no papers: a paper that would answer makes it a near_miss"
    for nugget in question.nuggets:
        if not nugget.anchors or not all(any(map(words, aliases)) for aliases in nugget.anchors):
            yield f"nugget '{nugget.text:.60}': an anchor group is empty, so that no answer can state it"
    if question.reference:
        yield from _reference_problems(question, titles, sources)


def _reference_problems(question: Question, titles: Mapping[str, str], sources: Sequence[str]) -> Iterator[str]:
    reference = question.reference
    refuses = is_refusal(reference)
    if not question.answerable:
        if not refuses:
            yield f"the reference does not refuse, though the question is unanswerable: {reference!r:.80}"
        return
    if refuses:
        yield f"the reference refuses, though the question is answerable: {reference!r:.80}"
        return
    score = reference_score(question, (), titles)
    if score.validity != "ok":
        yield f"the reference is not a usable answer: {score.validity}"
    known = question.papers and set(question.papers) <= titles.keys()
    if known and set(short_of_full(score)) & {"citation_precision", "citation_recall", "fabricated_title"}:
        yield from _citation_problems(question, titles, sources)
    for nugget in question.nuggets:
        if all(nugget.anchors) and (problem := missing_in(reference, nugget, titles)):
            yield problem


def _citation_problems(question: Question, titles: Mapping[str, str], sources: Sequence[str]) -> Iterator[str]:
    """A cited title that none of the question's papers has, and a paper that is not cited beside another one that is.

    Whole titles count. A reference without any is no problem, and short names of methods are not: simple rows have
    short answers.
    """
    citations = find_citations(question.reference, titles, [question.question, *sources])
    said, own = fold(question.reference), set(question.papers)
    whole = [papers for papers in citations.cited if fold(titles[papers[0]]) in said]
    for papers in whole:
        if own.isdisjoint(papers):
            yield f"the reference cites '{titles[papers[0]]:.80}', which is not among the question's papers"
    for title in citations.fabricated:
        yield f"the reference cites '{title:.80}', which is the title of no paper"
    if any(not own.isdisjoint(papers) for papers in whole):
        cited = {paper for papers in citations.cited for paper in papers}
        for paper in question.papers:
            if paper in titles and paper not in cited:
                yield f"the reference does not cite '{titles[paper]:.80}'"


def missing_in(reference: str, nugget: Nugget, titles: Mapping[str, str]) -> str | None:
    """Why a reference does not state a nugget that counts, with the missing anchor; None if it does."""
    said = without_titles(reference, titles)
    state = nugget_state(said, nugget)
    if state == "supported" or (state == "unsupported" and not nugget.vital):
        return None
    if state == "contradicted":
        return f"the reference states the opposite of the nugget '{nugget.text:.80}'"
    text = AnchorText(fold(said), like=fold(nugget.text))
    fact = AnchorText(fold(nugget.text), like=fold(said))
    missing = [aliases for aliases in nugget.anchors if not text.find(aliases, fact=fact)]
    listed = "; ".join(" or ".join(f"'{alias}'" for alias in aliases[:3]) for aliases in missing)
    return f"the reference lacks {listed} of the nugget '{nugget.text:.80}'"


def reference_score(question: Question, passages: Sequence[Passage], titles: Mapping[str, str]) -> Score:
    """The score of the reference as an answer, with these passages in its context."""
    answer = Answer("", question.id, "tuned", 0, question.reference, "stop", 0, 0, 0.0)
    return score_answer(question, answer, passages, titles, sampling=SAMPLING)


def short_of_full(score: Score) -> list[str]:
    """The metrics without full marks; ``validity`` for an unusable answer."""
    short = [name for name, full in FULL.items() if score.metrics.get(name, full) != full]
    return short if score.validity == "ok" else ["validity", *short]


FULL = {
    "correctness": 1.0,
    "citation_rate": 1.0,
    "citation_precision": 1.0,
    "citation_recall": 1.0,
    "number_grounding": 1.0,
    "prose_style": 1.0,
    "substantive": 1.0,
    "false_refusal": 0.0,
    "fabricated_title": 0.0,
    "outside_context_citation": 0.0,
    "refusal_near_miss": 1.0,
    "refusal_off_corpus": 1.0,
}
"""Full marks, for each metric that is defined."""
