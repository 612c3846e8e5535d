"""Which papers of the corpus does an answer name besides its own? The time does not depend on the number of papers.

A distinctive title counts wherever it stands, any other one in double quotes or after "paper" or
"titled". A title that the pair's own sources name
(their related work) is none.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

from mlx_ragtune.scoring.answers.normalize import fold, words
from mlx_ragtune.scoring.answers.titles import is_distinctive

_CITES = {("paper",), ("titled",), ("entitled",), ("article",)}
OTHER_PAPER = "cites a paper that is not its source"


class CorpusTitles:
    """The titles of a corpus, found in answers by their first two words."""

    def __init__(self, titles: Iterable[str]) -> None:
        self._by_start: dict[tuple[str, ...], list[tuple[tuple[str, ...], str]]] = defaultdict(list)
        for title in sorted(set(titles)):
            spoken = tuple(words(fold(title)))
            if spoken:
                self._by_start[spoken[:2]].append((spoken, title))

    def others(self, answer: str, own: Iterable[str], shown: Callable[[], str]) -> list[str]:
        """Titles in the answer that are not those of its ``own`` papers or part of one, and not in the text ``shown``.

        ``shown`` is called only if there are any.
        """
        spoken = tuple(words(fold(answer)))
        mine = [f" {' '.join(words(fold(title)))} " for title in own]
        found: list[str] = []
        for start in range(len(spoken)):
            for size in (2, 1):
                for title_words, title in self._by_start.get(spoken[start : start + size], ()):
                    if len(title_words) < size or spoken[start : start + len(title_words)] != title_words:
                        continue
                    if any(f" {' '.join(title_words)} " in title_of for title_of in mine):
                        continue
                    if is_distinctive(title) or f'"{title}"' in answer or spoken[start - 1 : start] in _CITES:
                        found.append(title)
        if not found:
            return []
        known = f" {' '.join(words(fold(shown())))} "
        return [title for title in dict.fromkeys(found) if f" {' '.join(words(fold(title)))} " not in known]
