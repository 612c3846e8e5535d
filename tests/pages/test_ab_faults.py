"""The blind comparison under faults: a full disk, two processes, damaged files, a port in use, browsers that leave."""

import errno
import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mlx_ragtune import jsonl
from mlx_ragtune.errors import ArtifactError, ToolError
from mlx_ragtune.pages.ab_server import serve
from mlx_ragtune.pages.ab_session import Session, open_session
from tests.pages.test_ab_server import ask, items


def fill_disk(patch: pytest.MonkeyPatch) -> None:
    """Half of what is appended still fits."""

    def half(file: int, data: bytes) -> None:
        os.write(file, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(jsonl, "_write_all", half)


def voted(folder: Path, count: int = 1) -> Session:
    session = open_session(folder, items(), n=8)
    for trial in session.trials[:count]:
        assert session.vote(trial.id, "left")
    return session


def test_a_vote_that_does_not_fit_on_the_disk_is_reported_and_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = voted(tmp_path)
    first, second, third = (trial.id for trial in session.trials[:3])
    with serve(session) as address:
        fill_disk(monkeypatch)
        status, page, _ = ask(address, "vote", {"trial": second, "choice": "right"})
        assert status == 500
        assert "the vote was not saved: " in page
        assert "vote again" in page
        assert session.votes == {first: "left"}
        monkeypatch.undo()
        assert ask(address, "vote", {"trial": second, "choice": "tie"})[0] == 303
        assert ask(address, "vote", {"trial": third, "choice": "right"})[0] == 303
    assert open_session(tmp_path, items(), n=8).votes == {first: "left", second: "tie", third: "right"}


def test_a_result_that_does_not_fit_on_the_disk_is_reported_and_can_be_unblinded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = voted(tmp_path, count=100)

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with serve(session) as address:
        monkeypatch.setattr(os, "fsync", full)
        status, page, _ = ask(address, "unblind", {})
        assert (status, "cannot write: No space left on device" in page) == (500, True)
        monkeypatch.undo()
        assert not session.unblinded
        assert ask(address, "unblind", {})[0] == 303
    assert session.result() is not None


def test_a_second_process_on_the_same_answers_is_refused_and_told_who_has_them(tmp_path: Path) -> None:
    session, other = voted(tmp_path), open_session(tmp_path, items(), n=8)
    with serve(session), pytest.raises(ArtifactError) as caught, serve(other):
        pass
    assert f"process {os.getpid()}" in caught.value.what
    with serve(other) as address:  # the first one has ended
        assert ask(address)[0] == 200


def test_votes_of_an_earlier_process_are_read_when_the_page_opens(tmp_path: Path) -> None:
    early = open_session(tmp_path, items(), n=8)
    voted(tmp_path, count=3)
    with serve(early):
        assert early.done == 3


@pytest.mark.parametrize("content", ["", "abc", "zz" * 32, "00" * 31, "\n"])
def test_a_damaged_key_is_replaced_before_the_first_vote_and_refused_after(tmp_path: Path, content: str) -> None:
    open_session(tmp_path, items(), n=8)
    (tmp_path / "key").write_text(content)
    session = open_session(tmp_path, items(), n=8)
    assert len(bytes.fromhex((tmp_path / "key").read_text())) == 32
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    session.vote(session.trials[0].id, "left")
    (tmp_path / "key").write_text(content)
    with pytest.raises(ArtifactError, match="the key is missing or damaged"):
        open_session(tmp_path, items(), n=8)


def test_a_missing_key_is_refused_once_there_are_votes(tmp_path: Path) -> None:
    voted(tmp_path)
    (tmp_path / "key").unlink()
    with pytest.raises(ArtifactError, match="the key is missing"):
        open_session(tmp_path, items(), n=8)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"n": 8}', '{"n": "8", "plan": "x"}', '{"n": 8, "plan": 1}', "\x00", "[" * 5000]
)
def test_a_damaged_session_file_is_an_artifact_error(tmp_path: Path, content: str) -> None:
    voted(tmp_path)
    (tmp_path / "session.json").write_text(content)
    with pytest.raises(ArtifactError) as caught:
        open_session(tmp_path, items(), n=8)
    assert caught.value.where.endswith("session.json")
    assert caught.value.fix.startswith("mv ")


