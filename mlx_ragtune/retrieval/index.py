"""A full-text index of chunks in one SQLite file (FTS5), ranked by BM25 with a higher weight for the title."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from mlx_ragtune.errors import ArtifactError, ToolError
from mlx_ragtune.records import Chunk
from mlx_ragtune.retrieval.fusion import Hit
from mlx_ragtune.retrieval.terms import match_expression, terms

TITLE_WEIGHT = 2.0
"""A word of the title counts as so many of the text: more, and every chunk of a paper with the right title is first."""

_SEARCH = (
    "SELECT name.id, score FROM ("  # noqa: S608 (a number of this module)
    f"SELECT rowid AS number, bm25(chunk, {TITLE_WEIGHT}, 1, 1) AS score FROM chunk WHERE chunk MATCH ? "
    "ORDER BY score, rowid LIMIT ?) JOIN name USING (number) ORDER BY score, number"
)
"""The rows are numbered in the order of their ids, so that ties are in that order."""


def build_index(path: Path, chunks: Iterable[Chunk]) -> None:
    """Write a new index file of the chunks; an existing one is replaced. Raises ToolError when that fails."""
    try:
        path.unlink(missing_ok=True)
        _build(path, chunks)
    except (OSError, sqlite3.Error) as error:
        raise ToolError(
            f"the full-text index cannot be written: {error}",
            where=str(path),
            fix="free disk space or correct the permissions, then run the same command again",
        ) from None


def _build(path: Path, chunks: Iterable[Chunk]) -> None:
    """The terms are indexed, and nothing is stored but the ids: the texts are in the chunks' own file."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE VIRTUAL TABLE chunk USING fts5(title, section, text, content = '', "
            "tokenize = \"porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'\")"
        )
        connection.execute("CREATE TABLE name (number INTEGER PRIMARY KEY, id TEXT NOT NULL)")
        for number, chunk in enumerate(sorted(chunks, key=lambda chunk: chunk.id), start=1):
            fields = (" ".join(terms(field)) for field in (chunk.title, chunk.section, chunk.text))
            connection.execute("INSERT INTO chunk(rowid, title, section, text) VALUES (?, ?, ?, ?)", (number, *fields))
            connection.execute("INSERT INTO name VALUES (?, ?)", (number, chunk.id))
        connection.execute("INSERT INTO chunk(chunk) VALUES ('optimize')")


class Index:
    """A read-only view of an index file. Raises ArtifactError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
            self._connection.execute("SELECT rowid FROM chunk LIMIT 1").fetchone()
            self._connection.execute("SELECT id FROM name LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise self._damaged(error) from None

    def _damaged(self, error: sqlite3.Error) -> ArtifactError:
        return ArtifactError(
            f"not a full-text index: {error}", where=str(self._path), fix="ragtune corpus RECIPE --redo"
        )

    def search(self, query: str, k: int) -> list[Hit]:
        """At most ``k`` chunks that share a term with the query, best first (score: −BM25); ties by id."""
        expression = match_expression(query)
        if not expression or k < 1:
            return []
        try:
            rows = self._connection.execute(_SEARCH, (expression, k)).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None
        return [Hit(identifier, -score) for identifier, score in rows]
