"""What people write for a paper, as the id that the corpus gives it: ``zoo.pdf``, ``zoo``, ``Zoo: an S3 class …``."""

import difflib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from mlx_ragtune.papers.folder import document_ids
from mlx_ragtune.papers.formats import bare_stem
from mlx_ragtune.records import Document

SHOWN_PAPERS = 3
"""How many papers are named where a name fits several."""


def _key(name: str) -> str:
    """A name without differences in case, spaces and punctuation; "" for one without letters."""
    return "".join(char for char in name.casefold() if char.isalnum())


class PaperNames:
    """The papers of a corpus, by id and by everything that names one of them alone.

    An id counts first, then the path or name of the file, with or without its suffix, the arXiv id, and the title.
    """

    def __init__(self, papers: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """Each paper's id with its other names."""
        self.ids: dict[str, None] = {}
        self._exact: dict[str, set[str]] = defaultdict(set)
        self._folded: dict[str, set[str]] = defaultdict(set)
        self._shown: dict[str, str] = {}
        for identifier, names in papers:
            self.ids[identifier] = None
            for name in (identifier, *names):
                self._exact[name].add(identifier)
                self._shown.setdefault(name, identifier)
                if key := _key(name):
                    self._folded[key].add(identifier)

    @classmethod
    def of_documents(cls, documents: Iterable[Document]) -> "PaperNames":
        """The names of papers that were read, their titles among them."""
        return cls(
            (document.id, (*_file_names(document.path), document.title, *filter(None, (document.arxiv_id,))))
            for document in documents
        )

    @classmethod
    def of_files(cls, names: Iterable[str]) -> "PaperNames":
        """The names of files that no corpus stage has read yet: without titles. ``names`` are their paths."""
        return cls((identifier, _file_names(name)) for name, identifier in document_ids(names).items())

    def find(self, name: str) -> str | None:
        """The id of the paper that is meant; None when no paper or several have the name."""
        if name in self.ids:
            return name
        fitting = self._fitting(name)
        return next(iter(fitting)) if len(fitting) == 1 else None

    def _fitting(self, name: str) -> set[str]:
        """The ids of the papers that have the name: as it is written, else without case, spaces and punctuation."""
        for found in (self._exact.get(name), *(self._folded.get(_key(part)) for part in _file_names(name))):
            if found:
                return found
        return set()

    def problem(self, name: str) -> str | None:
        """Why a name does not stand for one paper, with a suggestion; None if it does."""
        if self.find(name) is not None:
            return None
        several = sorted(self._fitting(name))
        if several:
            listed = ", ".join(f"'{paper}'" for paper in several[:SHOWN_PAPERS])
            return f"'{name:.80}' names {len(several)} papers ({listed}): write the id of one"
        similar = difflib.get_close_matches(name, self._shown, n=1) or [
            shown for shown in self._shown if _key(name) and _key(shown).startswith(_key(name))
        ]
        if similar:
            return f"unknown paper '{name:.80}', did you mean '{self._shown[similar[0]]}'?"
        return f"unknown paper '{name:.80}' ({len(self.ids)} papers in the corpus)"


def _file_names(path: str) -> tuple[str, ...]:
    """What a file is called: its path, its name, and both without a paper's suffix."""
    name = PurePosixPath(path).name
    return tuple(dict.fromkeys((path, name, bare_stem(path), bare_stem(name))))
