"""From a model's reply to judged pairs: read, checked by rule, then checked by the model itself.

All pairs of a call are judged together: one request each for support, for answers with the passages
and for answers without them. Reasons that begin with ``model:`` are the model's.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlx_ragtune.recipe_data import ANSWER_WORDS
from mlx_ragtune.records import ChatReply, ChatRequest, Chunk, Evidence, Pair, Passage
from mlx_ragtune.scoring.answers.normalize import fold, words
from mlx_ragtune.scoring.answers.numbers import number_grounding
from mlx_ragtune.synthesis.call_plan import Call
from mlx_ragtune.synthesis.checks import Windows, check_pair, is_blank
from mlx_ragtune.synthesis.gate import row_fault
from mlx_ragtune.synthesis.generator_prompts import FIELDS, absence_request, answering_request, support_request
from mlx_ragtune.synthesis.jobs import Judged
from mlx_ragtune.synthesis.refusals import refusal, topic_of
from mlx_ragtune.synthesis.repairs import repair_pair
from mlx_ragtune.synthesis.replies import Backend, UnusableReplyError, ask, json_list
from mlx_ragtune.synthesis.writable import SPACELESS

NO_KEYS = "item without its keys"
INVALID_TEXT = "text that is not valid Unicode"
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd-\uffff]")
"""Control characters and the mark of what could not be decoded. Evidence may have them where its paper does."""
AGREES = 0.5
STEM = 5


@dataclass(frozen=True)
class Written:
    """The pairs of one reply, and the number of items that are not pairs, by reason."""

    judged: tuple[Judged, ...]
    unusable: dict[str, int]


def _pair(call: Call, chunks: Sequence[Chunk], item: Mapping[str, str], identifier: str) -> Pair:
    question = " ".join(item["question"].split())
    topic = topic_of(item["topic"]) or ""
    if call.task in ("off_corpus", "false_premise"):
        kind: str = "off_corpus" if call.task == "off_corpus" else "near_miss"
        return Pair(identifier, "refusal", question, refusal(topic, question), (), (), kind)  # type: ignore[arg-type]
    papers = tuple(dict.fromkeys(chunk.document_id for chunk in chunks))
    names = ("evidence",) if len(papers) == 1 else ("evidence_1", "evidence_2")
    quotes = tuple(Evidence(paper, item[name].strip()) for paper, name in zip(papers, names, strict=True))
    return Pair(
        identifier,
        "synthesis" if call.task == "synthesis" else "grounded",
        question,
        item["reply"].strip(),
        papers,
        quotes,
    )


def read_pairs_of(
    reply: ChatReply, call: Call, chunks: Sequence[Chunk], name: str, *, windows: Windows = ANSWER_WORDS
) -> Written:
    """The pairs in a reply to ``writing_request``, each repaired and checked by rule. Their ids start with ``name``.

    ``windows``: the fewest and the most words of an answer, by kind.

    Items without all their keys, with blank values, or with text that is not valid Unicode (a model can
    write half of a surrogate pair) are counted as unusable. Raises UnusableReplyError when no item is usable.
    """
    sources = {chunk.document_id: chunk.text for chunk in chunks}
    titles = {chunk.document_id: chunk.title for chunk in chunks}
    judged: list[Judged] = []
    unusable: Counter[str] = Counter()
    for number, item in enumerate(json_list(reply, "pairs")[: call.pairs]):
        if problem := item_problem(item, FIELDS[call.task]):
            unusable[problem] += 1
            continue
        assert isinstance(item, dict)  # noqa: S101 (else it is a problem)
        pair = _pair(call, chunks, item, f"{call.task}-{name}-{number}")
        topic = topic_of(item["topic"]) or ""
        repaired = repair_pair(pair, list(titles.values()), list(sources.values()))
        reason = row_fault(repaired.pair) or check_pair(repaired.pair, sources, titles, windows)
        if pair.kind == "refusal" and not topic:
            reason = "topic is not a short phrase"
        judged.append(Judged(repaired.pair, reason or "", topic, repairs=repaired.repairs))
    if not judged and set(unusable) <= {NO_KEYS}:
        raise UnusableReplyError("no item with all the keys " + ", ".join(FIELDS[call.task]))
    if missing := call.pairs - len(judged) - sum(unusable.values()):
        unusable["pair not written"] = missing
    return Written(tuple(judged), dict(unusable))


def item_problem(item: object, fields: Sequence[str]) -> str:
    """Why an item of a reply is not a pair; empty if it is one."""
    if not isinstance(item, dict):
        return NO_KEYS
    values = [item.get(field) for field in fields]
    if not all(isinstance(value, str) and not is_blank(value) for value in values):
        return NO_KEYS
    written = [str(item[field]) for field in fields if not field.startswith("evidence")]
    if any(_NOT_TEXT.search(text) for text in written) or any(_SURROGATE.search(str(value)) for value in values):
        return INVALID_TEXT
    return ""


def agreement(reply: str, pair: Pair, titles: Sequence[str]) -> float:
    """The share, from 0 to 1, of what the pair's answer adds to its question that is also in the reply.

    Counts numbers and identifiers where the answer adds any, else words of four or more letters, compared
    by their first five, and pairs of characters in Chinese and Japanese; 0 when the answer adds neither.
    """
    known = fold(" ".join((pair.question, *titles)))
    answer = fold(pair.answer)
    for title in titles:
        answer = answer.replace(fold(title), " ")
    new = [word for word in dict.fromkeys(words(answer)) if word not in words(known)]
    figures = " ".join(word for word in new if any(char.isdigit() for char in word))
    if (share := number_grounding(figures, [reply])) is not None:
        return share
    said, asked = ({word[:STEM] for word in words(text)} | _bigrams(text) for text in (fold(reply), known))
    stems = {word[:STEM] for word in new if re.fullmatch(r"[^\W\d_]{4,}", word)} | _bigrams(answer)
    stems -= asked
    return len(stems & said) / len(stems) if stems else 0.0


def _bigrams(text: str) -> set[str]:
    """The pairs of neighboring characters of Chinese and Japanese, which are written without spaces."""
    runs = re.findall(rf"{SPACELESS.pattern}+", text)
    return {run[at : at + 2] for run in runs for at in range(len(run) - 1)}


def _texts(reply: ChatReply, count: int) -> list[str]:
    rows = json_list(reply, "answers")
    if len(rows) != count or not all(isinstance(row, str) for row in rows):
        raise UnusableReplyError("not one answer for each question")
    return [str(row) for row in rows]


def _verdicts(reply: ChatReply, count: int, allowed: Sequence[str]) -> list[str]:
    rows = json_list(reply, "verdicts")
    verdicts = [str(row.get("verdict")).strip(" .").lower() if isinstance(row, dict) else "" for row in rows]
    if len(verdicts) != count or not all(verdict in allowed for verdict in verdicts):
        raise UnusableReplyError("not one verdict for each question")
    return verdicts


class Judge:
    """Asks the model about pairs that passed the rules, and keeps the replies."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.replies: list[ChatReply] = []

    def _answers(self, passages: Sequence[Chunk], pairs: Sequence[Pair]) -> list[str]:
        request = answering_request(passages, [pair.question for pair in pairs])
        answers, replies = ask(self._backend, request, lambda reply: _texts(reply, len(pairs)))
        self.replies += replies
        return answers

    def _ask_verdicts(self, request: ChatRequest, count: int, allowed: Sequence[str]) -> list[str]:
        verdicts, replies = ask(self._backend, request, lambda reply: _verdicts(reply, count, allowed))
        self.replies += replies
        return verdicts

    def supported(self, judged: Sequence[Judged], chunks: Sequence[Chunk]) -> list[Judged]:
        """The same, rejecting answerable pairs that the source does not state or answers otherwise.

        ``scores`` say how far the model gives the answer with the source and without it.
        """
        undecided = [item for item in judged if not item.reason]
        if not undecided:
            return list(judged)
        titles = [chunk.title for chunk in chunks]
        pairs = [item.pair for item in undecided]
        request = support_request(chunks, [(pair.question, pair.answer) for pair in pairs])
        verdicts = self._ask_verdicts(request, len(pairs), ("yes", "no"))
        with_source, without = self._answers(chunks, pairs), self._answers((), pairs)
        after: dict[str, Judged] = {}
        for item, verdict, shown, blind in zip(undecided, verdicts, with_source, without, strict=True):
            scores = {
                "round_trip": agreement(shown, item.pair, titles),
                "closed_book": agreement(blind, item.pair, titles),
            }
            reason = "" if verdict == "yes" else "model: the source does not state the answer"
            partial = item.pair.id.startswith("partial-")
            if not reason and not partial and scores["round_trip"] < AGREES:
                reason = "model: answers otherwise when shown the source"
            after[item.pair.id] = replace(item, reason=reason, scores=scores)
        return [after.get(item.pair.id, item) for item in judged]

    def absent(self, judged: Sequence[Judged], passages: Sequence[Chunk | Passage]) -> list[Judged]:
        """The same, rejecting refusals of questions that the passages answer."""
        undecided = [item for item in judged if not item.reason]
        if not undecided:
            return list(judged)
        request = absence_request(passages, [item.pair.question for item in undecided])
        verdicts = self._ask_verdicts(request, len(undecided), ("absent", "answered"))
        answered = {item.pair.id for item, verdict in zip(undecided, verdicts, strict=True) if verdict == "answered"}
        reason = "model: the passages do answer it"
        return [replace(item, reason=reason) if item.pair.id in answered else item for item in judged]


def without_verdict(judged: Sequence[Judged], problem: UnusableReplyError) -> list[Judged]:
    """The same pairs, with those that passed the rules rejected because there is no verdict on them."""
    return [item if item.reason else replace(item, reason=f"model: no verdict ({problem})") for item in judged]
