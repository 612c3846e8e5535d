"""The title of a printed paper, and what stands in larger print without being one."""

import pytest

from mlx_ragtune.papers.print_rows import Row
from mlx_ragtune.papers.print_title import choose_title


def row(text: str, y: float, size: float = 10) -> Row:
    return Row(text, 60, 60 + 5 * len(text), y, size, 0, ((0, size, len(text)),), (text,))


BODY = [row("Jane Doe and John Roe", 640), row("This is the text of the paper in its own size.", 600)]


def title(*rows: Row, metadata: str = "") -> str:
    return choose_title(metadata, [*rows, *BODY], 842, "file-name")


@pytest.mark.parametrize(
    "above",
    [
        "JSS Journal of Statistical Software",
        "Proceedings of the Tenth Conference on Moths",
        "The Orchard Journal",
        "Volume 12, Issue 3",
        "https://doi.org/10.1000/1",
        "Research Article",
        "Contents",
    ],
)
def test_a_banner_in_larger_print_is_not_the_title(above: str) -> None:
    assert title(row(above, 800, 24), row("Lamps and Moths", 700, 16)) == "Lamps and Moths"


@pytest.mark.parametrize(
    "text",
    [
        "Style template and guidelines for SPIE Proceedings",
        "Example of a Journal article",
        "A Journal of the Plague Year",
    ],
)
def test_a_title_may_speak_of_a_journal(text: str) -> None:
    assert title(row(text, 760, 16)) == text


def test_a_drop_cap_and_a_large_number_are_not_the_title() -> None:
    assert title(row("Lamps and Moths", 760, 16), row("T", 580, 30), row("12", 500, 40)) == "Lamps and Moths"


def test_one_word_is_the_title_when_it_is_far_larger_than_all_other_print() -> None:
    assert title(row("Concordance", 760, 17), row("Terry Doe and Elizabeth Roe", 730, 12)) == "Concordance"
    assert title(row("Orchards", 800, 17), row("Lamps and Moths", 760, 14)) == "Lamps and Moths"


def test_a_title_over_two_rows_is_joined_and_loses_its_marks() -> None:
    rows = (row("Lamps and Moths in an Or-", 760, 16), row("chard∗†", 740, 16))
    assert title(*rows) == "Lamps and Moths in an Orchard"


def test_print_in_the_lowest_third_is_not_the_title() -> None:
    assert title(row("Lamps and Moths", 760, 12), row("A Figure of Moths", 200, 20)) == "Lamps and Moths"


@pytest.mark.parametrize("metadata", ["untitled", "Microsoft Word - a.docx", "paper.dvi", "Another Thing Entirely", ""])
def test_metadata_that_the_page_does_not_show_is_not_the_title(metadata: str) -> None:
    assert title(row("Lamps and Moths", 760, 16), metadata=metadata) == "Lamps and Moths"


def test_metadata_that_the_page_shows_is_the_title() -> None:
    rows = (row("LAMPS AND MOTHS", 760, 16), row("A Subtitle", 740, 12))
    assert title(*rows, metadata="Lamps and Moths: A Subtitle") == "Lamps and Moths: A Subtitle"


def test_print_of_one_size_has_its_first_row_as_title_and_no_letters_the_files_name() -> None:
    assert title() == "Jane Doe and John Roe"
    assert choose_title("", [row("12 34", 700)], 842, "file-name") == "file-name"
