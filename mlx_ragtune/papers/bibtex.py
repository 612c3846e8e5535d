"""Catalogs of works: BibTeX, also as Zotero, Better BibTeX, JabRef and Mendeley write it, and CSL JSON."""

import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.arxiv_ids import parse_arxiv_id
from mlx_ragtune.papers.blocks import one_line, year_in
from mlx_ragtune.papers.latex_symbols import decode_latex
from mlx_ragtune.papers.plain_text import load_text

DOI = re.compile(r"10\.\d{4,9}/[^\s\"<>{}|\\^`]+", re.IGNORECASE)
_ARXIV_TEXT = re.compile(
    r"arxiv(?:\.org/(?:abs|pdf|html)/|[:. ]+|\.)\s*((?:\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7}))", re.IGNORECASE
)
_NAME_PART = re.compile(r"(?:^|,)\s*(given|family|prefix|suffix)\s*=\s*\"?([^,\"]*)\"?")
_LAST = {"jr", "jr.", "sr", "sr.", "ii", "iii", "iv"}


@dataclass(frozen=True)
class Entry:
    """A work in a catalog. ``files`` are the names of its files, without folders."""

    key: str
    title: str = ""
    authors: tuple[str, ...] = ()
    year: int | None = None
    doi: str = ""
    arxiv_id: str | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalog:
    """The works of a file, and a line for each entry that cannot be read."""

    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = ()


def normal_doi(text: str) -> str:
    """The DOI in a text or an address, in lower case; "" for none."""
    match = DOI.search(text)
    return match[0].rstrip(".,;:)]}'").casefold() if match else ""


def read_catalog(path: Path) -> Catalog:
    """The works of a ``.bib`` or ``.json`` file. Raises InputError when it cannot be read or holds none."""
    text = load_text(path).text
    catalog = _read_json(text, path) if path.suffix.lower() == ".json" else parse_bibtex(text, path.name)
    if not catalog.entries:
        detail = f": {catalog.problems[0]}" if catalog.problems else ""
        raise InputError(f"it holds no entry{detail}", where=str(path), fix="export it as BibTeX or CSL JSON")
    return catalog


def parse_bibtex(text: str, name: str = "") -> Catalog:
    """The entries of BibTeX source; those that are broken, or repeat a key, are listed as problems."""
    from bibtexparser.entrypoint import parse_string
    from bibtexparser.model import DuplicateBlockKeyBlock, DuplicateFieldKeyBlock

    logging.getLogger("bibtexparser").setLevel(logging.CRITICAL)  # what it says is among the problems
    library = parse_string(text)
    blocks: list[Any] = list(library.entries)
    problems: list[str] = []
    for failed in library.failed_blocks:
        where = f"{name}:{(failed.start_line or 0) + 1}"
        if isinstance(failed, DuplicateFieldKeyBlock) and failed.ignore_error_block is not None:
            blocks.append(failed.ignore_error_block)
            problems.append(f"{where}: a field is given twice; the first counts")
        elif isinstance(failed, DuplicateBlockKeyBlock):
            problems.append(f"{where}: the key '{failed.key}' is used twice; the first entry counts")
        else:
            problems.append(f"{where}: the entry cannot be parsed: {one_line(failed.raw or '')[:60]}")
    entries = [_entry(block.key, _fields(block)) for block in blocks]
    return Catalog(tuple(entries), tuple(problems))


def bibtex_source(text: str, key: str) -> str:
    """The source of one entry in BibTeX text, so that a large catalog need not be parsed; "" without it."""
    match = re.search(r"@\w+\s*\{\s*" + re.escape(key) + r"\s*,", text)
    if not match:
        return ""
    depth = 0
    for brace in re.compile(r"(?<!\\)[{}]").finditer(text, match.start()):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[match.start() : brace.end()]
    return ""


def _fields(block: Any) -> dict[str, str]:
    """The fields of an entry by name; the first of several."""
    fields: dict[str, str] = {}
    for field in block.fields:
        fields.setdefault(field.key.casefold(), str(field.value))
    return fields


def _entry(key: str, fields: dict[str, str]) -> Entry:
    links = " ".join(
        fields.get(name, "") for name in ("url", "doi", "note", "journal", "howpublished", "eprint", "pages")
    )
    return Entry(
        key,
        title=decode_latex(": ".join(filter(None, (fields.get("title"), fields.get("subtitle"))))),
        authors=tuple(decode_names(fields.get("author", "") or fields.get("editor", ""))),
        year=year_in(fields.get("year", "") or fields.get("date", "")),
        doi=normal_doi(fields.get("doi", "").replace("\\_", "_"))
        or normal_doi(fields.get("url", "").replace("\\_", "_")),
        arxiv_id=_arxiv(fields.get("eprint", ""), fields.get("arxivid", ""), links),
        files=tuple(_files(fields.get("file", "")) or _files(fields.get("local-url", ""))),
    )


