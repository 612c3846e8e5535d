"""The two tools through the SDK's own client: structured results, errors that a model can read, withdrawn questions."""

import threading
import time
from collections.abc import Generator
from typing import Any

import anyio
import pytest
from mcp.client.client import Client

from mlx_ragtune.answering.paper_answers import Answered, Source
from mlx_ragtune.clients.protocol import Piece
from mlx_ragtune.commands.mcp_server import build_server, serve_mcp
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.records import ChatReply

SOURCES = (
    Source(1, "lora", "LoRA", "Method", 3, 4, "lora-7", "It trains two factors.", found_by=("full text",)),
    Source(2, "qlora", "QLoRA", "", None, None, "qlora-1", "It quantizes the base."),
)


class Answers:
    """Answers in three pieces, or fails, or goes on until it is closed."""

    arms = ("base", "tuned")

    def __init__(self, *, error: Exception | None = None, endless: bool = False, done: str = "stop") -> None:
        self.error, self.endless, self.done = error, endless, done
        self.asked: list[tuple[str, Any]] = []
        self.started, self.closed = threading.Event(), threading.Event()

    def search(self, question: str, k: int | None = None) -> tuple[Source, ...]:
        self.asked.append((question, k))
        if self.error:
            raise self.error
        return SOURCES[:k]

    def stream(self, question: str, *, arm: Any) -> Generator[Piece, None, Answered]:
        self.asked.append((question, arm))
        if self.error:
            raise self.error
        try:
            for text in ("Two ", "factors ", '("LoRA").'):
                yield Piece(text)
            end = time.monotonic() + 60
            while self.endless and time.monotonic() < end:
                self.started.set()
                yield Piece("again ")
        finally:
            self.closed.set()
        reply = ChatReply('Two factors ("LoRA").', self.done, 10, 5, 0.1)
        return Answered(question, arm, SOURCES, reply)


def call(answers: Answers, tool: str, **arguments: Any) -> Any:
    """The result of one tool call."""

    async def ask() -> Any:
        async with Client(build_server(answers, papers=2, name="mine")) as client:  # type: ignore[arg-type]
            return await client.call_tool(tool, arguments)

    return anyio.run(ask)


def test_the_client_sees_two_read_only_tools_and_how_to_use_them() -> None:
    async def look() -> Any:
        async with Client(build_server(Answers(), papers=2, name="mine")) as client:  # type: ignore[arg-type]
            return (await client.list_tools()).tools, client.instructions

    tools, instructions = anyio.run(look)
    assert [tool.name for tool in tools] == ["ask_papers", "search_papers"]
    assert all(tool.annotations.read_only_hint and not tool.annotations.destructive_hint for tool in tools)
    assert all(tool.output_schema["type"] == "object" for tool in tools)
    assert "base, tuned" in tools[0].description
    assert "2 papers" in instructions
    assert "do not present it as found in the papers" in instructions


def test_an_answer_comes_with_its_sources_and_pages() -> None:
    answers = Answers()
    result = call(answers, "ask_papers", question="What does it train?")
    assert not result.is_error
    assert answers.asked == [("What does it train?", "tuned")]
    assert result.structured_content == {
        "answer": 'Two factors ("LoRA").',
        "model": "tuned",
        "complete": True,
        "supported": True,
        "sources": [
            {"number": 1, "title": "LoRA", "section": "Method", "page": 3, "last_page": 4,
             "text": "It trains two factors.", "matches": True},
            {"number": 2, "title": "QLoRA", "section": "", "page": None, "last_page": None,
             "text": "It quantizes the base.", "matches": False},
        ],
    }  # fmt: skip
    assert "It trains two factors." in result.content[0].text  # for clients without structured results


def test_another_model_and_an_answer_that_was_cut_off() -> None:
    answers = Answers(done="length")
    result = call(answers, "ask_papers", question="Why?", model="base")
    assert answers.asked == [("Why?", "base")]
    assert (result.structured_content["model"], result.structured_content["complete"]) == ("base", False)


def test_a_search_leaves_out_what_was_not_found() -> None:
    answers = Answers()
    result = call(answers, "search_papers", query="factors", limit=2)
    assert answers.asked == [("factors", 2)]
    assert [passage["title"] for passage in result.structured_content["passages"]] == ["LoRA"]


@pytest.mark.parametrize("tool", ["ask_papers", "search_papers"])
def test_an_error_of_ragtune_is_an_error_of_the_tool_with_its_fix(tool: str) -> None:
    error = ToolError("no Ollama server answers\x1b[31m", where="http://127.0.0.1:11434", fix="ollama serve")
    argument = {"ask_papers": "question", "search_papers": "query"}[tool]
    result = call(Answers(error=error), tool, **{argument: "What?"})
    assert result.is_error
    assert "no Ollama server answers" in result.content[0].text
    assert "ollama serve" in result.content[0].text
    assert "\x1b" not in result.content[0].text


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("ask_papers", {}),
        ("ask_papers", {"question": ""}),
        ("ask_papers", {"question": "x" * 4001}),
        ("ask_papers", {"question": "x", "model": "../base"}),
        ("search_papers", {"query": "x", "limit": 0}),
        ("search_papers", {"query": "x", "limit": 51}),
        ("no_such_tool", {"question": "x"}),
    ],
)
def test_arguments_that_do_not_fit_reach_nothing(tool: str, arguments: dict[str, Any]) -> None:
    answers = Answers()
    with_error = call(answers, tool, **arguments)
    assert with_error.is_error
    assert answers.asked == []


def test_an_unexpected_failure_shows_no_details() -> None:
    result = call(Answers(error=RuntimeError("/home/ada/secret")), "ask_papers", question="x")
    assert result.is_error
    assert "secret" not in result.content[0].text


def test_a_withdrawn_question_ends_the_request_to_the_model() -> None:
    answers = Answers(endless=True)

    async def withdraw() -> None:
        async with Client(build_server(answers, papers=2, name="mine")) as client:  # type: ignore[arg-type]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.call_tool, "ask_papers", {"question": "x"})
                await anyio.to_thread.run_sync(answers.started.wait, 10)
                tasks.cancel_scope.cancel()
            assert await anyio.to_thread.run_sync(answers.closed.wait, 10)

    anyio.run(withdraw)


def test_a_missing_sdk_is_said_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("mlx_ragtune.commands.mcp_server.importlib.import_module", absent)
    with pytest.raises(ToolError, match="is not installed") as caught:
        serve_mcp(None, port=None, say=print)  # type: ignore[arg-type]
    assert "mlx-ragtune[mcp]" in caught.value.fix


def test_a_port_that_is_in_use_is_said() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot listen on port"):
            serve_mcp(None, port=taken.getsockname()[1], say=print)  # type: ignore[arg-type]
