"""Scores and merges say the same thing, and scores are read from ``tokenizer.model``."""

import struct
from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.sentencepiece_scores import merges_of_scores, model_pieces, scores_of_merges


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def piece(text: str, score: float, kind: int | None = None) -> bytes:
    inner = field(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score)
    return field(1, inner + (b"" if kind is None else varint(3 << 3) + varint(kind)))


def test_pieces_and_scores_are_read(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.model"
    file.write_bytes(piece("<unk>", 0.0, kind=2) + piece("▁the", -3.5) + piece("日本" * 60, -12.25))
    assert model_pieces(file) == {"<unk>": 0.0, "▁the": -3.5, "日本" * 60: -12.25}


def test_a_piece_without_score_has_zero(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.model"
    file.write_bytes(piece("<unk>", 0.0, kind=2) + field(1, field(1, b"a")))
    assert model_pieces(file) == {"<unk>": 0.0, "a": 0.0}


@pytest.mark.parametrize(
    "content",
    [b"", b"not protobuf", piece("a", 1.0)[:-2], b"\x0f", b"\xff" * 20, field(1, b""), field(1, field(1, b"\xff\xfe"))],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tokenizer.model"
    file.write_bytes(content)
    with pytest.raises(InputError, match="not a SentencePiece model"):
        model_pieces(file)


def test_a_score_falls_with_the_rank_of_the_first_merge_that_makes_the_piece() -> None:
    assert scores_of_merges([("a", "b"), ("ab", "c"), ("a", "bc")]) == {"ab": 0.0, "abc": -1.0}


def test_merges_come_back_in_order_of_score() -> None:
    merges = [("t", "h"), ("th", "e"), ("i", "n")]
    scores = scores_of_merges(merges)
    ids = {text: number for number, text in enumerate(["t", "h", "e", "i", "n", *scores])}
    assert merges_of_scores(ids, scores) == merges


def test_every_way_to_make_a_piece_is_listed_longer_left_half_first() -> None:
    ids = {text: number for number, text in enumerate(["a", "b", "c", "ab", "bc", "abc"])}
    found = merges_of_scores(ids, {"abc": -1.0, "ab": -2.0, "bc": -3.0})
    assert found == [("ab", "c"), ("a", "bc"), ("a", "b"), ("b", "c")]


def test_a_piece_that_nothing_makes_has_no_merge() -> None:
    assert merges_of_scores({"a": 0, "xyz": 1}, {"xyz": -1.0}) == []