def _arxiv(eprint: str, other: str, links: str) -> str | None:
    for text in (eprint, other):
        plain = parse_arxiv_id(text)
        if plain:
            return plain.id
    match = _ARXIV_TEXT.search(links)
    plain = parse_arxiv_id(match[1]) if match else None
    return plain.id if plain else None


def decode_names(text: str) -> Iterator[str]:
    """The names of a BibTeX field, each as it is written in a text: ``Kurt Gödel``."""
    for name in _split(text, r"\s+and\s+"):
        if name.strip().casefold() in ("others", ""):
            continue
        if given := dict(_NAME_PART.findall(name)):  # the extended format of biblatex
            yield decode_latex(" ".join(given.get(part, "") for part in ("given", "prefix", "family", "suffix")))
            continue
        if name.strip().startswith("{") and name.strip().endswith("}"):
            yield decode_latex(name)
            continue
        parts = [decode_latex(part) for part in _split(name, r"\s*,\s*")]
        if len(parts) == 1:
            yield parts[0]
        elif len(parts) > 2 and parts[1].casefold() in _LAST:
            yield one_line(f"{' '.join(parts[2:])} {parts[0]} {parts[1]}")
        else:
            yield one_line(f"{' '.join(parts[1:])} {parts[0]}")


def _split(text: str, separator: str) -> list[str]:
    """The parts between separators that are in no braces."""
    parts, start, depth = [], 0, 0
    pattern = re.compile(rf"\\.|[{{}}]|{separator}", re.DOTALL)
    for match in pattern.finditer(text):
        if match[0] in "{}":
            depth += 1 if match[0] == "{" else -1
        elif not match[0].startswith("\\") and depth == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]


def _files(text: str) -> list[str]:
    r"""Names in a ``file`` field: ``description:path:type`` or plain paths, separated by ``;``, with ``\`` escapes."""
    names: list[str] = []
    for item in re.split(r"(?<!\\);", text):
        parts = re.split(r"(?<!\\):", item)
        path = ":".join(parts[1:-1]) if len(parts) > 2 else item
        path = re.sub(r"\\([:;_&%#$~{}])", r"\1", path).replace("\\\\", "\\")
        name = re.split(r"[/\\]", path)[-1].strip().strip("{}")
        if name:
            names.append(decode_latex(name) if "{\\" in name else name)
    return names


def _read_json(text: str, path: Path) -> Catalog:
    """The items of CSL JSON (citeproc-js.readthedocs.io/en/latest/csl-json/markup.html)."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", where=str(path), fix="export it as CSL JSON or BibTeX") from None
    items = value.get("items") if isinstance(value, dict) else value
    entries: list[Entry] = []
    problems: list[str] = []
    for number, item in enumerate(items if isinstance(items, list) else (), 1):
        if isinstance(item, dict) and isinstance(item.get("title"), str):
            entries.append(_csl_entry(item, str(number)))
        else:
            problems.append(f"{path.name}: item {number} has no title")
    return Catalog(tuple(entries), tuple(problems))


def _csl_entry(item: dict[str, Any], number: str) -> Entry:
    links = " ".join(str(item.get(name, "")) for name in ("URL", "note", "number", "container-title", "DOI"))
    issued = item.get("issued")
    authors = item.get("author")
    return Entry(
        str(item.get("citation-key") or item.get("id") or number),
        title=one_line(re.sub(r"</?[a-z]+[^>]*>", "", item["title"])),
        authors=tuple(_csl_names(authors if isinstance(authors, list) else ())),
        year=year_in(json.dumps(issued)) if issued else None,
        doi=normal_doi(str(item.get("DOI", ""))) or normal_doi(str(item.get("URL", ""))),
        arxiv_id=_arxiv("", str(item.get("number", "")).removeprefix("arXiv:"), links),
    )


def _csl_names(authors: Iterable[Any]) -> Iterator[str]:
    for author in authors:
        if isinstance(author, dict):
            parts = (author.get(name) for name in ("given", "non-dropping-particle", "family", "suffix", "literal"))
            name = one_line(" ".join(str(part) for part in parts if part))
            if name:
                yield name
