import pytest

from mlx_ragtune.scoring.answers.keywords import keyword_coverage

GROUPS = (("PEFT", "parameter-efficient fine-tuning"), ("4-bit",), ("adapter",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PEFT trains adapters in 4 bits.", 1.0),
        ("Parameter efficient fine-tuning trains adapters.", 2 / 3),
        ("PEFT, that is parameter-efficient fine-tuning.", 1 / 3),
        ("Nothing of the kind.", 0.0),
        ("", 0.0),
    ],
)
def test_coverage_is_the_share_of_groups_with_an_alias_in_the_answer(text: str, expected: float) -> None:
    assert keyword_coverage(text, GROUPS) == pytest.approx(expected)


def test_without_keywords_coverage_is_undefined() -> None:
    assert keyword_coverage("Anything.", ()) is None


def test_a_keyword_inside_another_word_does_not_count() -> None:
    assert keyword_coverage("The storage of fragments.", (("RAG",),)) == 0.0
