"""Papers of arXiv: slowly, once, again after a failure, and never another file without a word."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_ragtune import __version__
from mlx_ragtune.clients import arxiv, arxiv_shelf
from mlx_ragtune.clients.arxiv import ArxivClient, arxiv_address
from mlx_ragtune.clients.arxiv_shelf import NOT_DOWNLOADED, ArxivShelf
from mlx_ragtune.errors import InputError, RecipeError, ToolError
from mlx_ragtune.papers.arxiv_ids import ArxivId
from tests.clients.arxiv_server import Upstream, arxiv_server
from tests.papers.made import page, write_pdf

QLORA, OLD = "2305.14314", "cs/0112017"


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    with arxiv_server() as server:
        monkeypatch.setenv("RAGTUNE_ARXIV", server.address)
        monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("RAGTUNE_OFFLINE", raising=False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        server.add(QLORA, pdf(tmp_path, "first"), version=1, title="QLoRA: Efficient\n  Finetuning")
        server.add(QLORA, pdf(tmp_path, "second"), version=2, title="QLoRA: Efficient\n  Finetuning")
        server.add(OLD, pdf(tmp_path, "old"), title="An Old Paper")
        yield server


def pdf(folder: Path, text: str) -> bytes:
    return write_pdf(folder / "made.pdf", [page(f"The {text} version.")]).read_bytes()


class Bring:
    """Brings papers into a project; keeps what was said and how long it waited."""

    def __init__(self, folder: Path) -> None:
        self.records = folder / "arxiv.jsonl"
        self.said: list[str] = []
        self.waited: list[float] = []

    def __call__(self, *ids: str) -> list[arxiv_shelf.ArxivPaper]:
        self.shelf.bring(ids, say=self.said.append, wait=self.waited.append)
        return self.shelf.papers(ids)

    @property
    def shelf(self) -> ArxivShelf:
        return ArxivShelf(self.records)


@pytest.fixture
def bring(tmp_path: Path) -> Bring:
    return Bring(tmp_path)


def test_papers_come_with_title_authors_and_year_under_names_without_a_slash(upstream: Upstream, bring: Bring) -> None:
    new, old = bring(QLORA, OLD)
    assert (new.file.name, old.file.name) == ("arxiv/2305.14314.pdf", "arxiv/cs_0112017.pdf")
    assert (new.file.path.name, old.file.path.name) == ("2305.14314v2.pdf", "cs_0112017v1.pdf")
    assert new.file.path.read_bytes() == upstream.pdfs[f"{QLORA}v2"]
    assert new.record is not None
    assert (new.record.title, new.record.authors) == ("QLoRA: Efficient Finetuning", ("Tim Dettmers", "Kurt Gödel"))
    assert (new.record.year, new.file.problem, old.file.problem) == (2023, "", "")
    assert upstream.agents == {f"mlx-ragtune/{__version__}"}


def test_a_version_in_the_id_is_the_version_that_comes(upstream: Upstream, bring: Bring) -> None:
    assert bring(f"{QLORA}v1")[0].file.path.read_bytes() == upstream.pdfs[f"{QLORA}v1"]
    assert bring.shelf.papers([f"{QLORA}v1"])[0].file.name == "arxiv/2305.14314v1.pdf"


def test_requests_are_three_seconds_apart_also_between_processes(upstream: Upstream, bring: Bring) -> None:
    bring(QLORA, OLD)
    assert len(upstream.requests) == 3, "one description of all papers, then the PDFs"
    assert len(bring.waited) == 2
    bring(f"{QLORA}v1")
    assert len(bring.waited) == 4, "the first request of a new client waits for the last one of the old client"
    assert all(2 < seconds <= 3 for seconds in bring.waited)


def test_what_is_there_is_not_asked_for_again(
    upstream: Upstream, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(QLORA, OLD)
    before = len(upstream.requests)
    bring(QLORA, OLD)
    assert len(upstream.requests) == before
    monkeypatch.setenv("RAGTUNE_OFFLINE", "1")
    assert [paper.file.problem for paper in bring(QLORA, OLD)] == ["", ""]
    with pytest.raises(ToolError, match=r"2305\.14314v1: not downloaded yet, and downloads are switched off"):
        bring(QLORA, f"{QLORA}v1")


def test_a_download_that_stops_goes_on_where_it_stopped(upstream: Upstream, bring: Bring) -> None:
    bring(OLD)
    upstream.faults = [(503, {})] * 99
    with pytest.raises(ToolError, match=r"arXiv 2305\.14314.*HTTP 503") as caught:
        bring(OLD, QLORA)
    assert "kept" in caught.value.fix
    upstream.faults.clear()
    before = len(upstream.requests)
    assert all(not paper.file.problem for paper in bring(OLD, QLORA))
    assert [request for request in upstream.requests[before:] if request.startswith("/pdf")] == [f"/pdf/{QLORA}v2"]


def test_a_busy_server_is_asked_again_with_growing_pauses_and_as_late_as_it_says(
    upstream: Upstream, bring: Bring
) -> None:
    upstream.faults = [(503, {"Retry-After": "45"}), (0, {}), (429, {})]
    bring(QLORA)
    pauses = [seconds for seconds in bring.waited if seconds > 3]
    assert pauses == [45, 12, 24]
    assert sum("trying again" in line for line in bring.said) == 3


def test_a_server_that_asks_to_wait_too_long_is_not_waited_for(upstream: Upstream, bring: Bring) -> None:
    upstream.faults = [(503, {"Retry-After": "7200"})]
    with pytest.raises(ToolError, match="asks to wait 7200 seconds"):
        bring(QLORA)
    assert len(upstream.requests) == 1


def test_a_server_that_forbids_is_not_taken_for_one_without_the_paper(upstream: Upstream, bring: Bring) -> None:
    upstream.faults = [(403, {})]
    with pytest.raises(ToolError, match="cannot download from arXiv: HTTP 403"):
        bring(QLORA)
    upstream.faults = [(404, {})]
    with pytest.raises(ToolError, match="HTTP 404"):
        bring(QLORA)
    assert not bring(QLORA)[0].file.problem, "nothing of that was recorded"


def test_ids_that_arxiv_does_not_have_are_named_and_the_others_come(upstream: Upstream, bring: Bring) -> None:
    absent, withdrawn, version = "2401.00001", "2402.00002", f"{QLORA}v9"
    upstream.add(withdrawn, b"", comment="This paper has been withdrawn by the author")
    del upstream.pdfs[f"{withdrawn}v1"]
    papers = {paper.file.name: paper.file.problem for paper in bring(absent, withdrawn, version, OLD)}
    assert papers == {
        "arxiv/2401.00001.pdf": "arXiv does not have it",
        "arxiv/2402.00002.pdf": "arXiv: it was withdrawn, 2402.00002v1 has no PDF",
        "arxiv/2305.14314v9.pdf": "arXiv does not have it",
        "arxiv/cs_0112017.pdf": "",
    }
    before = len(upstream.requests)
    bring(absent, withdrawn, version, OLD)
    assert len(upstream.requests) == before, "not asked again on the same day"


def test_a_page_instead_of_a_pdf_is_not_kept(upstream: Upstream, bring: Bring) -> None:
    upstream.pdfs[f"{OLD}v1"] = b"<html>Please wait</html>"
    assert bring(OLD)[0].file.problem == "arXiv: no PDF of cs/0112017v1 (no PDF)"
    assert not list((bring.records.parent / "cache" / "arxiv").glob("*.p*"))


def test_another_file_under_the_same_id_is_refused_until_the_user_accepts_it(
    upstream: Upstream, bring: Bring, tmp_path: Path
) -> None:
    paper = bring(QLORA)[0]
    paper.file.path.unlink()
    assert not bring(QLORA)[0].file.problem, "the same bytes come again"
    paper.file.path.unlink()
    upstream.pdfs[f"{QLORA}v2"] = pdf(tmp_path, "changed")
    with pytest.raises(InputError, match=r"another file for 2305\.14314v2 than the first time: sha256") as caught:
        bring(QLORA)
    assert caught.value.where == "arXiv 2305.14314"
    assert str(bring.records) in caught.value.fix
    assert not paper.file.path.exists()
    bring.records.write_text("")
    assert bring(QLORA)[0].file.path.read_bytes() == upstream.pdfs[f"{QLORA}v2"]


def test_a_damaged_copy_is_downloaded_again(upstream: Upstream, bring: Bring) -> None:
    path = bring(QLORA)[0].file.path
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"x")
    assert bring.shelf.papers([QLORA])[0].file.problem == NOT_DOWNLOADED
    bring(QLORA)
    assert path.read_bytes() == good


def test_a_newer_version_is_told_and_the_corpus_stays(
    upstream: Upstream, bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(QLORA, f"{QLORA}v1", OLD)
    upstream.add(QLORA, pdf(tmp_path, "third"), version=3)
    monkeypatch.setattr(arxiv_shelf, "STALE_SECONDS", 0)
    bring.said.clear()
    before = len(upstream.requests)
    assert bring(QLORA, f"{QLORA}v1", OLD)[0].file.path.name == "2305.14314v2.pdf"
    assert bring.said == ["note: arXiv has 2305.14314v3; the corpus uses 2305.14314v2"]
    assert upstream.requests[before:] == [f"/api/query?id_list={QLORA},{OLD}&max_results=2"]
    upstream.faults = [(503, {})] * 99
    bring.said.clear()
    assert not bring(QLORA)[0].file.problem
    assert bring.said[-1].startswith("arXiv was not asked for newer versions")


def test_the_records_hold_a_checksum_and_survive_a_torn_line(upstream: Upstream, bring: Bring) -> None:
    paper = bring(QLORA)[0]
    row = json.loads(bring.records.read_text().splitlines()[-1])
    assert len(row["sha256"]) == 64
    with bring.records.open("a") as stream:
        stream.write('{"paper": "2305')
    assert bring.shelf.papers([QLORA])[0] == paper


@pytest.mark.parametrize(
    "address", ["http://example.org", "https://export.arxiv.org.evil.example", "ftp", "http://10.0.0.1"]
)
def test_only_a_server_on_this_machine_can_replace_arxiv(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGTUNE_ARXIV", address)
    with pytest.raises(RecipeError, match="not on this machine"):
        arxiv_address()
    monkeypatch.delenv("RAGTUNE_ARXIV")
    assert arxiv_address() == "https://export.arxiv.org"


def test_a_redirect_elsewhere_is_not_followed(upstream: Upstream, tmp_path: Path) -> None:
    upstream.faults = [(302, {"Location": "http://localhost:1/evil"})]
    with (
        ArxivClient(tmp_path / "pace", wait=lambda _seconds: None) as client,
        pytest.raises(arxiv.NotThereError, match="redirected to localhost"),
    ):
        client.pdf(ArxivId(QLORA, 1))
