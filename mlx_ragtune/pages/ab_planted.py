"""Planted bad answers for the blind comparison: each is surely wrong by the scorer, or there is none.

A planted answer is the answer to a question about another paper. It is never a refusal, never cut, and states
nothing of what the question asks for, so a reader who prefers it did not read.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mlx_ragtune.records import Answer, Arm, Passage, Question, Sampling, Score
from mlx_ragtune.scoring.answers.normalize import fold, words
from mlx_ragtune.scoring.answers.nuggets import correctness
from mlx_ragtune.scoring.answers.numbers import mentions, number_grounding
from mlx_ragtune.scoring.answers.score import score_answer
from mlx_ragtune.scoring.answers.units import dimension

MIN_WORDS = 5
"""A shorter text may be a right answer in another form, such as a number in words."""
MAX_SHARED = 0.25
"""A planted answer has at most this share of the telling words of the reference, and of those of the question."""
ALIKE = 0.5
"""A question with this share of this one's telling words, or more, may have the same answer."""
OWN_WORDS, OWN_WORDS_YES_NO = 1, 3
"""A planted answer has at least this many longer words of its own paper that nothing about this question has. Beside a
question to be answered with yes or no it needs more: "it remains the same" may be right there too."""
_YES_OR_NO = re.compile(
    r"\W*(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|ist|sind|war|hat|haben|kann|können|gibt"
    r"|est-ce|peut-on|es|son|hay)\b|.*(?:[吗嗎]|是否|ですか|ますか|습니까)",
    re.IGNORECASE,
)
_SAYS_YES_OR_NO = re.compile(r"\W*(?:yes|no|ja|nein|oui|non|sí|是|否|不是|はい|いいえ|예|아니)(?!\w)", re.IGNORECASE)
_NEGATION = re.compile(
    r"n't\b|\b(?:not|no|never|none|nor|neither|nothing|nobody|nowhere|without|cannot|lack(?:s|ed|ing)?|absent|missing"
    r"|silent|unknown|unclear|undisclosed|unmentioned|un(?:stated|specified|reported)|omit\w*|outside|beyond|unrelated"
    r"|only|instead|nicht\w*|kein\w*|ohne|nie|niemand|weder|fehlt|fehlen|pas|rien|aucune?|sans|jamais)\b"
    r"|[不没沒無无未]|ない|ません|않|없"
)


@dataclass(frozen=True)
class Item:
    """One question with its answers and the passages that all models got; ``cluster`` is the gold paper.

    ``prompted_text`` is None without the arm. Without ``asked``, the benchmark's row, no answer can be checked.
    """

    question_id: str
    question: str
    base_text: str
    tuned_text: str
    cluster: str
    passages: tuple[Passage, ...] = ()
    prompted_text: str | None = None
    asked: Question | None = None

    def text(self, arm: Arm) -> str | None:
        """The answer of one arm."""
        return {"base": self.base_text, "prompted": self.prompted_text, "tuned": self.tuned_text}[arm]

    @property
    def texts(self) -> tuple[str, ...]:
        """Every answer to the question."""
        return tuple(text for text in (self.base_text, self.prompted_text, self.tuned_text) if text is not None)


def _score(question: Question, text: str, passages: Sequence[Passage]) -> Score:
    answer = Answer("", question.id, "base", 0, text, "stop", 0, 0, 0.0)
    return score_answer(question, answer, passages, {}, sampling=Sampling())


def _refused(score: Score) -> bool | None:
    """Whether the answer is a refusal; None where the score does not say."""
    for name in ("false_refusal", "refusal_near_miss", "refusal_off_corpus"):
        if name in score.metrics:
            return score.metrics[name] == 1.0
    return None


def is_right(question: Question, text: str, passages: Sequence[Passage] = ()) -> bool:
    """Whether the text is a valid answer that states every vital fact, or a refusal where refusing is right."""
    score = _score(question, text, passages)
    if score.validity != "ok":
        return False
    return score.metrics.get("correctness") == 1.0 if question.answerable else _refused(score) is True


