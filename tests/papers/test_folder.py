"""Which files are papers, and how they are called."""

import os
import shutil
import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.folder import document_ids, list_papers, paper_digests, survey
from mlx_ragtune.papers.reading import open_paper


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")


def names_of(folder: Path) -> list[str]:
    return [paper.name for paper in list_papers(folder)]


def problems_of(folder: Path) -> dict[str, str]:
    return {paper.name: paper.problem for paper in list_papers(folder) if paper.problem}


def test_papers_are_sorted_and_found_below_whatever_the_case_of_their_suffix(tmp_path: Path) -> None:
    make(tmp_path, "b.md", "a/z.PDF", "c.txt", "d.html", "e.htm")
    assert names_of(tmp_path) == ["a/z.PDF", "b.md", "c.txt", "d.html", "e.htm"]


def test_every_other_file_is_listed_with_the_reason(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "pairs.jsonl", "SOURCE.md", ".hidden/b.md", ".DS_Store", "LICENSE", "x.pdf/inside.bib")
    assert names_of(tmp_path) == ["a.md"]
    assert dict(survey(tmp_path).ignored) == {
        ".DS_Store": "hidden",
        ".hidden": "hidden",
        "LICENSE": "no file name suffix",
        "SOURCE.md": "describes the sources of the other files",
        "pairs.jsonl": "'.jsonl' is not a supported format",
        "x.pdf/inside.bib": "'.bib' is not a supported format",
    }


def test_a_folder_without_papers_or_that_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no papers \(\.pdf, \.md, \.txt, .*\.tar\) in this folder"):
        list_papers(tmp_path)
    make(tmp_path, "file.md")
    for folder, reason in (
        (tmp_path / "none", "No such file"),
        (tmp_path / "file.md", "Not a directory"),
        (Path("a\0b"), "null"),
    ):
        with pytest.raises(InputError, match=reason):
            list_papers(folder)


def test_a_symlink_that_leaves_the_folder_is_not_read(tmp_path: Path) -> None:
    make(tmp_path, "secret.md", "papers/a.md", "papers/folder/b.md")
    papers = tmp_path / "papers"
    (papers / "out.md").symlink_to(tmp_path / "secret.md")
    (papers / "folder" / "out.md").symlink_to("../../secret.md")
    (papers / "elsewhere").symlink_to(tmp_path)
    assert problems_of(papers) == {
        "folder/out.md": "symlink that leaves the folder",
        "out.md": "symlink that leaves the folder",
    }
    assert ("elsewhere", "symlink to a folder") in survey(papers).ignored


def test_a_folder_that_is_a_symlink_itself_is_read(tmp_path: Path) -> None:
    make(tmp_path, "real/a.md")
    (tmp_path / "link").symlink_to("real")
    assert names_of(tmp_path / "link") == ["a.md"]
    assert not problems_of(tmp_path / "link")


def test_a_symlink_within_the_folder_adds_no_second_copy(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "store/hash")
    (tmp_path / "A first.md").symlink_to("a.md")
    (tmp_path / "named.md").symlink_to("store/hash")
    (tmp_path / "named again.md").symlink_to("store/hash")
    assert names_of(tmp_path) == ["a.md", "named again.md"]
    assert {
        ("A first.md", "symlink to 'a.md'"),
        ("named.md", "symlink to 'named again.md'"),
    } < set(survey(tmp_path).ignored)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


@pytest.mark.parametrize(
    ("create", "reason"),
    [
        (fifo, "not a regular file"),
        (bound_socket, "not a regular file"),
        (lambda path: path.symlink_to("nowhere.md"), "symlink to a missing file"),
        (lambda path: path.symlink_to("/dev/zero"), "symlink that leaves the folder"),
        (lambda path: path.symlink_to(path.name), "symlink to a missing file"),
    ],
)
def test_what_is_not_a_regular_file_is_unreadable_and_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, create: Callable[[Path], None], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "a.md")
    create(tmp_path / "x.md")
    assert problems_of(tmp_path) == {"x.md": reason}
    assert paper_digests(tmp_path)["x.md"] == reason


def test_a_name_that_is_not_utf8_is_unreadable(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("text")
    except OSError:
        pytest.skip("this file system stores UTF-8 names only")
    assert problems_of(tmp_path) == {r"caf\xe9.md": "the file name is not UTF-8"}
    assert paper_digests(tmp_path) == {r"caf\xe9.md": "the file name is not UTF-8"}


def test_digests_depend_on_the_papers_and_on_no_other_file(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "below/b.txt")
    before = paper_digests(tmp_path)
    assert list(before) == ["a.md", "below/b.txt"]
    assert all(len(digest) == 64 for digest in before.values())
    make(tmp_path, "library.bib", ".DS_Store", "SOURCE.md", ".git/a.md", "notes.odt")
    assert paper_digests(tmp_path) == before
    copy = tmp_path.with_name("copy")
    shutil.copytree(tmp_path, copy)
    assert paper_digests(copy) == before
    (copy / "a.md").write_text("changed")
    assert {name for name, digest in paper_digests(copy).items() if digest != before[name]} == {"a.md"}


def test_ids_are_file_names_in_lower_case_that_keep_the_letters_of_every_script() -> None:
    names = {
        "QLoRA (v2).md": "qlora_v2",
        "2305.14314.pdf": "2305_14314",
        "Über-Modell.txt": "über_modell",
        "한국어 논문.md": "한국어_논문",
        "ガイド.md": "ガイド",
        "カイド.md": "カイド",
        "論文.md": "論文",
        "हिन्दी.md": "हिन्दी",
        "🦙 (1).md": "🦙_1",
        "👩‍🔬.md": "👩‍🔬",
        "!!.md": "paper",
    }
    assert document_ids(names) == names
    decomposed = {unicodedata.normalize("NFD", name): name_id for name, name_id in names.items()}
    assert document_ids(decomposed) == decomposed


def test_files_of_one_name_are_called_by_their_paths() -> None:
    names = ["2021/lora.md", "2022/lora.pdf", "rag.md"]
    assert list(document_ids(names).values()) == ["2021_lora_md", "2022_lora_pdf", "rag"]


def test_ids_that_would_be_the_same_are_numbered_and_unique() -> None:
    assert document_ids(["a b.md", "a-b.md"]) == {"a b.md": "a_b_md", "a-b.md": "a_b_md_2"}
    assert list(document_ids(["LoRA.md", "lora.md"]).values()) == ["lora_md", "lora_md_2"]
    crowded = ["2021/lora.md", "2021_lora_md.txt", "2022/lora.md", "!.md", "?.md", "paper_md.pdf", "md_2.txt"]
    assert len(set(document_ids(crowded).values())) == len(crowded)


def test_an_empty_paper_and_another_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\ntitle: only a head\n---\n  \n")
    with pytest.raises(InputError, match="it contains no text"):
        open_paper(tmp_path / "a.md", id="a")
    make(tmp_path, "a.odt")
    with pytest.raises(InputError, match=r"'\.odt' is not a supported format"):
        open_paper(tmp_path / "a.odt", id="a")
