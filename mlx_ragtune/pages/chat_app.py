"""The chat server: OpenAI's chat completions with sources, the chat page, the papers' PDF files, and votes.

    GET  /                       the page, without content
    GET  /v1/models              base, prompted and tuned
    POST /v1/chat/completions    an answer with its sources, whole or as an event stream
    GET  /papers/ID.pdf          a paper of the corpus, by its id
    GET  /api/state              what the page shows before the first question
    POST /api/session            exchanges the token for the page's cookie
    POST /api/vote               a thumb on a recent answer

No request holds a path: papers are looked up by id among those of the corpus.
"""

import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mlx_ragtune.answering.paper_answers import Answered, PaperAnswers
from mlx_ragtune.answering.votes import VoteLog
from mlx_ragtune.clients.protocol import Piece
from mlx_ragtune.errors import RagtuneError
from mlx_ragtune.pages.chat_engine import Engine, Retrieved, Waiting
from mlx_ragtune.pages.chat_guard import COOKIE, Access, Guard
from mlx_ragtune.pages.chat_replies import WAITING, ReplyForm, paper_link
from mlx_ragtune.pages.chat_requests import ApiError, ChatCall, api_error, json_object, parse_call
from mlx_ragtune.pages.chat_responses import EventStream, Later
from mlx_ragtune.pages.request_checks import session_secret
from mlx_ragtune.records import Arm

_HERE = Path(__file__).parent
WHAT: dict[Arm, str] = {
    "base": "the base model",
    "prompted": "the base model with examples in its prompt",
    "tuned": "the tuned model",
}
_FILES = {"base_css": "style.css", "css": "chat.css", "script": "chat.js"}


@dataclass(frozen=True)
class Shown:
    """What the server says about itself. ``say`` gets a line for each answer, without question or key."""

    name: str
    strengths: bool = False
    append_sources: bool = False
    say: Callable[[str], None] = field(default=lambda _line: None)


def chat_app(engine: Engine, votes: VoteLog, access: Access, shown: Shown) -> ASGIApp:
    """The whole application, guarded."""
    pages = _Pages(engine, votes, access, shown)
    routes = [
        Route("/", pages.shell, methods=["GET"]),
        Route("/v1/models", pages.models, methods=["GET"]),
        Route("/v1/models/{model}", pages.model, methods=["GET"]),
        Route("/v1/chat/completions", pages.complete, methods=["POST"]),
        Route("/papers/{name}", pages.paper, methods=["GET", "HEAD"]),
        Route("/api/state", pages.state, methods=["GET"]),
        Route("/api/session", pages.session, methods=["POST"]),
        Route("/api/vote", pages.vote, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {
        ApiError: _api_failed,
        RagtuneError: _failed,
        HTTPException: _http_failed,
        Exception: _bug,
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), access)


async def _api_failed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 (registered for it)
    more = {"Retry-After": "5"} if error.status == 503 else {}
    return JSONResponse(error.as_json(), error.status, headers=more)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RagtuneError)  # noqa: S101 (registered for it)
    return await _api_failed(request, api_error(error))


async def _http_failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for it)
    return await _api_failed(request, ApiError(error.status_code, str(error.detail).lower()))


async def _bug(request: Request, _error: Exception) -> Response:
    return await _api_failed(request, ApiError(500, "this is a bug of the server; its terminal shows where"))


