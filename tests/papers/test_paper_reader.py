"""Whatever a file does to its parser, it is one unreadable paper, and the next one is read."""

import os
import signal
from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.chunks import Chunking, split
from mlx_ragtune.papers.paper_reader import Limits, PaperReader
from mlx_ragtune.papers.reading import open_paper
from tests.papers.made import flate_bomb, form_bomb, page, write_pdf

WORDS = "Low-rank adapters leave the weights of the base model as they are. "


def test_a_paper_is_read_as_without_the_second_process(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text(f'---\ntitle: "A Title"\nauthors: [A, B]\n---\n# One\n\n{WORDS * 20}\n\n# Empty\n\x07\n')
    with PaperReader(chunk_tokens=64) as reader:
        paper = reader.read(path, "a")
    reading = open_paper(path, id="a")
    chunked = split(reading.document, Chunking(tokens=64))
    assert (paper.document, paper.chunks, paper.tokens) == (reading.document, chunked.chunks, chunked.tokens)
    assert paper.dropped == (*reading.dropped, *chunked.dropped)
    assert {drop.reason for drop in paper.dropped} == {"control characters", "heading without text"}


def test_files_that_expand_without_end_are_refused_and_the_next_paper_is_read(tmp_path: Path) -> None:
    flate = flate_bomb(tmp_path / "flate.pdf", 192 * 2**20)
    forms = form_bomb(tmp_path / "forms.pdf")
    good = write_pdf(tmp_path / "good.pdf", [page("Words of a paper.")])
    assert max(flate.stat().st_size, forms.stat().st_size) < 2**16
    with PaperReader(chunk_tokens=64, limits=Limits(memory_bytes=128 * 2**20)) as reader:
        with pytest.raises(InputError, match="needs more than 128 MiB of memory"):
            reader.read(flate, "flate")
        assert reader.read(good, "good").document.text == "Words of a paper.\n\n"
    with PaperReader(chunk_tokens=64, limits=Limits(seconds=0.5, memory_bytes=2**32)) as reader:
        with pytest.raises(InputError, match=r"takes longer than 0\.5 seconds"):
            reader.read(forms, "forms")
        assert reader.read(good, "good").document.text == "Words of a paper.\n\n"


def test_a_crash_of_the_parser_and_a_vanished_file_are_unreadable_papers(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text(WORDS)
    with PaperReader(chunk_tokens=64) as reader:
        reader.read(tmp_path / "good.txt", "good")
        assert reader._process
        os.kill(reader._process.pid, signal.SIGSEGV)
        with pytest.raises(InputError, match=r"the reader crashed on it \(exit status -11\)"):
            reader.read(tmp_path / "good.txt", "good")
        with pytest.raises(InputError, match="cannot read: No such file"):
            reader.read(tmp_path / "gone.txt", "gone")
        assert reader.read(tmp_path / "good.txt", "good").document.text == WORDS


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", "<div>" * 20_000 + "deep" + "</div>" * 20_000),
        ("a.html", "<nav>" * 4_000 + "deep" + "</nav>" * 4_000 + "text"),
        ("a.html", "<p>&#x1b;&#xd83d;&#0;text</p>"),
        ("a.md", ">" * 100_000 + " deep"),
        ("a.md", "".join(f"{'  ' * depth}- item\n" for depth in range(500))),
        ("a.md", "# " + "x" + " " * 300_000 + "y\n"),
        ("a.md", "[" * 50_000 + "](" * 50_000),
        ("a.md", "```\n" * 5_001),
        ("a.txt", "x" * 300_000),
        ("a.txt", "x\n" * 20_000),
    ],
)
def test_deep_or_endless_text_is_read(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with PaperReader(chunk_tokens=512, limits=Limits(seconds=20, memory_bytes=2**29)) as reader:
        assert reader.read(tmp_path / name, "a").document.text.strip()


def test_modules_in_the_working_directory_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yaml.py").write_text("raise SystemExit(9)")
    (tmp_path / "a.txt").write_text(WORDS)
    monkeypatch.chdir(tmp_path)
    with PaperReader(chunk_tokens=64) as reader:
        assert reader.read(tmp_path / "a.txt", "a").document.text == WORDS
