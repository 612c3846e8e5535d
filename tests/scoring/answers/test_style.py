import pytest

from mlx_ragtune.scoring.answers.style import is_prose, markup


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Answer\nLoRA is small.", ("header",)),
        ("**Answer**\nLoRA is small.", ("header",)),
        ("Answer\n======\nLoRA is small.", ("header",)),
        ("LoRA is:\n- small\n- quick", ("list",)),
        ("1. LoRA is small.", ("list",)),
        ("Two things:\n• small", ("list",)),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ("table",)),
        ("```\nx = 1\n```", ("fence",)),
        ("<think>hm</think> LoRA is small.", ("think",)),
        ("Qwen3 writes <think> tags, which are no markup.", ()),
        ("LoRA is *small* and **quick** - really, 2021. It has r = 4.", ()),
        ("It fell by 3.\n4 of them stayed.", ()),
    ],
)
def test_markup_is_named(text: str, expected: tuple[str, ...]) -> None:
    assert markup(text) == expected
    assert is_prose(text) is (not expected)


@pytest.mark.parametrize(("paragraphs", "expected"), [(0, False), (1, True), (4, True), (5, False)])
def test_prose_has_one_to_four_paragraphs(paragraphs: int, expected: bool) -> None:
    assert is_prose("\n \n".join(["LoRA is small."] * paragraphs)) is expected


def test_length_is_not_scored() -> None:
    assert is_prose("word " * 5000)
