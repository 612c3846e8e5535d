"""Words that a line's end breaks, decided by the words of the document."""

import pytest

from mlx_ragtune.papers.hyphens import join_hyphens

SOFT = "\u00ad"


@pytest.mark.parametrize("hyphen", ["-", SOFT])
@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("adaptation and adap-\ntation", "adaptation and adaptation"),
        ("Adaptation of adap-\ntation", "Adaptation of adaptation"),
        ("it was orig-\ninally so", "it was originally so"),
        ("values are dis-\nplayed here", "values are displayed here"),
        ("a well-known and well-\nknown rule", "a well-known and well-known rule"),
        ("their re-entry and re-\nentry", "their re-entry and re-entry"),
        ("the low rank of low-\nrank updates", "the low rank of low-rank updates"),
        ("lowrank beats low, rank and low-\nrank", "lowrank beats low, rank and lowrank"),
        ("COVID-\n19 spread", "COVID-19 spread"),
        ("a t-\ntest of", "a t-test of"),
        ("the Bradley-\nTerry model", "the Bradley-Terry model"),
        ("STRUC-\nTURE", "STRUCTURE"),
        ("über die Wachs-\ntumsrate", "über die Wachstumsrate"),
        ("state-of-\nthe-\nart of the state", "state-of-the-art of the state"),
    ],
)
def test_a_broken_word_is_joined_unless_the_document_speaks_for_its_hyphen(hyphen: str, text: str, joined: str) -> None:
    assert join_hyphens(text.replace("-\n", f"{hyphen}\n")).split() == joined.split()


def test_a_hyphen_before_no_word_and_one_inside_a_line_are_left_alone() -> None:
    assert join_hyphens("pre-\n(and post)") == "pre-\n(and post)"
    assert join_hyphens("fine-tuning of x - y") == "fine-tuning of x - y"


@pytest.mark.parametrize("end", ["\n", "\n\f"])
def test_the_break_inside_a_word_moves_behind_it_and_its_punctuation(end: str) -> None:
    assert join_hyphens(f"hyphen-{end}ation, which ends") == f"hyphenation,{end} which ends"


def test_a_soft_hyphen_inside_a_line_is_no_character() -> None:
    assert join_hyphens(f"hyphen{SOFT}ation and pre{SOFT} x") == "hyphenation and pre- x"
