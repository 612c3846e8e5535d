"""A benchmark file is checked as a whole, and names of papers are resolved wherever it is used."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.paper_names import PaperNames
from mlx_ragtune.records import Document
from mlx_ragtune.scoring.answers.benchmark_rows import read_questions
from mlx_ragtune.scoring.answers.nuggets import correctness
from mlx_ragtune.synthesis.benchmark_file import examine, read_resolved, require_sound

TITLE = "Zoo: An S3 Class for Indexed Time Series"
ZOO = Document("zoo", "zoo.pdf", TITLE, "The class keeps 14 indexes in order. It is fast.", arxiv_id="math/0505527")
LASSO = Document("lasso", "lasso.pdf", "Regression Shrinkage", "It shrinks coefficients to zero.")
CORPUS = (ZOO, LASSO)
ROW = {"question": "How many indexes does zoo keep?", "answer": "It keeps 14 indexes.", "paper": "zoo"}


def write(folder: Path, *values: dict[str, Any]) -> Path:
    path = folder / "benchmark.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def whole(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": "z1", "topic": "zoo", "question": "How many indexes are kept?", "answerable": True, "papers": ["zoo"],
        "reference": f'"{TITLE}" keeps 14 indexes.',
        "nuggets": [{"text": "14 indexes.", "anchors": [["14", "fourteen"]]}],
    }  # fmt: skip
    return row | changes


@pytest.mark.parametrize(
    "name",
    [
        "zoo",
        "zoo.pdf",
        "Zoo.PDF",
        "papers/zoo.pdf",
        TITLE,
        TITLE.upper(),
        "zoo an s3 class for indexed time series",
        "math/0505527",
    ],
)
def test_a_paper_is_found_by_id_file_name_and_title(tmp_path: Path, name: str) -> None:
    (question,) = read_resolved(write(tmp_path, ROW | {"paper": name}), CORPUS)
    assert question.papers == ("zoo",)


def test_a_name_of_several_papers_and_an_unknown_one_are_errors_with_a_suggestion() -> None:
    names = PaperNames.of_files(["a/zoo.pdf", "b/zoo.pdf", "lasso.md"])
    assert names.find("b/zoo.pdf") == "b_zoo_pdf"
    assert names.problem("zoo") == "'zoo' names 2 papers ('a_zoo_pdf', 'b_zoo_pdf'): write the id of one"
    assert names.problem("lasoo") == "unknown paper 'lasoo', did you mean 'lasso'?"
    assert names.problem("xyz") == "unknown paper 'xyz' (3 papers in the corpus)"
    assert PaperNames.of_documents(CORPUS).problem("Zoo: An S3") == "unknown paper 'Zoo: An S3', did you mean 'zoo'?"


def test_a_simple_row_becomes_a_whole_question_with_facts_of_its_own(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {
            "question": "What does LoRA save?",
            "answer": f'"{TITLE}" saves 67% of the 1,200 MB, as NF4 does.',
            "paper": "zoo",
        },
        {
            "question": "What does the lasso do?",
            "answer": "It shrinks coefficients to zero.",
            "paper": "lasso",
        },
        {"question": "Who won the cup?", "answer": None},
        {"question": "Who maintains zoo?", "answer": "The papers do not say who maintains it.", "papers": ["zoo"]},
    )
    numbers, words, outside, near = read_questions(path)
    assert [nugget.anchors[0][0] for nugget in numbers.nuggets] == ["67%", "1,200 MB", "NF4"]
    assert [nugget.anchors[0][0] for nugget in words.nuggets] == ["shrinks", "coefficients"]
    assert correctness(numbers.reference, numbers.nuggets).score == 1
    assert correctness("The coefficients are what it shrinks.", words.nuggets).score == 1
    assert correctness("It grows them.", words.nuggets).score == 0
    assert (outside.answerable, outside.refusal_kind, near.answerable, near.refusal_kind) == (
        False, "off_corpus", False, "near_miss",
    )  # fmt: skip
    assert not examine(path, documents=CORPUS).errors


def test_every_problem_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        whole(),
        whole(question="How many indexes are  kept ?"),
        whole(id="z3", question="Who keeps them?", papers=["zop"]),
        whole(id="z4", question="What is kept?", reference="It keeps some indexes."),
        whole(id="z5", question="Is it slow?", reference="The papers do not say whether it is slow."),
        whole(id="z6", question="Is it red?", answerable=False, refusal_kind="near_miss", nuggets=[],
              reference="It is red."),
        whole(id="z7", question="Is it old?", evidence=[{"paper": "zoo.pdf", "quote": "It is ninety years old now"}]),
        whole(id="z8", question="Is it new?", surprise=1),
        {"question": "Is it blue?", "answer": "It is blue like sky.", "papr": "zoo"},
    )  # fmt: skip
    with path.open("a") as stream:
        stream.write("not json\n")
    found = {(finding.where.rpartition(":")[2], finding.what) for finding in examine(path, documents=CORPUS).errors}
    expected = {
        ("2", "duplicate question id 'z1', first used in line 1"),
        ("2", "asks the same as line 1: How many indexes are  kept ?"),
        ("3", "unknown paper 'zop', did you mean 'zoo'?"),
        ("4", "the reference lacks '14' or 'fourteen' of the nugget '14 indexes.'"),
        ("5", "the reference refuses, though the question is answerable: 'The papers do not say whether it is slow.'"),
        ("6", "the reference does not refuse, though the question is unanswerable: 'It is red.'"),
        ("7", "evidence quote not in the text of 'zoo': 'It is ninety years old now'"),
    }
    assert expected <= found
    rest = sorted(found - expected)
    assert [(line, what[:14]) for line, what in rest] == [
        ("10", "not JSON: Expe"),
        ("8", "not a Question"),
        ("9", "not a Question"),
    ]
    with pytest.raises(InputError, match="10 problems in the benchmark"):
        require_sound(path, documents=CORPUS)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"reference": f'"{TITLE}" and "Regression Shrinkage" keep 14 indexes.'},
            "the reference cites 'Regression Shrinkage', which is not among the question's papers",
        ),
        (
            {"reference": f'"{TITLE}" keeps 14 indexes, as "A Grand Theory of Ordered Series" does.'},
            "the reference cites 'A Grand Theory of Ordered Series', which is the title of no paper",
        ),
        ({"papers": ["zoo", "lasso"]}, "the reference does not cite 'Regression Shrinkage'"),
        (
            {"evidence": [{"paper": "lasso", "quote": "It shrinks coefficients to zero."}]},
            "evidence from 'lasso', which is not among the question's papers",
        ),
    ],
)
def test_a_reference_cites_its_papers_and_no_others(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    assert [finding.what for finding in examine(write(tmp_path, whole(**changes)), documents=CORPUS).errors] == [
        problem
    ]
    assert not examine(write(tmp_path, whole(reference="It keeps 14 indexes.")), documents=CORPUS).errors


def test_an_empty_answer_is_no_refusal_and_a_missing_one_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, ROW | {"answer": " "}, {"question": "What is kept?", "paper": "zoo"}, {"frage": "Was?"})
    assert [error.what.partition(";")[0] for error in examine(path, documents=CORPUS).errors] == [
        "answer is empty",
        "not a Question: answer: Field required",
        "not a Question: question: Field required",
    ]
    assert "frage: unknown key (got 'Was?')" in str(examine(path, documents=CORPUS).errors[2])


def test_of_many_problems_twenty_are_shown(tmp_path: Path) -> None:
    path = write(tmp_path, *[whole(id=f"q{n}", question=f"What is {n}?", papers=["x"]) for n in range(30)])
    with pytest.raises(InputError) as caught:
        require_sound(path, documents=CORPUS)
    assert caught.value.what.count("unknown paper") == 20
    assert caught.value.what.endswith("and 10 more")


def test_of_a_huge_file_the_first_references_are_checked_and_a_warning_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_ragtune.synthesis.benchmark_file.MOST_REFERENCES", 2)
    rows = [whole(id=f"q{n}", question=f"What is {n}?", reference="It keeps some.") for n in range(4)]
    findings = examine(write(tmp_path, *rows), documents=CORPUS).findings
    assert [finding.error for finding in findings] == [False, True, True]
    assert findings[0].what == "only the first 2 references are checked"


def test_a_weak_question_is_a_warning_and_stops_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, whole(papers=[], nuggets=[]))
    examined = examine(path, documents=CORPUS)
    assert [str(finding).partition("warning: ")[2][:14] for finding in examined.findings] == [
        "names no paper",
        "has no nuggets",
    ]
    assert len(require_sound(path, documents=CORPUS)) == 1
    (finding,) = examine(write(tmp_path, whole(question="Are 14 indexes kept?")), documents=CORPUS).findings
    assert (finding.error, finding.what[:33]) == (False, "the question itself states the nu")


def test_an_anchor_that_only_the_title_holds_is_missing_once_titles_are_known(tmp_path: Path) -> None:
    row = whole(reference=f'"{TITLE}" says how many.', nuggets=[{"text": "S3 class.", "anchors": [["S3"]]}])
    assert not examine(write(tmp_path, row)).errors
    assert "lacks 'S3'" in examine(write(tmp_path, row), documents=CORPUS).errors[0].what
