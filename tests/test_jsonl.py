"""JSONL files: what is written is read back, a bad line is named, and an appended row survives everything."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune import jsonl
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.jsonl import (
    RowLog,
    parse_row,
    read_dicts,
    read_json,
    read_located_rows,
    read_rows,
    to_json,
    write_rows,
)
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
        ({"chunk_id": "a", "document_id": "a", "title": "t", "text": "x", "txet": "y"}, "txet: unknown key"),
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
    with pytest.raises(InputError, match="cannot be read") as caught:
        list(read_rows(tmp_path / "none.jsonl", Passage))
    assert caught.value.where == str(tmp_path / "none.jsonl")


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ROWS[2].title = "other"  # type: ignore[attr-defined]


PASSAGE = b'{"chunk_id": "a", "document_id": "a", "title": "t", "text": "x"}'
BAD_LINES: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"{broken", "not JSON: Expecting property name"),
    "cut short": (PASSAGE[:-4], "not JSON"),
    "two objects": (PASSAGE + PASSAGE, "not JSON: Extra data"),
    "Latin-1": ('{"text": "naïve"}'.encode("latin-1"), "not UTF-8: byte 0xef at position 13"),
    "UTF-16": ('{"text": "x"}'.encode("utf-16"), "not UTF-8: byte 0xff at position 1"),
    "UTF-16 without a mark": ('{"text": "x"}'.encode("utf-16-le"), "not UTF-8: NUL bytes, as UTF-16 has them"),
    "NUL byte": (b'{"text": "\0"}', "not UTF-8: NUL bytes"),
    "control character": (b'{"text": "\x1b"}', "not JSON: Invalid control character"),
    "byte order mark inside": (b"\xef\xbb\xbf" + PASSAGE, "not JSON"),
    "NaN": (b'{"text": NaN}', "not JSON: NaN is not a JSON number"),
    "infinity": (b'{"text": -Infinity}', "not JSON: -Infinity is not a JSON number"),
    "overflow": (b'{"text": 1e999}', "not JSON: 1e999 is too large a number"),
    "5,000 digits": (b'{"text": ' + b"9" * 5000 + b"}", "not JSON: a number has too many digits"),
    "duplicate key": (b'{"text": "x", "text": "y"}', "not JSON: duplicate key 'text'"),
    "duplicate key inside": (b'{"a": [{"b": 1, "b": 1}]}', "not JSON: duplicate key 'b'"),
    "lone surrogate": (rb'{"text": "half \ud83d"}', "lone surrogate"),
    "lone surrogate in a key": (rb'{"\udc00": 1}', "lone surrogate"),
    "surrogates in the wrong order": (rb'{"text": "\ude00\ud83d"}', "lone surrogate"),
    "100 lists": (b'{"text": ' + b"[" * 100 + b"]" * 100 + b"}", "not JSON: nested deeper than 64 levels"),
    "20,000 lists": (b"[" * 20000 + b"]" * 20000, "not JSON: nested deeper than 64 levels"),
    "20,000 objects": (b'{"a":' * 20000 + b"1" + b"}" * 20000, "not JSON: nested deeper than 64 levels"),
    "text": (b'"text"', 'not a JSON object: "text"'),
    "number": (b"7", "not a JSON object: 7"),
    "null": (b"null", "not a JSON object: null"),
    "list": (b"[1]", "not a JSON object: [1]"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_every_bad_line_is_an_input_error_with_file_and_line(tmp_path: Path, kind: str) -> None:
    line, said = BAD_LINES[kind]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(PASSAGE + b"\n\n" + line + b"\n" + PASSAGE + b"\n")
    for rows in (read_dicts(path), read_rows(path, Passage)):
        next(rows)
        with pytest.raises(InputError) as caught:
            next(rows)
        assert caught.value.where == f"{path}:3"
        assert caught.value.fix
        if kind not in ("text", "number", "null", "list"):
            assert caught.value.what.startswith(said)
    with pytest.raises(InputError) as caught:
        list(read_dicts(path))
    assert caught.value.what.startswith(said)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["[\n" + PASSAGE.decode() + "\n]\n", f"[{PASSAGE.decode()}]"])
def test_a_json_array_says_how_to_make_jsonl_of_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text("\n" + text)
    with pytest.raises(InputError, match="a JSON array, expected JSONL") as caught:
        list(read_rows(path, Passage))
    assert caught.value.where == f"{path}:2"
    assert caught.value.fix == "jq -c '.[]' FILE > NEW.jsonl"


def test_a_byte_order_mark_windows_line_ends_and_no_final_newline_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + PASSAGE + b"\r\n" + PASSAGE)
    assert [where for where, _ in read_located_rows(path, Passage)] == [f"{path}:1", f"{path}:2"]
    assert len(list(read_dicts(path))) == 2


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e", "\r", "\n", "\0"])
def test_only_the_newline_ends_a_line(tmp_path: Path, character: str) -> None:
    row = Passage("a", "a", "t", f"before{character}after")
    path = tmp_path / "rows.jsonl"
    write_rows(path, [row, row])
    assert path.read_bytes().count(b"\n") == 2
    assert list(read_rows(path, Passage)) == [row, row]
    with RowLog(tmp_path / "log.jsonl") as log:
        log.append(row)
        assert list(log.rows(Passage)) == [row]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("half \ud83d", "half \ufffd"),
        ("\udc00x\udcff", "\ufffdx\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("naïve", "naïve"),
    ],
)
def test_a_lone_surrogate_never_reaches_a_file(tmp_path: Path, text: str, written: str) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"text": text}])
    assert list(read_dicts(path)) == [{"text": written}]


def test_a_json_file_is_read_with_the_same_errors(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text('{\n  "a": [1, 2]\n}\n')
    assert read_json(path) == {"a": [1, 2]}
    path.write_text('{\n  "a": [1, 2\n')
    with pytest.raises(InputError, match="not JSON") as caught:
        read_json(path)
    assert caught.value.where.startswith(f"{path}:")


def test_an_endless_line_is_refused_without_reading_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_ROW_BYTES", 2**20)
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as stream:
        stream.write(PASSAGE + b"\n")
        stream.truncate(2**40)  # sparse: a terabyte of NUL bytes without a newline
    with pytest.raises(InputError, match="the line is longer than 1 MiB") as caught:
        list(read_dicts(path))
    assert caught.value.where == f"{path}:2"
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_json(path)


def test_a_path_that_is_not_a_readable_file_is_an_input_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    names = ("absent", ".", "pipe", "loop", "a\0b", "x" * 300, "\ud83d", "pipe/x")
    for path in (*(tmp_path / name for name in names), Path("/dev/zero")):
        for read in (read_dicts, lambda path: read_rows(path, Passage), lambda path: [read_json(path)]):
            with pytest.raises(InputError, match="cannot be read") as caught:
                list(read(path))
            assert caught.value.where == str(path)


def test_a_file_that_vanishes_or_fails_while_it_is_read_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __enter__(self) -> "Failing":
            return self

        def __exit__(self, *_: object) -> None: ...

        def readline(self, _: int) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(jsonl, "opened", lambda _: Failing())
    with pytest.raises(InputError, match="cannot be read: Input/output error"):
        list(read_dicts(tmp_path / "rows.jsonl"))


def test_text_is_not_taken_for_a_number_that_is_none() -> None:
    with pytest.raises(InputError, match="finite number"):
        parse_row(Answer, {**json.loads(to_json(ROWS[8])), "latency_seconds": "nan"}, where="x")


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """As a full disk: no file may grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_a_tool_error(tmp_path: Path) -> None:
    with file_size_limit(100), pytest.raises(ToolError, match="cannot be written"):
        write_rows(tmp_path / "rows.jsonl", [{"text": "x" * 200}])
    with pytest.raises(ToolError, match="cannot be written"):
        write_rows(tmp_path / "absent" / "rows.jsonl", [])
    for path in (tmp_path, tmp_path / "absent" / "log.jsonl"):
        with pytest.raises(ToolError, match="cannot be written"):
            RowLog(path)


