"""HTML in: what a reader of the page would read."""

from pathlib import Path

from mlx_ragtune.papers.dropped import Reading
from mlx_ragtune.papers.html import read_html

PAGE = """<!doctype html><html><head><title>A Study of
 Adapters</title><style>p { color: red }</style><script>let x = "<p>no</p>"</script></head>
<body><nav><ul><li>Home<li>About</ul></nav>
<h1>Adapters</h1><p>They are <b>small</b>&nbsp;and cheap.<br>They help.</p>
<h2>Results &amp; more</h2><table><tr><td>rank</td><td>16</td></tr></table>
<footer>Made by hand</footer></body></html>"""


def read(folder: Path, text: str) -> Reading:
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    return read_html(path, "page")


def test_text_is_one_block_a_line_without_markup_scripts_or_styles(tmp_path: Path) -> None:
    assert read(tmp_path, PAGE).document.text == (
        "Adapters\nThey are small and cheap.\nThey help.\nResults & more\n| rank | 16 |\n| --- | --- |\n"
    )


def test_the_title_is_the_pages_title_and_headings_are_sections(tmp_path: Path) -> None:
    document = read(tmp_path, PAGE).document
    assert document.title == "A Study of Adapters"
    assert [(one.title, document.text[one.start : one.end][:8]) for one in document.sections] == [
        ("Adapters", "Adapters"), ("Results & more", "Results "),
    ]  # fmt: skip


def test_navigation_and_footers_are_listed_as_left_out(tmp_path: Path) -> None:
    assert [(one.reason, one.text) for one in read(tmp_path, PAGE).dropped] == [
        ("navigation", "Home"), ("navigation", "About"), ("navigation", "Made by hand"),
    ]  # fmt: skip


def test_tags_that_are_never_closed_lose_no_text(tmp_path: Path) -> None:
    document = read(tmp_path, "<head><title>T</title><body><p>one<p>two<li>three <b>four").document
    assert document.text == "one\ntwo\nthree four\n"


def test_the_first_heading_is_the_title_where_the_page_has_none(tmp_path: Path) -> None:
    assert read(tmp_path, "<h2>Found <i>here</i></h2><p>x").document.title == "Found here"


def test_a_title_within_a_drawing_is_not_the_pages(tmp_path: Path) -> None:
    assert read(tmp_path, "<svg><title>icon</title></svg><h1>Real</h1>x").document.title == "Real"


def test_offsets_hold_when_accents_are_composed(tmp_path: Path) -> None:
    document = read(tmp_path, "<p>cafe&#769; cafe&#769;</p><h2>Next</h2><p>text</p>").document
    section = document.sections[-1]
    assert document.text.startswith("café café")
    assert document.text[section.start : section.end] == "Next\ntext\n"


def test_the_text_stops_at_the_references(tmp_path: Path) -> None:
    reading = read(tmp_path, "<h2>Results</h2><p>good</p><h2>References</h2><p>[1] cited</p>")
    assert "cited" not in reading.document.text
    assert [one.text for one in reading.dropped] == ["References\n[1] cited"]
