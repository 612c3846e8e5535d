"""Catalogs: BibTeX as programs write it, CSL JSON, and which paper is which work."""

import json
from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.bibliography import match_papers, with_entry
from mlx_ragtune.papers.bibtex import Catalog, Entry, read_catalog
from mlx_ragtune.records import Document

BIB = r"""
@string{nips = "NeurIPS"}
@article{dettmers2023,
  title = {{{QLoRA}}: {Efficient Finetuning} of {{LLMs}}},
  author = {Dettmers, Tim and Pagnoni, Artidoro and {The Team}},
  date = {2023-05-23}, eprint = {2305.14314}, eprinttype = {arXiv}, journal = nips,
  file = {Full Text PDF:/home/u/Zotero/storage/ABCD/Dettmers et al. - 2023 - QLoRA.pdf:application/pdf;
    Snapshot:C\:\\Users\\u\\x.html:text/html},
}
@inproceedings{goedel, title = "{\"U}ber formal unentscheidbare S{\"a}tze",
 author = {G{\"o}del, Kurt and King, Jr., M. L. and others}, year = 1931, doi = {https://doi.org/10.1007/BF01700692}}
@misc{twice, title={One}, title={Two}, year={2020}}
@article{dettmers2023, title = {Again}}
@misc{broken, title = {no end
@online{plain, title = {A Paper Without Files}, url = {https://arxiv.org/abs/cs/0112017v1}}
"""


def catalog(folder: Path, text: str = BIB, name: str = "refs.bib") -> Catalog:
    (folder / name).write_text(text, encoding="utf-8")
    return read_catalog(folder / name)


def paper(title: str = "Something", text: str = "Text.", *, id: str = "p", arxiv: str | None = None) -> Document:  # noqa: A002
    return Document(id, "p.pdf", title, text, arxiv_id=arxiv)


def matched(works: Catalog, document: Document, name: str = "papers/other.pdf") -> tuple[str, str] | None:
    matches = match_papers(works, [(document, name)]).matches
    return (matches[0].key, matches[0].matched_by) if matches else None


def test_braces_accents_names_dates_files_and_ids_are_understood(tmp_path: Path) -> None:
    entries = {entry.key: entry for entry in catalog(tmp_path).entries}
    assert entries["dettmers2023"] == Entry(
        "dettmers2023",
        "QLoRA: Efficient Finetuning of LLMs",
        ("Tim Dettmers", "Artidoro Pagnoni", "The Team"),
        2023,
        arxiv_id="2305.14314",
        files=("Dettmers et al. - 2023 - QLoRA.pdf", "x.html"),
    )
    assert entries["goedel"].title == "Über formal unentscheidbare Sätze"
    assert entries["goedel"].authors == ("Kurt Gödel", "M. L. King Jr.")
    assert (entries["goedel"].year, entries["goedel"].doi) == (1931, "10.1007/bf01700692")
    assert entries["plain"].arxiv_id == "cs/0112017"
    assert entries["twice"].title == "One"


def test_the_extended_names_and_subtitles_of_biblatex_are_understood(tmp_path: Path) -> None:
    text = (
        "@book{a, title={QLoRA}, subtitle={Efficient Finetuning}, author={given=Ada, family=Lovelace and family=Gödel,"
    )
    entry = catalog(tmp_path, text + " given=Kurt, prefix=von}}").entries[0]
    assert (entry.title, entry.authors) == ("QLoRA: Efficient Finetuning", ("Ada Lovelace", "Kurt von Gödel"))


def test_broken_entries_are_listed_with_their_lines(tmp_path: Path) -> None:
    assert catalog(tmp_path).problems == (
        "refs.bib:12: a field is given twice; the first counts",
        "refs.bib:13: the key 'dettmers2023' is used twice; the first entry counts",
        "refs.bib:14: the entry cannot be parsed: @misc{broken, title = {no end",
    )


