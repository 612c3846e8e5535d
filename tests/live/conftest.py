"""A real Ollama: the one at OLLAMA_HOST, else an ``ollama`` on PATH started in folders of its own, else none."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mlx_ragtune.clients.ollama_address import effective_host
from tests.served_models import models as models

START_SECONDS = 30.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(host: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            httpx.get(f"{host}/api/version", trust_env=False)
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"'ollama serve' did not answer at {host} within {START_SECONDS:.0f} s")


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server; its models are left as they were."""
    given, binary = os.environ.get("OLLAMA_HOST"), shutil.which("ollama")
    if given:
        yield effective_host()
        return
    if binary is None:
        pytest.skip("no real Ollama: OLLAMA_HOST is not set and no 'ollama' is on PATH")
    home = tmp_path_factory.mktemp("ollama")
    url = f"http://127.0.0.1:{_free_port()}"
    settings = {"OLLAMA_NO_CLOUD": "1", "OLLAMA_NOPRUNE": "1", "OLLAMA_NUM_PARALLEL": "1", "OLLAMA_HOST": url}
    folders = {"HOME": str(home), "OLLAMA_MODELS": str(home / "models")}
    with (home / "log").open("wb") as log:
        server = subprocess.Popen([binary, "serve"], env={**os.environ, **settings, **folders}, stdout=log, stderr=log)
    try:
        _wait_for(url, server)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture
def name() -> str:
    """A name that nobody else uses."""
    return f"ragtune-live-{os.getpid()}"


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "cache"))
