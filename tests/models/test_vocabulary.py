"""A tokenizer folder as GGUF metadata: every id, its kind, the special ones, and the template."""

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType
from tokenizers import Tokenizer

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.pretokenizer import NAMES, pretokenizer, pretokenizer_name
from mlx_ragtune.models.toy import TEMPLATE
from mlx_ragtune.models.vocabulary import Vocabulary, chat_template, looks_special, read_json, read_vocabulary
from tests.toy_models import change, copied


def spoiled(toys: Path, folder: Path, *, tokenizer: dict[str, Any] | None = None, **config: Any) -> Path:
    """A copy of the qwen3 toy with changes to tokenizer.json and config.json."""
    made = copied(toys / "qwen3", folder, **config)
    if tokenizer:
        change(made / "tokenizer.json", **tokenizer)
    return made


@pytest.mark.parametrize("name", ["qwen3", "gemma3_text"])
def test_every_id_has_the_tokenizers_text(toys: Path, name: str) -> None:
    tokenizer, found = Tokenizer.from_file(str(toys / name / "tokenizer.json")), read_vocabulary(toys / name)
    assert len(found.tokens) == len(found.types) == tokenizer.get_vocab_size()
    for number in range(0, tokenizer.get_vocab_size(), 7):
        assert found.tokens[number] == tokenizer.id_to_token(number)


def kind(found: Vocabulary, token: str) -> TokenType:
    return TokenType(found.types[found.tokens.index(token)])


def test_byte_level_tokens_have_merges_and_no_scores(toys: Path) -> None:
    found = read_vocabulary(toys / "qwen3")
    assert (found.model, found.pre) == ("gpt2", "qwen2")
    assert found.merges
    assert found.scores == []
    assert all(merge.count(" ") == 1 for merge in found.merges)
    assert kind(found, "<|im_end|>") == TokenType.CONTROL
    assert kind(found, "<think>") == TokenType.USER_DEFINED
    assert kind(found, "a") == TokenType.NORMAL


def test_byte_fallback_tokens_have_scores_and_no_merges(toys: Path) -> None:
    found = read_vocabulary(toys / "gemma3_text")
    assert (found.model, found.pre) == ("llama", "default")
    assert found.merges == []
    assert len(found.scores) == len(found.tokens)
    assert kind(found, "<0x00>") == TokenType.BYTE
    assert kind(found, "<unk>") == TokenType.UNKNOWN
    assert found.scores[found.tokens.index("<|im_end|>")] == -1000.0
    assert found.specials["unk"] == found.tokens.index("<unk>") if "unk" in found.specials else True


def test_ids_that_the_tokenizer_lacks_are_unused(toys: Path, tmp_path: Path) -> None:
    size = json.loads((toys / "qwen3" / "config.json").read_text())["vocab_size"]
    found = read_vocabulary(spoiled(toys, tmp_path / "m", vocab_size=size + 3))
    assert found.tokens[size:] == [f"[PAD{size + one}]" for one in range(3)]
    assert found.types[size:] == [int(TokenType.UNUSED)] * 3


def test_ids_past_the_models_vocabulary_are_refused(toys: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="beyond the model's vocabulary of 100"):
        read_vocabulary(spoiled(toys, tmp_path / "m", vocab_size=100))


def test_special_ids_are_those_of_the_settings_then_of_the_model(toys: Path, tmp_path: Path) -> None:
    found = read_vocabulary(toys / "qwen3")
    assert found.tokens[found.specials["eos"]] == "<|im_end|>"
    assert found.tokens[found.specials["pad"]] == "<|endoftext|>"
    folder = copied(toys / "qwen3", tmp_path / "m", eos_token_id=[5, 6])
    change(folder / "tokenizer_config.json", eos_token=None)
    assert read_vocabulary(folder).specials["eos"] == 5


