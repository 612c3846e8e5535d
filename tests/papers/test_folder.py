"""Which files are papers, and how they are called."""

from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.folder import document_ids, list_ignored, list_papers
from mlx_ragtune.papers.reading import open_paper, read_paper


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")


def relative(folder: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_papers_are_sorted_and_found_below_whatever_the_case_of_their_suffix(tmp_path: Path) -> None:
    make(tmp_path, "b.md", "a/z.PDF", "c.txt", "d.html", "e.htm")
    assert relative(tmp_path, list_papers(tmp_path)) == ["a/z.PDF", "b.md", "c.txt", "d.html", "e.htm"]


def test_every_other_file_is_listed_with_the_reason(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "pairs.jsonl", "SOURCE.md", ".hidden/b.md", ".DS_Store", "LICENSE")
    (tmp_path / "gone.pdf").symlink_to(tmp_path / "nowhere.pdf")
    assert relative(tmp_path, list_papers(tmp_path)) == ["a.md"]
    ignored = {path.relative_to(tmp_path).as_posix(): why for path, why in list_ignored(tmp_path)}
    assert ignored == {
        ".DS_Store": "hidden",
        ".hidden/b.md": "hidden",
        "LICENSE": "it has no suffix",
        "SOURCE.md": "it says where the others come from",
        "gone.pdf": "a link to nothing",
        "pairs.jsonl": "'.jsonl' is not a paper's format",
    }


def test_a_folder_without_papers_or_without_being_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no paper \(\.pdf, \.md, \.txt, \.html, \.htm\) in it"):
        list_papers(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        list_papers(tmp_path / "none")


def test_ids_are_file_names_in_lower_case_with_underscores(tmp_path: Path) -> None:
    make(tmp_path, "QLoRA (v2).md", "2305.14314.pdf", "Über-Modell.txt", "論文.md", "!!.md")
    ids = document_ids(list_papers(tmp_path), tmp_path)
    assert {path.name: name for path, name in ids.items()} == {
        "QLoRA (v2).md": "qlora_v2",
        "2305.14314.pdf": "2305_14314",
        "Über-Modell.txt": "uber_modell",
        "論文.md": "論文",
        "!!.md": "paper",
    }


def test_files_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    make(tmp_path, "2021/lora.md", "2022/lora.pdf", "rag.md")
    assert sorted(document_ids(list_papers(tmp_path), tmp_path).values()) == ["2021_lora_md", "2022_lora_pdf", "rag"]


def test_names_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "a b.md", "a-b.md")
    with pytest.raises(InputError, match=r"a b\.md and a-b\.md would both be known as 'a_b_md'"):
        document_ids(list_papers(tmp_path), tmp_path)


def test_an_empty_paper_and_another_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\ntitle: only a head\n---\n  \n")
    with pytest.raises(InputError, match="it is empty"):
        read_paper(tmp_path / "a.md", id="a")
    make(tmp_path, "a.docx")
    with pytest.raises(InputError, match=r"'\.docx' is not a paper's format"):
        open_paper(tmp_path / "a.docx", id="a")
