"""``ragtune mcp``: a recipe's papers as two tools for any client of the Model Context Protocol.

    client ─► ask_papers(question, model)   ─► passages, the trained prompt, a model ─► answer with its sources
           ─► search_papers(query, limit)   ─► passages with title, section and pages

Standard output carries the protocol only. Errors of ragtune are errors of the tool, which the client's model reads.
"""

import asyncio
import importlib
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field

from mlx_ragtune import __version__
from mlx_ragtune.answering.opened_answers import open_answers
from mlx_ragtune.answering.paper_answers import PaperAnswers, Source
from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.errors import InputError, RagtuneError, ToolError, printable
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Arm, Document

Result = TypeVar("Result")
MOST_CHARACTERS = 4000
"""Of a question; a longer one would not fit beside the passages."""
PATH = "/mcp"


class PaperPassage(BaseModel):
    """A passage of a paper. Pages count from 1 and are null for a paper without pages."""

    number: int = Field(description="Its number in the prompt, from 1.")
    title: str = Field(description="Title of the paper.")
    section: str = Field(description="Section of the paper, empty if unknown.")
    page: int | None = Field(description="First page, from 1.")
    last_page: int | None = Field(description="Last page.")
    text: str = Field(description="The passage.")
    matches: bool = Field(description="Whether it was found for the question; false for one that only fills up.")


class PaperAnswer(BaseModel):
    """An answer, and what the model was shown for it."""

    answer: str = Field(description="The answer, which cites titles of papers.")
    model: str = Field(description="The model that answered: tuned, base or prompted.")
    complete: bool = Field(description="False for an answer that was cut off at its longest length.")
    supported: bool = Field(description="False when no passage was found for the question.")
    sources: list[PaperPassage] = Field(description="The passages that the model was shown, in their order.")


class FoundPassages(BaseModel):
    """Passages, best first."""

    passages: list[PaperPassage] = Field(description="Passages, best first.")


def _passage(source: Source) -> PaperPassage:
    return PaperPassage(
        number=source.number,
        title=source.title,
        section=source.section,
        page=source.page,
        last_page=source.last_page,
        text=source.text,
        matches=bool(source.found_by),
    )


def _answered(answers: PaperAnswers, question: str, model: Arm, stop: threading.Event) -> PaperAnswer:
    """The answer; the request to the model ends when ``stop`` is set."""
    with closing(answers.stream(question, arm=model)) as pieces:
        while not stop.is_set():
            try:
                next(pieces)
            except StopIteration as end:
                answered = end.value
                break
        else:
            raise ToolError("the question was withdrawn")
    return PaperAnswer(
        answer=answered.text,
        model=answered.arm,
        complete=answered.reply.done_reason == "stop",
        supported=any(source.found_by for source in answered.sources),
        sources=[_passage(source) for source in answered.sources],
    )


def _found(answers: PaperAnswers, query: str, limit: int) -> FoundPassages:
    return FoundPassages(passages=[_passage(source) for source in answers.search(query, limit) if source.found_by])


async def _in_thread(call: Callable[[], Result], stop: threading.Event) -> Result:
    """The result of a call in a thread; a client that withdraws its request sets ``stop``."""
    try:
        return await asyncio.to_thread(call)
    except RagtuneError as error:
        failed = _sdk("mcp.server.mcpserver.exceptions").ToolError
        raise failed(printable(f"{error.what}{f'; {error.fix}' if error.fix else ''}")) from None
    finally:
        stop.set()


def build_server(answers: PaperAnswers, *, papers: int, name: str) -> Any:
    """An ``mcp.server.MCPServer`` with both tools, for stdio or HTTP."""
    server = _sdk("mcp.server").MCPServer(
        name="ragtune",
        title=f"Papers of {name}",
        version=__version__,
        instructions=(
            f"Answers questions from a collection of {papers} papers. ask_papers returns an answer and the passages "
            "that it rests on: show their titles and pages. search_papers returns passages only. When `supported` is "
            "false, or the answer says that the papers do not contain it, do not present it as found in the papers."
        ),
        log_level="WARNING",
    )
    reads = _sdk("mcp_types").ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)
    models = ", ".join(answers.arms)

    async def ask_papers(
        question: Annotated[str, Field(description="The question.", min_length=1, max_length=MOST_CHARACTERS)],
        model: Annotated[
            Arm,
            Field(description="tuned: the fine-tuned model; base: before tuning; prompted: base with examples."),
        ] = "tuned",
    ) -> PaperAnswer:
        stop = threading.Event()
        return await _in_thread(partial(_answered, answers, question, model, stop), stop)

    async def search_papers(
        query: Annotated[str, Field(description="What to look for.", min_length=1, max_length=MOST_CHARACTERS)],
        limit: Annotated[int, Field(description="How many passages at most.", ge=1, le=50)] = 5,
    ) -> FoundPassages:
        stop = threading.Event()
        return await _in_thread(partial(_found, answers, query, limit), stop)

    about = {
        ask_papers: f"Answer a question from the papers, with its sources and their pages. Models: {models}.",
        search_papers: "Find passages of the papers, best first, with title, section and pages. No model is asked.",
    }
    for tool, description in about.items():
        server.add_tool(tool, description=description, annotations=reads)
    return server


def _sdk(module: str) -> Any:
    """A module of the official SDK, an optional dependency. Raises ToolError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ToolError(
            "the Python SDK of the Model Context Protocol is not installed",
            where="ragtune mcp",
            fix="pip install 'mlx-ragtune[mcp]'",
        ) from None


def serve_mcp(run: OpenRun, *, port: int | None, say: Callable[[str], None]) -> None:
    """Serve until the client ends the connection, or with ``port`` by HTTP on the loopback interface, until stopped.

    Raises ArtifactError when the recipe's models are not up to date, InputError for a port that is in use.
    """
    _sdk("mcp.server")
    if port is not None:
        _require_free(port)
    papers = sum(1 for _ in read_rows(run.artifact("corpus") / "documents.jsonl", Document))
    run.artifact("register")  # what is missing is said at once, not at the first question
    with open_answers(run) as answers:
        server = build_server(answers, papers=papers, name=run.recipe.name)
        if port is None:
            server.run("stdio")
            return
        names = [f"127.0.0.1:{port}", f"localhost:{port}"]
        settings = _sdk("mcp.server.transport_security").TransportSecuritySettings
        security = settings(allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names])
        say(f"MCP server: http://127.0.0.1:{port}{PATH}; stop with Ctrl-C")
        server.run(
            "streamable-http",
            host="127.0.0.1",
            port=port,
            streamable_http_path=PATH,
            transport_security=security,
        )


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"cannot listen on port {port}: {error.strerror}", where="--port", fix="give another port"
            ) from None
