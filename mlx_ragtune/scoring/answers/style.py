"""M4: is the answer plain prose? Length is reported beside it and never scored."""

import re

MAX_PARAGRAPHS = 4

_MARKUP = {
    "header": re.compile(r"^\s{0,3}#{1,6}\s|^\s*[=-]{3,}\s*$|^\s*\*\*[^*\n]+\*\*:?\s*$", re.MULTILINE),
    "list": re.compile(r"^\s*(?:[-*+•‣◦]|\d{1,2}[.)]|[a-z]\))\s+\S", re.MULTILINE),
    "table": re.compile(r"^\s*\|.*\|\s*$", re.MULTILINE),
    "fence": re.compile(r"^\s*(?:```|~~~)", re.MULTILINE),
    "think": re.compile(r"</?think", re.IGNORECASE),
}


def markup(text: str) -> tuple[str, ...]:
    """Which kinds of markup the text holds: header, list, table, fence, think; a bold line is a header."""
    return tuple(name for name, pattern in _MARKUP.items() if pattern.search(text))


def is_prose(text: str) -> bool:
    """Whether the answer has one to four paragraphs (split at blank lines) and no markup."""
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    return 1 <= len(paragraphs) <= MAX_PARAGRAPHS and not markup(text)
