"""The parts that every report is laid out from. Renderers know these, and no particular section."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from markupsafe import Markup

from mlx_ragtune.pages.report_data import AnswerPair, Fact

Tone = Literal["", "better", "worse", "plain", "warn"]


@dataclass(frozen=True)
class Column:
    """A column's label, whether it is aligned right, and the narrowest place that still shows the column."""

    label: str
    numeric: bool = False
    narrowest: Literal["terminal", "phone", "desktop"] = "terminal"


@dataclass(frozen=True)
class Cell:
    """A text with its color, a small tag behind it and small lines below it."""

    text: str
    tone: Tone = ""
    tag: str = ""
    notes: tuple[str, ...] = ()


Row = tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """Rows of a table under a title of their own. Only ``summary`` groups are shown on a terminal."""

    rows: tuple[Row, ...]
    title: str = ""
    summary: bool = False


@dataclass(frozen=True)
class Table:
    """Groups of rows under one header. ``stacks``: on a narrow screen each row becomes a block of its own."""

    kind: ClassVar[str] = "table"
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    stacks: bool = False

    @property
    def narrow(self) -> bool:
        """Whether numbers under short labels are all there is."""
        return not self.stacks and all(column.numeric for column in self.columns[1:])


@dataclass(frozen=True)
class Facts:
    """Labels with their values."""

    kind: ClassVar[str] = "facts"
    rows: tuple[Fact, ...]


@dataclass(frozen=True)
class Plot:
    """A drawing; only pages that can show one do."""

    kind: ClassVar[str] = "plot"
    svg: Markup


@dataclass(frozen=True)
class Paragraph:
    """A paragraph, in small print if ``small``."""

    kind: ClassVar[str] = "paragraph"
    text: str
    small: bool = False


@dataclass(frozen=True)
class Lines:
    """Short lines, one below the other."""

    kind: ClassVar[str] = "lines"
    lines: tuple[str, ...]
    tone: Tone = ""


@dataclass(frozen=True)
class Answers:
    """Pairs of answers, each with a line about it. With a ``fold`` title they are folded, and on HTML pages only."""

    kind: ClassVar[str] = "answers"
    pairs: tuple[tuple[AnswerPair, str], ...]
    fold: str = ""


Block = Table | Facts | Plot | Paragraph | Lines | Answers


@dataclass(frozen=True)
class Section:
    """A title, a note on how to read what follows, and the blocks."""

    title: str
    blocks: tuple[Block, ...]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """A whole report, ready to be rendered: the verdict first, then the summary, then the sections."""

    title: str
    stamps: tuple[str, ...]
    verdict: str
    tone: Tone
    headline: str
    summary: tuple[Section, ...]
    sections: tuple[Section, ...]
