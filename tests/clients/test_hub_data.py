"""Data sets of the hub, from a stand-in for it on the loopback interface."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from mlx_ragtune.clients.hub_data import HubData, bring_data, cached_data, parse_hub_data, split_files
from mlx_ragtune.errors import InputError, ToolError

COMMIT = "c" * 40
ROWS = b'{"prompt": "a", "completion": "b"}\n'
FILES = {"data/train-00000-of-00002.jsonl": ROWS, "data/train-00001-of-00002.jsonl": ROWS, "data/test.jsonl": ROWS,
         "README.md": b"# Rows\n"}  # fmt: skip


class _Hub(BaseHTTPRequestHandler):
    paths: list[str]

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        type(self).paths.append(path)
        prefix = f"/datasets/org/rows/resolve/{COMMIT}/"
        if path.startswith("/api/datasets/org/rows"):
            listing = [{"rfilename": name} for name in FILES]
            body = json.dumps({"id": "org/rows", "sha": COMMIT, "siblings": listing}).encode()
            self._reply(200, body, Content_Type="application/json")
        elif path.startswith(prefix) and (name := path.removeprefix(prefix)) in FILES:
            etag = f'"{hashlib.sha256(FILES[name]).hexdigest()}"'
            self._reply(200, FILES[name], ETag=etag, X_Repo_Commit=COMMIT)
        else:
            self._reply(404, b"", X_Error_Code="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815 (the name that http.server calls)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that were asked for."""
    _Hub.paths = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAGTUNE_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield _Hub.paths
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("hf:org/rows", HubData("org/rows")),
        ("hf:squad", HubData("squad")),
        ("hf:org/rows@v1.0", HubData("org/rows", "v1.0")),
        ("hf:org/rows#default/test", HubData("org/rows", "main", "default/test")),
        ("hf:org/rows@refs/pr/1#test", HubData("org/rows", "refs/pr/1", "test")),
        ("pairs.jsonl", None),
        ("hf:a/b/c", None),
        ("hf:", None),
    ],
)
def test_the_name_of_a_data_set_is_read(text: str, data: HubData | None) -> None:
    assert parse_hub_data(text) == data


def test_the_files_of_a_split_are_downloaded_once_and_pinned_to_a_commit(
    hub: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = HubData("org/rows")
    assert cached_data(data) is None
    found = bring_data(data)
    assert found.commit == COMMIT
    assert [file.name for file in found.files] == ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    assert all(file.read_bytes() == ROWS for file in found.files)
    assert not any("test.jsonl" in path for path in hub)
    hub.clear()
    monkeypatch.setenv("RAGTUNE_OFFLINE", "1")
    assert bring_data(data) == found == cached_data(data)
    assert hub == []
    found.files[0].unlink()
    assert cached_data(data) is None


def test_what_the_hub_does_not_have_is_named(hub: list[str]) -> None:
    with pytest.raises(InputError, match="the hub has no data set 'org/other' at revision 'main'"):
        bring_data(HubData("org/other"))
    with pytest.raises(InputError, match=r"no files of the split 'dev': data/test\.jsonl, data/train-00000"):
        bring_data(HubData("org/rows", split="dev"))


def test_offline_and_without_a_server_the_error_says_what_to_do(
    hub: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGTUNE_OFFLINE", "1")
    with pytest.raises(ToolError, match="is not on this machine, and downloads are switched off") as caught:
        bring_data(HubData("org/rows"))
    assert "unset RAGTUNE_OFFLINE" in caught.value.fix
    monkeypatch.delenv("RAGTUNE_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ToolError, match="the download of 'org/rows' from the hub failed"):
        bring_data(HubData("org/rows"))


def test_files_of_several_folders_or_kinds_are_not_mixed() -> None:
    names = ["en/train.jsonl", "de/train.jsonl", "en/train.parquet"]
    with pytest.raises(InputError, match="in de, en") as caught:
        split_files(names, HubData("org/rows"))
    assert caught.value.fix == "name the folder too: hf:org/rows#de/train"
    assert split_files(names, HubData("org/rows", split="de/train")) == ["de/train.jsonl"]
    with pytest.raises(InputError, match=r"in \.jsonl, \.parquet"):
        split_files(names, HubData("org/rows", split="en/train"))