class _Pages:
    """The handlers of all routes."""

    def __init__(self, engine: Engine, votes: VoteLog, access: Access, shown: Shown) -> None:
        self._engine, self._votes, self._access, self._shown = engine, votes, access, shown
        self._started = int(time.time())
        files = {name: Markup((_HERE / file).read_text(encoding="utf-8")) for name, file in _FILES.items()}  # noqa: S704
        environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True)
        self._template, self._files = environment.get_template("chat.html.jinja"), files

    @property
    def _answers(self) -> PaperAnswers:
        return self._engine.answers

    async def shell(self, _request: Request) -> Response:
        """The page without any content of the user: its script asks for that and sets it as text."""
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        )
        page = self._template.render(nonce=nonce, **self._files)
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    async def session(self, _request: Request) -> Response:
        """Set the page's cookie; the guard has checked the token."""
        response = JSONResponse({})
        if self._access.token is not None:
            secret = session_secret(self._access.token)
            response.set_cookie(COOKIE, secret, max_age=30 * 86400, httponly=True, samesite="strict", path="/")
        return response

    def _model(self, arm: Arm) -> dict[str, Any]:
        about = {"id": arm, "object": "model", "created": self._started, "owned_by": "ragtune"}
        return {**about, "name": f"{self._shown.name} {arm}", "description": WHAT[arm]}

    async def models(self, _request: Request) -> Response:
        """The models that can be asked."""
        return JSONResponse({"object": "list", "data": [self._model(arm) for arm in self._answers.arms]})

    async def model(self, request: Request) -> Response:
        """One model."""
        for arm in self._answers.arms:
            if request.path_params["model"] == arm:
                return JSONResponse(self._model(arm))
        raise ApiError(404, "that model does not exist", code="model_not_found", param="model")

    async def state(self, _request: Request) -> Response:
        """What the page shows before the first question."""
        papers = self._answers.papers
        return JSONResponse(
            {
                "name": self._shown.name,
                "models": [{"id": arm, "what": WHAT[arm]} for arm in self._answers.arms],
                "strengths": self._shown.strengths,
                "turns": self._answers.turns,
                "papers": [
                    {"title": title, "url": paper_link(paper) if papers.pdf(paper) else None}
                    for paper, title in papers.titles.items()
                ],
            }
        )

    async def paper(self, request: Request) -> Response:
        """A paper's own PDF file, by its id."""
        name = request.path_params["name"]
        path = self._answers.papers.pdf(name.removesuffix(".pdf")) if name.endswith(".pdf") else None
        if path is None or not await anyio.Path(path).is_file():
            raise ApiError(404, "there is no PDF of that paper", code="paper_not_found")
        return FileResponse(path, media_type="application/pdf")

    async def vote(self, request: Request) -> Response:
        """Save a thumb on a recent answer."""
        value = await _json(request)
        name, vote, note = value.get("id"), value.get("vote"), value.get("note", "")
        answered = self._engine.kept(name) if isinstance(name, str) else None
        if answered is None:
            raise ApiError(404, "that answer is no longer known to the server", code="answer_not_found", param="id")
        if vote not in ("up", "down", "none"):
            raise ApiError(400, "vote must be up, down or none", code="invalid_value", param="vote")
        if not isinstance(note, str):
            raise ApiError(400, "note must be text", code="invalid_value", param="note")
        await anyio.to_thread.run_sync(lambda: self._votes.add(str(name), answered, vote, note=note))
        return JSONResponse({"id": name, "vote": vote})

    async def complete(self, request: Request) -> Response:
        """An answer, whole or as a stream."""
        _require_json(request)
        call = parse_call(
            await request.body(),
            arms=self._answers.arms,
            sampling=self._answers.sampling,
            turns=self._answers.turns,
            append=self._shown.append_sources,
        )
        form = ReplyForm(f"chatcmpl-{secrets.token_hex(12)}", call, base=str(request.base_url).rstrip("/"))
        if call.stream:
            return EventStream(self._stream(call, form))
        return Later(self._whole(call, form))

    async def _whole(self, call: ChatCall, form: ReplyForm) -> Response:
        answered: Answered | None = None
        async with aclosing(self._engine.events(call)) as events:
            async for event in events:
                answered = event if isinstance(event, Answered) else answered
        assert answered is not None  # noqa: S101 (the last event)
        self._done(form, answered)
        return JSONResponse(form.whole(answered))

    async def _stream(self, call: ChatCall, form: ReplyForm) -> AsyncGenerator[bytes, None]:
        """The events of an answer.

        The sources are sent with the first piece, or when that takes long: what fails before is raised and has a
        status of its own, what fails later is the last event.
        """
        held: list[bytes] = []
        begun = False
        try:
            async with aclosing(self._engine.events(call)) as events:
                async for event in events:
                    if isinstance(event, Retrieved):
                        held = list(form.beginning(event.sources))
                        continue
                    begun = True
                    for part in (*held, *self._parts(form, event)):
                        yield part
                    held = []
        except (ApiError, RagtuneError) as error:
            if not begun:
                raise
            shown = api_error(error) if isinstance(error, RagtuneError) else error
            self._shown.say(f"{call.arm}: failed: {shown.message}")
            for part in form.failed(shown):
                yield part

    def _parts(self, form: ReplyForm, event: Piece | Answered | Waiting) -> Sequence[bytes]:
        if isinstance(event, Waiting):
            return [WAITING]
        if isinstance(event, Answered):
            self._done(form, event)
            return list(form.ending(event))
        return [form.piece(event)]

    def _done(self, form: ReplyForm, answered: Answered) -> None:
        self._engine.keep(form.id, answered)
        reply = answered.reply
        self._shown.say(f"{answered.arm}: {reply.answer_tokens} tokens in {reply.latency_seconds:.1f} s")


def _require_json(request: Request) -> None:
    """Raise ApiError for another type: JSON is what no form of another site can send."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "the content type must be application/json", code="unsupported_media_type")


async def _json(request: Request) -> dict[str, Any]:
    _require_json(request)
    return json_object(await request.body())
