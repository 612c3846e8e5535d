"""Addresses of servers: read as Ollama reads them, and never shown with a password."""

import base64
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from mlx_ragtune.clients.ollama_address import (
    DEFAULT_HOST,
    credentials_for,
    effective_host,
    parse_host,
    public_host,
    pull_command,
    start_command,
)
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_registry import register_model, require_server
from mlx_ragtune.errors import RecipeError, ToolError
from tests.ollama_server import Fault, OllamaStandIn


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("", "http://127.0.0.1:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("box", "http://box:11434"),
        (" box:1234/ ", "http://box:1234"),
        ("http://Box:1234/", "http://box:1234"),
        ("http://box", "http://box"),
        ("HTTPS://models.example/ollama/", "https://models.example/ollama"),
        ("box/path", "http://box:11434/path"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:1234", "http://[::1]:1234"),
        ("http://[0:0:0:0:0:0:0:1]:1234", "http://[::1]:1234"),
        ("http://büchse:1", "http://xn--bchse-kva:1"),
        ("[::]", "http://[::1]:11434"),
        ("me:p%40ss@box:1", "http://box:1"),
    ],
)
def test_an_address_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    assert parse_host(host).url == url
    assert public_host(host) == url


@pytest.mark.parametrize(
    "host",
    [
        "http://[::1",
        "http://box:99999",
        "http://box:port",
        "http://box:0",
        "ftp://box",
        "http://box?x=1",
        "http://box#x",
        "http://a b",
        "http://bo\nx",
        "http://bü\x85chse",
        "http://box\\path",
        "http://-box",
        "http://a..b",
        "http://" + "a" * 64,
        "http://[fe80::1%25eth0]",
        "http://[x]:1",
    ],
)
def test_what_is_not_an_address_is_a_recipe_error(host: str) -> None:
    with pytest.raises(RecipeError, match="is not the address of a server"):
        Ollama(host)


@pytest.mark.parametrize("host", ["http://me:secret@[::1", "http://me:secret@box:x", "me:secret@a b", "http://secret@"])
def test_a_password_is_not_shown_even_of_what_is_not_an_address(host: str) -> None:
    assert "secret" not in public_host(host)
    if host != "http://secret@":
        with pytest.raises(RecipeError) as error:
            parse_host(host)
        assert "secret" not in str(error.value)


def test_credentials_in_a_recipes_host_are_refused_without_showing_them() -> None:
    with pytest.raises(RecipeError, match="contains a user name or password") as error:
        Ollama("http://me:secret@box:1234")
    assert "secret" not in str(error.value)
    assert "OLLAMA_HOST" in error.value.fix


def test_ollama_host_replaces_the_default_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    assert effective_host() == effective_host(DEFAULT_HOST) == DEFAULT_HOST
    monkeypatch.setenv("OLLAMA_HOST", "me:secret@box:1234")
    assert effective_host() == effective_host("127.0.0.1:11434") == "http://box:1234"
    assert effective_host("http://other:1") == "http://other:1"
    assert credentials_for("http://box:1234") == ("me", "secret")
    assert credentials_for("http://other:1") is None
    monkeypatch.setenv("OLLAMA_HOST", "http://[")
    with pytest.raises(RecipeError) as error:
        effective_host()
    assert error.value.where == "OLLAMA_HOST"


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("http://127.0.0.1:11434", "ollama serve"),
        ("http://127.0.0.1:11499", "OLLAMA_HOST=127.0.0.1:11499 ollama serve"),
        ("http://[::1]:11434", "OLLAMA_HOST=[::1]:11434 ollama serve"),
        ("http://box:1234", "on box: OLLAMA_HOST=0.0.0.0:1234 ollama serve"),
        ("https://models.example", "start the server behind https://models.example, or correct the address"),
    ],
)
def test_a_server_that_does_not_answer_is_told_how_to_start(url: str, command: str) -> None:
    assert start_command(url) == command


def test_the_command_that_pulls_a_model_goes_to_the_server_that_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "box:1234")
    assert pull_command("http://box:1234", "qwen3:4b") == "ollama pull qwen3:4b"
    assert pull_command("http://other:1", "qwen3:4b") == "OLLAMA_HOST=http://other:1 ollama pull qwen3:4b"


def test_only_the_server_of_ollama_host_is_sent_its_credentials(
    standin: OllamaStandIn, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "cloud-key")
    monkeypatch.setenv("OLLAMA_HOST", standin.host.replace("http://", "http://me:secret@"))
    assert require_server(DEFAULT_HOST).startswith("0.33.0")
    receipt = register_model(DEFAULT_HOST, "tiny", models / "qwen3.gguf")
    assert receipt.host == standin.host
    assert "secret" not in json.dumps(asdict(receipt))
    expected = "Basic " + base64.b64encode(b"me:secret").decode()
    assert set(standin.authorizations) == {expected}
    with OllamaStandIn(tmp_path / "other") as other, Ollama(other.host) as server:
        assert server.digests() == {}
        assert server.version
        assert set(other.authorizations) == {None}


def test_the_password_is_in_no_message(standin: OllamaStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", standin.host.replace("http://", "http://me:secret@"))
    standin.fault = lambda _path: Fault("status", status=401, message="unauthorized")
    with pytest.raises(ToolError, match="401") as error:
        require_server(DEFAULT_HOST)
    assert "secret" not in str(error.value)
    assert "OLLAMA_HOST" in error.value.fix
