"""The rows that the user already has, in any known format: read whole, all problems at once with their lines.

A row that is no pair of ours brings its own prompt. It has no papers in the corpus: it is split by its context, and
its prompt is trained as it is (``chat``, ``prompt``) or made of its passages as the served prompt is (``rag``).
"""

import csv
import hashlib
import importlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.jsonl import opened, read_values
from mlx_ragtune.records import OWN_GROUP, Document, Example, Kind, Message, Pair, Passage
from mlx_ragtune.retrieval.control_tokens import control_tokens
from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.synthesis.assemble import BuildMessages
from mlx_ragtune.synthesis.authored import listing, read_pairs, too_long, unreadable
from mlx_ragtune.synthesis.dedupe import normal_form
from mlx_ragtune.synthesis.gate import answer_fault
from mlx_ragtune.synthesis.own_formats import FORMATS, Field, Fields, Format, detect, read_fields, unknown_format

LONG_PARAGRAPH = 200
"""From so many characters on, a paragraph of a prompt is taken for a context that rows share."""
COMMON = 0.5
"""A paragraph in a larger share of the rows is part of the instructions, not a context."""
RUN_WORDS = 20
"""So many words in a row are a passage of a paper and not a common phrase or a title."""
MAX_CELL = 16 * 2**20
_TABLES = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class OwnRows:
    """The rows as pairs. ``prepared`` has the whole training row, by id, of those that bring their own prompt."""

    pairs: list[Pair]
    prepared: dict[str, Example]
    format: Format


def read_own(
    files: Sequence[Path],
    documents: Iterable[Document],
    *,
    format: Format | None,  # noqa: A002 (as in the recipe)
    columns: Mapping[Field, str],
    build_messages: BuildMessages,
) -> OwnRows:
    """All rows of the files, which have one format: the given one, or that of the first row.

    Raises InputError for a first row of no known format, and one that lists the first 20 problems with ``file:line``
    and counts all: rows of another format, missing or empty fields, duplicate ids; or that there is no row.
    """
    kind = format or _first_format(files, columns)
    if kind == "pairs":
        if columns:
            raise InputError(
                "pairs have fixed columns", where="dataset.columns", fix="remove dataset.columns, or set dataset.format"
            )
        if table := next((file for file in files if file.suffix.lower() in (*_TABLES, ".parquet")), None):
            raise InputError(
                "pairs are read from JSONL, not from a table", where=str(table),
                fix="write one JSON object per line; or add a column with the contexts, and set dataset.format: rag",
            )  # fmt: skip
        return OwnRows([pair for file in files for pair in read_pairs(file, documents)], {}, kind)
    problems: list[str] = []
    rows: list[Fields] = []
    first: dict[str, str] = {}
    for file in files:
        for where, value in _values(file, problems):
            fields = _fields(kind, value, columns, where=where, problems=problems)
            if fields and first.setdefault(fields.id, where) != where:
                problems.append(f"{where}: duplicate id '{fields.id}' (first in {Path(first[fields.id]).name})")
            elif fields:
                rows.append(fields)
    _raise_problems(problems, files)
    if not rows:
        raise _no_rows(files)
    contexts = _contexts(rows)
    pairs = [Pair(row.id, _kind(row), row.question, row.answer) for row in rows]
    prepared = {
        row.id: _example(row, pair.kind, contexts[row.id], build_messages)
        for row, pair in zip(rows, pairs, strict=True)
    }
    return OwnRows(pairs, prepared, kind)


def _first_format(files: Sequence[Path], columns: Mapping[Field, str]) -> Format:
    errors: list[str] = []
    for where, value in (found for file in files for found in _values(file, errors)):
        kind = detect(value, columns) if isinstance(value, Mapping) else None
        if kind is None:
            what, fix = unknown_format(value if isinstance(value, Mapping) else {}, columns)
            raise InputError(what, where=where, fix=fix)
        return kind
    _raise_problems(errors, files)
    raise _no_rows(files)


def _no_rows(files: Sequence[Path]) -> InputError:
    return InputError("the file contains no rows", where=str(files[0]), fix="write one JSON object per line")


