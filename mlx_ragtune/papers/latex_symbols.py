r"""Accents and symbols of LaTeX text: ``{\"o}`` as ö, ``\ss`` as ß, ``--`` as –; also for BibTeX."""

import re
import unicodedata

from mlx_ragtune.papers.latex_math import SYMBOLS, readable_math

ACCENTS = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307",
    "u": "\u0306", "v": "\u030c", "H": "\u030b", "r": "\u030a", "c": "\u0327", "k": "\u0328", "d": "\u0323",
    "b": "\u0331", "t": "\u0361",
}  # fmt: skip
LETTERS = {
    "ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "aa": "å",
    "AA": "Å", "i": "ı", "j": "ȷ", "dh": "ð", "DH": "Ð", "th": "þ", "TH": "Þ", "dj": "đ", "DJ": "Đ", "ng": "ŋ",
    "NG": "Ŋ", "S": "§", "P": "¶", "dag": "†", "ddag": "‡", "copyright": "©", "pounds": "£", "euro": "€",
    "textendash": "–", "textemdash": "—", "textquoteleft": "‘", "textquoteright": "’", "textquotedblleft": "“",
    "textquotedblright": "”", "textquotesingle": "'", "textbackslash": "\\", "textasciitilde": "~",
    "textasciicircum": "^", "textunderscore": "_", "textbar": "|", "textless": "<", "textgreater": ">",
    "textbullet": "•", "textperiodcentered": "·", "textdegree": "°", "textregistered": "®", "texttrademark": "™",
    "textcopyright": "©", "textmu": "µ", "texttimes": "×", "textpm": "±", "textellipsis": "…", "ldots": "…",
    "dots": "…", "textdollar": "$", "textexclamdown": "¡", "textquestiondown": "¿", "guillemotleft": "«",
    "guillemotright": "»", "LaTeX": "LaTeX", "TeX": "TeX", "BibTeX": "BibTeX", "LaTeXe": "LaTeX2e",
    "textvisiblespace": "␣", "slash": "/", "lbrace": "{", "rbrace": "}", "textbraceleft": "{", "textbraceright": "}",
}  # fmt: skip
"""Commands without arguments that print a character or a word, in text."""
QUOTES = {"``": "“", "''": "”", "`": "‘", "'": "’", "---": "—", "--": "–", "~": " "}
"""What input characters print."""
_DOTLESS = {"ı": "i", "ȷ": "j"}

_WORD = re.compile(
    r"\\(?P<word>[A-Za-z]+)\s*|\\(?P<symbol>.)|(?P<math>\$[^$]*\$)|(?P<marks>---?|``|''|~)|(?P<brace>[{}])", re.DOTALL
)
_AFTER_ACCENT = re.compile(r"\s*(?:\{\s*(?:\\([ij])(?![A-Za-z])\s*|([^{}\\]*?))\}|\\([ij])(?![A-Za-z])\s*|([^{}\\\s]))")


def with_accent(command: str, letter: str) -> str:
    """The letter with the accent of the command over or under it."""
    letter = letter or " "
    first = _DOTLESS.get(letter[0], letter[0])
    return unicodedata.normalize("NFC", first + ACCENTS[command]) + letter[1:]


def decode_latex(text: str) -> str:
    """A title or a name in LaTeX as plain text in one line: no braces, no commands, formulas readable."""
    parts: list[str] = []
    at = 0
    while match := _WORD.search(text, at):
        parts.append(text[at : match.start()])
        at = match.end()
        command = match["word"] or match["symbol"]
        if match["math"]:
            parts.append(readable_math(match["math"][1:-1]))
        elif match["marks"]:
            parts.append(QUOTES[match["marks"]])
        elif (
            command
            and command in ACCENTS
            and (after := _AFTER_ACCENT.match(text, match.end("word") if match["word"] else match.end("symbol")))
        ):
            parts.append(with_accent(command, next((letter for letter in after.groups() if letter), "")))
            at = after.end()
        elif match["word"]:
            parts.append(LETTERS.get(match["word"]) or SYMBOLS.get(match["word"], ""))
        elif match["symbol"]:
            parts.append(
                {"\\": " ", ",": " ", ";": " ", " ": " ", "\n": " ", "-": "", "/": ""}.get(
                    match["symbol"], match["symbol"]
                )
            )
    parts.append(text[at:])
    return unicodedata.normalize("NFC", " ".join("".join(parts).split()))
