"""From an item that the model wrote to a benchmark question: repaired by rule, checked by rule, given its facts.

Each check returns one of a fixed few reasons. A question is kept only if its own reference gets full marks, by the
scorer that will mark the answers, with the passages that it was written on.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from mlx_ragtune.records import Chunk, Evidence, Nugget, Pair, Passage, Question, RefusalKind
from mlx_ragtune.scoring.answers.anchors import AnchorText
from mlx_ragtune.scoring.answers.derived_nuggets import derived_nuggets, nuggets_on
from mlx_ragtune.scoring.answers.language import language_of
from mlx_ragtune.scoring.answers.normalize import fold, words
from mlx_ragtune.scoring.answers.reference_check import reference_score, short_of_full
from mlx_ragtune.scoring.answers.titles import alias_of
from mlx_ragtune.synthesis.checks import check_pair, titles_quoted
from mlx_ragtune.synthesis.draft_plan import DraftCall, DraftTask
from mlx_ragtune.synthesis.draft_prompts import FIELDS, RULES
from mlx_ragtune.synthesis.gate import row_fault
from mlx_ragtune.synthesis.jobs import Judged
from mlx_ragtune.synthesis.refusals import refusal, topic_of
from mlx_ragtune.synthesis.repairs import cited_behind, repair_pair

VERSION = 3
"""Part of the key of every drafted question: raise it when a check changes, so that no old verdict is reused."""
KEY_WORDS = 8
NO_FACT = "no fact of the answer that can be looked for"
NAMES_METHOD = "names the method or the paper"
AS_AUTHORS = "speaks as the authors"
COPIES_ORDER = "copies the instructions"
COPIED_WORDS = 5
"""So many words in a row that the instructions have are copied from them."""

_FIRST_PERSON = re.compile(r"\b(?:we|our|ours|us)\b", re.IGNORECASE)
_LOWERED = frozenset(
    re.findall(r"\w+", "the this these it its a an in on to by for from with each all both they there when if")
)
"""Words that begin a sentence with a capital only because they begin it."""
_NAME = re.compile(r"\b(?:[A-Z][a-z]+[A-Z]\w*|[A-Z]{2,}\w*|[a-z]+[A-Z]\w*|[A-Za-z]+-?\d\w*)\b")
"""A word that is spelled as a name: QLoRA, HNSW, GPT-4."""
_KEYS = ("key", "key_1", "key_2")


@dataclass(frozen=True)
class Library:
    """What questions are checked against: the titles of all papers, by id."""

    titles: Mapping[str, str]


def read_item(call: DraftCall, chunks: Sequence[Chunk], item: Mapping[str, str], identifier: str) -> Judged:
    """A written item as a pair, with the reason why it is rejected by rule, or "".

    ``topic`` of the result is the topic of an unanswerable question, and the keys of an answerable one, one a line.
    """
    judged = _read(call, chunks, item, identifier)
    written = [item[name] for name in FIELDS[call.task] if not name.startswith("evidence")]
    if any(_copies_order(text, call.task) for text in written):
        return replace(judged, reason=COPIES_ORDER)
    return replace(judged, reason=row_fault(judged.pair) or judged.reason)


@cache
def _order(task: DraftTask) -> frozenset[tuple[str, ...]]:
    """Every run of ``COPIED_WORDS`` words of what a task asks for."""
    return frozenset(run for rule in RULES[task] for run in _runs(rule))


def _runs(text: str) -> list[tuple[str, ...]]:
    said = words(fold(text))
    return [tuple(said[at : at + COPIED_WORDS]) for at in range(len(said) - COPIED_WORDS + 1)]


def _copies_order(text: str, task: DraftTask) -> bool:
    """Whether a text holds a piece of the instructions, as replies of very small models do."""
    return not _order(task).isdisjoint(_runs(text))


def _read(call: DraftCall, chunks: Sequence[Chunk], item: Mapping[str, str], identifier: str) -> Judged:
    """``read_item`` without that check."""
    question = " ".join(item["question"].split())
    if call.task in ("near_miss", "off_corpus"):
        return _unanswerable(call, chunks, question, item["topic"], identifier)
    papers = tuple(dict.fromkeys(chunk.document_id for chunk in chunks))
    titles = [chunk.title for chunk in chunks]
    names = ("evidence",) if call.task != "two_paper" else ("evidence_1", "evidence_2")
    evidence = tuple(Evidence(chunk.document_id, item[name].strip()) for chunk, name in zip(chunks, names, strict=True))
    kind = "synthesis" if call.task == "two_paper" else "grounded"
    pair = Pair(identifier, kind, question, item["reply"].strip(), papers, evidence)  # type: ignore[arg-type]
    repaired = repair_pair(pair, titles, [chunk.text for chunk in chunks])
    # a question that is not to name its paper is not given a title
    asked = question if call.task == "unnamed" else repaired.pair.question
    answer = with_citation(" ".join(repaired.pair.answer.split()), titles)
    pair = replace(repaired.pair, question=asked, answer=answer)
    keys = [item[name].strip(" .,;:\"'") for name in _KEYS if name in item]
    return Judged(pair, _answerable_reason(call.task, pair, chunks) or "", "\n".join(keys), repairs=repaired.repairs)


def _unanswerable(call: DraftCall, chunks: Sequence[Chunk], question: str, topic: str, identifier: str) -> Judged:
    kind: RefusalKind = "near_miss" if call.task == "near_miss" else "off_corpus"
    named = topic_of(topic) or ""
    papers = tuple(dict.fromkeys(chunk.document_id for chunk in chunks))
    pair = Pair(identifier, "refusal", question, refusal(named, question), papers, (), kind)
    reason = check_pair(pair, {}, {}) if named else "topic is not a short phrase"
    return Judged(pair, reason or "", named)


def _answerable_reason(task: DraftTask, pair: Pair, chunks: Sequence[Chunk]) -> str | None:
    sources = {chunk.document_id: chunk.text for chunk in chunks}
    titles = {chunk.document_id: chunk.title for chunk in chunks}
    if _FIRST_PERSON.search(pair.answer) or _FIRST_PERSON.search(pair.question):
        return AS_AUTHORS
    if task == "unnamed" and _names_something(pair.question, chunks):
        return NAMES_METHOD
    return check_pair(pair, sources, titles)


def _names_something(question: str, chunks: Sequence[Chunk]) -> bool:
    """Whether a question holds a title, the short name in it, or a word spelled as a name that the title has."""
    asked = fold(question)
    for chunk in chunks:
        short = fold(alias_of(chunk.title))
        if short and re.search(rf"(?<!\w){re.escape(short)}(?!\w)", asked):
            return True
        if {name.casefold() for name in _NAME.findall(chunk.title)} & {word.casefold() for word in words(question)}:
            return True
    return False


def with_citation(answer: str, titles: Sequence[str]) -> str:
    """The answer, with the titles that it does not cite added in front: the source is known.

    In other languages than English they stand in brackets.
    """
    missing = [title for title in titles if titles_quoted(answer, [title])]
    if not missing or not answer:
        return answer
    if language_of(answer) not in ("en", None):
        return cited_behind(answer, missing)
    first, space, rest = answer.partition(" ")
    start = first.lower() if first.lower() in _LOWERED else first
    cited = " and ".join(f'"{title}"' for title in missing)
    return f"According to {cited}, {start}{space}{rest}"


def facts_of(judged: Judged) -> tuple[Nugget, ...]:
    """The facts of an answerable question: its keys as far as quote and answer hold them, else derived by rule."""
    pair = judged.pair
    quoted = AnchorText(fold(" ".join(item.quote for item in pair.evidence)))
    asked = AnchorText(fold(pair.question))
    keys = [key for key in judged.topic.split("\n") if 0 < len(words(key)) <= KEY_WORDS]
    usable = [key for key in dict.fromkeys(keys) if quoted.find([key]) and not asked.find([key])]
    nuggets = nuggets_on(pair.answer, usable)
    if len(nuggets) < len(judged.topic.split("\n")):
        known = {anchor for nugget in nuggets for anchor in nugget.anchors}
        derived = [nugget for nugget in derived_nuggets(pair.answer, pair.question) if quoted.find(nugget.anchors[0])]
        nuggets += tuple(nugget for nugget in derived if not nuggets and nugget.anchors[0] not in known)
    return tuple(Nugget(nugget.text, tuple(aliases_of(group[0]) for group in nugget.anchors)) for nugget in nuggets)


def aliases_of(anchor: str) -> tuple[str, ...]:
    """An anchor with the other ways to write it: ``48 GB``, ``48GB`` and ``48-GB``; ``low-rank`` and ``low rank``."""
    forms = [anchor]
    if re.search(r"\d[ -]?[A-Za-z%]", anchor):
        forms += [re.sub(r"(?<=\d)[ -]?(?=[A-Za-z%])", between, anchor) for between in ("", " ", "-")]
    if re.search(r"[A-Za-z]-[A-Za-z]", anchor):
        forms.append(re.sub(r"(?<=[A-Za-z])-(?=[A-Za-z])", " ", anchor))
    return tuple(form for form in dict.fromkeys(forms) if "%" not in form or "-%" not in form)


def question_of(judged: Judged, task: DraftTask, *, id: str, writer: str) -> Question:  # noqa: A002
    """The benchmark question of a pair that passed, marked as drafted by ``writer``."""
    pair = judged.pair
    refuses = pair.kind == "refusal"
    return Question(
        id=id,
        topic=pair.papers[0] if task == "named" else task,
        question=pair.question,
        answerable=not refuses,
        papers=pair.papers,
        reference=pair.answer,
        nuggets=() if refuses else facts_of(judged),
        refusal_kind=pair.refusal_kind,
        origin="drafted",
        evidence=pair.evidence,
        writer=writer,
    )


def marks_reason(judged: Judged, task: DraftTask, chunks: Sequence[Chunk], library: Library) -> str | None:
    """Why the question's own reference does not get full marks; None if it does."""
    question = question_of(judged, task, id="x", writer="")
    if question.answerable and not question.nuggets:
        return NO_FACT
    passages = [Passage(chunk.id, chunk.document_id, chunk.title, chunk.text) for chunk in chunks]
    short = short_of_full(reference_score(question, passages, library.titles))
    return f"its reference lacks full marks: {short[0]}" if short else None
