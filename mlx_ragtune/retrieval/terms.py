"""The terms of a text: what the full-text index holds, and what a query is searched for.

Texts and queries are cut in the same way:

- compatibility forms are unified and case is folded (Unicode NFKC, casefold); a raised digit is a number of its own;
- a script that is written without spaces, or with endings joined to a word as in Korean, gives overlapping pairs of
  characters, as the CJK analyzer of Lucene does: 電池の劣化 gives 電池, 池の, の劣, 劣化, and its last character;
- a word with a hyphen gives its parts and the whole: GPT-4 gives gpt, 4 and gpt4;
- a name that ends in ``+`` or ``#`` is also a term of its own: LoRA+ gives lora and loraplus.
"""

import re
import unicodedata
from collections.abc import Iterator

MAX_TERMS = 20_000
"""How many different terms of a query are searched for; the time of a search grows with their square."""
_PAIRED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u109f"  # Tibetan, Burmese
    "\u1100-\u11ff\uac00-\ud7ff"  # Hangul
    "\u1780-\u17ff"  # Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u3040-\u30ff\u31f0-\u31ff"  # Hiragana, Katakana
)
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff"
"""Marks that belong to the letter before them, which ``\\w`` does not count as parts of a word."""
_HYPHENS = "-\u2010\u2011"
_LETTER = rf"(?![{_PAIRED}_])[\w{_MARKS}]"
_RUN = re.compile(
    rf"(?P<paired>[{_PAIRED}]+)|(?P<word>(?:{_LETTER})+(?:[{_HYPHENS}](?:{_LETTER})+)*)(?P<sign>[+#]{{1,2}}(?![\w+#]))?"
)
_SIGNS = {"+": "plus", "#": "sharp"}
_RAISED = str.maketrans({digit: f" {value} " for value, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")})
_KANA_ONLY = re.compile("[\u3040-\u309f]+")
_STOP = (
    "a about an and are as at be been being between by can could did do does for from had has have how i in into is "
    "it its many more most much not of on or s than that the their them there these they this those to was we were "
    "what when where which who whom whose why will with would you your"
)
STOP_WORDS = frozenset(_STOP.split())


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text.casefold().translate(_RAISED))


def terms(text: str) -> Iterator[str]:
    """Every term of a text, in order; each consists of letters, their marks and digits."""
    for match in _RUN.finditer(_folded(text)):
        if run := match["paired"]:
            yield from (run[at : at + 2] for at in range(len(run) - 1))
            yield run[-1]
            continue
        parts = re.split(rf"[{_HYPHENS}]", match["word"])
        yield from parts
        if len(parts) > 1:
            yield "".join(parts)
        if match["sign"]:
            yield "".join(parts) + "".join(_SIGNS[sign] for sign in match["sign"])


def is_stop_word(term: str) -> bool:
    """Whether a term says nothing about the topic: an English function word, or a pair of Hiragana only."""
    return term in STOP_WORDS or bool(_KANA_ONLY.fullmatch(term))


def match_expression(query: str) -> str:
    """An FTS5 expression that matches any of the query's terms; each is quoted, so that no text is syntax.

    Stop words are left out unless there is nothing else, and so are terms after the first ``MAX_TERMS``. A single
    character of a paired script matches every pair that begins with it. Empty when the query has no terms.
    """
    runs = [match["paired"] for match in _RUN.finditer(_folded(query)) if match["paired"]]
    alone = {run for run in runs if len(run) == 1}
    pairs_end = {run[-1] for run in runs} - alone
    distinct = [term for term in dict.fromkeys(terms(query)) if term not in pairs_end]
    chosen = ([term for term in distinct if not is_stop_word(term)] or distinct)[:MAX_TERMS]
    return " OR ".join(f'"{term}"*' if term in alone else f'"{term}"' for term in chosen)
