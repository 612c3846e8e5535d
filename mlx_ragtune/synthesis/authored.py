"""Authored pairs: a JSONL file is read whole, and all its problems are reported at once with their lines."""

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import parse_row, read_values
from mlx_ragtune.records import Document, Pair
from mlx_ragtune.scoring.answers.style import markup
from mlx_ragtune.synthesis.checks import is_blank, plain_prose, quote_in
from mlx_ragtune.synthesis.gate import row_faults

SHOWN_PROBLEMS = 20
MAX_CHARACTERS = 1_000_000
"""A row holds at most so much text: 262,144 tokens, the longest window of a base model, are about as much."""
_OF_WHOLE_LINE = ("correct this line", "write one JSON object per line")
_LOCATED = re.compile(r"(?P<where>.*?:\d+): (?P<what>.*)", re.DOTALL)


def unreadable(errors: Iterable[InputError]) -> list[str]:
    """Each error of a line as ``file:line: what``, with what to do where that is not to correct the line."""
    return [
        f"{error.where}: {error.what}" + (f"; {error.fix}" if error.fix not in ("", *_OF_WHOLE_LINE) else "")
        for error in errors
    ]


def listing(problems: Sequence[str], of: str) -> str:
    """``3 problems in the pairs:`` and the first 20 different ones; one that other lines have too is counted."""
    lines: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        found = _LOCATED.fullmatch(problem)
        lines[found["what"] if found else problem].append(found["where"] if found else "")
    shown = list(lines.items())[:SHOWN_PROBLEMS]
    text = f"{len(problems)} problem{'s' * (len(problems) > 1)} in the {of}:"
    for what, places in shown:
        also = f" (and {len(places) - 1} more line{'s' * (len(places) > 2)})" if len(places) > 1 else ""
        text += f"\n  {places[0]}: {what}{also}" if places[0] else f"\n  {what}"
    rest = len(problems) - sum(len(places) for _, places in shown)
    return f"{text}\n  … and {rest} more" if rest else text


def _unknown(paper: str, documents: Mapping[str, Document]) -> str:
    by_title = {document.title.casefold(): name for name, document in documents.items()}
    similar = difflib.get_close_matches(paper, documents, n=1) or [
        by_title[title] for title in difflib.get_close_matches(paper.casefold(), by_title, n=1)
    ]
    hint = f", did you mean '{similar[0]}'?" if similar else f" ({len(documents)} papers in the corpus)"
    return f"unknown paper '{paper}'{hint}"


def _form_problems(pair: Pair) -> Iterator[str]:
    """What is wrong with the row whatever the corpus holds."""
    for name in ("id", "question", "answer"):
        if is_blank(getattr(pair, name)):
            yield f"{name} is empty"
    if len(set(pair.papers)) < len(pair.papers):
        yield "papers: the same paper twice"
    if pair.kind == "refusal":
        if pair.evidence and pair.refusal_kind != "near_miss":  # a near miss may name the section that would answer
            yield f"an off_corpus refusal has no evidence, this one has {len(pair.evidence)} quotes"
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
        without = sorted(set(pair.papers) - {evidence.paper for evidence in pair.evidence})
        if without:
            yield f"no evidence quote from {', '.join(without)}"
    if not is_blank(pair.answer) and plain_prose(pair.answer):
        kinds = ", ".join(markup(pair.answer)) or "more than four paragraphs"
        yield f"the answer is not plain prose: {kinds}"
    for reason, detail in row_faults(pair.question, pair.answer).items():
        yield f"{reason} {detail}"


def _corpus_problems(pair: Pair, documents: Mapping[str, Document]) -> Iterator[str]:
    """What is wrong with the row given these papers."""
    for paper in dict.fromkeys((*pair.papers, *(evidence.paper for evidence in pair.evidence))):
        if paper not in documents:
            yield _unknown(paper, documents)
    for evidence in pair.evidence:
        if evidence.paper not in pair.papers:
            yield f"evidence from '{evidence.paper}', which is not among the pair's papers"
        elif evidence.paper in documents and (reason := quote_in(evidence.quote, documents[evidence.paper].text)):
            yield f"{reason} of '{evidence.paper}': {evidence.quote!r:.80}"


def pair_problems(pair: Pair, documents: Mapping[str, Document]) -> list[str]:
    """Why ``read_pairs`` would not accept this row; ``documents`` are the corpus by id."""
    return [*_form_problems(pair), *_corpus_problems(pair, documents)]


def too_long(value: object) -> str:
    """The problem of a row with more text than a base model can read; empty for any other. Checks cost by length."""
    count = _characters(value)
    return f"the row has {count:,} characters, more than {MAX_CHARACTERS:,}" if count > MAX_CHARACTERS else ""


def _characters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return sum(map(_characters, parts))


def _rows(path: Path, problems: list[str]) -> Iterator[tuple[str, Pair]]:
    """``file:line`` and pair of each row that is one; what is wrong with the others goes to ``problems``."""
    errors: list[InputError] = []
    for where, value in read_values(path, errors):
        if long := too_long(value):
            problems.append(f"{where}: {long}")
            continue
        try:
            yield where, parse_row(Pair, value, where=where)
        except InputError as error:
            errors.append(error)
    problems += unreadable(errors)


def read_pairs(path: Path, documents: Iterable[Document]) -> list[Pair]:
    """All pairs of a JSONL file, each well formed and supported by the papers.

    Raises InputError that lists the first 20 problems with ``file:line`` and counts all: rows that are
    not pairs, duplicate ids, unknown papers, evidence that is not in its paper, wrong number of papers
    for the kind, empty or invisible text, answers that are not plain prose; or that the file holds no pair.
    """
    known = {document.id: document for document in documents}
    problems: list[str] = []
    first: dict[str, str] = {}
    pairs: list[Pair] = []
    for where, pair in _rows(path, problems):
        own = pair_problems(pair, known)
        if first.setdefault(pair.id, where) != where:
            own.insert(0, f"duplicate id '{pair.id}' (first on line {first[pair.id].rpartition(':')[2]})")
        problems += [f"{where}: {problem}" for problem in own]
        pairs.append(pair)
    if problems:
        problems.sort(key=lambda problem: _line_number(problem, path))
        raise InputError(listing(problems, "pairs"), fix=f"correct these lines of {path}")
    if not pairs:
        raise InputError("the file contains no pairs", where=str(path), fix="write one JSON object per line")
    return pairs


def _line_number(problem: str, path: Path) -> int:
    return int(problem.removeprefix(f"{path}:").partition(":")[0])
