"""A paper is known again under another name, format and version, and inside a book; a related paper is not."""

import random
import re
import time
from pathlib import Path

import pytest

from mlx_ragtune.papers.folder import document_ids, list_papers
from mlx_ragtune.papers.reading import open_paper
from mlx_ragtune.records import Document, Pair
from mlx_ragtune.synthesis.benchmark_view import BenchmarkView, held_out
from mlx_ragtune.synthesis.dedupe import contamination
from mlx_ragtune.synthesis.paper_copies import COPY, benchmark_copies, copies_by_paper

NOTES = Path(__file__).parents[2] / "data" / "rag_notes" / "papers"
FILES = list_papers(NOTES)
IDS = document_ids(file.name for file in FILES)
TEXTS = {IDS[file.name]: open_paper(file.path, id=IDS[file.name]).document.text for file in FILES}
QLORA = TEXTS["qlora"]
SENTENCES = re.split(r"(?<=\.)\s+", QLORA)


def wrapped(text: str, width: int = 60) -> str:
    """As printed on narrow pages: broken and hyphenated lines, running heads, page and line numbers, ligatures."""
    lines, line = [], ""
    for word in text.replace("fi", "ﬁ").split():
        while len(line) + len(word) + 1 > width and len(word) > 6 and width - len(line) > 4:
            line, word = f"{line} {word[: width - len(line) - 2]}-", word[width - len(line) - 2 :]
        if len(line) + len(word) + 1 > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    lines.append(line)
    numbered = [f"{number:03} {line}" for number, line in enumerate(lines)]
    return "\n".join(
        f"{line}\n\n{number // 5} JOURNAL OF NOTES" if number % 5 == 4 else line for number, line in enumerate(numbered)
    )


def edited(text: str) -> str:
    """A journal version: every third sentence is new, one is left out, two change places."""
    sentences = re.split(r"(?<=\.)\s+", text)
    new = (
        TEXTS[name].split(". ")[1] + "." for name in ("hnsw", "ragas", "rag", "flan", "vera", "awq", "atlas", "ares")
    )
    for at in range(2, len(sentences), 3):
        sentences[at] = next(new)
    sentences[4], sentences[6] = sentences[6], sentences[4]
    return " ".join(sentences[1:])


