"""Plain text: the first line is the title."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.dropped import Dropped, Reading
from mlx_ragtune.papers.sections import cover
from mlx_ragtune.records import Document

MAX_FILE_BYTES = 32 * 2**20
"""Largest text, Markdown or HTML file that is read."""
MAX_CHARACTERS = 3_000_000
"""Longest text of one paper: about 500,000 words. Longer ones would take minutes and gigabytes."""
LONGEST_TITLE = 300
"""In characters."""
_LINE_ENDS = str.maketrans({"\r": "\n", "\v": "\n", "\f": "\n", "\x85": "\n"})


@dataclass(frozen=True)
class Text:
    """The text of a file, and the control characters that were removed from it."""

    text: str
    removed: Counter[str]


def read_bytes(path: Path, most: int) -> bytes:
    """The file's content. Raises InputError when it cannot be read or is larger than ``most`` bytes."""
    try:
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise InputError(
            f"cannot read: {error.strerror}", where=str(path), fix="check that it exists and that you may read it"
        ) from None
    if len(content) > most:
        raise InputError(f"the file is larger than {most // 2**20} MiB", where=str(path), fix="split or remove it")
    return content


def check_length(characters: int, path: Path) -> None:
    """Raise InputError for a text that is too long to be one paper."""
    if characters > MAX_CHARACTERS:
        raise InputError(
            f"the text is longer than {MAX_CHARACTERS:,} characters", where=str(path), fix="split or remove it"
        )


def is_control(char: str) -> bool:
    """Whether the character is a control character other than newline and tab, or a lone surrogate."""
    return char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cs")


def without_control(text: str) -> Text:
    """``text`` without control characters and lone surrogates, with a count of each."""
    removed = Counter({char: text.count(char) for char in set(text) if is_control(char)})
    return Text(text.translate(dict.fromkeys(map(ord, removed))) if removed else text, removed)


def load_text(path: Path) -> Text:
    """The file as NFC text with ``\\n`` line ends, without a byte-order mark and without control characters.

    Raises InputError for a file that cannot be read, is too large, or is not UTF-8 text.
    """
    content = read_bytes(path, MAX_FILE_BYTES)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 text (byte 0x{content[error.start]:02x} at position {error.start + 1})",
            where=str(path),
            fix="save it as UTF-8",
        ) from None
    if "\0" in text:
        raise InputError("not UTF-8 text: it contains NUL bytes", where=str(path), fix="save it as UTF-8")
    return without_control(unicodedata.normalize("NFC", text.replace("\r\n", "\n").translate(_LINE_ENDS)))


def removed_characters(identifier: str, page: int, removed: Counter[str]) -> Iterable[Dropped]:
    """What the list of dropped text says about removed control characters: nothing when there were none."""
    if removed:
        counts = ", ".join(f"U+{ord(char):04X} × {count}" for char, count in sorted(removed.items()))
        yield Dropped(identifier, page, "control characters", counts)


def read_text(path: Path, identifier: str) -> Reading:
    """The whole file as one section, titled by its first line that is not blank."""
    loaded = load_text(path)
    check_length(len(loaded.text), path)
    title = next((line.strip() for line in loaded.text.split("\n") if line.strip()), path.stem)
    document = Document(identifier, path.name, title[:LONGEST_TITLE], loaded.text, sections=cover([], len(loaded.text)))
    return Reading(document, tuple(removed_characters(identifier, 1, loaded.removed)))
