"""Texts may be cut after sentences and around tables, formulas and code: in any script, and never after 'et al.'."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_ragtune.papers.sentences import units


def pieces(text: str, *breaks: int) -> list[str]:
    return [text[unit.start : unit.end] for unit in units(text, breaks)]


@pytest.mark.parametrize(
    "sentences",
    [
        [
            "We follow Smith et al. (2019), cf. Fig. 3 and Eq. 2.",
            "The loss falls to 0.5.",
            "What now?",
            "(Yes!)",
            "Ok.",
        ],
        ["J. R. Doe, Ph.D. Student, of the U.S. Army reads p. 3 vs. Table 4.", '"It works."', "And so on..."],
        ["They are better.[12]", "So are these.3", "In 2019.", "E.g. LoRA.", "See https://a.org/b.C for more."],
        ["Siehe z. B. Abb. 2 vom 3. Mai, d. h. Nr. 5.", "Über „Modelle“ gilt bzw. Folgendes: nichts.", "Ähnlich."],
        ["¿Qué mide?", "¡Nada!", "El modelo, p. ej. LoRA, mejora."],
    ],
)
def test_sentences_of_languages_with_spaces(sentences: list[str]) -> None:
    assert pieces(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["本論文では手法を提案する。", "「効果がある。」と述べた。", "精度は3．5点だった。", "本当か？", "はい！"],
        ["结果如下。", "“很好。”", "我们提出了方法，见图3.", "结果很好.", "真的吗？"],
        ["نعم؟", "هذا جيد."],
        ["यह अच्छा है।", "अगला वाक्य।"],
        ["본 논문은 방법을 제안한다.", "성능이 좋다."],
    ],
)
def test_sentences_of_other_scripts(sentences: list[str]) -> None:
    spaced = sentences[0][0] > "\uabff" or sentences[0][0] < "\u3000"
    assert pieces((" " if spaced else "").join(sentences)) == sentences


def test_a_wrapped_line_ends_no_sentence_and_a_paragraph_does() -> None:
    assert pieces("It was trained on\nWikipedia and\nbooks. It\nends.\n\nNext one\n\n- an item\n- another\n") == [
        "It was trained on\nWikipedia and\nbooks.", "It\nends.", "Next one", "- an item", "- another",
    ]  # fmt: skip


def test_a_sentence_goes_on_over_a_page_or_an_empty_line_in_lower_case() -> None:
    assert pieces("It was trained in\n\nParis. Then", 19) == ["It was trained in\n\nParis.", "Then"]
    assert pieces("It was trained in\n\nParis. Then") == ["It was trained in", "Paris.", "Then"]
    assert pieces("where it is\n\nnearly optimal.") == ["where it is\n\nnearly optimal."]


TABLE = "| Model | F1. Score |\n| --- | --- |\n| A. B | 1. C |"
FORMULA = "$$\nx = 1. Y\n\nz\n$$"
LATEX = "\\begin{align}\nx &= 1. Y\\\\\nz\n\\end{align}"
CODE = "```python\nprint('a. B')\n\nx = 1\n```"


@pytest.mark.parametrize("atom", [TABLE, FORMULA, LATEX, CODE, "\\[ x. Y \\]", "$$ x. Y $$"])
def test_tables_formulas_and_code_are_whole(atom: str) -> None:
    text = f"It says.\n{atom}\nAfter it. End."
    assert pieces(text) == ["It says.", atom, "After it.", "End."]
    assert [unit.is_sentence for unit in units(text)] == [True, False, True, True]


def test_a_formula_or_code_without_an_end_is_prose() -> None:
    assert pieces("$$ one. Two\n\nMore. End.") == ["$$ one.", "Two", "More.", "End."]
    assert pieces("```\nMore. End.")[-1] == "End."


@given(st.text(st.sampled_from("aB. !?。」\n|$#-`\\[]1"), max_size=80), st.lists(st.integers(0, 80), max_size=3))
def test_units_hold_every_character_once(text: str, breaks: list[int]) -> None:
    found = units(text, sorted(breaks))
    assert "".join("".join(text[unit.start : unit.end] for unit in found).split()) == "".join(text.split())
    assert all(unit.start < unit.end for unit in found)
    assert all(before.end <= after.start for before, after in itertools.pairwise(found))


@pytest.mark.parametrize(
    "text",
    ["." * 300_000, '."' * 150_000, "# x" + " " * 300_000 + "y", "\\[\n" * 20_000, "```\n" * 5_001, "\n" * 300_000],
)
def test_endless_marks_take_linear_time(text: str) -> None:
    started = time.process_time()
    units(text)
    assert time.process_time() - started < 5
