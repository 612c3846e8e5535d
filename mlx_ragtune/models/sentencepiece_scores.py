"""SentencePiece vocabularies: scores from ``tokenizer.model``, and conversion between scores and merges.

SentencePiece's BPE joins the neighbors whose piece has the highest score; a ``tokenizer.json`` lists the
same decisions as merges in falling order of score. Each can be derived from the other.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlx_ragtune.errors import InputError

SPACE = "▁"


def model_pieces(file: Path) -> dict[str, float]:
    """Scores by piece of a ``tokenizer.model``. Raises InputError when it is not one."""
    from sentencepiece import SentencePieceProcessor

    try:
        model = SentencePieceProcessor(model_proto=file.read_bytes())
        pieces = {model.id_to_piece(number): float(model.get_score(number)) for number in range(model.vocab_size())}
    except (RuntimeError, ValueError, UnicodeDecodeError):
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
