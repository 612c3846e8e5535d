"""A text layer that is not what is printed is found, and real texts of many kinds are not taken for one."""

import pytest

from mlx_ragtune.papers.scrambled import is_scrambled

PROSE = (
    "Adapters of low rank leave the weights of the base model as they are and learn a small update of 16 layers. " * 8
)


def shifted(text: str, by: int) -> str:
    return "".join(chr((ord(char) - 97 + by) % 26 + 97) if "a" <= char <= "z" else char for char in text)


@pytest.mark.parametrize(
    "text",
    [
        "P❡♥❛❧✐③❡❞ ▲❡❛st ❙q✉❛r❡s ✈❡rs✉s",
        "\ue001\ue002\ue003 and more",
        "\ufffd\ufffd a \ufffd\ufffd",
        "\x01\x02\x03\x04 text",
        "!\"#$%&'()*+,-./ " * 60,
        shifted(PROSE, 3).replace("y", "q"),
        PROSE.translate(str.maketrans("aeiou", "bcdfg")),
        "[OgfPTPNPORqk kTPOgJaf KNPTP baT J cedMT TPOgfPTPOUf hjiKkKklRO mhon NpJHq qkORlRORT Lsr tTPOgJa JHN aOa" * 20,
    ],
)
def test_symbols_private_codes_and_shifted_letters_are_scrambled(text: str) -> None:
    assert is_scrambled(text)


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "Ⓒ 2021 ✓ " + PROSE,
        "E[X] = ∑ᵢ pᵢxᵢ ≤ ∫ f(x) dx → ∞, ∀x ∈ ℝ: α + β ≥ γ " * 20,
        "0.12 0.45 −1.7 12.5 3.14 " * 60,
        "大语言模型从论文中回答问题。" * 40,
        "Модель отвечает на вопросы по статьям. " * 20,
        "readRows(newFile, maxCount = nrows(getFrame(myTable))); setNames(lmFit, colNames) # itemOne " * 30,
        "fit <- lm(y ~ x, data = df); summary(fit)$coefficients[1, 2] # slope " * 12,
        PROSE + "● ●●●●●●● ● ▲▲▲ ■●○\n10−3 ●●● ✕ " * 400,
        "Grzegorz Brzęczyszczykiewicz, Chrząszczyżewoszyce, powiat Łękołody " * 12,
    ],
)
def test_prose_formulas_numbers_code_and_other_scripts_are_not(text: str) -> None:
    assert not is_scrambled(text)
