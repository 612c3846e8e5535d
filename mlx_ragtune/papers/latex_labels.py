r"""Numbers of sections, floats, formulas and theorems, and what ``\ref`` and ``\cite`` print."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from mlx_ragtune.papers.bibtex import bibtex_source, parse_bibtex
from mlx_ragtune.papers.latex_commands import TEXTUAL
from mlx_ragtune.papers.latex_scan import Scanner
from mlx_ragtune.papers.latex_symbols import decode_latex

_MARK = re.compile("\ue000(\\d+)\ue001")
_NATBIB = re.compile(r"(?P<authors>.*?)\((?P<year>[^()]{2,12})\)", re.DOTALL)
_ITEM = re.compile(r"\\bibitem\s*")
_ENTRY = re.compile(r"\\entry\{(?P<key>[^{}]+)\}(?P<rest>.*?)\\endentry", re.DOTALL)
_KINDS = {"section": "Section", "equation": "Equation", "figure": "Figure", "table": "Table", "algorithm": "Algorithm",
          "appendix": "Appendix", "listing": "Listing"}  # fmt: skip


@dataclass(frozen=True)
class Label:
    """What a label names: its kind, such as ``figure``, and its number."""

    kind: str
    number: str


@dataclass(frozen=True)
class Cited:
    """How a citation of a work is printed: by authors and year, or by its number."""

    authors: str = ""
    year: str = ""
    number: str = ""


@dataclass
class Numbering:
    """The counters of a paper."""

    sections: list[int] = field(default_factory=lambda: [0] * 5)
    counts: dict[str, int] = field(default_factory=dict)
    in_appendix: bool = False
    has_chapters: bool = False

    def next_section(self, level: int) -> Label:
        """The number of the next section of this level; letters in appendices."""
        self.sections[level] += 1
        self.sections[level + 1 :] = [0] * (len(self.sections) - level - 1)
        top = 1 if self.has_chapters else 2
        numbers = [str(number) for number in self.sections[min(top, level) : level + 1]]
        if self.in_appendix:
            numbers[0] = chr(ord("A") + (int(numbers[0]) - 1) % 26)
        return Label("appendix" if self.in_appendix else "section", ".".join(numbers))

    def next(self, kind: str) -> Label:
        """The next number of this kind."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return Label(kind, str(self.counts[kind]))

    def start_appendix(self) -> None:
        """Sections are appendices from here on."""
        self.in_appendix = True
        self.sections = [0] * len(self.sections)


@dataclass
class References:
    """Labels and cited works. What is printed is known at the end: until then a mark stands in the text."""

    labels: dict[str, Label] = field(default_factory=dict)
    works: dict[str, Cited] = field(default_factory=dict)
    cited: set[str] = field(default_factory=set)
    _pending: list[Callable[[], str]] = field(default_factory=list)

    def _mark(self, later: Callable[[], str]) -> str:
        self._pending.append(later)
        return f"\ue000{len(self._pending) - 1}\ue001"

    def refer(self, command: str, names: str) -> str:
        """What ``\\ref{names}`` prints; an unknown label stays as ``[name]``."""
        return self._mark(lambda: self._reference(command, [name.strip() for name in names.split(",")]))

    def _reference(self, command: str, names: list[str]) -> str:
        labels = [self.labels.get(name) for name in names]
        numbers = [label.number if label else f"[{name}]" for name, label in zip(names, labels, strict=True)]
        if command == "eqref":
            return ", ".join(f"({number})" for number in numbers)
        kind = labels[0].kind if labels and labels[0] else ""
        prefix = _KINDS.get(kind, kind) if command in ("autoref", "cref", "Cref", "vref") else ""
        listed = " and ".join(numbers) if len(numbers) == 2 else ", ".join(numbers)
        return f"{prefix} {listed}".strip()

    def cite(self, command: str, keys: str, before: str = "", after: str = "") -> str:
        """What is printed: ``(Hu et al., 2021)``, ``Hu et al. (2021)`` or ``[12]``; an unknown key as ``[key]``."""
        names = [key.strip() for key in keys.split(",") if key.strip()]
        self.cited |= set(names)
        return self._mark(lambda: self._citation(command, names, before.strip(), after.strip()))

    def _citation(self, command: str, keys: list[str], before: str, after: str) -> str:
        works = [(key, self.works.get(key)) for key in keys]
        known = [work for _, work in works if work]
        before, after = f"{before} " if before else "", f", {after}" if after else ""
        if not known or any(not work.authors for work in known):
            listed = ", ".join(work.number if work and work.number else key for key, work in works)
            return f"[{before}{listed}{after}]"
        if command.casefold().startswith("citeauthor"):
            return ", ".join(work.authors if work else key for key, work in works)
        if command.casefold().startswith("citeyear"):
            years = ", ".join(work.year if work else key for key, work in works)
            return f"({years})" if command.endswith("par") else years
        if command in TEXTUAL:
            return ", ".join(
                f"{work.authors} ({before}{work.year}{after})" if work else f"[{key}]" for key, work in works
            )
        listed = "; ".join(f"{work.authors}, {work.year}" if work else key for key, work in works)
        return f"{before}{listed}{after}" if command == "citealp" else f"({before}{listed}{after})"

    def resolve(self, text: str) -> str:
        """The text with what its marks print."""
        for _ in range(3):  # what is printed may hold a mark itself
            if "\ue000" not in text:
                break
            text = _MARK.sub(
                lambda match: self._pending[int(match[1])]() if int(match[1]) < len(self._pending) else "", text
            )
        return text.replace("\ue000", "").replace("\ue001", "")

    def read_catalog(self, source: str) -> None:
        """The cited works of a BibTeX file."""
        wanted = filter(None, (bibtex_source(source, key) for key in sorted(self.cited)))
        for entry in parse_bibtex("\n".join(wanted)).entries:
            if entry.authors and entry.year:
                families = [name.split()[-1] for name in entry.authors]
                self.works.setdefault(entry.key, Cited(short_authors(families), str(entry.year)))

    def read_works(self, source: str) -> None:
        """The works of a list of references: ``thebibliography``, or what biber writes."""
        for entry in _ENTRY.finditer(source):
            families = re.findall(r"family=\{+(.*?)\}+,", entry["rest"])
            years = re.findall(r"\\field\{(?:year|labelyear)\}\{(\d+)\}", entry["rest"])
            if families and years:
                self.works.setdefault(
                    entry["key"], Cited(short_authors([decode_latex(name) for name in families]), years[0])
                )
        parts = _ITEM.split(source)[1:]
        for number, part in enumerate(parts, 1):
            label, key = _item(part)
            match = _NATBIB.match(label) if label else None
            if match:
                self.works.setdefault(key, Cited(decode_latex(match["authors"]).strip(), decode_latex(match["year"])))
            elif key:
                self.works.setdefault(key, Cited(number=decode_latex(label) if label else str(number)))


def short_authors(families: list[str]) -> str:
    """``Hu``, ``Hu and Shen``, ``Hu et al.``."""
    if len(families) > 2:
        return f"{families[0]} et al."
    return " and ".join(families)


def _item(part: str) -> tuple[str, str]:
    """Label and key of what follows ``\\bibitem``."""
    scan = Scanner()
    scan.push(part)
    label = scan.option()
    return label or "", scan.argument().strip()