def _fields(
    kind: Format, value: object, columns: Mapping[Field, str], *, where: str, problems: list[str]
) -> Fields | None:
    if not isinstance(value, Mapping):
        problems.append(f"{where}: not a JSON object")
        return None
    if long := too_long(value):
        problems.append(f"{where}: {long}")
        return None
    other = detect(value, columns)
    if kind != other and (other in ("chat", "pairs") or (kind == "chat" and other)):
        problems.append(f"{where}: a row of the format '{other}' ({FORMATS[other]}) among rows of the format '{kind}'")
        return None
    own: list[str] = []
    path, _, number = where.rpartition(":")
    fields = read_fields(kind, value, columns, name=f"{Path(path).stem}-{number}", problems=own)
    problems += [f"{where}: {problem}" for problem in own]
    return fields


def _raise_problems(problems: Sequence[str], files: Sequence[Path]) -> None:
    if problems:
        raise InputError(listing(problems, "rows"), fix=f"correct these lines of {', '.join(map(str, files[:3]))}")


def _values(file: Path, problems: list[str]) -> Iterator[tuple[str, object]]:
    """``file:line`` and value of each row of a JSONL, CSV or TSV file; a line that cannot be read is a problem."""
    if file.suffix.lower() in _TABLES:
        yield from _table(file, _TABLES[file.suffix.lower()], problems)
        return
    if file.suffix.lower() == ".parquet":
        yield from _parquet(file)
        return
    errors: list[InputError] = []
    yield from read_values(file, errors)
    problems += unreadable(errors)


def _table(file: Path, separator: str, problems: list[str]) -> Iterator[tuple[str, object]]:
    csv.field_size_limit(MAX_CELL)
    with io.TextIOWrapper(opened(file), encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        try:
            header = stream.readline()
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=_separator(header, separator), strict=True)
            yield from _cells(file, reader, problems)
        except csv.Error as error:
            problems.append(f"{file}:{reader.line_num + 1}: {error}; this row begins here")
        except UnicodeDecodeError:
            raise _not_utf8(file) from None


def _not_utf8(file: Path) -> InputError:
    """The error that names the first line that is not UTF-8."""
    number, byte = 0, b""
    with opened(file) as stream:
        for line in stream:
            number += 1
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte = line[error.start : error.start + 1]
                break
    return InputError(f"not UTF-8: byte 0x{byte.hex()}", where=f"{file}:{number}", fix="save it as UTF-8")


def _separator(header: str, usual: str) -> str:
    """The usual separator, or the semicolon of a header without it, as spreadsheets write it in some countries."""
    return ";" if usual not in header and ";" in header else usual


def _cells(file: Path, reader: "csv.DictReader[str]", problems: list[str]) -> Iterator[tuple[str, object]]:
    names = reader.fieldnames or ()
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        problems.append(f"{file}:1: the column '{name}' occurs {names.count(name)} times")
    for row in reader:
        where = f"{file}:{reader.line_num}"
        if None in row or None in row.values():
            problems.append(f"{where}: not as many cells as the header has columns")
        else:
            yield where, {name: cell for name, cell in row.items() if cell}


def _parquet(file: Path) -> Iterator[tuple[str, object]]:
    """``file:row`` and value of each row, from 1. Raises ToolError without pyarrow, InputError for a damaged file."""
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ToolError("Parquet files are read by pyarrow", where=str(file), fix="pip install pyarrow") from None
    number = 0
    try:
        with parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=1000):
                for value in batch.to_pylist():
                    number += 1
                    yield f"{file}:{number}", {name: cell for name, cell in value.items() if cell is not None}
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot be read as Parquet: {str(error).splitlines()[0]:.200}", where=str(file), fix="fetch it again"
        ) from None


def _contexts(rows: Sequence[Fields]) -> dict[str, str]:
    """Row id → what stands for its context: its passages, or the longest paragraph of its prompt; else the row."""
    seen: Counter[str] = Counter()
    for row in rows:
        seen.update(set(_long_paragraphs(row)))
    names: dict[str, str] = {}
    for row in rows:
        own = [text for text in _long_paragraphs(row) if len(rows) < 3 or seen[text] <= COMMON * len(rows)]
        shared = "\0".join(passage.text for passage in row.passages) or max(own, key=len, default=f"\0{row.id}")
        names[row.id] = hashlib.sha256(shared.encode()).hexdigest()[:12]
    return names