def test_a_row_that_meets_a_full_disk_leaves_nothing_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with RowLog(path) as log:
        log.append({"n": 1})
        with file_size_limit(20), pytest.raises(ToolError, match="cannot be written") as caught:
            log.append({"n": 2, "text": "x" * 100})
        assert "free disk space" in caught.value.fix
        assert path.read_bytes() == b'{"n": 1}\n'
        log.append({"n": 3})
    assert list(read_dicts(path)) == [{"n": 1}, {"n": 3}]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_row_that_is_not_synced_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    path = tmp_path / "log.jsonl"

    def fail(_: int) -> None:
        raise failure

    with RowLog(path) as log:
        log.append({"n": 1})
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises((ToolError, KeyboardInterrupt)):
                log.append({"n": 2})
        assert list(log.dicts()) == [{"n": 1}]


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        (b'{"n": 2, "te', 0),
        (b"{", 0),
        (b"\0" * 4096, 0),
        (b'{"text": "' + b"x" * 200_000, 0),
        (b'{"n": 2}', 1),
        ('{"text": "naïve'.encode()[:-1], 0),
        (b"[" * 20000, 0),
    ],
)
def test_a_torn_last_line_is_cut_off_and_a_whole_one_is_kept(tmp_path: Path, tail: bytes, kept: int) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"n": 1}\n' + tail)
    with RowLog(path) as log:
        assert len(list(log.dicts())) == 1 + kept
        log.append({"n": 3})
    assert [row["n"] for row in read_dicts(path)] == [1, *[2] * kept, 3]
    path.write_bytes(tail)
    with RowLog(path) as log:
        assert len(list(log.dicts())) == kept


