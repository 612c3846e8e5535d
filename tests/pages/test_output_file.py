"""A page is refused before the work where it cannot be written, and replaced whole where it can."""

import os
from pathlib import Path

import pytest

from mlx_ragtune.errors import RecipeError, ToolError
from mlx_ragtune.pages.output_file import require_writable, write_page


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none/page.html", "the folder none does not exist"),
        ("folder", "it is a directory"),
        ("file/page.html", "file is a file, not a folder"),
        ("x" * 300, "too long"),
        ("loop/page.html", "the folder loop does not exist"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(RecipeError, match=said) as caught:
        require_writable(tmp_path / name)
    assert caught.value.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("old")
    (tmp_path / "page.html").chmod(0o400)
    tmp_path.chmod(0o500)
    for name in ("new.html", "page.html"):
        with pytest.raises(RecipeError, match="permission denied"):
            require_writable(tmp_path / name)
    tmp_path.chmod(0o700)


def test_a_page_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for text in ("old", "new 論文 \udcff"):
        require_writable(page)
        write_page(page, text)
    assert page.read_text(encoding="utf-8") == "new 論文 ?"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_link_stays_a_link_and_a_device_stays_a_device(tmp_path: Path) -> None:
    (tmp_path / "real.html").write_text("old")
    link = tmp_path / "link.html"
    link.symlink_to("real.html")
    write_page(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "real.html").read_text() == "new"
    require_writable(Path(os.devnull))
    write_page(Path(os.devnull), "new")
    assert Path(os.devnull).is_char_device()


def test_a_full_disk_is_a_clear_error_and_the_old_page_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ToolError, match="No space left on device"):
        write_page(page, "new")
    assert page.read_text() == "old"
