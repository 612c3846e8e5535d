import pytest

from mlx_ragtune.scoring.answers.substantive import is_substantive


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three four five six seven eight nine ten", True),
        ("one two three four five six seven eight nine", False),
        ("Ragas evaluates R", False),
        ("", False),
        ("The provided papers do not contain any information about the capital of France.", False),
    ],
)
def test_ten_words_that_do_not_refuse_are_substantive(text: str, expected: bool) -> None:
    assert is_substantive(text) is expected
