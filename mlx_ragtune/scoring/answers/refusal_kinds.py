"""What the classifier of refusals sees of an answer in another language than English: the kinds of its words.

``refusal_lexicon.tsv`` lists the words of each kind in each language: "SOURCE" of papers and passages, "NOT", "SAY".
All languages share one table of weights, since which kinds stand together in a clause tells a refusal from an answer,
more than their order does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mlx_ragtune.scoring.answers.refusal_features import QUOTED, SENTENCE_MARK, TOKEN, n_grams, pairs
from mlx_ragtune.scoring.answers.refusal_words import OTHER_WORD, word_of

LEXICON = Path(__file__).with_name("refusal_lexicon.tsv")
"""A language, a kind and its words on each line. A word that ends in "*" has any ending, "_" is a space."""
SKIPPED_KIND = "DET"
"""Articles: a sentence says the same without them."""

_UNSPACED_LANGUAGES = frozenset(("zh", "ja", "ko"))
_MARKS = str.maketrans({"，": ",", "、": ",", "；": ";", "：": ":", "。": SENTENCE_MARK, "！": SENTENCE_MARK})
_ENDS = frozenset((",", ";", ":", "(", ")", "—", "–", SENTENCE_MARK))
_NEGATIONS = frozenset(("NOT", "NOTHING", "CANNOT", "LACKING"))
_REFUSING = _NEGATIONS | {"ABSENT", "FAIL"}
_FAMILIES = {
    **dict.fromkeys(("SAY", "HOLD", "COVER", "SHOW"), "TELL"),
    **dict.fromkeys(("NOT", "NOTHING", "CANNOT", "FAIL", "ABSENT"), "NEGATIVE"),
    **dict.fromkeys(("SOURCE", "PART", "AUTHOR", "STUDY", "GIVEN"), "SOURCES"),
    **dict.fromkeys(("FIND", "KNOW", "ANSWER", "GUESS", "LOOK"), "REPLY"),
    **dict.fromkeys(("INFORMATION", "QUANTITY"), "FACT"),
    **dict.fromkeys(("METHOD", "PERSON", "ACT", "EFFECT"), "TOPIC"),
}
"""Kinds that mostly play the same part."""
_FUNCTIONS = frozenset(("OF", "BE", "HAVE", "AND", "IT", "PARTICLE"))


@dataclass(frozen=True)
class Lexicon:
    """The kind of each word of a language; ``prefixes`` of words with any ending, the longest first."""

    words: dict[str, str] = field(default_factory=dict)
    prefixes: list[tuple[str, str]] = field(default_factory=list)

    def kind(self, word: str) -> str:
        """The kind of a lower-case word, ``OTHER_WORD`` for a topic."""
        if kind := self.words.get(word):
            return kind
        return next((kind for prefix, kind in self.prefixes if word.startswith(prefix)), OTHER_WORD)

    @property
    def pattern(self) -> str:
        """Matches each listed word, the longest one first."""
        return "|".join(re.escape(word) for word in sorted(self.words, key=lambda word: (-len(word), word)))


@cache
def lexicons() -> Mapping[str, Lexicon]:
    """The lexicon of each language by its code. A word that is listed twice has the first kind."""
    read: dict[str, Lexicon] = {}
    for line in LEXICON.read_text(encoding="utf-8").splitlines():
        language, kind, listed = line.split("\t")
        lexicon = read.setdefault(language, Lexicon())
        for word in (word.replace("_", " ") for word in listed.split(" ")):
            if word.endswith("*"):
                lexicon.prefixes.append((word[:-1], kind))
            else:
                lexicon.words.setdefault(word, kind)
    for lexicon in read.values():
        lexicon.prefixes.sort(key=lambda prefix: -len(prefix[0]))
    return read


@cache
def _unspaced_token(language: str) -> re.Pattern[str]:
    return re.compile(rf"{QUOTED}|{lexicons()[language].pattern}|\d[\d.,%]*|\S")


def _kind(token: str, language: str) -> str:
    if token == QUOTED:
        return "TITLE"
    if token[0].isdigit():
        return "NUMBER"
    return lexicons()[language].kind(token) if token[0].isalpha() else token


def kinds(sentences: Sequence[str], language: str) -> list[str]:
    """The kinds of the words of an answer, given as normalized sentences, and its marks; of a run of topics one."""
    text = f" {SENTENCE_MARK} ".join(sentence.rstrip(" .!。！") for sentence in sentences).translate(_MARKS)
    token = _unspaced_token(language) if language in _UNSPACED_LANGUAGES else TOKEN
    found: list[str] = []
    for kind in (_kind(word, language) for word in token.findall(text)):
        if kind not in (SKIPPED_KIND, "'") and not (kind == OTHER_WORD == (found or [""])[-1]):
            found.append(kind)
    return found


def known_share(sentences: Sequence[str], language: str) -> float:
    """The share of the words that are listed for the language, English included; 0 without a word."""
    words = [token for token in TOKEN.findall(" ".join(sentences).replace(QUOTED, "")) if token[0].isalpha()]
    of = (lambda word: word_of(word).kind) if language == "en" else lexicons()[language].kind
    return sum(of(word) != OTHER_WORD for word in words) / len(words) if words else 0.0


def _families(found: Sequence[str]) -> list[str]:
    """The kinds with one name for those that play the same part, without function words and repetitions."""
    families: list[str] = []
    for family in (_FAMILIES.get(kind, kind) for kind in found if kind not in _FUNCTIONS):
        if family != (families or [""])[-1]:
            families.append(family)
    return families


def _counts(found: Sequence[str]) -> Iterator[str]:
    yield f"g:negations {min(sum(kind in _NEGATIONS for kind in found), 3)}"
    yield f"g:kinds {min(len(found) // 4, 6)}"
    yield f"g:numbers {min(found.count('NUMBER'), 2)}"
    first, *rest = " ".join(found).split(SENTENCE_MARK)
    yield f"g:sentences {min(1 + len(rest), 3)}"
    if rest and not _REFUSING & set(first.split()):
        yield "g:begins with a statement"


def kind_features(sentences: Sequence[str], language: str) -> set[str]:
    """The features of an answer in another language than English, given as normalized sentences.

    ``m:`` one to four kinds in a row; ``u:`` two kinds in a clause, ``p:`` in a sentence; ``c:`` and ``d:`` the same of
    families of kinds; ``g:`` numbers of negations, words and sentences.
    """
    found = kinds(sentences, language)
    families = _families(found)
    names = set(n_grams("m:", ["^", *found, "$"], (1, 2, 3, 4)))
    names.update(pairs("u:", found, _ENDS, frozenset((OTHER_WORD,))))
    names.update(pairs("p:", found, frozenset((SENTENCE_MARK,)), frozenset((OTHER_WORD,))))
    names.update(n_grams("c:", ["^", *families, "$"], (2, 3, 4, 5)))
    names.update(pairs("d:", families, _ENDS, frozenset((OTHER_WORD,))))
    names.update(_counts(found))
    return names
