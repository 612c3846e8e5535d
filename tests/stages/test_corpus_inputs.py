"""The corpus stage with all formats, ids of arXiv, a bibliography and scans, as a user runs it."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.clients import arxiv_shelf
from mlx_ragtune.clients.ocr import ocr_problem
from mlx_ragtune.errors import RecipeError
from mlx_ragtune.jsonl import read_dicts
from mlx_ragtune.recipe_load import load_recipe
from tests.clients.arxiv_server import Upstream, arxiv_server
from tests.papers.made import PdfPage, page, write_pdf
from tests.papers.packages import par, write_docx, write_epub, write_tar
from tests.stages.project import edit, make_project, ragtune, rows, run_folder

QLORA = "2305.14310"
"""An id that ends in zero: read as a number, it would be another one."""
WORDS = "This sentence is long enough to be a chunk of its own in a corpus of papers. "


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_project(tmp_path)
    return tmp_path


@pytest.fixture
def upstream(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    with arxiv_server() as server:
        monkeypatch.setenv("RAGTUNE_ARXIV", server.address)
        monkeypatch.setenv("RAGTUNE_CACHE", str(home / "cache"))
        monkeypatch.setattr("mlx_ragtune.clients.arxiv.SPACING_SECONDS", 0.0)
        monkeypatch.setattr("mlx_ragtune.clients.arxiv_shelf.is_offline", lambda: False)
        server.add(QLORA, write_pdf(home / "x.pdf", [page("Printed title", WORDS)]).read_bytes(), title="QLoRA")
        yield server


def recipe_of(home: Path) -> Path:
    return home / "recipes" / "small.yaml"


def corpus(home: Path) -> tuple[list[dict[str, Any]], str]:
    """The documents after ``ragtune corpus``, and what it said."""
    done = ragtune("corpus", recipe_of(home), cwd=home)
    assert done.returncode == 0, done.stderr
    return rows(run_folder(home) / "1-corpus" / "documents.jsonl"), done.stderr


def by_id(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in documents}


def test_every_format_becomes_a_document_with_chunks(home: Path) -> None:
    papers = home / "papers"
    write_docx(papers / "word.docx", par("Methods", "berschrift1") + par(WORDS))
    write_epub(papers / "book.epub", {"a": f"<h1>Chapter</h1><p>{WORDS}</p>"})
    source = rf"\documentclass{{article}}\title{{Tex}}\begin{{document}}\section{{Intro}}{WORDS}\end{{document}}"
    write_tar(papers / "2305.14314v1.tar.gz", {"ms.tex": source})
    (papers / "tex").mkdir()
    (papers / "tex" / "main.tex").write_text(source.replace("{Tex}", "{Other}"))
    documents, _ = corpus(home)
    found = by_id(documents)
    assert {"word", "book", "2305_14314v1", "main"} <= set(found)
    assert found["2305_14314v1"]["arxiv_id"] == "2305.14314"
    chunks = {row["document_id"]: row for row in rows(run_folder(home) / "1-corpus" / "chunks.jsonl")}
    assert [(chunks[name]["section"], chunks[name]["page"]) for name in ("word", "book", "main")] == [
        ("Methods", 1), ("Chapter", 1), ("Intro", 1),
    ]  # fmt: skip


def test_ids_of_arxiv_are_downloaded_once_and_then_need_no_network(
    home: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(home)
    edit(recipe, corpus={"arxiv": [QLORA]})
    recipe.write_text(recipe.read_text().replace(f"'{QLORA}'", QLORA))
    assert f"- {QLORA}\n" in recipe.read_text(), "without quotes"
    assert load_recipe(recipe).corpus.arxiv == (QLORA,)
    status = ragtune("status", recipe, cwd=home)
    assert upstream.requests == [], status.stderr
    documents, said = corpus(home)
    paper = by_id(documents)["2305_14310"]
    assert (paper["title"], paper["year"], paper["arxiv_id"]) == ("QLoRA", 2023, QLORA)
    assert paper["authors"] == ["Tim Dettmers", "Kurt Gödel"]
    assert "arXiv: 2305.14310v1 downloaded" in said
    chunks = [row for row in rows(run_folder(home) / "1-corpus" / "chunks.jsonl") if row["document_id"] == paper["id"]]
    assert {row["title"] for row in chunks} == {"QLoRA"}
    requests = len(upstream.requests)
    monkeypatch.setattr("mlx_ragtune.clients.arxiv_shelf.is_offline", lambda: True)
    assert "up to date" in corpus(home)[1]
    recipe.write_text(re.sub(r"chunk_tokens: \d+", "chunk_tokens: 64", recipe.read_text()))
    assert "corpus: done" in corpus(home)[1]
    assert len(upstream.requests) == requests


def test_ids_alone_are_a_corpus_and_one_of_both_is_needed(home: Path, upstream: Upstream) -> None:
    recipe = recipe_of(home)
    edit(recipe, corpus={"arxiv": [QLORA]})
    recipe.write_text(re.sub(r"\n  folder: .*papers", "", recipe.read_text()))
    assert [row["id"] for row in corpus(home)[0]] == ["2305_14310"]
    edit(recipe, corpus={"arxiv": []})
    with pytest.raises(RecipeError, match="corpus: give 'folder', 'arxiv' or both"):
        load_recipe(recipe)


@pytest.mark.parametrize("text", ["2305.1431", "2313.14314", "cs/123", "2305.14314v0", "x", "../2305.14314", "", "[1]"])
def test_what_is_not_an_id_is_refused_by_the_recipe(home: Path, text: str) -> None:
    edit(recipe_of(home), corpus={"arxiv": [text]})
    with pytest.raises(RecipeError, match=r"small\.yaml:\d+: corpus\.arxiv"):
        load_recipe(recipe_of(home))


def test_an_id_that_arxiv_does_not_have_stops_the_run_or_is_skipped_as_the_recipe_says(
    home: Path, upstream: Upstream
) -> None:
    edit(recipe_of(home), corpus={"arxiv": ["2401.00001", QLORA]})
    done = ragtune("corpus", recipe_of(home), cwd=home)
    assert done.returncode == 3
    assert "arxiv/2401.00001.pdf: arXiv does not have it" in done.stderr
    edit(recipe_of(home), corpus={"on_unreadable": "skip"})
    documents, said = corpus(home)
    assert "2305_14310" in by_id(documents)
    assert "skipped arxiv/2401.00001.pdf: arXiv does not have it" in said


def test_another_file_upstream_is_noticed_after_the_cache_was_removed(home: Path, upstream: Upstream) -> None:
    edit(recipe_of(home), corpus={"arxiv": [QLORA]})
    corpus(home)
    for path in (home / "cache" / "arxiv").glob("*.pdf"):
        path.unlink()
    upstream.pdfs[f"{QLORA}v1"] = write_pdf(home / "y.pdf", [page("Other words", WORDS)]).read_bytes()
    done = ragtune("corpus", recipe_of(home), cwd=home)
    assert done.returncode == 3
    assert "arXiv serves another file for 2305.14310v1 than the first time" in done.stderr
    assert arxiv_shelf.RECORDS in done.stderr


def test_a_bibliography_gives_titles_authors_and_years_and_lists_what_matches_nothing(home: Path) -> None:
    (home / "papers" / "Hu 2021.txt").write_text(f"lora.txt\n\n{WORDS}")
    (home / "refs.bib").write_text(
        '@article{hu, title={{LoRA}: Low-Rank {\\"A}daptation}, author={Hu, Edward J. and G{\\"o}del, Kurt},\n'
        " year=2021, file={:Hu 2021.txt:text/plain}}\n@misc{unused, title={Nobody Reads This Paper}}\n"
        "@misc{bad, title={"
    )
    edit(recipe_of(home), corpus={"bibliography": "../refs.bib"})
    documents, said = corpus(home)
    paper = by_id(documents)["hu_2021"]
    assert (paper["title"], paper["authors"], paper["year"]) == (
        "LoRA: Low-Rank Ädaptation", ["Edward J. Hu", "Kurt Gödel"], 2021,
    )  # fmt: skip
    assert "refs.bib: 1 of " in said
    assert "refs.bib: 1 entries without a paper: unused" in said
    assert "papers without an entry: " in said
    assert "1 entries that cannot be read: refs.bib:4: the entry cannot be parsed" in said
    listed = list(read_dicts(run_folder(home) / "1-corpus" / "bibliography.jsonl"))
    assert {"paper": "hu_2021", "entry": "hu", "by": "file"} in listed
    assert {"paper": None, "entry": "unused", "by": "no paper"} in listed
    chunk = next(row for row in rows(run_folder(home) / "1-corpus" / "chunks.jsonl") if row["document_id"] == "hu_2021")
    assert chunk["title"] == "LoRA: Low-Rank Ädaptation"
    assert "up to date" in corpus(home)[1]
    (home / "refs.bib").write_text("@article{hu, title={Another Title}, file={:Hu 2021.txt:text/plain}}")
    assert by_id(corpus(home)[0])["hu_2021"]["title"] == "Another Title"


def test_a_bibliography_without_entries_is_refused_before_anything_runs(home: Path) -> None:
    (home / "refs.bib").write_text("")
    edit(recipe_of(home), corpus={"bibliography": "../refs.bib"})
    done = ragtune("corpus", recipe_of(home), cwd=home)
    assert done.returncode == 3
    assert "it holds no entry" in done.stderr


OCR = """import shutil, sys
assert sys.argv[1:4] == ["--quiet", "--output-type", "pdf"], sys.argv
open({log!r}, "a").write(" ".join(sys.argv[4:-2]) + "\\n")
if "xxx" in " ".join(sys.argv):
    print("OCR engine does not have language data for: xxx", file=sys.stderr)
    sys.exit(3)
