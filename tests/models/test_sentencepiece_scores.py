"""Scores and merges say the same thing, and ``tokenizer.model`` is read."""

import io
from pathlib import Path

import pytest
from sentencepiece import SentencePieceTrainer

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.sentencepiece_scores import merges_of_scores, model_pieces, scores_of_merges


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-fallback BPE model, trained on a few words."""
    words = ("the theory of the other", "日本語 の 日本", "gather there then") * 20
    trained = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_writer=trained, vocab_size=300, model_type="bpe", byte_fallback=True,
        character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    file = tmp_path_factory.mktemp("sentencepiece") / "tokenizer.model"
    file.write_bytes(trained.getvalue())
    return file


def test_pieces_and_scores_are_read(model: Path) -> None:
    pieces = model_pieces(model)
    assert len(pieces) == 300
    assert (pieces["<unk>"], pieces["<0x0A>"]) == (0.0, 0.0)
    assert pieces["he"] == 0.0  # the first merge
    assert 0 > pieces["▁the"] > pieces["本"]


@pytest.mark.parametrize(
    "content",
    [b"", b"not protobuf", b"\x0f", b"\xff" * 20, b"\x0a\x00", b"\x0a\x05\x0a\x03a"],
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
