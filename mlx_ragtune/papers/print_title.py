"""The title of a printed paper: the largest print of the first page that reads as one."""

import itertools
import re
import unicodedata
from collections.abc import Sequence

from mlx_ragtune.papers.print_headings import joined_title
from mlx_ragtune.papers.print_rows import Row
from mlx_ragtune.papers.sections import is_named

_JUNK = re.compile(
    r"untitled.*|microsoft (?:word|powerpoint).*|.*\.(?:docx?|tex|pdf|dvi|indd|rtf|odt|txt)|arxiv:.*|paper|main|title"
    r"|no title given|\W*",
    re.IGNORECASE,
)
_BANNER = re.compile(
    r"(?:(?!an?\s)\w+\s){0,2}(?:journal|proceedings|transactions|bulletin|annals|letters)s?\s(?:of|on|in|for)\b.*"
    r"|(?:the\s)?(?:\w+\s){0,5}(?:journal|transactions|letters|magazine|preprint)s?"
    r"|.*(?:\bvol(?:ume\b|\.)|\bissn\b|\bdoi\b|https?:|www\.).*"
    r"|(?:(?:research|original|review|short)\s)?(?:article|paper|communication)s?|technical (?:report|note)|draft"
    r"|(?:table of )?contents|inhaltsverzeichnis|(?:\d{1,2}|[IVX]+)\.?\s.*",
    re.IGNORECASE,
)


def _key(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", text).casefold() if char.isalnum())


def printed_title(rows: Sequence[Row], height: float) -> str:
    """The largest print in the upper two thirds of the page, over its rows; empty when all print is alike.

    It has at least two words, or one that is far larger than all other print. A banner of the journal and a letter that
    opens the text are not titles.
    """
    upper = [row for row in rows if row.baseline > height / 3 and sum(char.isalpha() for char in row.text) >= 2]
    sizes = sorted({row.size for row in upper}, reverse=True)
    if len(sizes) < 2:
        return ""
    for size, next_size in itertools.pairwise(sizes):
        for block in _blocks(upper, size):
            title = joined_title(block)
            is_alone = len(title) >= 6 and title.isalpha() and size >= 1.4 * next_size
            if (len(title.split()) >= 2 or is_alone) and not _BANNER.fullmatch(title) and not is_named(title):
                return title
    return ""


def _blocks(rows: Sequence[Row], size: float) -> list[list[Row]]:
    """Neighboring rows of this size, give or take three percent."""
    blocks: list[list[Row]] = []
    before = None
    for row in rows:
        if abs(row.size - size) <= 0.03 * size:
            close = before is not None and abs(before.baseline - row.baseline) < 2.2 * size
            if close:
                blocks[-1].append(row)
            else:
                blocks.append([row])
            before = row
        else:
            before = None
    return blocks


def _without_marks(title: str) -> str:
    """The title without marks of footnotes at its end."""
    return re.sub(r"(?:\s*[∗*†‡§¶⋆★])+$|(?<=\w{3})\^\d$", "", title)


def choose_title(metadata: str, rows: Sequence[Row], height: float, stem: str) -> str:
    """The metadata's title if it stands on the first page; else the largest print; else the first row."""
    text = _key(" ".join(row.text for row in rows))
    metadata = unicodedata.normalize("NFC", " ".join(metadata.split()))
    if len(_key(metadata)) >= 8 and not _JUNK.fullmatch(metadata) and _key(metadata) in text:
        return metadata
    first = next((row.text for row in rows if any(char.isalpha() for char in row.text)), "")
    for candidate in (_without_marks(printed_title(rows, height)), first):
        if candidate and not _JUNK.fullmatch(candidate):
            return candidate
    return stem
