"""From a model's reply to judged pairs: read, checked by rule, then checked by the model itself.

All pairs of a call are judged together: one request each for support, for answers with the passages
and for answers without them. Reasons that begin with ``model:`` are the model's.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlx_ragtune.records import ChatReply, ChatRequest, Chunk, Evidence, Pair, Passage
from mlx_ragtune.scoring.answers.normalize import fold, words
from mlx_ragtune.scoring.answers.numbers import number_grounding
from mlx_ragtune.synthesis.call_plan import Call
from mlx_ragtune.synthesis.checks import check_pair
from mlx_ragtune.synthesis.generator_prompts import FIELDS, absence_request, answering_request, support_request
from mlx_ragtune.synthesis.jobs import Judged
from mlx_ragtune.synthesis.refusals import refusal, topic_of
from mlx_ragtune.synthesis.replies import Backend, UnusableReplyError, ask, json_list

AGREES = 0.5
STEM = 5


@dataclass(frozen=True)
class Written:
    """The pairs of one reply, and how many items were none, by reason."""

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


def read_pairs_of(reply: ChatReply, call: Call, chunks: Sequence[Chunk], name: str) -> Written:
    """The pairs in a reply to ``writing_request``, each judged by rule. ``name`` begins their ids.

    Raises UnusableReplyError when the reply holds no item with all its keys.
    """
    sources = {chunk.document_id: chunk.text for chunk in chunks}
    titles = {chunk.document_id: chunk.title for chunk in chunks}
    judged: list[Judged] = []
    unusable: dict[str, int] = {}
    for at, item in enumerate(json_list(reply, "pairs")[: call.pairs]):
        fields = FIELDS[call.task]
        if not isinstance(item, dict) or not all(
            isinstance(item.get(one), str) and item[one].strip() for one in fields
        ):
            unusable["item without its keys"] = unusable.get("item without its keys", 0) + 1
            continue
        pair = _pair(call, chunks, item, f"{call.task}-{name}-{at}")
        topic = topic_of(item["topic"]) or ""
        reason = check_pair(pair, sources, titles)
        if pair.kind == "refusal" and not topic:
            reason = "topic is not a short phrase"
        judged.append(Judged(pair, reason or "", topic))
    if not judged:
        raise UnusableReplyError("no item with all the keys " + ", ".join(FIELDS[call.task]))
    missing = call.pairs - len(judged) - sum(unusable.values())
    return Written(tuple(judged), unusable | ({"pair not written": missing} if missing else {}))


def agreement(reply: str, pair: Pair, titles: Sequence[str]) -> float:
    """Between 0 and 1: how much of what the pair's answer adds to its question the reply says too.

    The share of its numbers and identifiers where it has any, else of its words of four letters and more,
    compared by their first five; 0 when the answer adds neither.
    """
    known = fold(" ".join((pair.question, *titles)))
    answer = fold(pair.answer)
    for title in titles:
        answer = answer.replace(fold(title), " ")
    new = [word for word in dict.fromkeys(words(answer)) if word not in words(known)]
    figures = " ".join(word for word in new if any(one.isdigit() for one in word))
    if (share := number_grounding(figures, [reply])) is not None:
        return share
    said, asked = ({word[:STEM] for word in words(text)} for text in (fold(reply), known))
    stems = {word[:STEM] for word in new if re.fullmatch(r"[^\W\d_]{4,}", word)} - asked
    return len(stems & said) / len(stems) if stems else 0.0


def _texts(reply: ChatReply, count: int) -> list[str]:
    rows = json_list(reply, "answers")
    if len(rows) != count or not all(isinstance(row, str) for row in rows):
        raise UnusableReplyError("not one answer for each question")
    return [str(row) for row in rows]


def _verdicts(reply: ChatReply, count: int, allowed: Sequence[str]) -> list[str]:
    rows = json_list(reply, "verdicts")
    found = [row.get("verdict") if isinstance(row, dict) else None for row in rows]
    if len(found) != count or not all(one in allowed for one in found):
        raise UnusableReplyError("not one verdict for each question")
    return [str(one) for one in found]


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
        """Answerable pairs: stated by the source, answered alike with it, and how far without it."""
        open_ones = [one for one in judged if not one.reason]
        if not open_ones:
            return list(judged)
        titles = [chunk.title for chunk in chunks]
        pairs = [one.pair for one in open_ones]
        request = support_request(chunks, [(pair.question, pair.answer) for pair in pairs])
        verdicts = self._ask_verdicts(request, len(pairs), ("yes", "no"))
        with_source, without = self._answers(chunks, pairs), self._answers((), pairs)
        after: dict[str, Judged] = {}
        for one, verdict, shown, blind in zip(open_ones, verdicts, with_source, without, strict=True):
            scores = {
                "round_trip": agreement(shown, one.pair, titles),
                "closed_book": agreement(blind, one.pair, titles),
            }
            reason = "" if verdict == "yes" else "model: the source does not state the answer"
            partial = one.pair.id.startswith("partial-")
            if not reason and not partial and scores["round_trip"] < AGREES:
                reason = "model: answers otherwise when shown the source"
            after[one.pair.id] = replace(one, reason=reason, scores=scores)
        return [after.get(one.pair.id, one) for one in judged]

    def absent(self, judged: Sequence[Judged], passages: Sequence[Chunk | Passage]) -> list[Judged]:
        """Refusals: the passages do not answer them."""
        open_ones = [one for one in judged if not one.reason]
        if not open_ones:
            return list(judged)
        request = absence_request(passages, [one.pair.question for one in open_ones])
        verdicts = self._ask_verdicts(request, len(open_ones), ("absent", "answered"))
        answered = {one.pair.id for one, verdict in zip(open_ones, verdicts, strict=True) if verdict == "answered"}
        reason = "model: the passages do answer it"
        return [replace(one, reason=reason) if one.pair.id in answered else one for one in judged]


def without_verdict(judged: Sequence[Judged], problem: UnusableReplyError) -> list[Judged]:
    """The same pairs, those that passed the rules now rejected because no verdict could be had."""
    return [one if one.reason else replace(one, reason=f"model: no verdict ({problem})") for one in judged]
