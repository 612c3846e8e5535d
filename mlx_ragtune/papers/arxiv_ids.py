"""Identifiers of arXiv: ``2305.14314``, ``2305.14314v2``, and those from before April 2007, ``cs/0112017``.

Source: info.arxiv.org/help/arxiv_identifier.html.
"""

import re
from typing import NamedTuple

_NEW = re.compile(
    r"(?=(\d{2}))(?:(?:0[7-9]|1[0-4])(?:0[1-9]|1[0-2])\.\d{4}|(?:1[5-9]|[2-9]\d)(?:0[1-9]|1[0-2])\.\d{5})"
)
"""Four digits until 2014, five since 2015."""
_OLD = re.compile(r"[a-z]+(?:-[a-z]+)*(?:\.[A-Z]{2})?/(\d{2})(0[1-9]|1[0-2])\d{3}")
_VERSION = re.compile(r"(.+?)(?:v([1-9]\d{0,2}))?", re.DOTALL)
_PREFIX = re.compile(r"(?:https?://(?:www\.|export\.)?arxiv\.org/(?:abs|pdf|html)/|arxiv:\s*)", re.IGNORECASE)


class ArxivId(NamedTuple):
    """An identifier and the version, None for the newest."""

    id: str
    version: int | None = None

    def __str__(self) -> str:
        return self.id if self.version is None else f"{self.id}v{self.version}"

    @property
    def file_stem(self) -> str:
        """The name of a file for it: the slash of an old identifier becomes ``_``."""
        return str(self).replace("/", "_")


def parse_arxiv_id(text: str) -> ArxivId | None:
    """The identifier, also from an address or ``arXiv:…``; None for what is not one."""
    plain = _PREFIX.sub("", text.strip(), count=1).removesuffix(".pdf")
    match = _VERSION.fullmatch(plain)
    if not match or not (_NEW.fullmatch(match[1]) or _OLD.fullmatch(match[1])):
        return None
    return ArxivId(match[1], int(match[2]) if match[2] else None)


def arxiv_year(identifier: str | None) -> int | None:
    """The year in which a paper was submitted, by its identifier."""
    match = identifier and (_NEW.match(identifier) or _OLD.match(identifier))
    if not match:
        return None
    year = int(match[1])
    return 1900 + year if year > 90 else 2000 + year


def arxiv_id_in_name(stem: str) -> str | None:
    """The identifier, without its version, that a file is named by, as arXiv and its tools name downloads."""
    plain = re.sub(r"^(?:arxiv[-_ ]?)", "", stem, flags=re.IGNORECASE)
    old = re.sub(r"^([a-z-]+(?:\.[A-Z]{2})?)[_-](\d{7})", r"\1/\2", plain)
    found = parse_arxiv_id(plain) or parse_arxiv_id(old)
    return found.id if found else None