VERSIONS = {
    "the same text": QLORA,
    "capitals, accents and other punctuation": QLORA.upper().replace("E", "É").replace(".", "!"),
    "printed": wrapped(QLORA),
    "another title page": "Anonymous submission 1234 to a conference. Please do not cite. " * 4 + QLORA,
    "a journal version": edited(QLORA),
    "the first two thirds": QLORA[: 2 * len(QLORA) // 3],
    "a line of a table after each sentence": "\n".join(
        f"{one}\n| 1.{at} | {at} | 22.4 |" for at, one in enumerate(SENTENCES)
    ),
    "a thesis that holds it": "\n\n".join([TEXTS["lora"], QLORA, TEXTS["rag"], TEXTS["hnsw"], TEXTS["ragas"]]),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_copy_of_a_benchmark_paper_is_known_again(version: str) -> None:
    copies = benchmark_copies({**TEXTS, "2305.14314v1": VERSIONS[version]}, {"qlora", "dpo"})
    assert [(copy.paper, copy.original) for copy in copies] == [("2305.14314v1", "qlora")]
    assert max(copies[0].of_paper, copies[0].of_original) >= 1.2 * COPY


def test_the_shares_say_which_of_the_two_holds_the_other() -> None:
    (book,) = benchmark_copies({**TEXTS, "book": VERSIONS["a thesis that holds it"]}, {"qlora"})
    assert book.of_original == 1
    assert 0.15 < book.of_paper < 0.35
    (part,) = benchmark_copies({**TEXTS, "part": QLORA[: len(QLORA) // 2]}, {"qlora"})
    assert part.of_paper == 1
    assert 0.4 < part.of_original < 0.6
    assert str(part) == (
        f"'part' is a copy of 'qlora': {part.of_original:.0%} of 'qlora' stands in it, 100% of it in 'qlora'"
    )


def test_a_book_of_several_benchmark_papers_is_listed_with_each() -> None:
    copies = benchmark_copies({**TEXTS, "book": VERSIONS["a thesis that holds it"]}, {"qlora", "rag"})
    assert [(copy.paper, copy.original) for copy in copies] == [("book", "qlora"), ("book", "rag")]


def test_papers_on_one_subject_with_the_same_boilerplate_are_not_copies() -> None:
    notice = (
        "Permission to make digital or hard copies of all or part of this work for personal or classroom use is "
        "granted without fee provided that copies are not made or distributed for profit. We thank the reviewers. "
    )
    texts = {paper: f"{notice} {text}" for paper, text in TEXTS.items()}
    assert benchmark_copies(texts, set(list(texts)[::3])) == ()
    assert copies_by_paper(texts) == {paper: paper for paper in texts}


def test_rows_of_one_form_with_other_numbers_are_not_copies() -> None:
    def report(seed: int) -> str:
        draw = random.Random(seed)
        return " ".join(f"The {kind} was {draw.random():.6f} metres." for kind in ("tide", "reef", "dune", "swell"))

    texts = {f"report{number}": report(number) for number in range(20)}
    assert benchmark_copies(texts, {"report1"}) == ()


CHINESE = (
    "本论文研究量化的大规模语言模型的低秩适配方法，并且报告了它在四个数据集上的效果。"
    "实验表明，内存可以减少一半以上，而准确率几乎没有变化。"
)
KOREAN = (
    "이 논문은 양자화된 대규모 언어 모델의 저차원 적응 방법을 연구하고 네 개의 데이터 집합에서 "
    "그 효과를 보고한다. 메모리는 절반 이상 줄었다."
)


@pytest.mark.parametrize("text", [CHINESE, KOREAN])
def test_papers_without_spaces_between_words_are_compared(text: str) -> None:
    changed = text.replace("四个", "五个").replace("네 개의", "다섯 개의")
    texts = {"a": text, "b": changed, "c": text[::-1], **TEXTS}
    assert [copy.paper for copy in benchmark_copies(texts, {"a"})] == ["b"]


def test_papers_without_text_are_nobodys_copies() -> None:
    assert copies_by_paper({"a": "", "b": " ", "c": "one two", "d": "one two"}) == {name: name for name in "abcd"}
    assert benchmark_copies({"a": "", "b": ""}, {"a", "not in the corpus"}) == ()


def test_copies_are_one_group_named_by_the_smallest_id() -> None:
    texts = {**TEXTS, "a": VERSIONS["a journal version"], "z": VERSIONS["printed"]}
    groups = copies_by_paper(texts)
    assert {paper for paper, group in groups.items() if group == "a"} == {"a", "qlora", "z"}
    assert all(group in (paper, "a") for paper, group in groups.items())


def test_a_pair_about_a_copy_is_a_pair_about_the_paper() -> None:
    documents = [Document(paper, "", paper, text) for paper, text in {**TEXTS, "v1": wrapped(QLORA)}.items()]
    held = held_out(frozenset({"qlora"}), documents)
    assert held.papers == {"qlora", "v1"}
    assert held.copies_of(["qlora", "rag"]) == {"v1"}
    assert held.copies_of(["rag"]) == set()
    pairs = [Pair("p", "grounded", "q?", "a", ("v1",)), Pair("o", "grounded", "r?", "a", ("rag",))]
    assert contamination(pairs, BenchmarkView(held.papers, ()), held).papers == {"p": ("v1",)}


def test_a_large_corpus_takes_seconds() -> None:
    words = [word for text in TEXTS.values() for word in text.split()]
    draw = random.Random(0)
    texts = {f"p{number}": " ".join(draw.choices(words, k=8000)) for number in range(150)}
    texts["copy"] = texts["p7"][2000:]
    started = time.process_time()
    (copy,) = benchmark_copies(texts, {"p7", "p8"})
    assert (copy.paper, copy.original, copy.of_paper) == ("copy", "p7", 1.0)
    assert copy.of_original == pytest.approx(0.96, abs=0.03)
    assert time.process_time() - started < 8
