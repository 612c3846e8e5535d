"""Two small papers, one of them a real PDF, with questions and pairs on them."""

from dataclasses import replace
from pathlib import Path

from mlx_ragtune.papers.chunks import Chunking, split
from mlx_ragtune.papers.pdf import read_pdf
from mlx_ragtune.papers.token_counts import Estimate
from mlx_ragtune.records import Document, Evidence, Nugget, Pair, Question, Section
from mlx_ragtune.retrieval.index import Index, build_index
from mlx_ragtune.reviewing.review_items import ReviewItem
from mlx_ragtune.reviewing.review_log import ReviewLog
from mlx_ragtune.reviewing.review_places import Library
from mlx_ragtune.reviewing.review_session import Session
from tests.papers.made import PdfPage, write_pdf

TITLE = "Lynx Populations of the Northern Valley"
EVIL = "<script>alert(1)</script> & <b>bold</b>"
QUOTE = "The survey of 1998 counted 412 lynxes in the northern valley."
OTHER = "Herons return to the same nest for nine years."


def write_paper(path: Path) -> Path:
    """Two pages; the quote is on the second one and breaks over two lines."""
    first = PdfPage().add(TITLE, size=18)
    first.add(*(f"Line {at} of the introduction tells how the survey was planned and paid." for at in range(20)))
    second = PdfPage().heading("2 Results", size=12)
    second.add("The survey of 1998 counted 412 lynxes in the", "northern valley. It was repeated two years later.")
    return write_pdf(path, [first, second])


def library(folder: Path) -> Library:
    """The papers as the corpus stage would read them."""
    folder.mkdir(parents=True, exist_ok=True)
    pdf = write_paper(folder / "lynx.pdf")
    text = f"Herons\n\n{OTHER} They feed on fish. 中文句子也在这里。\n"
    heron = Document("heron", "heron.md", EVIL, text, sections=(Section("", 0, len(text)),))
    documents = [read_pdf(pdf, "lynx").document, heron]
    chunks = {one.id: split(one, Chunking(64, 0, Estimate())).chunks for one in documents}
    build_index(folder / "index.sqlite", [chunk for own in chunks.values() for chunk in own])
    files = {"lynx": pdf, "heron": folder / "heron.md"}
    return Library({one.id: one for one in documents}, chunks, files, Index(folder / "index.sqlite"))


def question(at: int = 0) -> ReviewItem:
    """A drafted question with its quote."""
    row = Question(
        f"q{at}",
        "lynx",
        f"How many lynxes did the survey number {at} of the northern valley count?",
        True,
        ("lynx",),
        f'"{TITLE}" reports 412 lynxes.',
        nuggets=(Nugget("The survey counted 412 lynxes.", (("412",), ("lynx", "lynxes"))),),
        origin="drafted",
        evidence=(Evidence("lynx", QUOTE),),
    )
    return ReviewItem("benchmark", row)


def refused(at: int = 0) -> ReviewItem:
    """An off-corpus question."""
    row = Question(
        f"o{at}",
        "off",
        f"What is the capital of country number {at}?",
        False,
        (),
        "The papers do not say this.",
        refusal_kind="off_corpus",
        origin="drafted",
    )
    return ReviewItem("benchmark", row)


def pair(at: int = 0, task: str = "grounded") -> ReviewItem:
    """A grounded pair on the paper with the markup in its title."""
    row = Pair(
        f"p{at}",
        "grounded",
        f"For how many years do herons in case {at} return to the same nest?",
        f'According to "{EVIL}", herons return to the same nest for nine years.',
        ("heron",),
        (Evidence("heron", OTHER),),
    )
    return ReviewItem("pairs", row, task)


def session(folder: Path, *, questions: int = 4, refusals: int = 2, pairs: int = 3) -> Session:
    """A session on all of them, with the papers, and samples that take in everything."""
    made = Session(
        "small",
        {
            "benchmark": [*map(question, range(questions)), *map(refused, range(refusals))],
            "pairs": [pair(at) for at in range(pairs)],
        },
        ReviewLog(folder / "run" / "reviews.jsonl"),
        7,
        library(folder / "papers"),
    )
    made.plan(None)
    return made


def changed(item: ReviewItem) -> ReviewItem:
    """The item with another question."""
    return replace(item, row=replace(item.row, question=f"{item.row.question[:-1]} today?"))
