"""``ragtune ask``: answer one question, and show the passages used."""

import textwrap
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from mlx_ragtune.answering.opened_answers import open_answers
from mlx_ragtune.answering.paper_answers import PaperAnswers, Source
from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.clients.protocol import drained
from mlx_ragtune.errors import printable
from mlx_ragtune.records import Arm
from mlx_ragtune.retrieval.retriever import NEAREST

WIDTH = 78
Write = Callable[[str], None]


def answer(
    run: OpenRun, question: str, *, model: str, preview: bool = False, write: Write | None = None
) -> dict[str, Any]:
    """The passages shown for a question, which index found each, and the answers of ``base``, ``tuned`` or ``both``.

    With ``write`` passages and answers are also written as text, each answer while it is generated. With ``preview``
    the embedded server answers with the adapter on the base's GGUF, before anything is fused. Raises ArtifactError
    when the models are not those of the recipe as it is now.
    """
    arms: tuple[Arm, ...] = ("base", "tuned") if model == "both" else (model,)  # type: ignore[assignment]
    with open_answers(run, preview=preview, together=False) as answers:
        sources = answers.search(question)
        if write is not None:
            write(passages_text(sources) + "\n")
        texts = {arm: _answered(answers, question, sources, arm, write) for arm in arms}
    return {"question": question, "contexts": [context(source) for source in sources], "answers": texts}


def _answered(answers: PaperAnswers, question: str, sources: Sequence[Source], arm: Arm, write: Write | None) -> str:
    """The text of one answer, written piece by piece."""
    stream = answers.stream(question, arm=arm, sources=sources)
    if write is None:
        return drained(stream).text
    write(f"\n{arm}:\n")
    lines = Wrapped(write)
    with closing(stream):
        try:
            while True:
                lines.add(next(stream).text)
        except StopIteration as end:
            text: str = end.value.text
    lines.end(empty="(no answer)")
    return text


def context(source: Source) -> dict[str, Any]:
    """A passage as JSON; pages are null for a paper without pages."""
    return {
        "chunk_id": source.chunk,
        "document_id": source.paper,
        "title": source.title,
        "section": source.section,
        "page": source.page,
        "last_page": source.last_page,
        "text": source.text,
        "found_by": list(source.found_by),
    }


def passages_text(sources: Sequence[Source]) -> str:
    """The passages for the terminal, each with its page and its beginning."""
    lines = []
    if not any(source.found_by for source in sources):
        lines.append("No passage matches the question: the models were shown the first passages of the corpus.")
    elif not any("full text" in source.found_by for source in sources):
        lines.append(NEAREST)
    for source in sources:
        place = f" ({source.place})" if source.place else ""
        lines.append(
            f"[{source.number}] {source.title}{place}{'' if source.found_by else ' (does not match the question)'}"
        )
        lines.append(textwrap.shorten(source.text, 150, placeholder=" …"))
    return printable("\n".join(lines))


class Wrapped:
    """Writes text that arrives in pieces, in lines of at most ``WIDTH`` characters, a word as soon as it is whole."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._word, self._column, self._breaks, self._any = "", 0, 0, False

    def add(self, piece: str) -> None:
        """Take the next piece; a line break of the text stays one."""
        for char in piece:
            if not char.isspace():
                self._word += char
                continue
            self._flush()
            self._breaks += char == "\n"

    def _flush(self) -> None:
        word, self._word = printable(self._word), ""
        if not word:
            return
        if self._any and self._breaks:
            self._write("\n" * min(self._breaks, 2))
            self._column = 0
        elif self._column and self._column + 1 + len(word) > WIDTH:
            self._write("\n")
            self._column = 0
        elif self._column:
            self._write(" ")
            self._column += 1
        self._write(word)
        self._column += len(word)
        self._breaks, self._any = 0, True

    def end(self, *, empty: str) -> None:
        """Write what is left, or ``empty`` where there was no word at all."""
        self._flush()
        self._write("\n" if self._any else f"{empty}\n")