def test_a_token_may_be_written_as_an_object(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    change(folder / "tokenizer_config.json", eos_token={"content": "<|endoftext|>", "special": True})
    found = read_vocabulary(folder)
    assert found.tokens[found.specials["eos"]] == "<|endoftext|>"


def test_without_an_end_an_answer_would_never_end(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m", eos_token_id=None)
    change(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(InputError, match="no eos token"):
        read_vocabulary(folder)


@pytest.mark.parametrize("number", [-1, 10**9])
def test_a_special_id_outside_the_vocabulary_is_refused(toys: Path, tmp_path: Path, number: int) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m", eos_token_id=number)
    change(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(InputError, match="outside the vocabulary"):
        read_vocabulary(folder)


def test_a_tokenizer_that_puts_bos_in_front_says_so(toys: Path, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    folder = copied(toys / "gemma3_text", tmp_path / "m")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    number = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A <|im_end|>",
        special_tokens=[("<|endoftext|>", number), ("<|im_end|>", tokenizer.token_to_id("<|im_end|>"))],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    found = read_vocabulary(folder)
    assert (found.add_bos, found.add_eos) == (True, True)
    plain = read_vocabulary(toys / "gemma3_text")
    assert (plain.add_bos, plain.add_eos) == (False, False)


@pytest.mark.parametrize("model", [{"type": "Unigram", "vocab": []}, {"type": "WordPiece"}, {}])
def test_other_kinds_of_tokenizers_are_refused(toys: Path, tmp_path: Path, model: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="only BPE can be exported"):
        read_vocabulary(spoiled(toys, tmp_path / "m", tokenizer={"model": model}))


def test_the_template_is_a_file_or_a_setting_or_the_default_of_a_list(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    assert chat_template(folder) == TEMPLATE
    change(
        folder / "tokenizer_config.json",
        chat_template=[{"name": "tool_use", "template": "other"}, {"name": "default", "template": "named"}],
    )
    assert chat_template(folder) == "named"
    (folder / "chat_template.jinja").write_text("from a file")
    assert chat_template(folder) == "from a file"


@pytest.mark.parametrize("template", [None, "", [], [{"name": "tool_use", "template": "x"}]])
def test_no_template_is_an_error_that_names_the_folder(toys: Path, tmp_path: Path, template: object) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    change(folder / "tokenizer_config.json", chat_template=template)
    with pytest.raises(InputError, match="no chat template") as caught:
        chat_template(folder)
    assert caught.value.where == str(folder)


@pytest.mark.parametrize(
    ("token", "special"),
    [
        ("<|im_end|>", True), ("<pad>", True), ("<mask>", True), ("<unused42>", True), ("<｜end｜>", True),
        ("<think>", False), ("<tool_call>", False), ("|>", False), ("<|x", False), ("", False),
    ],
)  # fmt: skip
def test_what_looks_like_a_control_token_is_one(token: str, special: bool) -> None:
    assert looks_special(token) is special


@pytest.mark.parametrize("content", ["", "{", "[1]", '"text"', "\x00"])
def test_a_file_that_is_no_object_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError) as caught:
        read_json(tmp_path / "config.json")
    assert caught.value.where.endswith("config.json")


def test_a_missing_file_is_named_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'config\.json' is missing") as caught:
        read_json(tmp_path / "config.json")
    assert caught.value.where == str(tmp_path)


def test_a_tokenizer_that_nobody_knows_is_named_by_its_hash(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    value = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = value["model"]["vocab"]
    vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
    change(folder / "tokenizer.json", model=value["model"])
    with pytest.raises(InputError, match=r"unknown tokenizer \(hash [0-9a-f]{12}…\)") as caught:
        pretokenizer_name(folder / "tokenizer.json")
    assert all(name in caught.value.what for name in set(NAMES.values()))


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("qwen2", "it's 123", ["it", "'s", "Ġ", "1", "2", "3"]),
        ("llama-bpe", "it's 1234", ["it", "'s", "Ġ", "123", "4"]),
        ("smollm", "a 12", ["a", "Ġ", "1", "2"]),
        ("gpt-2", "a 12", ["a", "Ġ12"]),
    ],
)
def test_each_family_splits_in_its_own_way(name: str, text: str, parts: list[str]) -> None:
    rules, _ = pretokenizer(name)
    assert [part for part, _ in rules.pre_tokenize_str(text)] == parts


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(InputError, match="pre-tokenizer 'bert' is not supported"):
        pretokenizer("bert")
