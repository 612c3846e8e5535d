"""Rows between the stages: what is written is read again, and a bad row names its line and field."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import parse_row, read_rows, to_json, write_rows
from mlx_ragtune.records import (
    Answer,
    Chunk,
    Document,
    Evidence,
    Example,
    Message,
    Nugget,
    Pair,
    Passage,
    Question,
    Score,
    Section,
)

ROWS: tuple[object, ...] = (
    Document(
        "a", "a.md", "A title", "Some text — naïve 日本語", ("A. Author",), 2024, "2401.00001", (Section("1", 0, 4),)
    ),
    Chunk("a-0", "a", "A title", "Methods", 2, 0, 4, "Some"),
    Passage("a-0", "a", "A title", "Some"),
    Pair("p", "grounded", "What?", "That.", ("a",), (Evidence("a", "Some"),)),
    Pair("r", "refusal", "Who?", "It is not said.", refusal_kind="near_miss"),
    Example("e", "synthesis", "g", (Message("user", "What?"), Message("assistant", "That.")), ("a",), ("a-0",)),
    Question("q", "lora", "What?", True, ("a",), "That.", (("x", "y"),), (Nugget("It is x.", (("x", "X"),)),)),
    Question("o", "lora", "Who?", False, refusal_kind="off_corpus"),
    Answer("k", "q", "tuned", 0, "That.", "stop", 10, 3, 0.5, 0.1, prompt_sha256="ab"),
    Score("q", "base", 1, "truncated", {"correctness": 0.5}),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_a_row_comes_back_as_it_was_written(tmp_path: Path, row: Any) -> None:
    path = tmp_path / "rows.jsonl"
    assert write_rows(path, [row, row]) == 2
    assert list(read_rows(path, type(row))) == [row, row]


def test_the_same_rows_are_the_same_bytes_and_text_is_readable(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    write_rows(first, ROWS)
    write_rows(second, ROWS)
    assert first.read_bytes() == second.read_bytes()
    assert "naïve 日本語" in first.read_text(encoding="utf-8")


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + to_json(ROWS[2]) + "\n\n  \n")
    assert list(read_rows(path, Passage)) == [ROWS[2]]


def test_a_dict_may_hold_records() -> None:
    assert json.loads(to_json({"passages": (ROWS[2],)}))["passages"][0]["title"] == "A title"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_never_written(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(Score("q", "base", 0, "ok", {"correctness": value}))


def test_a_broken_line_is_named_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(to_json(ROWS[2]) + "\n{broken\n")
    rows = read_rows(path, Passage)
    next(rows)
    with pytest.raises(InputError, match="not JSON") as caught:
        next(rows)
    assert caught.value.where == f"{path}:2"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"chunk_id": "a", "document_id": "a", "title": "t"}, "text: Field required"),
        ({"chunk_id": "a", "document_id": "a", "title": "t", "text": "x", "txet": "y"}, "txet: Unexpected"),
        ({"chunk_id": 7, "document_id": "a", "title": "t", "text": "x"}, "chunk_id: Input should be a valid string"),
        (["a"], "row: "),
        (None, "row: "),
        ("text", "row: "),
    ],
)
def test_every_wrong_field_is_named(value: object, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_row(Passage, value, where="rows.jsonl:3")
    assert said in caught.value.what
    assert caught.value.where == "rows.jsonl:3"
    assert caught.value.what.startswith("not a Passage")


@pytest.mark.parametrize(
    ("row_type", "changes"),
    [
        (Pair, {"kind": "guess"}),
        (Pair, {"refusal_kind": "shy"}),
        (Question, {"answerable": "perhaps"}),
        (Answer, {"model": "other"}),
        (Score, {"validity": "fine"}),
        (Message, {"role": "tool"}),
    ],
)
def test_a_value_out_of_its_list_is_refused(row_type: type, changes: dict[str, Any]) -> None:
    sound = next(row for row in (*ROWS, Message("user", "x")) if isinstance(row, row_type))
    value = json.loads(to_json(sound)) if row_type is not Message else {"role": "user", "content": "x"}
    parse_row(row_type, value, where="x")
    with pytest.raises(InputError, match=next(iter(changes))):
        parse_row(row_type, {**value, **changes}, where="x")


def test_all_problems_of_a_row_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse_row(Pair, {"id": 1, "kind": "guess", "question": None, "answer": "a"}, where="x")
    assert all(name in caught.value.what for name in ("id:", "kind:", "question:"))


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(InputError) as caught:
        parse_row(Pair, {"id": "a", "kind": "x" * 5000, "question": "q", "answer": "a"}, where="x")
    assert len(caught.value.what) < 400


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read") as caught:
        list(read_rows(tmp_path / "none.jsonl", Passage))
    assert caught.value.where == str(tmp_path / "none.jsonl")


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ROWS[2].title = "other"  # type: ignore[attr-defined]