@pytest.mark.parametrize("content", ["", "[]", '{"headline": "x"}'])
def test_a_damaged_result_is_an_artifact_error(tmp_path: Path, content: str) -> None:
    voted(tmp_path)
    (tmp_path / "unblinded.json").write_text(content)
    with pytest.raises(ArtifactError) as caught:
        open_session(tmp_path, items(), n=8)
    assert caught.value.where.endswith("unblinded.json")


@pytest.mark.parametrize(
    "line", ["[]", "null", '{"trial": "x"}', '{"trial": "x", "choice": "base", "at": "", "reasons": []}']
)
def test_a_line_that_is_not_a_vote_is_named(tmp_path: Path, line: str) -> None:
    voted(tmp_path)
    with (tmp_path / "votes.jsonl").open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(ArtifactError) as caught:
        open_session(tmp_path, items(), n=8)
    assert caught.value.where.endswith("votes.jsonl:2")


def test_a_folder_that_cannot_be_written_is_a_tool_error(tmp_path: Path) -> None:
    (tmp_path / "ab").write_text("a file")
    with pytest.raises(ToolError, match="cannot write"):
        open_session(tmp_path / "ab" / "session", items(), n=8)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    session = voted(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ToolError, match=f"cannot listen on port {port}: it is in use") as caught,
            serve(session, port=port),
        ):
            pass
    assert "--port" in caught.value.fix
    with serve(session):  # the session was not left locked
        pass


def send(address: str, data: bytes) -> bytes:
    """What a raw request gets."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        reply = b""
        while piece := connection.recv(65536):
            reply += piece
    return reply


def test_browsers_that_leave_print_nothing_on_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    session = voted(tmp_path)
    with serve(session) as address:
        parts = urlsplit(address)
        head = f"GET {parts.path}?at=0 HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        for _ in range(20):
            connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close with a reset
            connection.sendall(head)
            connection.close()
        assert ask(address)[0] == 200
    assert capfd.readouterr().err == ""


def test_malformed_requests_are_refused_without_a_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    session = voted(tmp_path)
    with serve(session) as address:
        parts = urlsplit(address)
        host = f"Host: {parts.netloc}\r\n".encode()
        path = parts.path.encode()
        for request, status in (
            (b"GET //[ HTTP/1.1\r\n" + host + b"\r\n", b"404"),
            (b"GET " + path + b"?at=%FF&at=\xb2 HTTP/1.1\r\n" + host + b"\r\n", b"200"),
            (b"POST " + path + b"vote HTTP/1.1\r\n" + host + b"Content-Length: \xb2\r\n\r\n", b"413"),
            (b"POST " + path + b"vote HTTP/1.1\r\n" + host + b"Content-Length: -1\r\n\r\n", b"413"),
            (b"POST " + path + b"vote HTTP/1.1\r\n" + host + b"Content-Length: 4\r\n\r\n\xff\xfe", b"409"),
            (b"POST " + path + b"vote HTTP/1.1\r\n" + host + b"\r\n", b"413"),
        ):
            assert send(address, request).split(b" ")[1] == status, request
    assert capfd.readouterr().err == ""


def test_answers_with_half_an_emoji_or_control_characters_are_shown(tmp_path: Path) -> None:
    from dataclasses import replace

    odd: list[Any] = [
        replace(item, tuned_text=f"{item.tuned_text} \ud83d \x1b[31m \u2028 <script>") for item in items()
    ]
    session = open_session(tmp_path, odd, n=8)
    with serve(session) as address:
        status, page, _ = ask(address, "?at=0")
    assert status == 200
    assert "<script>" not in page.split("</head>")[1].split("<script nonce")[0]


def test_a_kill_between_writing_and_confirming_keeps_the_vote_whole(tmp_path: Path) -> None:
    session = voted(tmp_path)
    row = json.loads((tmp_path / "votes.jsonl").read_text())
    with (tmp_path / "votes.jsonl").open("a") as stream:
        stream.write(json.dumps({**row, "trial": session.trials[1].id}))  # everything but the newline
    again = open_session(tmp_path, items(), n=8)
    assert again.vote(again.trials[2].id, "right")
    assert open_session(tmp_path, items(), n=8).done == 3
