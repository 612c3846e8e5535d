"""The tokenizers of embedding models come out of their GGUF files as they went in."""

from pathlib import Path

import gguf
import pytest
from gguf import TokenType
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.reader import gguf_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "adapt", "##ers", "##er", "low", "rank", "of", ".", ",", "-", "cafe", "re"]
TEXTS = ["Adapters of low-rank.", "Café, RE rank unknownword", "", "  low \n rank "]


def write(path: Path, kind: str, tokens: list[str], types: list[int], scores: list[float]) -> Path:
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_tokenizer_model(kind)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_scores(scores)
    writer.add_unk_token_id(tokens.index("[UNK]") if "[UNK]" in tokens else 0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_word_pieces_are_those_of_bert(tmp_path: Path) -> None:
    """As llama.cpp's converter stores them: the beginning of a word is marked, its continuation is not."""
    original = Tokenizer(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    original.normalizer = normalizers.BertNormalizer()
    original.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [word.startswith("[") for word in WORDS]
    stored = [
        word if own else word[2:] if word.startswith("##") else f"▁{word}"
        for word, own in zip(WORDS, special, strict=True)
    ]
    types = [int(TokenType.CONTROL if own else TokenType.NORMAL) for own in special]
    restored = Tokenizer.from_str(gguf_tokenizer(write(tmp_path / "b.gguf", "bert", stored, types, [0.0] * len(types))))
    for text in TEXTS:
        assert restored.encode(text, add_special_tokens=False).tokens == original.encode(text).tokens
    assert restored.encode("adapters", add_special_tokens=False).tokens == ["adapt", "##ers"]


def test_unigram_pieces_are_those_of_sentencepiece(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0), ("▁low", -2.0), ("▁rank", -2.5), ("▁", -4.0), ("l", -5.0), ("o", -5.0), ("w", -5.0)]
    original = Tokenizer(models.Unigram(pieces, unk_id=0))
    original.pre_tokenizer = pre_tokenizers.Metaspace()
    types = [int(TokenType.UNKNOWN), *[int(TokenType.NORMAL)] * (len(pieces) - 1)]
    file = write(tmp_path / "t.gguf", "t5", [piece for piece, _ in pieces], types, [score for _, score in pieces])
    restored = Tokenizer.from_str(gguf_tokenizer(file))
    for text in ("low rank", "lol low", "rank"):
        assert restored.encode(text, add_special_tokens=False).tokens == original.encode(text).tokens


def test_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    file = write(tmp_path / "r.gguf", "rwkv", ["[UNK]", "a"], [2, 1], [0.0, 0.0])
    with pytest.raises(InputError, match="tokenizer type 'rwkv' is not supported"):
        gguf_tokenizer(file)
