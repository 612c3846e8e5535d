"""Which chunks questions may be written on: those that state something in sentences.

Title pages, acknowledgments, keyword lists, tables and fragments of a few words hold nothing to ask about, and a
generator that is shown one invents a question all the same.
"""

import re

from mlx_ragtune.records import Chunk
from mlx_ragtune.scoring.answers.normalize import sentences, words

LEAST_WORDS = 25
"""Words in sentences that a chunk needs."""
SENTENCE_WORDS = 6
"""A shorter piece is a heading, a caption or a cell."""
LEAST_SHARE = 0.4
"""The share of a chunk's words that must be in sentences."""
NAMES = 0.6
"""A piece with a larger share of capitalized words is a list of names or a title."""
FIGURES = 0.4
"""A piece with a larger share of numbers is the row of a table."""
LISTED = 0.35
"""A piece with more commas and semicolons to the word is a list."""

_ASIDE = re.compile(
    r"(?:\W|\d|[ivx]+\.)*(?:"
    r"acknowledge?ments?|funding|financial support|references|bibliography|works cited|literature cited"
    r"|(?:author|authors'?|credit).{0,20}contributions?.{0,20}"
    r"|(?:competing|conflicts? of|declaration of).{0,25}interests?"
    r"|(?:data|code).{0,20}availability.{0,20}|(?:key ?words|index terms|ccs concepts)\b.{0,60}"
    r"|(?:table of )?contents|list of (?:figures|tables|abbreviations)|copyright.{0,40}|licen[cs]e"
    r"|about the authors?|author (?:information|affiliations?)|affiliations?|supplementary (?:material|information)"
    r"|danksagung(?:en)?|literatur(?:verzeichnis)?|remerciements|bibliographie|agradecimientos|referencias"
    r"|ringraziamenti|riferimenti|致谢|参考文献|謝辞"
    r")\W*",
    re.IGNORECASE,
)
_CONTACT = re.compile(r"\S+@\S+\.\w+|\bhttps?://|\bdoi:|©", re.IGNORECASE)
_LABEL = re.compile(r"^\W*(?:key ?words|index terms|ccs concepts|schlüsselwörter|mots-clés)\b", re.IGNORECASE)
SPACELESS = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


def why_not_writable(chunk: Chunk) -> str | None:
    """Why no question is written on a chunk, as one of a fixed few reasons; None if one may be."""
    if _ASIDE.fullmatch(chunk.section.strip()):
        return "acknowledgments, references, keywords or the like"
    pieces = [(piece, words(piece)) for piece in sentences(chunk.text)]
    total = sum(len(said) for _, said in pieces)
    stated = sum(len(said) for piece, said in pieces if is_sentence(piece, said))
    if total < LEAST_WORDS:
        return "too short"
    if stated < LEAST_WORDS or stated < LEAST_SHARE * total:
        return "title page, table or list: too little of it is in sentences"
    return None


def is_writable(chunk: Chunk) -> bool:
    """Whether questions may be written on a chunk."""
    return why_not_writable(chunk) is None


def is_sentence(piece: str, said: list[str]) -> bool:
    """Whether a piece of text states something: enough words, not mostly names, numbers or addresses."""
    if len(said) < SENTENCE_WORDS or _CONTACT.search(piece) or _LABEL.match(piece):
        return False
    if SPACELESS.search(piece):
        return True
    capital = sum(word[:1].isupper() for word in said)
    figures = sum(word[:1].isdigit() for word in said)
    marks = piece.count(",") + piece.count(";")
    return capital < NAMES * len(said) and figures < FIGURES * len(said) and marks < LISTED * len(said)
