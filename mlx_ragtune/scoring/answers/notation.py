"""Which number notation a text uses: "1,234.5" as in English, or "1.234,5" as in German and French."""

import re

_ENGLISH = re.compile(r"\b(?:the|of|and|is|to|that|with|was|are|it|than|from|by|which|at)\b", re.IGNORECASE)
_OTHER = re.compile(
    r"\b(?:der|das|und|ist|von|mit|für|nicht|eine|einen|einem|werden|wird|auf|auch|bei|sind|wurde|wurden|zu|um|beträgt"
    r"|es|gibt|sich|dem|den|im|aus|nach|oder|wie|wir|haben|hat|als|etwa|rund|ihre?"
    r"|le|la|les|une|est|dans|pour|avec|sur|par|et|du|au|aux|ont|sont|elle|il|des|qui|que|ne|cette|ce|environ"
    r"|el|los|las|del|con|para|por|il|della|che|sono|são|não|een|het)\b",
    re.IGNORECASE,
)
_COMMA = re.compile(r"(?<![\d.,])\d+,\d{1,2}(?![\d,])")
_POINT = re.compile(r"\d\.\d")
EVIDENCE_CHARACTERS = 4000
"""The start of a text is enough to tell its notation."""


def uses_decimal_comma(text: str) -> bool | None:
    """Whether commas separate decimals in ``text``; None when nothing tells."""
    start = text[:EVIDENCE_CHARACTERS]
    english, other = len(_ENGLISH.findall(start)), len(_OTHER.findall(start))
    if english != other:
        return other > english
    if _COMMA.search(start) and not _POINT.search(start):
        return True
    return None
