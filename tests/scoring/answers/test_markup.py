import pytest

from mlx_ragtune.scoring.answers.markup import without_markup


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**48** GB, *fast* and _small_", "48 GB, fast and small"),
        ("`48GB` and ***x***", "48GB and x"),
        ("~~48GB~~ 24GB", "  24GB"),
        ("[QLoRA](https://example.org/a_b) works", "QLoRA works"),
        ("$48\\,\\text{GB}$ or $95\\%$", "48 GB or 95%"),
        ("$\\frac{1}{2}$, $\\tfrac12$", " 1/2, 1/2"),
        ("$10^{-4}$, 10⁻⁴, 10<sup>-4</sup>", "10^-4, 10^-4, 10^-4"),
        ("F_1, F₁, $F_{1}$, F<sub>1</sub>", "F1, F₁, F1, F1"),
        ("1{,}000 and 1\u2009000 and 1_000", "1,000 and 1000 and 1000"),
        ("\\(2 \\times 10^{5}\\)", "2 × 10^5"),
        ("costs $5 and $6", "costs $5 and $6"),
        ("3*4 = 12 and 5*6 = 30", "3*4 = 12 and 5*6 = 30"),
        ("per_device_batch_size", "per_device_batch_size"),
        ("a * b * c", "a * b * c"),
        ("C:\\temp and a < b > c", None),
    ],
)
def test_markup_goes_and_text_stays(text: str, expected: str | None) -> None:
    stripped = without_markup(text)
    assert expected is None or stripped == expected
    assert "temp" in stripped or expected is not None


def test_lines_are_kept() -> None:
    assert without_markup("# A\n\n- **b**\n- `c`").count("\n") == 3
