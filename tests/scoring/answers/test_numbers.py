import pytest

from mlx_ragtune.scoring.answers.numbers import mentions, number_grounding

SHOWN = [
    "QLoRA fine-tunes a 65 billion parameter model on a single 48 GB GPU, from more than 780GB.",
    "It stores weights in NF4 and reaches 99.3% of ChatGPT with GPT-4 as the judge, three times, rank 64.",
    "Trained on 10,000 rows; between 24 and 48GB; see 2305.14314.",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A 65B model fits in 48GB.", 1.0),
        ("A 65B model fits in 48 MB.", 0.5),
        ("A 66B model fits in 48GB.", 0.5),
        ("It reaches 99.3 per cent.", 1.0),
        ("It reaches 99.30 %.", 1.0),
        ("It reaches 93.3 %.", 0.0),
        ("It uses NF4 and GPT-4.", 1.0),
        ("It uses NF4 and GPT-3.", 0.5),
        ("It ran 3 times at rank-64.", 1.0),
        ("It needs 24GB.", 1.0),
        ("Trained on 10000 rows (arXiv 2305.14314).", 1.0),
        ("See [1] and [2, 3]: rank 64.", 1.0),
        ("1. rank 64\n2. rank 32", 0.5),
    ],
)
def test_the_share_of_numbers_found_in_what_was_shown(text: str, expected: float) -> None:
    assert number_grounding(text, SHOWN) == pytest.approx(expected)


def test_without_numbers_it_is_undefined() -> None:
    assert number_grounding("It is three times better.", SHOWN) is None
    assert number_grounding("", SHOWN) is None


def test_a_repeated_number_counts_once() -> None:
    assert number_grounding("48GB, 48 GB and 48GB, but 12GB", SHOWN) == 0.5


def test_gpt_35_does_not_stand_for_gpt_3() -> None:
    assert number_grounding("GPT3 did it", ["GPT-3.5 did it"]) == 0.0


def test_values_carry_their_unit() -> None:
    assert mentions("48 GB, 5 %, 7 and L2") == ({("48", "gb"), ("5", "%"), ("7", "")}, {"l2"})
