"""M4: is the answer plain prose? Length is reported separately and never scored."""

import re

from mlx_ragtune.scoring.answers.leaks import thinks_aloud

MAX_PARAGRAPHS = 4
_INDENT = r"[^\S\n]*"  # not \s*: across lines it would take quadratic time

_MARKUP = {
    "header": re.compile(
        rf"^\s{{0,3}}#{{1,6}}\s|^{_INDENT}[=-]{{3,}}{_INDENT}$|^{_INDENT}\*\*[^*\n]+\*\*:?{_INDENT}$", re.MULTILINE
    ),
    "list": re.compile(rf"^{_INDENT}(?:[-*+•‣◦]|\d{{1,2}}[.)]|[a-z]\))\s+\S", re.MULTILINE),
    "table": re.compile(rf"^{_INDENT}\|.*\|{_INDENT}$", re.MULTILINE),
    "fence": re.compile(rf"^{_INDENT}(?:```|~~~)", re.MULTILINE),
}


def markup(text: str) -> tuple[str, ...]:
    """The kinds of markup in the text: header, list, table, fence, think. A line in bold is a header."""
    kinds = tuple(name for name, pattern in _MARKUP.items() if pattern.search(text))
    return (*kinds, "think") if thinks_aloud(text) else kinds


def is_prose(text: str) -> bool:
    """Whether the answer has 1 to ``MAX_PARAGRAPHS`` paragraphs (split at blank lines) and no markup."""
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    return 1 <= len(paragraphs) <= MAX_PARAGRAPHS and not markup(text)
