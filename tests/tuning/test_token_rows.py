"""What is trained and what is not: token rows of chat examples."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.prompts import end_of_turn, load_tokenizer, prompt_tokens
from mlx_ragtune.records import Example, Message
from mlx_ragtune.tuning.token_rows import tokenize
from tests.tuning.made import example, examples, toy_base


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tokenizer(toy_base(tmp_path_factory.mktemp("base")))


def rows(tokenizer: Any, given: list[Example], **changes: Any) -> Any:
    options: dict[str, Any] = {"thinking": False, "max_tokens": 2048, "on_too_long": "fail"} | changes
    return tokenize(given, tokenizer, **options)


def test_the_answer_and_its_end_of_turn_are_trained_and_nothing_else(tokenizer: Any) -> None:
    one = example(1, 2)
    (row,), refused = rows(tokenizer, [one])
    assert not refused
    assert tokenizer.decode(row.tokens[row.prompt_length :]) == one.messages[-1].content + "<|im_end|>"
    assert (row.id, row.group, row.kind) == ("1-2", "g1", "grounded")


def test_the_empty_think_block_is_on_the_prompt_side(tokenizer: Any) -> None:
    (row,), _ = rows(tokenizer, [example(1, 2)])
    assert tokenizer.decode(row.tokens[: row.prompt_length]).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    (thinking,), _ = rows(tokenizer, [example(1, 2)], thinking=True)
    assert "<think>" not in tokenizer.decode(thinking.tokens)


def test_the_prompt_is_what_the_server_renders(tokenizer: Any) -> None:
    one = example(1, 2)
    (row,), _ = rows(tokenizer, [one])
    messages = [{"role": turn.role, "content": turn.content} for turn in one.messages[:-1]]
    served = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, enable_thinking=False, tokenize=True, return_dict=False
    )
    assert row.tokens[: row.prompt_length].tolist() == list(served)
    assert prompt_tokens(one.messages[:-1], tokenizer, thinking=False) == list(served)


def test_text_is_composed_before_it_is_tokenized(tokenizer: Any) -> None:
    split = unicodedata.normalize("NFD", "Müller’s café")
    messages = (Message("user", split), Message("assistant", split))
    (row,), _ = rows(tokenizer, [Example("a", "grounded", "g", messages)])
    text = tokenizer.decode(row.tokens)
    assert "Müller’s café" in text
    assert split not in text


def test_the_answer_is_tokenized_by_itself_so_that_the_prompt_keeps_its_tokens(tokenizer: Any) -> None:
    (row,), _ = rows(tokenizer, [example(1, 2)])
    (other,), _ = rows(tokenizer, [example(1, 2, kind="refusal")])
    assert row.tokens[: row.prompt_length].tolist() == other.tokens[: other.prompt_length].tolist()


def test_a_row_without_an_answer_is_refused(tokenizer: Any) -> None:
    empty = Example("e", "grounded", "g", (Message("user", "What?"), Message("assistant", "  \n")))
    with pytest.raises(InputError, match="e: no answer tokens"):
        rows(tokenizer, [empty])
    found, refused = rows(tokenizer, [empty, example(1, 1)], on_too_long="drop")
    assert [row.id for row in found] == ["1-1"]
    assert [(one.id, one.reason) for one in refused] == [("e", "no answer tokens")]


def test_a_row_that_does_not_fit_is_refused_whole_never_cut(tokenizer: Any) -> None:
    long = example(1, 1, words=200)
    with pytest.raises(InputError) as caught:
        rows(tokenizer, [long], max_tokens=300)
    assert caught.value.where == "dataset.max_tokens"
    assert "more than 300" in str(caught.value)
    found, refused = rows(tokenizer, [long, example(2, 1)], max_tokens=300, on_too_long="drop")
    assert [row.id for row in found] == ["2-1"]
    assert refused[0].tokens > 300
    assert all(len(row.tokens) <= 300 for row in found)


def test_a_row_of_just_the_limit_fits(tokenizer: Any) -> None:
    (row,), _ = rows(tokenizer, [example(1, 1)])
    (again,), _ = rows(tokenizer, [example(1, 1)], max_tokens=len(row.tokens))
    assert len(again.tokens) == len(row.tokens)
    with pytest.raises(InputError):
        rows(tokenizer, [example(1, 1)], max_tokens=len(row.tokens) - 1)


def test_many_bad_rows_are_listed_up_to_ten(tokenizer: Any) -> None:
    with pytest.raises(InputError) as caught:
        rows(tokenizer, examples(4, 4), max_tokens=20)
    assert str(caught.value).count("more than 20") == 10
    assert "16 rows do not fit" in str(caught.value)


def test_rows_of_a_group_share_their_prompt_up_to_the_question(tokenizer: Any) -> None:
    first, second = rows(tokenizer, examples(1, 2))[0]
    same = 0
    while first.tokens[same] == second.tokens[same]:
        same += 1
    assert "says 11" in tokenizer.decode(first.tokens[:same])
    assert same < first.prompt_length


def test_end_of_turn_is_read_off_the_template(tokenizer: Any) -> None:
    assert tokenizer.decode(end_of_turn(tokenizer)) == "<|im_end|>"


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_every_toy_tokenizes(tmp_path: Path, architecture: str) -> None:
    (row,), _ = rows(load_tokenizer(toy_base(tmp_path, architecture)), [example(0, 0)])
    assert 0 < row.prompt_length < len(row.tokens)
