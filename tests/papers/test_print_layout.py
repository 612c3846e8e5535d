"""What print leaves in a text layer, undone on plain strings."""

from hypothesis import given
from hypothesis import strategies as st

from mlx_ragtune.papers.print_layout import join_hyphens, lines_of, take_running, unwrap
from mlx_ragtune.papers.sections import headings

MARKS = ("\u0002", "\ufffe", "\u00ad")


def test_every_hyphen_mark_joins_a_known_word_and_leaves_a_hyphen_in_an_unknown_one() -> None:
    for mark in MARKS:
        assert join_hyphens(f"training and train{mark}ing") == "training and training"
        assert join_hyphens(f"low{mark}rank") == "low-rank"


def test_a_word_is_known_in_whatever_case_it_occurs() -> None:
    assert join_hyphens("Adaptation of adap\u0002tation") == "Adaptation of adaptation"


def test_a_chain_of_hyphens_is_undone_from_link_to_link() -> None:
    assert join_hyphens("state\ufffeof\ufffethe\ufffeart") == "state-of-the-art"


def test_a_hyphen_mark_before_no_word_stays_a_hyphen() -> None:
    assert join_hyphens("pre\u0002 (and post)") == "pre- (and post)"


def test_an_ordinary_hyphen_within_a_page_is_left_alone() -> None:
    assert join_hyphens("finetuning is fine-\ntuning") == "finetuning is fine-\ntuning"


def test_ligatures_are_spelt_out_and_control_characters_go() -> None:
    assert lines_of("ﬁne-tuning\x00 of\x01 eﬃcient\tlayers\r\n\r\n  next ") == [
        "fine-tuning of efficient layers",
        "next",
    ]


def test_accents_are_composed() -> None:
    assert lines_of("Poincare\u0301") == ["Poincaré"]


def test_a_page_number_below_a_broken_word_is_a_line_of_its_own() -> None:
    assert lines_of("the end of hyphen\ufffe12") == ["the end of hyphen-", "12"]


def test_a_line_that_also_stands_within_a_page_is_taken_at_the_edges_only() -> None:
    pages = [["Head", "body a", "Head", "body b", "body c"], ["Head", "other words", "x", "y", "z"]]
    kept, taken = take_running(pages)
    assert kept[0] == ["body a", "Head", "body b", "body c"]
    assert taken == [["Head"], ["Head"]]


def test_a_table_of_numbers_in_mid_page_is_no_page_number() -> None:
    pages = [[f"text {at} a", "12", "25", f"more {at}", f"end of page {at} x", str(at)] for at in range(3)]
    kept, taken = take_running(
        [[line.replace("text", "text" * (at + 1)) for line in page] for at, page in enumerate(pages)]
    )
    assert all("25" in page for page in kept)
    assert [lines[-1:] for lines in taken] == [["0"], ["1"], ["2"]]


def test_a_single_page_has_no_running_lines() -> None:
    assert take_running([["Title", "text"]]) == ([["Title", "text"]], [[]])


@given(
    st.lists(st.lists(st.sampled_from(["Head 1", "Head 2", "7", "8", "words", "other words"]), max_size=6), max_size=6)
)
def test_kept_and_taken_lines_are_all_there_were(pages: list[list[str]]) -> None:
    kept, taken = take_running(pages)
    for page, left, out in zip(pages, kept, taken, strict=True):
        assert sorted(left + out) == sorted(page)


@given(st.lists(st.text("abcXYZ. 12", min_size=1).filter(str.strip).map(str.strip), max_size=8))
def test_unwrapping_changes_line_breaks_only(lines: list[str]) -> None:
    assert " ".join(unwrap(lines)).split() == " ".join(lines).split()


def found(*lines: str) -> list[str]:
    return [lines[at] for at in headings(lines)]


def test_numbered_headings_follow_one_another() -> None:
    lines = ("1 Introduction", "2 Method", "2.1 Data", "2.1.1 Sources", "2.2 Model", "3 Results")
    assert found(*lines) == list(lines)


def test_table_rows_and_list_items_are_no_headings() -> None:
    assert found(
        "1 Introduction", "12 Layers of width", "3 Models", "7 60.1 55.2", "2 is a number that begins a line"
    ) == ["1 Introduction"]


def test_usual_names_are_headings_without_a_number_and_only_as_whole_lines() -> None:
    assert found("Abstract", "ABSTRACT", "Related Work", "Results are shown below.", "results") == [
        "Abstract", "ABSTRACT", "Related Work",
    ]  # fmt: skip
