"""HTML: the readable text, with headings as sections and without scripts, styles and navigation."""

import re
from pathlib import Path

from mlx_ragtune.papers.arxiv_ids import arxiv_id_in_name, arxiv_year
from mlx_ragtune.papers.authors import author_names
from mlx_ragtune.papers.blocks import assemble, year_in
from mlx_ragtune.papers.dropped import Reading
from mlx_ragtune.papers.html_blocks import read_blocks
from mlx_ragtune.papers.plain_text import LONGEST_TITLE, check_length, load_text, removed_characters
from mlx_ragtune.papers.sections import cover
from mlx_ragtune.records import Document

_PREFIX = re.compile(r"^\[\S+\]\s+")


def read_html(path: Path, identifier: str) -> Reading:
    """The page's text, one block per line; tables are Markdown rows, formulas one line of text.

    Title: that of LaTeXML's markup, ``<title>``, the first heading, or the file's name. Text of navigation, asides
    and footers, and the references up to the next heading, are left out and listed.
    """
    loaded = load_text(path)
    page = read_blocks(loaded.text)
    assembly = assemble(identifier, page.blocks)
    check_length(len(assembly.text), path)
    head = _PREFIX.sub("", page.title)
    title = (page.heading or head if page.is_latexml else head or page.heading) or path.stem
    arxiv = page.arxiv_id or arxiv_id_in_name(path.stem)
    document = Document(
        identifier,
        path.name,
        title[:LONGEST_TITLE],
        assembly.text,
        authors=author_names(page.authors),
        year=arxiv_year(arxiv) or year_in(page.date),
        arxiv_id=arxiv,
        sections=cover(assembly.marks, len(assembly.text)),
    )
    dropped = (*assembly.dropped, *removed_characters(identifier, 1, loaded.removed))
    return Reading(document, tuple(dict.fromkeys(dropped)))  # the same button stands beside each paragraph
