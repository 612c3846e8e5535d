from fractions import Fraction

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
        ("It reaches 0.993 of it.", 1.0),
        ("It needs 0.78 TB.", 1.0),
        ("It needs $48\\,\\text{GB}$ for 6.5 × 10^10 parameters.", 1.0),
        ("The rank is -64.", 0.0),
        ("It reaches −99.3%.", 0.0),
    ],
)
def test_the_share_of_numbers_found_in_what_was_shown(text: str, expected: float) -> None:
    assert number_grounding(text, SHOWN) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("shown", "said", "expected"),
    [
        ("It stayed below 0.4 mg.", "It stayed below 0.4 g.", 0.0),
        ("It stayed below 0.4 grams.", "It stayed below 0.4 g.", 1.0),
        ("It stayed below 0.4.", "It stayed below 0.4 g.", 1.0),
        ("It stayed below 0.4 mg.", "It stayed below 0.4.", 1.0),
        ("It has 7 billion parameters.", "It has 7 m parameters.", 0.0),
        ("It is 5 metres long.", "It is 5 m long.", 1.0),
        ("A median of 80 micrometres.", "A median of 80 millimetres.", 0.0),
        ("A median of 80 nanometres.", "A median of 0.08 micrometres.", 1.0),
    ],
)
def test_the_same_number_with_another_unit_is_not_grounded(shown: str, said: str, expected: float) -> None:
    assert number_grounding(said, [shown]) == expected


def test_without_numbers_it_is_undefined() -> None:
    assert number_grounding("It is three times better.", SHOWN) is None
    assert number_grounding("", SHOWN) is None


def test_a_repeated_number_counts_once() -> None:
    assert number_grounding("48GB, 48 GB and 48GB, but 12GB", SHOWN) == 0.5


def test_gpt_35_does_not_stand_for_gpt_3() -> None:
    assert number_grounding("GPT3 did it", ["GPT-3.5 did it"]) == 0.0


def test_values_carry_their_unit() -> None:
    assert mentions("48 GB, 5 %, 7 and L2") == (
        [((Fraction(48), "gb"),), ((Fraction(5), "%"),), ((Fraction(7), ""),)],
        {"l2"},
    )


@pytest.mark.parametrize(
    ("shown", "said", "expected"),
    [
        ("a rate of 1e-4", "It is 1e-5.", 0.0),
        ("a rate of 1e-4", "It is $10^{-4}$.", 1.0),
        ("a rate of 10⁻⁴", "It is 0.0001.", 1.0),
        ("a rate of 1 × 10^-4", "It is 1e4.", 0.0),
        ("a correlation of −0.5", "It is -0.5.", 1.0),
        ("a correlation of −0.5", "It is 0.5.", 0.0),
        ("between 0.3–0.5", "It is 0.5.", 1.0),
        ("it took two hours", "It took 120 minutes.", 1.0),
        ("it took two hours", "It took 2 minutes.", 0.0),
        ("es waren 1,5 % der Daten und 1.000 Texte", "It was 1.5% of 1,000 texts.", 1.0),
        ("共12万个样本", "It has 120,000 samples.", 1.0),
        ("half of the 1.2k rows", "It used 1,200 rows.", 1.0),
    ],
)
def test_numbers_are_grounded_by_value_and_sign(shown: str, said: str, expected: float) -> None:
    assert number_grounding(said, [shown]) == expected


OUTSIDE = [
    "Accuracy is 92.5% after 3 epochs with a rate of 2e-5; −1.5 dB; 4,096 tokens; 1.3B parameters; T5-base; "
    "ResNet-50; 24 °C; $1.2M; 10⁻³; 0.25; 45 ms; 72 hours; 512 × 512; 2019."
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ninety-two point five percent", 1.0),
        ("0.925", 1.0),
        ("seventy percent", 0.0),
        ("twenty epochs", 0.0),
        ("two of them, and one more", None),
        ("three days", 1.0),
        ("four days", 0.0),
        ("2 × 10^-5", 1.0),
        ("2e-4", 0.0),
        ("2e5", 0.0),
        ("minus 1.5 dB", 1.0),
        ("1.5 dB", 0.0),
        ("4 096 tokens", 1.0),
        ("1300M parameters", 1.0),
        ("13B", 0.0),
        ("ResNet50 and T5 base", 1.0),  # "ResNet-50; 24" is no ResNet5024
        ("ResNet-101", 0.0),
        ("$1,200,000", 1.0),
        ("0.045 s", 1.0),
        ("45 seconds", 0.0),
        ("512 by 512", 1.0),
        ("512x256", 0.5),
        ("3 epochs and 5 seeds", 0.5),  # the 5 of T5 is no number
    ],
)
def test_values_in_other_notation_are_grounded_and_other_values_are_not(text: str, expected: float | None) -> None:
    assert number_grounding(text, OUTSIDE) == expected
