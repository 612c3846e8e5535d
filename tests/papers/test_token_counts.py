"""Tokens are counted as the model's tokenizer cuts them, or estimated within a fifth of that."""

from pathlib import Path

import pytest

from mlx_ragtune.models.toy import toy_tokenizer, toy_tokenizer_json
from mlx_ragtune.papers.token_counts import ENCODED_AT_ONCE, Estimate, TokenizerFile

NOTES = Path(__file__).parents[2] / "data" / "rag_notes" / "papers"


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> TokenizerFile:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    file.write_text(toy_tokenizer_json("qwen3"))
    return TokenizerFile(file)


@pytest.mark.parametrize("text", ["", " the papers", "論文 é\n\n", "x" * 50, "a\u0301 👩‍🔬"])
def test_a_tokenizer_file_counts_as_the_tokenizer_and_ends_are_offsets(counter: TokenizerFile, text: str) -> None:
    ends = counter.ends(text).tolist()
    assert len(ends) == len(toy_tokenizer().encode(text, add_special_tokens=False).ids)
    assert ends == sorted(ends)
    assert ends[-1:] == ([len(text)] if text else [])


def test_a_long_text_is_counted_in_parts_and_to_its_end(counter: TokenizerFile) -> None:
    text = " the papers of it" * (ENCODED_AT_ONCE // 8)
    ends = counter.ends(text)
    assert len(ends) == len(toy_tokenizer().encode(text, add_special_tokens=False).ids)
    assert ends[-1] == len(text)
    unbroken = counter.ends("x" * (2 * ENCODED_AT_ONCE + 5))
    assert len(unbroken) == unbroken[-1] == 2 * ENCODED_AT_ONCE + 5


def test_a_word_that_the_tokenizer_does_not_know_is_not_one_token(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    counter = TokenizerFile(tmp_path / "tokenizer.json")
    assert len(counter.ends("a a zz")) == 3
    ends = counter.ends("a " + "z" * 6400)
    assert len(ends) == 1 + 6401 // 16 + 1
    assert ends[-1] == 6402


def test_a_file_that_is_not_a_tokenizer_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"."):
        TokenizerFile(tmp_path / "tokenizer.json")


def test_the_estimate_is_near_what_a_tokenizer_of_a_large_vocabulary_counts() -> None:
    """QLoRA's note has 449 tokens of SmolLM2 (a vocabulary of 49,152), that of AWQ 333."""
    for name, tokens in (("qlora", 449), ("awq", 333)):
        assert len(Estimate().ends((NOTES / f"{name}.md").read_text())) == pytest.approx(tokens, rel=0.2)


@pytest.mark.parametrize("text", ["", "word", "論文の題名", "a\n\n b\t\u3000c", "x" * 300, "é\u0301\U0001f469"])
def test_the_estimate_covers_the_text(text: str) -> None:
    ends = Estimate().ends(text).tolist()
    assert ends == sorted(set(ends))
    assert ends[-1:] == ([len(text)] if text else [])
