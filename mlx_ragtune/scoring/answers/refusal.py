"""M5: does an answer refuse, and are the right questions refused?

An answer refuses when it says that the question cannot be answered or that the sources do not tell it, and nothing
that answers stands before or after it: neither a hedge ("but generally …") nor a statement that is not about the
sources, the question or other help. Answers are told apart by two classifiers, one of English and one of the other
languages, in which a lexicon names the kind of each word.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.answers.language import language_of
from mlx_ragtune.scoring.answers.normalize import sentences
from mlx_ragtune.scoring.answers.refusal_classifier import log_odds
from mlx_ragtune.scoring.answers.refusal_features import QUOTED
from mlx_ragtune.scoring.answers.refusal_kinds import known_share, lexicons

LATIN = ("en", "de", "fr", "es", "it")
"""Languages of one script, in the order of preference for a text too short to tell its language."""
READ_CHARACTERS = 3000
"""A refusal is shorter."""

_EMPHASIS = re.compile(r"[*_`#>|]+")
_QUOTATION = re.compile(r'"[^"\n]{1,300}"|「[^」\n]{1,300}」|『[^』\n]{1,300}』|《[^》\n]{1,300}》')
_ITEM = re.compile(r"^[^\S\n]*(?:[-•–*]|\d+[.)])\s+|\n\s*(?:[-•–*]|\d+[.)])\s+")
_JSON_ANSWER = re.compile(r'^\s*\{\s*"\w{1,20}"\s*:\s*"((?:[^"\\]|\\.)*)"\s*\}\s*$')
_CITED = re.compile(r"(^|[.;]\s+|\b(?:in|and|or|nor|neither|both|source|paper)\s)\[\d+\](?=[\s.,;])", re.IGNORECASE)
_NUMBERED = re.compile(
    r"\b(paper|document|passage|excerpt|source|context|article|table|figure|section|appendix|chapter)"
    r" (?:no\. ?|#)?\d{1,2}\b"
)
_REFERENCE = re.compile(r"\[\d+(?:[-–,] ?\d+){0,9}\]")
_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "`": "'", "´": "'"})
_CONTRACTIONS = (
    (re.compile(r"\bcan(?:not|'t)\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\b(do|does|did|is|are|was|were|has|have|had|could|would)nt\b"), r"\1 not"),
    (re.compile(r"\bcant\b"), "can not"),
    (re.compile(r"\b(that|there)s\b"), r"\1 is"),
    (re.compile(r"\bi'm\b"), "i am"),
    (re.compile(r"(?<=\w)'re\b"), " are"),
    (re.compile(r"(?<=\w)'ve\b"), " have"),
    (re.compile(r"(?<=\w)'ll\b"), " will"),
    (re.compile(r"\b(i|we|you|they)'d\b"), r"\1 would"),
    (re.compile(r"\b(it|that|there|this|here|what)'s\b"), r"\1 is"),
    (re.compile(r"[ \t\r\f\v]+"), " "),
)


def _normalized(text: str) -> str:
    """Lower-cased, without emphasis, list markers and contractions, and with a word in place of each quotation."""
    plain = _JSON_ANSWER.sub(r"\1", unicodedata.normalize("NFKC", text).translate(_QUOTES))
    plain = _REFERENCE.sub("", _CITED.sub(rf"\1{QUOTED}", plain))
    plain = _EMPHASIS.sub("", _ITEM.sub(lambda match: ", " if match[0].startswith("\n") else "", plain))
    plain = plain.strip().lower()
    if plain.count('"') == 2 and plain.startswith('"') and plain.rstrip(".").endswith('"'):
        plain = plain.replace('"', "")
    plain = _QUOTATION.sub(f" {QUOTED} ", plain)
    plain = _NUMBERED.sub(r"\1 a", plain)
    for pattern, replacement in _CONTRACTIONS:
        plain = pattern.sub(replacement, plain)
    return plain


def normalized_sentences(text: str) -> list[str]:
    """The sentences among the first ``READ_CHARACTERS``, normalized."""
    return sentences(_normalized(text[:READ_CHARACTERS]))


@lru_cache(maxsize=256)
def is_refusal(text: str) -> bool:
    """Whether the answer declines. "Not in the papers, but generally …" does not; an empty text does not.

    The first ``READ_CHARACTERS`` decide, in the language that they are written in; a text too short to tell
    its language is read in the one that knows most of its words.
    """
    parts = normalized_sentences(text)
    return bool(parts) and log_odds(parts, language=_language(parts)) > 0


def _language(parts: Sequence[str]) -> str:
    """The language of an answer, given as normalized sentences, as far as refusals are read in it."""
    language = language_of(" ".join(parts).replace(QUOTED, ""))
    if language is not None and (language == "en" or language in lexicons()):
        return language
    return max(LATIN, key=lambda code: known_share(parts, code))


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
