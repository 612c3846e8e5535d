"""M5: does an answer refuse, and are the right questions refused?

An answer refuses when its first sentence, after apologies and descriptions of the contexts, says so (the
contexts do not contain it, it cannot be answered, nothing is known) and no answer follows: neither with a
hedge ("but generally …") nor with ``ANSWER_WORDS`` words that are not about the contexts.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.answers.normalize import fold, sentences, words

ANSWER_WORDS = 20

_SHOWN = (
    r"(?:contexts?|passages?|papers?|documents?|notes?|sources?|excerpts?|texts?|materials?|articles?|corpus"
    r"|information|abstracts?|references?|literature|provided|given)"
)
_NOT = r"(?:(?:do|does|did|is|are|was|were|has|have|can|could)(?: not|n't)|cannot|never|fails? to)"
_TELL = (
    r"(?:contain|mention|discuss|provide|include|cover|say|state|describe|address|specify|specified|report"
    r"|give|answer|explain|offer|refer|tell|cite|present|indicate|define|detail|touch)"
)
_TOLD = (
    r"(?:mentioned|discussed|covered|described|provided|addressed|specified|stated|found|present|available"
    r"|included|reported|given|answered|explained|contained|part|in|among)"
)
_REFUSALS = re.compile(
    "|".join(
        (
            rf"\b{_SHOWN}\b[^.;]{{0,60}}?\b{_NOT}\b(?: \w+){{0,2}}? {_TELL}\w*",
            rf"\b(?:none|neither|nothing)\b (?:of|in|from|about)?\b[^.;]{{0,40}}\b{_SHOWN}\b",
            rf"\b{_NOT}(?: \w+){{0,2}}? {_TOLD}\b[^.;]{{0,50}}\b{_SHOWN}\b",
            r"\bno (?:\w+ ){0,2}?(?:information|mention|details?|answer|discussion|passage|paper|context)\b"
            r"(?: \w+){0,4}? (?:about|on|of|for|to|in|regarding|that|is|was|are|given|here)\b",
            r"\b(?:cannot|can't|could not|couldn't|unable to|not able to|not possible to|not be)"
            r"(?: \w+)? (?:answer|answered|determined?|say|tell|find|found|provide|help)\b",
            r"\b(?:not enough|insufficient|too little|not sufficient) (?:\w+ )?"
            r"(?:information|context|detail|evidence)\b",
            r"\b(?:i|we) (?:do not|don't|did not|didn't) (?:know|have|find|see)\b",
            rf"(?:^|[,;] )not (?:\w+ )?(?:in|among|within|by|found|mentioned|covered|discussed)\b"
            rf"[^.;]{{0,30}}\b{_SHOWN}\b",
            rf"\b(?:not clear|unclear|not known|unknown)\b[^.;]{{0,10}}\b(?:from|in)\b[^.;]{{0,30}}\b{_SHOWN}\b",
            rf"\b(?:outside|beyond)\b[^.;]{{0,20}}\b(?:scope|{_SHOWN})\b",
        )
    )
)
_ANSWERS_AFTER_ALL = re.compile(
    r"\b(?:but|however|still|yet|although|that said|nevertheless|nonetheless)\b[^.;]{0,40}"
    r"\b(?:general(?:ly)?|typically|usually|commonly|known|i (?:can|know|believe|think)|it is|likely"
    r"|probably)\b"
    r"|\b(?:but|however),? [^.;]{0,30}\b(?:say|state|report|show|suggest|note|impl|find)\w* that\b"
    r"|\b(?:in general|generally speaking|generally|typically|from (?:my |general )?knowledge"
    r"|based on (?:my |general )?knowledge|it is (?:widely |well )?known)\b"
)
_ABOUT_CONTEXTS = re.compile(
    r"^[^,;.]{0,100}?\b(?:discuss|describ|cover|focus|address|deal|introduc|concern|mention)\w*"
    r"|^[^,;.]{0,60}?\b(?:is|are|talks?) (?:only )?about\b"
    rf"|^(?:they|these|those|both|instead)\b|^(?:the|all) (?:\w+ )?{_SHOWN}\b"
)
_OFFERS = re.compile(r"\b(?:please|if you|would you|let me know|feel free|happy to|sorry|apolog\w+|consult|refer to)\b")


def _is_preamble(part: str) -> bool:
    """Whether a sentence only describes the contexts, apologizes or offers help."""
    return bool(_ABOUT_CONTEXTS.search(part) or _OFFERS.search(part))


def is_refusal(text: str) -> bool:
    """Whether the answer declines. "Not in the papers, but generally …" does not; an empty text does not."""
    parts = sentences(fold(text))
    opening = itertools.dropwhile(lambda part: not _REFUSALS.search(part) and _is_preamble(part), parts)
    first = next(opening, "")
    if not _REFUSALS.search(first) or any(_ANSWERS_AFTER_ALL.search(part) for part in parts):
        return False
    rest = [part for part in parts if not (_REFUSALS.search(part) or _is_preamble(part))]
    return sum(len(words(part)) for part in rest) < ANSWER_WORDS


@dataclass(frozen=True)
class RefusalTable:
    """Which questions were refused. A rate is None when it is 0/0."""

    n_answerable: int
    n_unanswerable: int
    refusal_precision: float | None
    refusal_recall: float | None
    refusal_f1: float | None
    answer_precision: float | None
    answer_recall: float | None
    answer_f1: float | None
    macro_f1: float | None
    false_refusal_rate: float | None
    near_miss_recall: float | None
    off_corpus_recall: float | None


def outcomes(questions: Iterable[Question], scores: Iterable[Score]) -> list[tuple[Question, bool]]:
    """(question, refused) of one model's scores, for ``refusal_table``; without transport errors.

    An invalid answer counts against the model: as a refusal if it should answer, as an answer if it should
    refuse.
    """
    by_id = {question.id: question for question in questions}
    rows = []
    for score in scores:
        question = by_id[score.question_id]
        name = "false_refusal" if question.answerable else f"refusal_{question.refusal_kind or 'off_corpus'}"
        if name in score.metrics:
            refused = score.metrics[name] == 1.0 if score.validity == "ok" else question.answerable
            rows.append((question, refused))
    return rows


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def refusal_table(outcomes: Iterable[tuple[Question, bool]]) -> RefusalTable:
    """Precision, recall and F1 of refusing and of answering from (question, refused) pairs.

    Refusing is right on unanswerable questions, answering on the others. F1 = 2TP / (2TP + FP + FN);
    macro-F1 is the mean of both F1, None unless both are defined.
    """
    rows = list(outcomes)
    unanswerable = [refused for question, refused in rows if not question.answerable]
    answerable = [refused for question, refused in rows if question.answerable]
    right, missed, wrong = sum(unanswerable), len(unanswerable) - sum(unanswerable), sum(answerable)
    answered = len(answerable) - wrong
    refusal_f1 = _ratio(2 * right, 2 * right + wrong + missed)
    answer_f1 = _ratio(2 * answered, 2 * answered + wrong + missed)
    kinds = {
        kind: [refused for question, refused in rows if question.refusal_kind == kind]
        for kind in ("near_miss", "off_corpus")
    }
    return RefusalTable(
        n_answerable=len(answerable),
        n_unanswerable=len(unanswerable),
        refusal_precision=_ratio(right, right + wrong),
        refusal_recall=_ratio(right, right + missed),
        refusal_f1=refusal_f1,
        answer_precision=_ratio(answered, answered + missed),
        answer_recall=_ratio(answered, answered + wrong),
        answer_f1=answer_f1,
        macro_f1=None if refusal_f1 is None or answer_f1 is None else (refusal_f1 + answer_f1) / 2,
        false_refusal_rate=_ratio(wrong, len(answerable)),
        near_miss_recall=_ratio(sum(kinds["near_miss"]), len(kinds["near_miss"])),
        off_corpus_recall=_ratio(sum(kinds["off_corpus"]), len(kinds["off_corpus"])),
    )
