"""What stands before the chat server: who may ask, how large a request may be, and how long it may take to arrive.

Refusals are decided from the headers, before a body is read. Nothing is allowed to other sites: no response has a
CORS header, and what names another site in ``Origin`` is refused.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_ragtune.pages.chat_requests import ApiError
from mlx_ragtune.pages.request_checks import HostNames, is_same_origin, same_secret, session_secret

MAX_BODY_BYTES = 2**20
BODY_SECONDS = 20.0
"""A request must have arrived by then."""
COOKIE = "ragtune"
OPEN_PATHS = ("/",)
"""The page without any content: its script asks for that, with the token."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Who may ask: requests under one of ``names``, and where there is a ``token`` only with it."""

    names: HostNames
    token: str | None = None

    def refusal(self, method: str, path: str, headers: Headers) -> ApiError | None:
        """Why a request is refused; None for one that may be answered."""
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self.names.knows(host):
            message = "this server is not known under that name; start it with --allow-host NAME"
            return ApiError(403, message, code="unknown_host")
        if other := self._other_site(method, headers, host):
            return other
        if self.token is None or path in OPEN_PATHS or self._has_token(headers):
            return None
        return ApiError(401, "the API key is missing or wrong", code="invalid_api_key")

    def _other_site(self, method: str, headers: Headers, host: str) -> ApiError | None:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        reads = method in ("GET", "HEAD")
        foreign = origin is not None and not is_same_origin(origin, host)
        embedded = headers.get("sec-fetch-mode", "navigate") != "navigate" or not reads
        if foreign or (site in ("cross-site", "same-site") and embedded):
            return ApiError(403, "requests from other sites are refused", code="other_site")
        return None

    def _has_token(self, headers: Headers) -> bool:
        assert self.token is not None  # noqa: S101 (checked by the caller)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return same_secret(given.strip(), self.token)
        try:
            kept = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return kept is not None and same_secret(kept.value, session_secret(self.token))


class Guard:
    """Lets through what may be answered, its body whole and of a limited size; refuses the rest in JSON."""

    def __init__(
        self, app: ASGIApp, access: Access, *, max_body: int = MAX_BODY_BYTES, body_seconds: float = BODY_SECONDS
    ) -> None:
        self._app, self._access = app, access
        self._max_body, self._body_seconds = max_body, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is answered")

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        try:
            if refusal := self._access.refusal(scope["method"], scope["path"], headers):
                raise refusal
            body = await self._body(headers, receive)
        except ApiError as error:
            challenge = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
            more = {"Connection": "close", **challenge}  # what is left of the body is not read
            await JSONResponse(error.as_json(), error.status, headers=more)(scope, receive, guarded_send)
            return
        if body is None:
            return  # the client is gone
        await self._app(scope, _replayed(body, receive), guarded_send)

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body; None when the client left before its end. Raises ApiError."""
        too_large = ApiError(413, f"the request is larger than {self._max_body} bytes", code="request_too_large")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdecimal() or int(length[:12]) > self._max_body:
            raise too_large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._max_body:
                        raise too_large
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise ApiError(408, "the request did not arrive in time", code="request_timeout") from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body that was read already, and then what the server says."""
    pending: Iterable[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replay() -> Message:
        for message in pending:
            return message
        return await receive()

    return replay