@pytest.mark.parametrize("text", ["", "no entries", "@misc{x, title = {no end"])
def test_a_file_without_entries_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="it holds no entry"):
        catalog(tmp_path, text)


def test_csl_json_is_read_like_bibtex(tmp_path: Path) -> None:
    item = {
        "id": "http://zotero.org/1", "citation-key": "dettmers", "title": "<i>QLoRA</i>: Efficient",
        "author": [{"family": "Dettmers", "given": "Tim"}, {"literal": "The Team"}],
        "issued": {"date-parts": [["2023", 5, 23]]}, "DOI": "10.48550/arXiv.2305.14314",
    }  # fmt: skip
    works = catalog(tmp_path, json.dumps([item, {"id": "x"}]), "refs.json")
    assert works.entries == (
        Entry(
            "dettmers",
            "QLoRA: Efficient",
            ("Tim Dettmers", "The Team"),
            2023,
            "10.48550/arxiv.2305.14314",
            "2305.14314",
        ),
    )
    assert works.problems == ("refs.json: item 2 has no title",)
    for text in ("{", "[]", "3", "[[]]"):
        with pytest.raises(InputError, match=r"not JSON|no entry"):
            catalog(tmp_path, text, "refs.json")


def test_a_paper_is_known_by_file_id_name_doi_or_title(tmp_path: Path) -> None:
    works = catalog(tmp_path)
    assert matched(works, paper(), "a/dettmers et al. - 2023 - qlora.PDF") == ("dettmers2023", "file")
    assert matched(works, paper(arxiv="2305.14314")) == ("dettmers2023", "arXiv id")
    assert matched(works, paper(), "2305.14314v2.pdf") == ("dettmers2023", "arXiv id")
    assert matched(works, paper(), "x/Goedel.pdf") == ("goedel", "file name")
    assert matched(works, paper(text="https://doi.org/10.1007/BF01700692.\nText")) == ("goedel", "DOI")
    assert matched(works, paper("QLORA: Efficient fine-tuning of LLMs")) == ("dettmers2023", "title")
    assert matched(works, paper("Qlora: eficient finetuning of LLMs")) == ("dettmers2023", "title")
    assert matched(works, paper(), "A_Paper_Without_Files (2).pdf") == ("plain", "file name")
    assert matched(works, paper("x", "Journal\nA Paper Without Files\nWe…")) == ("plain", "title in the text")
    assert matched(works, paper("Another Paper", "A long text. " * 400 + "A Paper Without Files")) is None


def test_versions_of_a_name_are_different_works(tmp_path: Path) -> None:
    works = catalog(tmp_path, "@misc{two, title={Llama 2: Open Foundation Models}}")
    assert matched(works, paper("Llama 3: Open Foundation Models")) is None
    assert matched(works, paper("Llama 2: Open Foundation Models.")) == ("two", "title")


def test_entries_and_papers_that_match_nothing_are_listed(tmp_path: Path) -> None:
    works = catalog(tmp_path, BIB + "@misc{copy, title={QLoRA: Efficient Finetuning of LLMs}}")
    matches = match_papers(works, [(paper(id="a", arxiv="2305.14314"), "a.pdf"), (paper(id="b"), "b.pdf")])
    assert matches.without_entry == ("b",)
    assert dict(matches.unused) == {
        "goedel": "no paper", "twice": "no paper", "plain": "no paper", "copy": "the same title as 'dettmers2023'",
    }  # fmt: skip


def test_an_entry_gives_what_it_has_and_the_paper_keeps_the_rest() -> None:
    document = Document("p", "p.pdf", "Own title", "x", authors=("A",), year=2000)
    assert with_entry(document, Entry("k", "New title")) == Document("p", "p.pdf", "New title", "x", ("A",), 2000)
    assert with_entry(document, Entry("k", authors=("B",), year=2001, arxiv_id="2305.14314")) == Document(
        "p", "p.pdf", "Own title", "x", ("B",), 2001, "2305.14314"
    )
