"""Authored pairs: a JSONL file is read whole, and all its problems are reported at once with their lines."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import parse_row
from mlx_ragtune.records import Document, Pair
from mlx_ragtune.scoring.answers.style import markup
from mlx_ragtune.synthesis.checks import plain_prose, quote_in

SHOWN_PROBLEMS = 20


def _unknown(paper: str, documents: Mapping[str, Document]) -> str:
    by_title = {document.title.casefold(): name for name, document in documents.items()}
    near = difflib.get_close_matches(paper, documents, n=1) or [
        by_title[title] for title in difflib.get_close_matches(paper.casefold(), by_title, n=1)
    ]
    hint = f", did you mean '{near[0]}'?" if near else f" ({len(documents)} papers in the corpus)"
    return f"unknown paper '{paper}'{hint}"


def _form_problems(pair: Pair) -> Iterator[str]:
    """What is wrong with the row whatever the corpus holds."""
    for name in ("id", "question", "answer"):
        if not getattr(pair, name).strip():
            yield f"{name} is empty"
    if len(set(pair.papers)) < len(pair.papers):
        yield "papers: the same paper twice"
    if pair.kind == "refusal":
        if pair.evidence:
            yield f"a refusal has no evidence, this one has {len(pair.evidence)} quotes"
        if pair.refusal_kind is None:
            yield "a refusal needs refusal_kind: near_miss or off_corpus"
        if pair.refusal_kind == "off_corpus" and pair.papers:
            yield "an off_corpus refusal has no papers: a paper that would answer makes it a near_miss"
    else:
        wanted = "1 paper" if pair.kind == "grounded" else "2 or more papers"
        if len(set(pair.papers)) != 1 if pair.kind == "grounded" else len(set(pair.papers)) < 2:
            yield f"{pair.kind} needs {wanted}, not {len(set(pair.papers))}"
        if pair.refusal_kind is not None:
            yield f"refusal_kind on a {pair.kind} pair"
        without = sorted(set(pair.papers) - {one.paper for one in pair.evidence})
        if without:
            yield f"no evidence quote from {', '.join(without)}"
    if pair.answer.strip() and plain_prose(pair.answer):
        kinds = ", ".join(markup(pair.answer)) or "more than four paragraphs"
        yield f"the answer is not plain prose: {kinds}"


def _corpus_problems(pair: Pair, documents: Mapping[str, Document]) -> Iterator[str]:
    """What is wrong with the row given these papers."""
    for paper in dict.fromkeys((*pair.papers, *(one.paper for one in pair.evidence))):
        if paper not in documents:
            yield _unknown(paper, documents)
    for one in pair.evidence:
        if one.paper not in pair.papers:
            yield f"evidence from '{one.paper}', which is not among the pair's papers"
        elif one.paper in documents and (reason := quote_in(one.quote, documents[one.paper].text)):
            yield f"{reason} of '{one.paper}': {one.quote!r:.80}"


def _rows(path: Path, problems: list[str]) -> Iterator[tuple[int, Pair]]:
    """The rows that are pairs, with their lines; what is wrong with the others goes to ``problems``."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), fix="save it as UTF-8 JSONL") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, parse_row(Pair, json.loads(line), where=f"{path}:{number}")
        except ValueError as error:
            problems.append(f"{path}:{number}: not JSON: {error}")
        except InputError as error:
            problems.append(f"{path}:{number}: {error.what}")


def read_pairs(path: Path, documents: Iterable[Document]) -> list[Pair]:
    """All pairs of a JSONL file, each sound in form and supported by the papers.

    Raises InputError that lists the first 20 problems with ``file:line`` and counts all: rows that are
    no pair, duplicate ids, unknown papers, evidence that is not in its paper, wrong number of papers
    for the kind, answers that are not plain prose; or that the file holds no pair.
    """
    known = {document.id: document for document in documents}
    problems: list[str] = []
    first: dict[str, int] = {}
    pairs: list[Pair] = []
    for number, pair in _rows(path, problems):
        found = [*_form_problems(pair), *_corpus_problems(pair, known)]
        if first.setdefault(pair.id, number) != number:
            found.insert(0, f"duplicate id '{pair.id}' (first on line {first[pair.id]})")
        problems += [f"{path}:{number}: {one}" for one in found]
        pairs.append(pair)
    if problems:
        listing = "\n".join(f"  {one}" for one in problems[:SHOWN_PROBLEMS])
        more = len(problems) - SHOWN_PROBLEMS
        raise InputError(
            f"{len(problems)} problem{'s' * (len(problems) > 1)} in the pairs:\n{listing}"
            + (f"\n  … and {more} more" if more > 0 else ""),
            fix=f"correct these lines of {path}",
        )
    if not pairs:
        raise InputError("no pairs in it", where=str(path), fix="write one JSON object a line")
    return pairs