def is_bad(question: Question, text: str, passages: Sequence[Passage] = ()) -> bool:
    """Whether the text is surely a wrong answer: a whole, valid text, not a refusal, with nothing that was asked.

    Where this cannot be checked (an answerable question without vital facts) the result is False.
    """
    score = _score(question, text, passages)
    if score.validity != "ok" or _refused(score) is not False or len(words(text)) < MIN_WORDS:
        return False
    if not question.answerable:
        return not _NEGATION.search(fold(text))  # a denial may be as right as a refusal
    if _is_yes_or_no(question) and _NEGATION.search(fold(text)):
        return False
    states = correctness(text, question.nuggets).states
    return (
        score.metrics.get("correctness") == 0.0
        and not any(state != "unsupported" for state in states)
        and not score.metrics.get("keyword_coverage")
        and not number_grounding(question.reference, [text])  # by value, whatever the notation
        and _dimensions(question.reference).isdisjoint(_dimensions(text))  # 8% may be right beside 7.8%
        and _shared(question, text) <= MAX_SHARED
        and len(_asked(question) & _telling(text)) <= MAX_SHARED * len(_asked(question))
    )


def _is_yes_or_no(question: Question) -> bool:
    """Whether a yes or a no answers the question: a denial of anything may then be right."""
    return bool(_YES_OR_NO.match(question.question) or _SAYS_YES_OR_NO.match(question.reference))


def _dimensions(text: str) -> set[str]:
    """What the numbers of a text measure: shares, times, lengths."""
    numbers, _ = mentions(text)
    return {dimension(unit) for readings in numbers for _, unit in readings if unit}


def _shared(question: Question, text: str) -> float:
    """The share of the reference's telling words that the text has."""
    expected = _telling(question.reference) - _telling(question.question)
    return len(expected & _telling(text)) / len(expected) if expected else 0.0


def _asked(question: Question) -> set[str]:
    """The telling words of the question itself."""
    return _long(_telling(question.question))


def _alike(question: Question, other: Question) -> bool:
    """Whether two questions ask in the same words, so that one answer may be right for both."""
    asked = _asked(question)
    return len(asked & _telling(other.question)) >= ALIKE * len(asked)


def _long(telling: set[str]) -> set[str]:
    """The telling words without those of four letters ("them", "same")."""
    return {word for word in telling if len(word) > 4 or not word.isalpha() or not word.isascii()}


def _telling(text: str) -> set[str]:
    """The words of a text without short ones; numbers and other scripts are kept."""
    return {word for word in words(fold(text)) if len(word) > 3 or not word.isascii() or any(map(str.isdigit, word))}


def planted_answer(item: Item, others: Sequence[Item], rank: Callable[[Item], bytes]) -> str | None:
    """A bad answer to the item's question, from a question about another paper; None if none is surely bad.

    ``rank`` orders the other items. It differs from every real answer to this question.
    """
    if item.asked is None:
        return None
    real = {_flat(text) for text in item.texts}
    near = _telling("\n".join((item.question, item.asked.reference, *(passage.text for passage in item.passages))))
    needed = OWN_WORDS_YES_NO if _is_yes_or_no(item.asked) else OWN_WORDS
    for text, other in _candidates(item, sorted(others, key=rank)):
        own = _long(_telling(text) & _about(other)) - near
        if _flat(text) not in real and len(own) >= needed and is_bad(item.asked, text, item.passages):
            return text
    return None


def _about(item: Item) -> set[str]:
    """The telling words of what an item asks, of its reference and its passages."""
    reference = item.asked.reference if item.asked else ""
    return _telling("\n".join((item.question, reference, *(passage.text for passage in item.passages))))


def _candidates(item: Item, others: Sequence[Item]) -> Iterator[tuple[str, Item]]:
    """Right answers of the base to questions about other papers, then the references of those questions."""
    foreign = [
        (other, other.asked)
        for other in others
        if other.cluster != item.cluster
        and other.asked is not None
        and other.asked.answerable
        and item.asked is not None
        and not _alike(item.asked, other.asked)
    ]
    for other, asked in foreign:
        if is_right(asked, other.base_text, other.passages):
            yield other.base_text, other
    for other, asked in foreign:
        yield asked.reference, other


def _flat(text: str) -> str:
    return " ".join(fold(text).split())