shutil.copyfile({text!r}, sys.argv[-1])
"""


@pytest.fixture
def fake_ocr(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of OCRmyPDF and Tesseract, which reads the same page in every scan. Returns its log."""
    package, log = home / "fake" / "ocrmypdf", home / "ocr.log"
    package.mkdir(parents=True)
    text = write_pdf(home / "recognized.pdf", [page("Recognized title", WORDS)])
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(OCR.format(log=str(log), text=str(text)))
    tesseract = home / "fake" / "bin" / "tesseract"
    tesseract.parent.mkdir()
    tesseract.write_text("#!/bin/sh\n")
    tesseract.chmod(0o755)
    monkeypatch.syspath_prepend(str(home / "fake"))
    monkeypatch.setenv("PYTHONPATH", str(home / "fake"))
    monkeypatch.setenv("PATH", f"{tesseract.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("RAGTUNE_CACHE", str(home / "cache"))
    return log


def test_scans_are_read_by_ocr_once_and_the_file_stays_as_it_is(home: Path, fake_ocr: Path) -> None:
    scan = write_pdf(home / "papers" / "scan.pdf", [PdfPage(), PdfPage()])
    before = (scan.read_bytes(), scan.stat().st_mtime_ns)
    assert "it is scanned; run OCR on it: ocrmypdf scan.pdf" in ragtune("corpus", recipe_of(home), cwd=home).stderr
    assert not fake_ocr.exists(), "not without the key"
    edit(recipe_of(home), corpus={"ocr": True})
    paper = by_id(corpus(home)[0])["scan"]
    assert (paper["path"], "This sentence is long" in paper["text"]) == ("scan.pdf", True)
    assert (scan.read_bytes(), scan.stat().st_mtime_ns) == before
    edit(recipe_of(home), corpus={"chunk_tokens": 64})
    corpus(home)
    assert fake_ocr.read_text().splitlines() == [
        "--optimize 0 --skip-text --language eng --invalidate-digital-signatures --"
    ]
    edit(recipe_of(home), corpus={"ocr": "deu+eng"})
    corpus(home)
    assert "--language deu+eng" in fake_ocr.read_text()


def test_without_the_programs_a_scan_is_listed_and_read_once_they_are_there(
    home: Path, fake_ocr: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pdf(home / "papers" / "scan.pdf", [PdfPage()])
    edit(recipe_of(home), corpus={"ocr": True, "on_unreadable": "skip"})
    monkeypatch.setattr("mlx_ragtune.stages.corpus.ocr_problem", lambda: "the program tesseract is not installed")
    monkeypatch.setattr("mlx_ragtune.clients.ocr.ocr_problem", lambda: "the program tesseract is not installed")
    documents, said = corpus(home)
    assert "scan" not in by_id(documents)
    assert "skipped scan.pdf: no text on its 1 page: it is scanned; no OCR: the program tesseract is not" in said
    assert "run OCR on it: ocrmypdf scan.pdf OUT.pdf" in said
    assert "up to date" in corpus(home)[1]
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(home / "fake"))
    monkeypatch.setenv("PYTHONPATH", str(home / "fake"))
    monkeypatch.setenv("PATH", f"{home / 'fake' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("RAGTUNE_CACHE", str(home / "cache"))
    assert "scan" in by_id(corpus(home)[0])


def test_a_language_that_tesseract_lacks_stops_the_run(home: Path, fake_ocr: Path) -> None:
    write_pdf(home / "papers" / "scan.pdf", [PdfPage()])
    edit(recipe_of(home), corpus={"ocr": "xxx"})
    done = ragtune("corpus", recipe_of(home), cwd=home)
    assert done.returncode == 4
    assert "OCR cannot run: OCR engine does not have language data for: xxx" in done.stderr
    for text in ("--help", "eng;ls", "a b"):
        edit(recipe_of(home), corpus={"ocr": text})
        with pytest.raises(RecipeError, match=r"corpus\.ocr"):
            load_recipe(recipe_of(home))


@pytest.mark.skipif(bool(ocr_problem()), reason=f"no OCR here: {ocr_problem()}")
def test_a_real_scan_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pypdfium2 as pdfium

    monkeypatch.setenv("RAGTUNE_CACHE", str(home / "cache"))
    printed = write_pdf(home / "printed.pdf", [PdfPage().add("Adapters are small and cheap to train.", size=20)])
    document = pdfium.PdfDocument(printed)
    document[0].render(scale=3).to_pil().save(home / "papers" / "scan.pdf")
    edit(recipe_of(home), corpus={"ocr": True})
    assert "small and cheap" in by_id(corpus(home)[0])["scan"]["text"]
    assert sys.modules.get("ocrmypdf") is None, "it runs in a process of its own"
