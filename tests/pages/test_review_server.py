"""The review page over real HTTP: a whole review, and everything that another site or a clumsy client could send."""

import json
import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mlx_ragtune.errors import ToolError
from mlx_ragtune.pages.review_server import MAX_BODY_BYTES, render_shell, serve
from mlx_ragtune.reviewing.review_apply import Applied, record, write_reviewed
from mlx_ragtune.reviewing.review_session import Session
from tests.reviewing.made_reviews import EVIL, session

JSON = {"Content-Type": "application/json"}


def ask(address: str, path: str = "", body: object = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    parts = urlsplit(address)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(
        "GET" if sent is None else "POST", parts.path + path, sent, {**({} if sent is None else JSON), **more}
    )
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content, dict(reply.headers)


def value(address: str, path: str, body: object = None) -> Any:
    status, content, _ = ask(address, path, body)
    assert status == 200, content
    return json.loads(content)


def with_file(made: Session, path: Path) -> Session:
    def apply(part: str) -> Applied:
        items = made.items[part]  # type: ignore[index]
        applied = write_reviewed(items, made.log.reviews, path)
        record(applied, items, made.log)
        return applied

    made.apply = apply
    made.next_step = lambda _applied: "ragtune validate mine.yaml"
    return made


def test_a_whole_review_by_http(tmp_path: Path) -> None:
    made = with_file(session(tmp_path), tmp_path / "benchmark.jsonl")
    with serve(made) as address:
        state = value(address, "state")
        assert [part["part"] for part in state["parts"]] == ["benchmark", "pairs"]
        assert len(state["items"]) == 9
        for n in range(len(state["items"])):
            details = value(address, f"item?n={n}")
            assert details["n"] == n
            action = {"action": "reject", "reason": "wrong"} if details["id"] == "q1" else {"action": "accept"}
            state = value(address, "review", {"n": n, "id": details["id"], **action})
        assert [item["decision"] for item in state["items"]].count("accept") == 8
        undone = value(address, "undo", {})
        assert undone["undone"] == 8
        assert undone["items"][8]["decision"] == ""
        applied = value(address, "apply", {"part": "benchmark"})
        assert "5 rows; 1 removed, 0 replaced, 5 accepted" in applied["applied"]
        assert applied["then"] == "ragtune validate mine.yaml"
        assert value(address, "finish", {}) == {}
    assert made.finished.is_set()
    rows = [json.loads(line) for line in (tmp_path / "benchmark.jsonl").read_text().splitlines()]
    assert "q1" not in [row["id"] for row in rows]


def test_the_sample_grows_where_that_is_advised(tmp_path: Path) -> None:
    made = session(tmp_path, questions=0, refusals=0, pairs=60)
    with serve(made) as address:
        assert ask(address, "more", {"part": "pairs"})[0] == 400
        for n, item in enumerate(made.shown):
            action = {"action": "accept"} if n else {"action": "reject", "reason": "other"}
            state = value(address, "review", {"n": n, "id": item.row.id, **action})
        advised = state["parts"][1]["advised"]
        state = value(address, "more", {"part": "pairs"})
        assert len(state["items"]) == advised > 30


def test_an_edit_is_checked_before_it_is_saved(tmp_path: Path) -> None:
    made = session(tmp_path)
    with serve(made) as address:
        n = next(at for at, item in enumerate(made.shown) if item.row.id == "q0")
        shown = value(address, f"item?n={n}")
        edit = {"question": shown["question"], "answer": "There were 500 lynxes.", "nuggets": shown["nuggets"]}
        found = value(address, "check", {"n": n, "edit": edit})["problems"]
        assert found[0]["blocks"]
        status, content, _ = ask(address, "review", {"n": n, "id": "q0", "action": "edit", "edit": edit})
        assert status == 400
        assert "lacks '412'" in json.loads(content)["error"]
        edit["answer"] = f"{shown['answer']} That is many."
        value(address, "review", {"n": n, "id": "q0", "action": "edit", "edit": edit})
        assert value(address, f"item?n={n}")["answer"] == edit["answer"]


def test_a_page_of_the_paper_is_sent_by_number_only(tmp_path: Path) -> None:
    made = session(tmp_path)
    n = next(at for at, item in enumerate(made.shown) if item.row.id == "q0")
    pair = next(at for at, item in enumerate(made.shown) if item.part == "pairs")
    with serve(made) as address:
        status, png, headers = ask(address, f"page?n={n}&place=0")
        assert (status, headers["Content-Type"], png[:4]) == (200, "image/png", b"\x89PNG")
        assert (headers["X-Page"], headers["X-Pages"], headers["X-Marked"]) == ("2", "2", "whole")
        assert ask(address, f"page?n={n}&place=0&page=1")[2]["X-Marked"] == "none"
        for query in (
            "", "n=0", f"n={n}&place=9", "n=99&place=0", f"n={n}&place=../../etc/passwd", f"n={pair}&place=0",
            "n=-1&place=0", f"n={n}&place=0&page=/etc/passwd", "n=%FF&place=0", "n=%C2%B2&place=0",
        ):  # fmt: skip
            assert ask(address, f"page?{query}")[0] == 400, query


def test_no_request_names_a_file(tmp_path: Path) -> None:
    paths = ("../../etc/passwd", "review.js", "..%2f..%2fetc%2fpasswd", "%2e%2e/", "item/../../x", "state/x", "\\..\\x")
    with serve(session(tmp_path)) as address:
        for path in paths:
            assert ask(address, path)[0] == 404, path


def test_only_this_machine_with_the_token_is_answered(tmp_path: Path) -> None:
    made = session(tmp_path)
    with serve(made) as address:
        parts = urlsplit(address)
        assert parts.hostname == "127.0.0.1"
        root = f"http://{parts.netloc}"
        accept = {"n": 0, "id": made.shown[0].row.id, "action": "accept"}
        assert ask(f"{root}/state")[0] == 404
        assert ask(f"{root}/{'x' * 24}/", "state")[0] == 404
        for host in ("evil.example", f"evil.example:{parts.port}", "127.0.0.1", ""):
            assert ask(address, "state", Host=host)[0] == 404, host
            assert ask(address, "review", accept, Host=host)[0] == 404, host
        assert ask(address, "state", Host=f"localhost:{parts.port}")[0] == 200
        with serve(session(tmp_path / "again")) as other:
            assert urlsplit(other).path != parts.path
    assert not made.log.path.exists()


def test_a_form_of_another_site_cannot_write_and_no_site_may_read(tmp_path: Path) -> None:
    made = session(tmp_path)
    body = json.dumps({"n": 0, "id": made.shown[0].row.id, "action": "accept"}).encode()
    with serve(made) as address:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            assert ask(address, "review", body, Content_Type=kind)[0] == 415, kind
        parts = urlsplit(address)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.request("OPTIONS", f"{parts.path}review", headers={"Origin": "http://evil.example"})
        assert connection.getresponse().status == 501
        connection.close()
        status, _, headers = ask(address, "state", Origin="http://evil.example")
        assert status == 200
        assert not [name for name in headers if name.lower().startswith("access-control")]
    assert not made.log.path.exists()


def test_the_page_allows_only_its_own_script_and_sends_nothing_elsewhere(tmp_path: Path) -> None:
    with serve(session(tmp_path)) as address:
        _, first, headers = ask(address)
        _, second, _ = ask(address)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'nonce-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert first != second  # a nonce of its own
    assert b"http://" not in first
    assert b"https://" not in first


def test_what_papers_and_models_write_is_never_part_of_the_page(tmp_path: Path) -> None:
    assert EVIL not in render_shell("x")
    with serve(session(tmp_path)) as address:
        assert EVIL.encode() not in ask(address)[1]
        n = next(at for at in range(9) if value(address, f"item?n={at}")["part"] == "pairs")
        _, content, headers = ask(address, f"item?n={n}")
    assert (headers["Content-Type"], headers["X-Content-Type-Options"]) == ("application/json", "nosniff")
    assert json.loads(content)["papers"] == [EVIL]
    script = (Path(__file__).parents[2] / "mlx_ragtune" / "pages" / "review.js").read_text(encoding="utf-8")
    assert not [
        word for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(") if word in script
    ]


NONSENSE = (
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"n": 0}', b'{"n": "x", "action": "accept"}',
    b'{"n": 0, "action": "undo"}', b'{"n": 99, "action": "accept"}', b'{"n": -1, "action": "accept"}',
    b'{"n": 0, "action": "reject"}', b'{"n": 0, "action": "edit"}', b'{"n": 0, "action": "accept", "x": 1}',
    b'{"n": 0, "action": "edit", "edit": {"question": ["x"], "answer": 3}}', b"[" * 100_000, b'{"part": "../x"}',
)  # fmt: skip


def test_a_request_that_makes_no_sense_changes_nothing(tmp_path: Path) -> None:
    made = session(tmp_path, questions=1, refusals=0, pairs=1)
    with serve(made) as address:
        for route in ("review", "check", "more", "apply"):
            for body in NONSENSE:
                status, content, _ = ask(address, route, body)
                assert status == 400, (route, body)
                assert json.loads(content)["error"]
        assert value(address, "state")["can_undo"] is False
    assert not made.log.path.exists()


def send(address: str, data: bytes) -> bytes:
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as connection:
        connection.sendall(data)
        reply = b""
        while piece := connection.recv(65536):
            reply += piece
    return reply


def test_a_body_without_a_length_or_too_long_is_not_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serve(session(tmp_path)) as address:
        parts = urlsplit(address)
        head = (
            f"POST {parts.path}review HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n".encode()
        )
        for length in (
            b"",
            b"Content-Length: -1\r\n",
            b"Content-Length: \xb2\r\n",
            b"Content-Length: %d\r\n" % (MAX_BODY_BYTES + 1),
        ):
            assert b" 413 " in send(address, head + length + b"\r\n").split(b"\r\n")[0], length
        assert b" 404 " in send(address, b"GET //[ HTTP/1.1\r\nHost: x\r\n\r\n").split(b"\r\n")[0]
    assert capfd.readouterr().err == ""


def test_a_review_that_cannot_be_saved_is_said_and_does_not_count(tmp_path: Path) -> None:
    made = session(tmp_path)
    (tmp_path / "run").write_text("a file where the run's folder should be")
    with serve(made) as address:
        status, content, _ = ask(address, "review", {"n": 0, "id": made.shown[0].row.id, "action": "accept"})
    assert status == 500
    assert "the review was not saved" in json.loads(content)["error"]


def test_two_tabs_and_two_commands_see_each_others_reviews(tmp_path: Path) -> None:
    first, second = session(tmp_path), session(tmp_path)
    with serve(first) as one, serve(second) as two:
        name = first.shown[0].row.id
        value(one, "review", {"n": 0, "id": name, "action": "accept"})
        assert value(two, "state")["items"][0]["decision"] == "accept"
        value(two, "review", {"n": 0, "id": name, "action": "skip"})
        assert value(one, "item?n=0")["decision"] == "skip"


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ToolError, match="it is in use"), serve(session(tmp_path), port=port):
            pass


def test_nothing_to_review_is_a_state_too(tmp_path: Path) -> None:
    with serve(session(tmp_path, questions=0, refusals=0, pairs=0)) as address:
        state = value(address, "state")
        assert [part["text"] for part in state["parts"]] == [
            "There are no questions to review.", "There are no pairs to review."
        ]  # fmt: skip
        assert ask(address, "item?n=0")[0] == 400
