"""A folder with LaTeX source: one paper for each main file; its parts, figures and print are not papers."""

from pathlib import Path

from mlx_ragtune.papers.folder import document_ids, paper_digests, survey

MAIN = "\\documentclass{article}\n\\begin{document}\n%s\n\\end{document}\n"


def make(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def eprint(folder: Path) -> None:
    """A folder as arXiv ships it."""
    make(
        folder,
        qlora__main_dot_tex=MAIN % r"\usepackage{own}\input{sections/intro}\includegraphics{figs/one}\bibliography{x}",
        qlora__main_dot_bbl=r"\begin{thebibliography}{1}\end{thebibliography}",
        qlora__own_dot_sty="",
        qlora__other_dot_sty="",
        qlora__sections__intro_dot_tex=r"Intro \input{sections/inner}",
        qlora__sections__inner_dot_tex="inner",
        qlora__sections__old_dot_tex="An old part.",
        qlora__figs__one_dot_pdf="%PDF",
        qlora__figs__two_dot_pdf="%PDF",
        qlora__main_dot_pdf="%PDF",
        qlora__plot_dot_tex=r"\documentclass[tikz]{standalone}",
    )


def test_an_eprint_is_one_paper_and_the_rest_of_it_is_listed(tmp_path: Path) -> None:
    eprint(tmp_path)
    make(tmp_path, b_dot_pdf="%PDF", c_dot_md="text")
    found = survey(tmp_path)
    assert [paper.name for paper in found.papers] == ["b.pdf", "c.md", "qlora/main.tex"]
    assert dict(found.ignored) == {
        "qlora/figs/one.pdf": "a figure of 'qlora/main.tex'",
        "qlora/figs/two.pdf": "in the folder of the LaTeX source 'qlora/main.tex'",
        "qlora/main.bbl": "part of 'qlora/main.tex'",
        "qlora/main.pdf": "the print of 'qlora/main.tex', which is read",
        "qlora/other.sty": "'.sty' is not a supported format",
        "qlora/own.sty": "part of 'qlora/main.tex'",
        "qlora/plot.tex": r"a drawing (\documentclass{standalone})",
        "qlora/sections/inner.tex": "part of 'qlora/main.tex'",
        "qlora/sections/intro.tex": "part of 'qlora/main.tex'",
        "qlora/sections/old.tex": r"has no \documentclass, and 'qlora/main.tex' does not include it",
    }


def test_the_digest_covers_every_part_and_nothing_else(tmp_path: Path) -> None:
    eprint(tmp_path)

    def digest() -> str:
        return paper_digests(tmp_path)["qlora/main.tex"]

    before = digest()
    make(tmp_path, qlora__sections__old_dot_tex="changed", qlora__figs__one_dot_pdf="changed")
    assert digest() == before
    for name in ("sections/inner.tex", "main.bbl", "own.sty", "main.tex"):
        path = tmp_path / "qlora" / name
        kept = path.read_text()
        path.write_text(kept + " more")
        assert digest() != before, name
        path.write_text(kept)
    assert digest() == before


def test_several_main_files_and_files_without_a_class_are_papers(tmp_path: Path) -> None:
    make(tmp_path, a_dot_tex=MAIN % "A", b_dot_tex=MAIN % "B", a_dot_pdf="%PDF", c_dot_pdf="%PDF")
    assert [paper.name for paper in survey(tmp_path).papers] == ["a.tex", "b.tex", "c.pdf"]
    make(tmp_path, notes__one_dot_tex=r"\section{One} \input{two}", notes__two_dot_tex="Two")
    found = survey(tmp_path)
    assert [paper.name for paper in found.papers] == ["a.tex", "b.tex", "c.pdf"]
    (tmp_path / "a.tex").unlink()
    (tmp_path / "b.tex").unlink()
    assert [paper.name for paper in survey(tmp_path).papers] == ["a.pdf", "c.pdf", "notes/one.tex"]


def test_archives_and_other_packed_files_are_told_apart(tmp_path: Path) -> None:
    names = (
        "arXiv-2305.14314v1.tar.gz",
        "2305.14314.gz",
        "paper.tex.gz",
        "old.tgz",
        "data.csv.gz",
        "x.docm",
        "~$a.docx",
    )
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    found = survey(tmp_path)
    assert [paper.name for paper in found.papers] == sorted(names[:4])
    assert dict(found.ignored) == {
        "data.csv.gz": "'.csv.gz' is not a supported format",
        "x.docm": "'.docm' may hold macros; save it as .docx",
        "~$a.docx": "a lock file of Word",
    }
    assert document_ids(["arXiv-2305.14314v1.tar.gz", "a.tar", "2305.14314.gz"]) == {
        "arXiv-2305.14314v1.tar.gz": "arxiv_2305_14314v1", "a.tar": "a", "2305.14314.gz": "2305_14314",
    }  # fmt: skip


def test_pages_that_a_browser_saved_beside_a_page_are_part_of_it(tmp_path: Path) -> None:
    make(tmp_path, paper_dot_html="x", paper_files__frame_dot_html="x", my_files__own_dot_html="x")
    found = survey(tmp_path)
    assert [paper.name for paper in found.papers] == ["my_files/own.html", "paper.html"]
    assert found.ignored == (("paper_files/frame.html", "part of the saved page 'paper.html'"),)
