"""What is reviewed: benchmark questions and training pairs, each with a digest of its content."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mlx_ragtune.artifact import digest_json
from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import parse_row, read_dicts, read_rows
from mlx_ragtune.records import Evidence, Nugget, Pair, Question
from mlx_ragtune.scoring.answers.benchmark_rows import read_questions
from mlx_ragtune.synthesis.own_formats import detect

Part = Literal["benchmark", "pairs", "votes"]
PARTS: tuple[Part, ...] = ("benchmark", "pairs", "votes")
"""``votes`` are served answers that got a thumb: pairs too."""
KINDS = ("grounded", "synthesis", "near_miss", "off_corpus")
"""What an item asks for: an answer from one paper or from several, or a refusal."""
_CONTENT: dict[Part, tuple[str, ...]] = {
    "benchmark": (
        "question", "reference", "answerable", "papers", "keywords", "nuggets", "refusal_kind", "evidence"
    ),
    "pairs": ("kind", "question", "answer", "papers", "evidence", "refusal_kind"),
    "votes": ("kind", "question", "answer", "papers", "evidence", "refusal_kind"),
}  # fmt: skip
"""The fields that a review is about: another id, topic or origin does not make another question."""


@dataclass(frozen=True)
class Edit:
    """What a reviewer may change. ``answer`` is the reference of a benchmark question; pairs have no nuggets."""

    question: str
    answer: str
    nuggets: tuple[Nugget, ...] = ()


@dataclass(frozen=True)
class ReviewItem:
    """A benchmark question or a pair. ``task`` is what the generator was asked for, "" without one.

    ``repairs`` are what a rule changed in a generated pair before it was kept.

    ``written`` is the row as it stands in the user's file, which may be a short form; None for a row of no file.
    """

    part: Part
    row: Question | Pair
    task: str = ""
    written: Mapping[str, Any] | None = field(default=None, compare=False)
    repairs: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """``benchmark/qlora-01``: unique among all items of a recipe."""
        return f"{self.part}/{self.row.id}"

    @property
    def kind(self) -> str:
        """One of KINDS."""
        if self.row.refusal_kind is not None:
            return self.row.refusal_kind
        if isinstance(self.row, Pair):
            return "near_miss" if self.row.kind == "refusal" else self.row.kind
        if not self.row.answerable:
            return "near_miss" if self.row.papers else "off_corpus"
        return "synthesis" if len(self.row.papers) > 1 else "grounded"

    @property
    def answer(self) -> str:
        """The answer of a pair, the reference of a question."""
        return self.row.answer if isinstance(self.row, Pair) else self.row.reference

    @property
    def nuggets(self) -> tuple[Nugget, ...]:
        """The facts that a good answer states; none for a pair."""
        return () if isinstance(self.row, Pair) else self.row.nuggets

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The recorded quotes."""
        return self.row.evidence

    @cached_property
    def digest(self) -> str:
        """sha256 of the content that a review is about, as hexadecimal."""
        row = asdict(self.row)
        return digest_json([self.part, {name: row[name] for name in _CONTENT[self.part]}])

    def edited(self, edit: Edit) -> "ReviewItem":
        """The item with what the reviewer changed."""
        question, answer = edit.question.strip(), edit.answer.strip()
        if isinstance(self.row, Pair):
            return replace(self, row=replace(self.row, question=question, answer=answer), written=None)
        row = replace(self.row, question=question, reference=answer, nuggets=edit.nuggets)
        return replace(self, row=row, written=None)


def item_of(part: Part, row: object, *, where: str, task: str = "") -> ReviewItem:
    """The item of a row as JSON. Raises InputError for a row that is not one of that part."""
    if part == "benchmark":
        return ReviewItem(part, parse_row(Question, row, where=where), task)
    return ReviewItem(part, parse_row(Pair, row, where=where), task)


def benchmark_items(path: Path) -> list[ReviewItem]:
    """The questions of a benchmark file. Raises InputError as ``read_questions``, and for an id that occurs twice."""
    questions = zip(read_questions(path), read_dicts(path), strict=True)
    return _unique([ReviewItem("benchmark", question, written=written) for question, written in questions], path)


def authored_items(path: Path) -> list[ReviewItem]:
    """The pairs of a ``dataset.pairs`` file. Raises InputError as above, and for rows of another format."""
    first = next(read_dicts(path), {}) if path.suffix == ".jsonl" else {}
    kind = detect(first, {}) if first else "pairs"
    if path.suffix != ".jsonl" or kind not in ("pairs", None):
        shown = kind if path.suffix == ".jsonl" else path.suffix.removeprefix(".")
        raise InputError(
            f"only pairs in JSONL can be reviewed, and these rows have the format '{shown}'",
            where=str(path),
            fix="ragtune review RECIPE --what benchmark",
        )
    pairs = zip(read_rows(path, Pair), read_dicts(path), strict=True)
    return _unique([ReviewItem("pairs", pair, written=written) for pair, written in pairs], path)


def generated_items(path: Path) -> list[ReviewItem]:
    """The pairs of the dataset stage's ``generated.jsonl``. Raises InputError as ``benchmark_items``."""
    return _unique(list(_generated(path)), path)


def _generated(path: Path) -> Iterator[ReviewItem]:
    for number, row in enumerate(read_dicts(path), start=1):
        item = item_of("pairs", row.get("pair"), where=f"{path}:{number}", task=str(row.get("task", "")))
        yield replace(item, repairs=tuple(map(str, row.get("repairs", ()))))


def _unique(items: list[ReviewItem], path: Path) -> list[ReviewItem]:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise InputError(f"duplicate id '{item.row.id}'", where=str(path), fix="give each row an id of its own")
        seen.add(item.id)
    return items


def as_rows(items: Iterable[ReviewItem]) -> list[Mapping[str, Any]]:
    """The rows as they are written into a file: those that were not changed as they stand in the user's file."""
    return [item.written if item.written is not None else asdict(item.row) for item in items]
