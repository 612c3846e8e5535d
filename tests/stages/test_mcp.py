"""``ragtune mcp`` on a finished run, as a client starts it: the protocol alone on standard output."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client

from mlx_ragtune.bases.resolve import resolve_base
from mlx_ragtune.recipe import BaseModelSettings
from mlx_ragtune.runner import import_gguf
from tests.stages.project import edit, recipe_of

COMMAND = ["-m", "mlx_ragtune", "mcp"]


@pytest.fixture(autouse=True)
def toy(private_cache: None) -> None:
    """The base of the finished run, in the cache of this session."""
    resolve_base(BaseModelSettings(model="toy:qwen3"), import_gguf=import_gguf)


def parameters(home: Path) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=[*COMMAND, str(recipe_of(home))], env=dict(os.environ), cwd=str(home)
    )


def test_a_client_asks_and_searches(finished: Path) -> None:
    async def use() -> Any:
        async with Client(stdio_client(parameters(finished))) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            found = await client.call_tool("search_papers", {"query": "low-rank adaptation", "limit": 3})
            asked = await client.call_tool("ask_papers", {"question": "What does low-rank adaptation train?"})
            empty = await client.call_tool("ask_papers", {"question": "   "})
            return tools, found, asked, empty

    tools, found, asked, empty = anyio.run(use)
    assert tools == ["ask_papers", "search_papers"]
    assert 1 <= len(found.structured_content["passages"]) <= 3
    assert all(passage["title"] and passage["text"] for passage in found.structured_content["passages"])
    assert not asked.is_error
    assert asked.structured_content["model"] == "tuned"
    assert len(asked.structured_content["sources"]) == 2  # retrieval.top_k
    assert empty.is_error
    assert "the question is empty" in str(empty.content[0])


def test_nothing_but_the_protocol_is_on_standard_output(finished: Path) -> None:
    """Progress and messages go to standard error; the end of the input ends the server."""
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    call = {"name": "ask_papers", "arguments": {"question": "What is LoRA?"}}
    lines: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
    server = subprocess.Popen(
        [sys.executable, *COMMAND, str(recipe_of(finished))],
        cwd=finished, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    replies = []
    for line in lines:
        server.stdin.write(json.dumps(line) + "\n")
        server.stdin.flush()
        if "id" in line:
            replies.append(json.loads(server.stdout.readline()))
    rest, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors
    assert [reply["id"] for reply in replies] == [1, 2]
    assert replies[1]["result"]["structuredContent"]["model"] == "tuned"
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in rest.splitlines())
    assert "Traceback" not in errors


def test_models_that_are_not_up_to_date_are_said_at_once(project: Path) -> None:
    edit(recipe_of(project), train={"epochs": 2})
    done = subprocess.run(
        [sys.executable, *COMMAND, str(recipe_of(project))], cwd=project, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 5
    assert done.stdout == ""
    assert "is not up to date" in done.stderr


@contextmanager
def served(home: Path) -> Iterator[str]:
    """A server on a free port, ended by its process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, *COMMAND, str(recipe_of(home)), "--port", str(port)]
    with (home / "mcp.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=home, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}/mcp"
        for _ in range(600):
            try:
                httpx.get(address, trust_env=False)
                break
            except httpx.HTTPError:
                assert server.poll() is None, (home / "mcp.log").read_text()
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_the_same_tools_by_http_on_the_loopback_interface_only(project: Path) -> None:
    with served(project) as address:

        async def use() -> Any:
            async with Client(address) as client:
                return await client.call_tool("search_papers", {"query": "adaptation"})

        assert anyio.run(use).structured_content["passages"]
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            reply = httpx.post(address, json=body, headers=headers, trust_env=False)
            assert reply.status_code in (403, 421), reply.text