def test_a_torn_line_of_a_process_that_was_killed_beside_this_one_is_cut_before_the_next_row(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with RowLog(path) as log:
        log.append({"n": 1})
        with path.open("ab") as killed:
            killed.write(b'{"n": 2, "tex')
        assert list(log.dicts()) == [{"n": 1}]
        log.append({"n": 3})
    assert list(read_dicts(path)) == [{"n": 1}, {"n": 3}]


def test_logs_and_threads_that_append_to_one_file_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    logs = [RowLog(path), RowLog(path)]

    def append(log: RowLog, start: int) -> None:
        for number in range(start, start + 20):
            log.append({"n": number, "text": "x" * (number % 7) * 1000})

    threads = [threading.Thread(target=append, args=(logs[n % 2], 20 * n)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row["n"] for row in logs[0].dicts()) == list(range(80))
    for log in logs:
        log.close()
        log.close()


APPENDER = """
import sys, pathlib
from mlx_ragtune.jsonl import RowLog
log = RowLog(pathlib.Path(sys.argv[1]))
for number in range(100_000):
    log.append({"who": sys.argv[2], "n": number, "text": "x" * 3000})
    print(number, flush=True)
"""


def test_every_row_confirmed_before_a_kill_is_there_and_another_process_continues(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    confirmed = {}
    children = {
        who: subprocess.Popen([sys.executable, "-c", APPENDER, str(path), who], stdout=subprocess.PIPE, text=True)
        for who in "ab"
    }
    for child in children.values():
        assert child.stdout is not None
        for _ in range(15):
            child.stdout.readline()
    for who, child in children.items():
        child.send_signal(signal.SIGKILL)
        out, _ = child.communicate()
        confirmed[who] = 15 + sum(line.endswith("\n") for line in out.splitlines(keepends=True))
    with RowLog(path) as log:
        log.append({"who": "c", "n": 0})
        rows = list(log.dicts())
    for who, count in confirmed.items():
        numbers = [row["n"] for row in rows if row["who"] == who]
        assert numbers[:count] == list(range(count))
        assert len(numbers) <= count + 1
    assert rows[-1]["who"] == "c"
