"""SentencePiece vocabularies: scores from ``tokenizer.model``, and conversion between scores and merges.

SentencePiece's BPE joins the neighbors whose piece has the highest score; a ``tokenizer.json`` lists the
same decisions as merges in falling order of score. Each can be derived from the other.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mlx_ragtune.errors import InputError

SPACE = "▁"
_PIECES, _TEXT, _SCORE = 1, 1, 2
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number with more than 64 bits")


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Field numbers and contents of a protobuf message (developers.google.com/protocol-buffers, encoding)."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            _, end = _varint(data, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            end = at + (8 if kind == _EIGHT_BYTES else 4)
        elif kind == _LENGTH:
            length, at = _varint(data, at)
            end = at + length
        else:
            raise ValueError(f"wire type {kind}")
        if end > len(data):
            raise ValueError("truncated")
        yield tag >> 3, data[at:end]
        at = end


def model_pieces(file: Path) -> dict[str, float]:
    """Scores by piece of a ``tokenizer.model``. Raises InputError when it is not one."""
    pieces = {}
    try:
        for number, piece in _parts(file.read_bytes()):
            if number == _PIECES:
                parts = dict(_parts(piece))
                pieces[parts[_TEXT].decode()] = struct.unpack("<f", parts.get(_SCORE, bytes(4)))[0]
    except (ValueError, IndexError, KeyError, struct.error):
        pieces = {}
    if not pieces:
        raise InputError("not a SentencePiece model", where=str(file), fix="fetch the model again")
    return pieces


def scores_of_merges(merges: Sequence[Sequence[str]]) -> dict[str, float]:
    """A score for every piece that a merge makes: minus the rank of the first such merge."""
    scores: dict[str, float] = {}
    for rank, (left, right) in enumerate(merges):
        scores.setdefault(left + right, -float(rank))
    return scores


def merges_of_scores(ids: Mapping[str, int], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """All ways to make a piece from two others, best score first: the merges of ``tokenizer.json``.

    Among equal scores the longer left part comes first, as in transformers' conversion
    (convert_slow_tokenizer.generate_merges).
    """
    ways = []
    for piece, score in scores.items():
        parts = [(piece[:end], piece[end:]) for end in range(1, len(piece))]
        local = sorted((ids[left], ids[right], left, right) for left, right in parts if left in ids and right in ids)
        ways += [(score, len(left), len(right), left, right) for _, _, left, right in local]
    ways.sort(key=lambda way: way[:3], reverse=True)
    return [(left, right) for *_, left, right in ways]
