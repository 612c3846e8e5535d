"""Can a short text be an answer, or does it break off or say nothing?

"12 layers", "LoRA." and "Yes, it does" are answers; "The", "According to the paper" and "Ragas evaluates R" are not.
A text breaks off when its quotation marks or brackets are not closed, when it ends in a word or a sign that needs
another ("of", "the", ","), or in the beginning of a word of the question or the passages ("retriev"). It says
nothing when it has no value and no word with content.
"""

import re
from collections.abc import Iterable

from mlx_ragtune.scoring.answers.normalize import words
from mlx_ragtune.scoring.answers.units import UNITS

FRAGMENT_WORDS = 12
"""A longer text says something even if its last sentence breaks off."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONNECTING = _set(
    "a an the these those its their his her our your my each every and or but nor of at by for from into onto with "
    "without between among during than as if because which whose whereas while although that der die das den dem des "
    "ein eine einen einem einer und oder mit von für bei laut le les un une et ou du de avec pour dans selon que qui "
    "als weil dass wenn parce"
)
_UNFINISHED = _set(
    "in on to via about over under after before per within la only just rather also very such called named another"
)
"""At the end of a sentence they are fine: "which it builds on."."""
_VERBS = _set(
    "is are was were be been has have had uses use using evaluates reports shows proposes introduces describes "
    "presents contains includes says states provides requires consists depends refers means makes takes gives gets "
    "achieves compares combines measures trains applies finds would will can could should may might must ist sind hat "
    "haben wird est sont"
)
_SUBJECTS = _set("it they we i he she you there here this that these those es sie wir il elle ils nous")
_EMPTY = (
    _CONNECTING
    | _UNFINISHED
    | _VERBS
    | _SUBJECTS
    | _set(
        "paper papers study article author authors model method methods answer answers question context contexts "
        "passage passages text result results approach work section according based order such so well sure okay ok "
        "certainly course provided given hello hi thanks thank happy help great hmm um uh title figure table first "
        "source what which who how why when where example addition however thus therefore hence moreover furthermore "
        "note please think am let me response"
    )
)
_SHORT_ANSWERS = _set(
    "yes no true false both neither none nothing never always either all any correct incorrect wrong right ja nein oui "
    "non"
)
_DO_NOT = _set("do does did not")
_YES_OR_NO = _set("yes no ja nein oui non")
_AUXILIARIES = _VERBS | _set("does do did not doesn't don't didn't isn't aren't wasn't weren't")
_INFLECTION = re.compile(r"^(?:s|es|ed|d|ing|er|ers|ly|n|en|e|['’].*|[-+.].*)$")
_FORMULA = re.compile(r"[=^<>≤≥≈±×*/\\$Α-Ωα-ω]|\w\(\w")
_CHOICE = re.compile(r"\([A-Za-z]\)\.?|[A-Z](?:(?:, | and |, and | und | et )[A-Z])+\.?")
_DANGLING_SIGN = re.compile(r"[,:(\[{“„«‘/–—-]$")
_STOPPED = re.compile(r"[.!?。！？…][\"'”’»)\]*_`]*$")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_CJK_DANGLING = re.compile(r"(?:(?<!目)(?<!是)(?<!对)的|与|(?<!不)(?<!还)(?<!总)是|の|を|，|、)$")
_CJK_EMPTY = re.compile(
    r"^(?:根据|因为|所以|但是|该|这篇|此|本|这|它|其|是|论文|文章|作者|この|その|論文|이|그|논문|저자|は|은|는|，|。)*$"
)
_ELISION = re.compile(r"^(?:l|d|qu)['’](?=\w)")
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"), ("“", "”"), ("«", "»"), ("「", "」"))


def breaks_off(text: str, question: str = "", passages: Iterable[str] = ()) -> bool:
    """Whether a text of at most ``FRAGMENT_WORDS`` words ends where no answer can end."""
    spoken, bare = words(text), _bare(text)
    if not spoken or len(spoken) > FRAGMENT_WORDS:
        return False
    if _CJK.search(bare):
        return len(bare) > 1 and bool(_CJK_DANGLING.search(bare))
    if _is_open(bare) or _DANGLING_SIGN.search(bare):
        return True
    last, before = spoken[-1], [word.casefold() for word in spoken[:-1]]
    if (
        bare[-1] == "+"
        or _CHOICE.fullmatch(bare)
        or _is_unit(spoken)
        or _is_name(last)
        or any(letter.isdigit() for letter in last)
        or _shows(question, last)
    ):
        return False
    return _ends_in_the_middle(last, before, stopped=bool(_STOPPED.search(bare))) or (
        bare[-1].isalnum() and _is_beginning(last, before, (question, *passages))
    )


def says_nothing(text: str, question: str = "") -> bool:
    """Whether a text of at most ``FRAGMENT_WORDS`` words has neither a value nor a word with content."""
    spoken, bare = words(text), _bare(text)
    if len(spoken) > FRAGMENT_WORDS or any(letter.isdigit() for letter in bare) or _FORMULA.search(bare):
        return False
    if _CJK.search(bare):
        return bool(_CJK_EMPTY.match(bare)) and bare.strip("。") != "是"
    lowered = [word.casefold() for word in spoken]
    if _CHOICE.fullmatch(bare):
        return False
    if set(lowered) & _SHORT_ANSWERS or (len(spoken) > 1 and lowered[0] in _SUBJECTS and lowered[-1] in _AUXILIARIES):
        return False
    if len(spoken) == 2 and lowered[0] in ("the", "its", "a", "an") and _STOPPED.search(bare):
        return False
    return not any(_has_content(word, question) for word in spoken)


def _has_content(word: str, question: str) -> bool:
    if _is_name(word):
        return True
    return _shows(question, word) if len(word) == 1 else _ELISION.sub("", word.casefold()) not in _EMPTY


def _bare(text: str) -> str:
    return text.strip().strip("*_").strip()


def _is_open(text: str) -> bool:
    """Whether a quotation mark, a bracket or a code tick is not closed."""
    return (
        text.count('"') % 2 == 1
        or text.count("`") % 2 == 1
        or any(text.count(left) > text.count(right) for left, right in _PAIRS)
    )


def _ends_in_the_middle(last: str, before: list[str], *, stopped: bool) -> bool:
    """Whether the last word needs another one: an article, a conjunction, a verb without its object."""
    ending = last.casefold()
    if ending in _CONNECTING:
        return not (before and (stopped or last == "A"))
    says_yes = before[:1] != [] and before[0] in _YES_OR_NO
    elliptic = (before[:1] != [] and before[0] in _SHORT_ANSWERS) or (
        before[-1:] != [] and (before[-1] in _SUBJECTS or before[-2:-1] == ["it"])
    )
    if ending in _VERBS:
        return not says_yes and not (stopped and (elliptic or len(before) >= 2))
    if stopped:
        return False
    if ending in _UNFINISHED:
        return True
    return before != [] and (ending in ("no", "it", "they", "we") or (ending in _DO_NOT and not elliptic))


def _is_unit(spoken: list[str]) -> bool:
    """Whether the last word is the unit of a number: "40 m"."""
    return len(spoken) > 1 and spoken[-1].casefold() in UNITS and any(letter.isdigit() for letter in spoken[-2])


def _is_name(word: str) -> bool:
    """``IT``, ``NumPy``, ``LoRA``: capitals after the first letter."""
    return any(letter.isupper() for letter in word[1:]) and word != "OK"


def _shows(question: str, letter: str) -> bool:
    """Whether the question names a single letter: "which of the two, A or B?"."""
    return len(letter) == 1 and bool(re.search(rf"(?<!\w){re.escape(letter)}(?!\w)", question))


def _is_beginning(last: str, before: list[str], shown: Iterable[str]) -> bool:
    """Whether ``last`` is the beginning of a longer word that was shown, and was not shown itself.

    A capital alone is one only after a verb ("Ragas evaluates R", but "vitamin C").
    """
    begins = last.casefold()
    if begins in _SHORT_ANSWERS:
        return False
    known = {word.casefold() for text in shown for word in words(text)}
    if len(last) == 1 and last.isupper():
        return begins not in known and before[-1:] != [] and before[-1] in _VERBS
    return begins not in known and any(
        word.startswith(begins) and not _INFLECTION.match(word[len(begins) :]) for word in known
    )
