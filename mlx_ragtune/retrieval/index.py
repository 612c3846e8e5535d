"""A full-text index of chunks in one SQLite file (FTS5), ranked by BM25 with a higher weight for the title."""

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from mlx_ragtune.errors import ArtifactError, ToolError
from mlx_ragtune.records import Chunk
from mlx_ragtune.retrieval.fusion import Hit

TITLE_WEIGHT = 3.0
MAX_WORDS = 20_000
"""How many different words of a query are searched for; the time of a search grows with their square."""
_STOP = (
    "a about an and are as at be been being between by can could did do does for from had has have how i in into is "
    "it its many more most much not of on or s than that the their them there these they this those to was we were "
    "what when where which who whom whose why will with would you your"
)
STOP_WORDS = frozenset(_STOP.split())


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
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE VIRTUAL TABLE chunk USING fts5(id UNINDEXED, title, section, text, "
            "tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        connection.executemany(
            "INSERT INTO chunk VALUES (?, ?, ?, ?)",
            ((chunk.id, chunk.title, chunk.section, chunk.text) for chunk in chunks),
        )
        connection.execute("INSERT INTO chunk(chunk) VALUES ('optimize')")


def match_expression(query: str) -> str:
    """An FTS5 expression that matches any of the query's words; each is quoted, so that no text is syntax.

    Stop words are left out unless there is nothing else, and so are words after the first ``MAX_WORDS``. Empty
    when the query has no words.
    """
    words = list(dict.fromkeys(re.findall(r"[^\W_]+", query.lower())))
    chosen = ([word for word in words if word not in STOP_WORDS] or words)[:MAX_WORDS]
    return " OR ".join(f'"{word}"' for word in chosen)


class Index:
    """A read-only view of an index file. Raises ArtifactError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
            self._connection.execute("SELECT rowid FROM chunk LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise self._damaged(error) from None

    def _damaged(self, error: sqlite3.Error) -> ArtifactError:
        return ArtifactError(
            f"not a full-text index: {error}", where=str(self._path), fix="ragtune corpus RECIPE --redo"
        )

    def search(self, query: str, k: int) -> list[Hit]:
        """At most ``k`` chunks that share a word with the query, best first (score: −BM25); ties by id."""
        expression = match_expression(query)
        if not expression or k < 1:
            return []
        try:
            rows = self._connection.execute(
                f"SELECT id, bm25(chunk, 0, {TITLE_WEIGHT}, 1, 1) AS score FROM chunk WHERE chunk MATCH ? "  # noqa: S608
                "ORDER BY score, id LIMIT ?",
                (expression, k),
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None
        return [Hit(identifier, -score) for identifier, score in rows]
