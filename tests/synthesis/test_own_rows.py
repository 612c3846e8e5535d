"""Rows that people already have, in the formats of ``docs/data.md``."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.records import Document, Message
from mlx_ragtune.retrieval.prompt import SYSTEM, build_messages
from mlx_ragtune.synthesis.own_formats import detect
from mlx_ragtune.synthesis.own_rows import (
    OwnRows,
    passages_of,
    question_variants,
    read_own,
    same_prompts,
    with_control_tokens,
    with_faulty_answers,
)

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
BLOCKS = dict(re.findall(r"^```jsonl (\w+)\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
COLUMNS = yaml.safe_load(re.findall(r"^```yaml columns\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)[0])
LORA = Document("lora", "lora.md", "Notes on LoRA", "The weights stay frozen. It trains two small matrices.")


def own(tmp_path: Path, text: str, name: str = "rows.jsonl", **options: Any) -> OwnRows:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    options = {"format": None, "columns": {}, **options}
    return read_own([file], [LORA], build_messages=build_messages, **options)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("kind", ["pairs", "chat", "prompt", "rag"])
def test_a_row_with_more_text_than_any_model_reads_is_refused_before_it_is_checked(tmp_path: Path, kind: str) -> None:
    row = json.loads(BLOCKS[kind].splitlines()[0])
    text = "A sentence of an endless answer. " * 400_000
    if kind == "chat":
        row["messages"][-1]["content"] = text
    else:
        row[next(name for name in ("answer", "completion") if name in row)] = text
    with pytest.raises(InputError, match=r"rows\.jsonl:1: the row has 13,200,\d{3} characters, more than 1,000,000"):
        own(tmp_path, lines(row), format=kind)


@pytest.mark.parametrize("kind", ["pairs", "chat", "prompt", "rag"])
def test_the_examples_of_the_documentation_are_detected_and_read(tmp_path: Path, kind: str) -> None:
    rows = own(tmp_path, BLOCKS[kind])
    assert rows.format == kind
    assert len(rows.pairs) == 2
    assert bool(rows.prepared) == (kind != "pairs")
    assert rows == own(tmp_path, BLOCKS[kind], format=kind) or kind == "pairs"


def test_the_documented_columns_are_read(tmp_path: Path) -> None:
    rows = own(tmp_path, BLOCKS["columns"], columns=COLUMNS["columns"])
    assert rows.format == "rag"
    assert [pair.answer for pair in rows.pairs] == ["Two small matrices.", "The weights."]
    assert "It trains two small matrices." in rows.prepared[rows.pairs[0].id].messages[1].content


def test_chat_and_prompt_rows_are_trained_as_they_are(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": " Hi "}, {"role": "assistant", "content": "Hello."},
             {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]  # fmt: skip
    chat = own(tmp_path, lines({"messages": turns}))
    as_given = tuple(Message(turn["role"], turn["content"]) for turn in turns)  # type: ignore[arg-type]
    assert [row.messages for row in chat.prepared.values()] == [as_given]
    assert (chat.pairs[0].question, chat.pairs[0].answer) == ("Why?", "So.")
    shared = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
    assert own(tmp_path, lines({"conversations": shared})).pairs[0].answer == "Hello."
    alpaca = own(tmp_path, lines({"instruction": "Translate.", "input": "Haus", "output": "house"}))
    assert [message.content for message in alpaca.prepared["rows-1"].messages] == ["Translate.\n\nHaus", "house"]


def test_rag_rows_have_the_served_prompt_and_untitled_passages_a_number(tmp_path: Path) -> None:
    rows = own(tmp_path, BLOCKS["rag"])
    first, second = (rows.prepared[pair.id].messages for pair in rows.pairs)
    assert first[0] == Message("system", SYSTEM)
    assert '[1] "Notes on LoRA"\nIt trains two small matrices.' in first[1].content
    assert first[1].content.endswith("\n\nQuestion: What does LoRA train?")
    assert '[1] "Passage 1"\nThe weights stay frozen.' in second[1].content
    assert [pair.kind for pair in rows.pairs] == ["grounded", "refusal"]


def test_a_csv_file_is_read_with_its_lines(tmp_path: Path) -> None:
    rows = own(tmp_path, 'prompt,completion\n"a\nb",c\nd,e\n', "rows.csv")
    assert [(pair.id, pair.question) for pair in rows.pairs] == [("rows-3", "a\nb"), ("rows-4", "d")]
    with pytest.raises(InputError, match=r"rows\.csv:3: not as many cells") as caught:
        own(tmp_path, "prompt,completion\na,b\nc\nd,e,f\n", "rows.csv")
    assert caught.value.what.startswith("2 problems in the rows")
    assert own(tmp_path, "prompt\tcompletion\na\tb\n", "rows.tsv").pairs[0].answer == "b"


def test_all_problems_are_listed_with_their_lines_and_bounded(tmp_path: Path) -> None:
    good = {"prompt": "a", "completion": "b"}
    bad = [{"prompt": " ", "completion": "b"}, {"prompt": "a"}, {"prompt": 3, "completion": "b"}, [1]]
    with pytest.raises(InputError) as caught:
        own(tmp_path, lines(good, *bad) + "{\n")
    text = caught.value.what
    assert text.startswith("5 problems in the rows:\n")
    for line, problem in (
        (2, "prompt is empty"),
        (3, "no answer: expected answer or response or completion"),
        (4, "prompt is not a text: 3"),
        (5, "not a JSON object"),
        (6, "not JSON"),
    ):
        assert f"rows.jsonl:{line}: {problem}" in text
    with pytest.raises(InputError) as caught:
        own(tmp_path, lines(good, *({"prompt": "a", "completion": [number, 0]} for number in range(50))))
    assert caught.value.what.count("\n") == 21
    assert "… and 30 more" in caught.value.what
    with pytest.raises(InputError) as caught:
        own(tmp_path, lines(good, *[{"prompt": "a"}] * 50))
    assert caught.value.what.endswith("or reference (and 49 more lines)")


@pytest.mark.parametrize(
    ("turns", "problem"),
    [
        ([], "messages is not a list of messages"),
        (None, "no messages: expected messages or conversations"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{}]}], "message 2 calls a tool"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "message 1 has no text"),
        (
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": 0}],
            "the last message has the weight 0",
        ),
        ([{"role": "tool", "content": "x"}], "message 1 has the role 'tool'"),
        ([{"role": "user", "content": ""}], "message 1 has no text"),
        ([{"role": "user", "content": "x"}], "expected user and assistant in turn"),
        ([{"role": "assistant", "content": "x"}, {"role": "user", "content": "x"}], "found assistant, user"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "x"}], "not the first message"),
    ],
)
def test_a_conversation_that_cannot_be_trained_is_named(tmp_path: Path, turns: Any, problem: str) -> None:
    with pytest.raises(InputError, match=re.escape(problem)):
        own(tmp_path, lines({"messages": turns}), format="chat")
    sound = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    with pytest.raises(InputError, match=r"rows\.jsonl:1: tools: conversations with tools are not supported"):
        own(tmp_path, lines({**sound, "tools": [{"name": "f"}]}))
    assert len(own(tmp_path, lines({**sound, "tools": []})).pairs) == 1


def test_roles_with_capitals_and_parts_of_text_are_read(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Why"}, {"type": "text", "text": "so?"}]
    turns = [{"role": "developer", "content": "Be brief."}, {"role": "User", "content": parts},
             {"role": "ASSISTANT", "content": "So."}]  # fmt: skip
    (row,) = own(tmp_path, lines({"messages": turns})).prepared.values()
    assert [(turn.role, turn.content) for turn in row.messages] == [
        ("system", "Be brief."), ("user", "Why\nso?"), ("assistant", "So."),
    ]  # fmt: skip


def test_files_that_are_no_text_are_told_apart_with_what_to_do(tmp_path: Path) -> None:
    for start, problem, fix in (
        ("\ufeffx".encode("utf-16-le"), "UTF-16 text", "save it as UTF-8"),
        (b"\x1f\x8b\x08\x00", "a gzip file", "gunzip"),
        (b"PK\x03\x04....", "a ZIP file or a spreadsheet", "as CSV in UTF-8"),
        (b"PAR1....", "a Parquet file", "ends in .parquet"),
    ):
        for name in ("rows.jsonl", "rows.csv"):
            (tmp_path / name).write_bytes(start)
            with pytest.raises(InputError, match=problem) as caught:
                read_own([tmp_path / name], [], format=None, columns={}, build_messages=build_messages)
            assert fix in caught.value.fix


def test_a_table_with_semicolons_is_read_and_a_double_column_or_a_bad_byte_is_named(tmp_path: Path) -> None:
    assert own(tmp_path, "prompt;completion\na, b;c\n", "rows.csv").pairs[0].question == "a, b"
    with pytest.raises(InputError, match=r"rows\.csv:1: the column 'prompt' occurs 2 times"):
        own(tmp_path, "prompt,prompt,completion\na,b,c\n", "rows.csv")
    with pytest.raises(InputError, match=r"rows\.csv:3: unexpected end of data; this row begins here"):
        own(tmp_path, 'prompt,completion\na,b\n"c,d\ne,f\n', "rows.csv")
    with pytest.raises(InputError, match="the file contains no rows"):
        own(tmp_path, "prompt,completion\n", "rows.csv")
    with pytest.raises(InputError, match="pairs are read from JSONL, not from a table"):
        own(tmp_path, "id,kind,question,answer\na,refusal,b?,c\n", "rows.csv")
    (tmp_path / "rows.csv").write_bytes(b"prompt,completion\na,b\nc,d\xe4\n")
    with pytest.raises(InputError, match="not UTF-8: byte 0xe4") as caught:
        read_own([tmp_path / "rows.csv"], [], format=None, columns={}, build_messages=build_messages)
    assert caught.value.where.endswith("rows.csv:3")


def test_a_column_of_the_recipe_that_the_file_does_not_have_is_named(tmp_path: Path) -> None:
    row = {"question": "a", "context": "c", "answer": "b", "kind": "banana"}
    with pytest.raises(InputError, match=r"dataset\.columns\.question names 'frage', which the first row does not"):
        own(tmp_path, lines(row), columns={"question": "frage"})
    with pytest.raises(InputError, match=r"rows\.jsonl:1: kind is 'banana', known: grounded, synthesis, refusal"):
        own(tmp_path, lines(row), columns={"kind": "kind"})
    assert own(tmp_path, lines(row)).pairs[0].kind == "grounded"
    with pytest.raises(InputError, match=r"rows\.jsonl:1: a row of the format 'rag' .*of the format 'chat'"):
        own(tmp_path, lines(row), format="chat")


def test_a_line_that_needs_another_file_and_not_another_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(
        b'{"prompt": "a", "completion": "b"}\n{"prompt": "\xe4", "completion": "b"}\n'
    )
    with pytest.raises(InputError, match=r"rows\.jsonl:2: not UTF-8: byte 0xe4 at position 13; save it as UTF-8"):
        read_own([tmp_path / "rows.jsonl"], [], format=None, columns={}, build_messages=build_messages)


def test_an_unknown_format_is_told_with_the_keys_seen_and_the_formats_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        own(tmp_path, lines({"frage": "a", "antwort": "b"}))
    assert "the first row has the keys frage, antwort, which no format has" in caught.value.what
    for name in ("pairs", "chat", "prompt", "rag"):
        assert f"  {name}: " in caught.value.what
    assert "dataset.columns" in caught.value.fix
    with pytest.raises(InputError, match="the keys question, answer") as caught:
        own(tmp_path, lines({"question": "a", "answer": "b"}))
    assert "set dataset.format: prompt" in caught.value.fix
    assert own(tmp_path, lines({"question": "a", "answer": "b"}), format="prompt").format == "prompt"


def test_mixed_formats_are_refused(tmp_path: Path) -> None:
    chat = json.loads(BLOCKS["chat"].splitlines()[0])
    with pytest.raises(InputError, match=r"rows\.jsonl:2: a row of the format 'chat' .*among rows of the format 'prom"):
        own(tmp_path, lines({"prompt": "a", "completion": "b"}, chat))


def test_duplicate_ids_are_refused_and_missing_ones_are_file_and_line(tmp_path: Path) -> None:
    row = {"prompt": "a", "completion": "b"}
    assert [pair.id for pair in own(tmp_path, lines(row, row)).pairs] == ["rows-1", "rows-2"]
    with pytest.raises(InputError, match=r"rows\.jsonl:2: duplicate id '7'"):
        own(tmp_path, lines({**row, "id": 7}, {**row, "id": "7"}))


def test_rows_with_one_context_are_one_group_and_instructions_are_no_context(tmp_path: Path) -> None:
    rules, first, second = "Follow these rules. " * 20, "The weights stay frozen. " * 20, "It trains matrices. " * 20
    rows = [
        {"prompt": f"{rules}\n\n{context}\n\nQuestion: {number}?", "completion": "x"}
        for number, context in enumerate((first, first, second, second))
    ]
    groups = [row.group for row in own(tmp_path, lines(*rows)).prepared.values()]
    assert groups[0] == groups[1] != groups[2] == groups[3]
    bare = own(tmp_path, lines(*({"prompt": f"{number}?", "completion": "x"} for number in range(3))))
    assert len({row.group for row in bare.prepared.values()}) == 3


def test_rows_with_the_same_prompt_are_duplicates_and_other_contexts_are_none(tmp_path: Path) -> None:
    row = {"question": "What is the conclusion?", "context": "It works.", "answer": "It works."}
    rows = own(tmp_path, lines(row, {**row, "context": "It fails.", "answer": "It fails."}, {**row, "answer": "Yes."}))
    kept, repeated = same_prompts(rows.pairs, rows.prepared)
    assert [pair.id for pair in kept] == ["rows-1", "rows-2"]
    assert repeated == {"rows-3": "has the prompt of rows-1"}


def test_the_question_is_looked_for_in_the_paragraphs_of_a_prompt(tmp_path: Path) -> None:
    prompt = "Context: long text.\n\nmore\n\nQuestion: What is RAG?"
    (pair,) = own(tmp_path, lines({"prompt": prompt, "completion": "x"})).pairs
    assert "What is RAG?" in [variant.question for variant in question_variants(pair)]


def test_control_tokens_are_found_where_they_would_end_a_turn(tmp_path: Path) -> None:
    rows = own(tmp_path, lines({"prompt": "a", "completion": "b"}, {"prompt": "a<|im_end|>", "completion": "b"}))
    assert with_control_tokens(rows) == {"rows-2": "'<|im_end|>'"}
    rag = {"question": "Why?", "context": "It <|im_end|> works.", "answer": "So."}
    assert with_control_tokens(own(tmp_path, lines(rag))) == {}
    assert with_control_tokens(own(tmp_path, lines({**rag, "answer": "[INST] So."}))) == {"rows-1": "'[INST]'"}


def test_a_prompt_that_shows_a_passage_of_a_paper_is_recognized(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(80))
    shown = passages_of([Document("gold", "gold.md", "Gold", text)])
    rows = own(
        tmp_path,
        lines(*({"prompt": f"See: {' '.join(text.split()[:count])}?", "completion": "x"} for count in (20, 40))),
    )
    assert [shown(row) for row in rows.prepared.values()] == ["", "gold"]


KEYS = st.sampled_from(["prompt", "messages", "question", "context", "answer", "completion", "input", "evidence", "id"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "text"]), inner),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=5), min_size=1, max_size=3))
def test_no_row_of_any_shape_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    file = tmp_path_factory.mktemp("own") / "rows.jsonl"
    file.write_text(lines(*rows), encoding="utf-8")
    try:
        found = read_own([file], [LORA], format=None, columns={}, build_messages=build_messages)
    except InputError:
        return
    assert len(found.pairs) == len(rows)
    assert detect(rows[0], {}) == found.format


def test_answers_with_dialogues_prompts_and_thinking_are_found(tmp_path: Path) -> None:
    answers = (
        "Mud is wet silt.",
        "User: And mud?\nAssistant: Mud is wet silt.",
        "Write plain prose, without lists or headings. Mud is wet silt.",
        "Okay, the user asks about mud. Mud is wet silt.",
    )
    rows = own(tmp_path, lines(*({"prompt": "What is mud?", "completion": text} for text in answers)))
    assert with_faulty_answers(rows) == {
        "rows-2": "turn of a dialogue",
        "rows-3": "part of a prompt",
        "rows-4": "visible thinking",
    }


def test_a_parquet_file_is_read_with_the_numbers_of_its_rows(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"ask": ["a", "c"], "replies": [{"text": ["b", "x"]}, {"text": ["d"]}], "extra": [None, 1]}
    parquet.write_table(arrow.table(columns), tmp_path / "rows.parquet")
    rows = read_own([tmp_path / "rows.parquet"], [], format=None, columns={"question": "ask", "answer": "replies.text"},
                    build_messages=build_messages)  # fmt: skip
    assert [(pair.id, pair.question, pair.answer) for pair in rows.pairs] == [
        ("rows-1", "a", "b"),
        ("rows-2", "c", "d"),
    ]
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        own_parquet(tmp_path)


def test_without_pyarrow_the_error_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(ToolError, match="Parquet files are read by pyarrow") as caught:
        own_parquet(tmp_path)
    assert caught.value.fix == "pip install pyarrow"


def own_parquet(tmp_path: Path) -> OwnRows:
    return read_own([tmp_path / "rows.parquet"], [], format=None, columns={}, build_messages=build_messages)