def _long_paragraphs(row: Fields) -> list[str]:
    paragraphs = (part.strip() for message in row.messages[:-1] for part in message.content.split("\n\n"))
    return [part for part in paragraphs if len(part) >= LONG_PARAGRAPH]


def _kind(row: Fields) -> Kind:
    return row.kind or ("refusal" if is_refusal(row.answer) else "grounded")


def _example(row: Fields, kind: Kind, context: str, build_messages: BuildMessages) -> Example:
    messages = row.messages
    if not messages:
        passages = [
            Passage("", "", passage.title or f"Passage {number}", passage.text)
            for number, passage in enumerate(row.passages, start=1)
        ]
        messages = (*build_messages(passages, row.question), Message("assistant", row.answer))
    return Example(row.id, kind, f"{OWN_GROUP}{context}", messages)


def same_prompts(pairs: Sequence[Pair], prepared: Mapping[str, Example]) -> tuple[list[Pair], dict[str, str]]:
    """(rows whose prompt no earlier row has, the others' ids → the earlier row)."""
    first: dict[tuple[Message, ...], str] = {}
    kept: list[Pair] = []
    repeated: dict[str, str] = {}
    for pair in pairs:
        earlier = first.setdefault(prepared[pair.id].messages[:-1], pair.id)
        if earlier == pair.id:
            kept.append(pair)
        else:
            repeated[pair.id] = f"has the prompt of {earlier}"
    return kept, repeated


def with_control_tokens(rows: OwnRows) -> dict[str, str]:
    """Id → the first control token of each row that holds one: it would end a turn in the middle of a text.

    In the passages and the question of a ``rag`` row the served prompt shows it with spaces; in its answer it counts.
    """
    found: dict[str, str] = {}
    for name, row in rows.prepared.items():
        messages = row.messages[-1:] if rows.format == "rag" else row.messages
        tokens = [token for message in messages for token in control_tokens(message.content)]
        if tokens:
            found[name] = f"'{tokens[0]}'"
    return found


def with_faulty_answers(rows: OwnRows) -> dict[str, str]:
    """Id → what must not be learned of each row's answer besides control tokens: a dialogue, a prompt, thinking."""
    found = {pair.id: answer_fault(pair.answer) for pair in rows.pairs}
    return {name: fault for name, fault in found.items() if fault}


def question_variants(pair: Pair) -> list[Pair]:
    """The row's question, and the first and last paragraph of a prompt that also holds its context.

    A benchmark question is looked for in all of them.
    """
    parts = [part.strip() for part in pair.question.split("\n\n") if part.strip()]
    texts = dict.fromkeys([pair.question, *parts[:1], *parts[-1:]])
    return [Pair(pair.id, pair.kind, text.removeprefix("Question:").strip(), pair.answer) for text in texts]


def passages_of(documents: Iterable[Document]) -> Callable[[Example], str]:
    """A function from a row to the first of these papers whose text its prompt shows, or "".

    Every run of ``2 * RUN_WORDS - 1`` words of a paper is found, and none of fewer than ``RUN_WORDS``: papers are
    indexed at every word, and prompts are looked up at every ``RUN_WORDS``-th.
    """
    owners: dict[int, str] = {}
    for document in documents:
        for run in _runs(document.text, 1):
            owners.setdefault(run, document.id)

    def shown(row: Example) -> str:
        texts = (message.content for message in row.messages[:-1] if message.role != "system")
        return next((owners[run] for text in texts for run in _runs(text, RUN_WORDS) if run in owners), "")

    return shown


def _runs(text: str, stride: int) -> Iterator[int]:
    """Hashes of the runs of ``RUN_WORDS`` words that start at every ``stride``-th word."""
    words = normal_form(text).split()
    for at in range(0, len(words) - RUN_WORDS + 1, stride):
        yield hash(tuple(words[at : at + RUN_WORDS]))
