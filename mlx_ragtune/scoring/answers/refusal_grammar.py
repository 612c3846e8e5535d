"""The parts of a refusal, the same in every language, and the rule that decides from them.

Each clause of an answer is one of these: it says that the question cannot be answered (``strong``), that the
sources or the speaker do not tell something (``silent``), it talks about the sources, the question or other
help (``meta``), it is a condition, or it states something (``content``).
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from mlx_ragtune.scoring.answers.normalize import words

QUOTED = "qtitle"
"""Stands for a title or another quotation."""
CONTENT_UNITS = 4
"""So many words that state something make an answer of what begins as a refusal."""
LABEL_UNITS = 6
"""A shorter refusal after a colon belongs to the label before it: "height: not stated"."""
UNITS_BEFORE = 3
"""So many words that state something before it make an answer with a limitation of it."""
UNITS_BEFORE_STRONG = 40
"""So many words before an explicit "I cannot answer the question" make an answer of it."""

_DIGIT = re.compile(r"(?<![\w-])\d")
_COLON = re.compile("[:：]")
_STOP = re.compile(r"[;；:：]")

Role = Literal["strong", "silent", "meta", "intro", "condition", "content"]
_SINGLE_PATTERNS = (
    *("intro", "adjunct", "aside", "stated", "condition", "concession", "contrast"),
    *("split", "asked", "finding", "excluded"),
)
_REFUSING: tuple[Role, ...] = ("strong", "silent")


@dataclass(frozen=True)
class Grammar:
    """The patterns of one language. ``strong``, ``silent`` and ``meta`` match at the start of a clause.

    ``adjunct`` matches a whole clause ("according to the papers"). ``aside`` is removed, and ``split`` matches
    between clauses. ``stated`` matches anywhere in a clause, ``condition``, ``concession`` and ``contrast`` at
    its start. ``asked`` begins an indirect question, ``finding`` what only looks like a refusal ("the authors
    found no effect"), ``excluded`` what the sources are not about ("the papers
    discuss proofs, not taxes"). ``words_per_unit``: so many words say as much as one English word.
    """

    aside: str
    intro: str
    strong: tuple[str, ...]
    silent: tuple[str, ...]
    meta: tuple[str, ...]
    adjunct: str
    stated: str
    condition: str
    concession: str
    contrast: str
    asked: str
    split: str
    words_per_unit: float = 1.0
    finding: str = r"(?!)"
    excluded: str = r"(?!)"

    @cached_property
    def _compiled(self) -> dict[str, re.Pattern[str]]:
        starts = {"strong": self.strong, "silent": self.silent, "meta": self.meta}
        rest = {name: getattr(self, name) for name in _SINGLE_PATTERNS}
        compiled = {role: re.compile(f"{self.intro}(?:{'|'.join(patterns)})") for role, patterns in starts.items()}
        return compiled | {name: re.compile(pattern) for name, pattern in rest.items()}

    def clauses(self, sentence: str) -> Iterator[tuple[str, bool]]:
        """The clauses of a normalized sentence, and whether a semicolon or a colon stands before each."""
        sentence = self._compiled["aside"].sub("", sentence)
        start, stopped = 0, False
        for match in self._compiled["split"].finditer(sentence):
            if not match[0].strip() and self._compiled["asked"].match(sentence[start : start + 40].lstrip()):
                continue
            if text := sentence[start : match.start()].strip():
                yield text, stopped
            stopped, start = bool(_STOP.search(match[0])), match.end()
        if text := sentence[start:].strip():
            yield text, stopped

    def starts(self, name: str, clause: str) -> bool:
        """Whether the pattern of this name matches at the start of the clause."""
        return bool(self._compiled[name].match(clause))

    def without_concession(self, clause: str) -> str:
        """The clause without the conjunction at its start."""
        return self._compiled["concession"].sub("", clause, count=1).strip()

    def role(self, clause: str) -> Role:
        """The first role whose pattern matches, else ``content``."""
        if self.starts("condition", clause):
            return "meta" if self.starts("meta", clause) else "condition"
        return self.told_role(clause)

    def told_role(self, clause: str) -> Role:
        """The role of a clause that is not a condition."""
        if self.starts("finding", clause):
            return "content"
        for role in _REFUSING:
            if self.starts(role, clause):
                return role
        if self.starts("adjunct", clause) or self._compiled["intro"].fullmatch(f"{clause} "):
            return "intro"
        return "meta" if self.starts("meta", clause) else "content"

    def units(self, clause: str) -> int:
        """How many words the clause has, in the measure of English."""
        return math.ceil(len(words(clause)) / self.words_per_unit)

    def states(self, clause: str) -> bool:
        """Whether the clause announces an answer ("the answer is …", "generally …")."""
        return bool(self._compiled["stated"].search(clause))


@dataclass(frozen=True)
class Clause:
    """One clause: its role, and how many words of it state something (content only)."""

    role: Role
    units: int = 0
    stated: bool = False


def sentence_clauses(grammar: Grammar, sentence: str) -> list[Clause]:
    """The clauses of one normalized sentence with their roles.

    What follows "the papers do not mention …" in the same sentence continues the list of what is not mentioned,
    unless it begins as a new statement. "Height: not stated" says nothing about the height.
    """
    if sentence.endswith(("?", "？")):
        return [Clause("meta")]
    clauses: list[Clause] = []
    lists = False
    for text, stopped in grammar.clauses(sentence):
        conceded = grammar.starts("concession", text) and not grammar.starts("meta", text)
        rest = grammar.without_concession(text) if conceded else text
        role = grammar.told_role(rest) if text == sentence else grammar.role(rest)
        if role == "content" and lists and clauses[-1].role == "meta" and grammar.starts("excluded", text):
            role = "silent"
        if role == "content" and lists and not (stopped or conceded or grammar.starts("contrast", text)):
            continue
        label = len(clauses) == 1 and clauses[0].role == "content" and not clauses[0].stated
        if label and (stopped or conceded) and role in _REFUSING and not _COLON.search(sentence):
            clauses = [Clause("content", UNITS_BEFORE)]
        elif label and stopped and role in _REFUSING and grammar.units(rest) < LABEL_UNITS:
            clauses = clauses if _DIGIT.search(sentence) else [Clause("meta")]
        reason = bool(clauses) and (conceded or stopped or grammar.starts("contrast", text))
        clauses.append(_clause(grammar, rest, role, reason=reason, first=not clauses))
        lists = role in ("strong", "silent", "meta") and not conceded
    return clauses


def names_something(grammar: Grammar, sentence: str) -> bool:
    """Whether the sentence is a few words that state something, as an answer begins ("Twelve layers.")."""
    clauses = sentence_clauses(grammar, sentence)
    return [clause.role for clause in clauses] == ["content"] and clauses[0].units <= UNITS_BEFORE


def _clause(grammar: Grammar, text: str, role: Role, *, reason: bool, first: bool) -> Clause:
    """The clause with its number of words. A hedge, a number or a reason always states something."""
    measured = bool(_DIGIT.search(text))
    if role == "meta":
        return Clause(role, grammar.units(text) if measured else 0)
    if role != "content":
        return Clause(role)
    units, stated = grammar.units(text), grammar.states(text)
    surely = stated or (measured and (first or units > 2)) or (reason and units > 2)
    return Clause(role, max(units, CONTENT_UNITS) if surely else units, stated)


def refuses(parts: Iterable[Sequence[Clause]]) -> bool:
    """Whether an answer declines; ``parts`` are the clauses of its sentences.

    It does when something is not told and nothing is stated before or after it. Before an explicit "I cannot
    answer the question" something may be stated. A sentence that begins with what the sources are about and
    follows a refusal states nothing.
    """
    before = after = 0
    strong = told = False
    for clauses in parts:
        about = told and bool(clauses) and clauses[0].role == "meta"
        for clause in clauses:
            told |= clause.role in _REFUSING
            strong |= clause.role == "strong"
            if not told:
                before += clause.units
            elif clause.role == "content" and (clause.stated or not about):
                after += clause.units
        if after >= CONTENT_UNITS or before >= UNITS_BEFORE_STRONG:
            return False
    return told and after < CONTENT_UNITS and before < (UNITS_BEFORE_STRONG if strong else UNITS_BEFORE)
