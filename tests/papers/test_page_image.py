"""A page as an image: the quote is marked where it stands, and a bad file ends only the process that renders it."""

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.page_image import find_on_page, page_image
from tests.papers.made import flate_bomb, page, write_pdf

QUOTE = "The second line of this page holds 412 lynxes."


def pixels(png: bytes) -> np.ndarray:
    """The image as an array (height, width, 3) of uint8."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    size = struct.unpack(">I", png[33:37])[0]
    rows = np.frombuffer(zlib.decompress(png[41 : 41 + size]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_the_quote_is_marked_and_nothing_else(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [page("First page."), page("A first line.", QUOTE, "A third line.")])
    image = page_image(path, 2, QUOTE)
    assert (image.page, image.pages, image.marked) == (2, 2, "whole")
    shown = pixels(image.png)
    tinted = np.argwhere((shown[:, :, 2] < 150) & (shown[:, :, 0] > 200))
    assert len(tinted) > 1000
    height = np.ptp(tinted[:, 0]) / shown.shape[0]
    assert 0.005 < height < 0.04  # one line of the page
    assert abs(tinted[:, 0].min() / shown.shape[0] - image.top) < 0.01
    other = pixels(page_image(path, 1, QUOTE).png)
    assert not ((other[:, :, 2] < 150) & (other[:, :, 0] > 200)).any()


def test_the_mark_follows_a_turned_page(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [page("A first line.", QUOTE)], rotate=90)
    shown = pixels(page_image(path, 1, QUOTE).png)
    tinted = np.argwhere((shown[:, :, 2] < 150) & (shown[:, :, 0] > 200))
    assert shown.shape[1] > shown.shape[0]
    assert np.ptp(tinted[:, 0]) > 5 * np.ptp(tinted[:, 1])  # the line runs down the page


def test_a_page_that_does_not_exist_is_the_nearest_one(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [page("One."), page("Two.")])
    assert page_image(path, 99).page == 2
    assert page_image(path, 0).page == 1


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ("Text. The second\nline of this page holds 412 lynxes. More.", "whole"),
        ("Text. The sec-\nond line of this page holds 412 lynxes. More.", "whole"),
        ("The second line of this page holds 412 lynx. More.", "whole"),
        ("… The second line of this page holds", "part"),
        ("Nothing of the kind.", "none"),
        ("", "none"),
    ],
)
def test_a_page_breaks_lines_and_words_where_a_quote_does_not(shown: str, found: str) -> None:
    start, end, marked = find_on_page(QUOTE, shown)
    assert marked == found
    assert (end > start) == (found != "none")
    if found != "none":
        assert shown[start:end].startswith("The sec")


@pytest.mark.parametrize("content", [b"", b"%PDF-1.4 nonsense", b"plain text"])
def test_a_file_that_is_not_a_pdf_is_an_error_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.pdf"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be rendered") as caught:
        page_image(path, 1, "quote")
    assert caught.value.where == str(path)


def test_a_bomb_does_not_end_this_process(tmp_path: Path) -> None:
    path = flate_bomb(tmp_path / "bomb.pdf", 50_000_000)
    with suppress(InputError):
        assert page_image(path, 1).pages == 1
