"""One OpenAI-compatible server over HTTP: LM Studio, vLLM, llama-server and others. Bounded requests with retries.

The API key is read from RAGTUNE_API_KEY only. It is sent to the recipe's hosts as a bearer token, over plain HTTP to
this machine only, and replaced in whatever a server writes back.
"""

import ipaddress
import json
import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from mlx_ragtune.clients.http_bounds import BoundedTransport, Limit, LimitError, split_lines
from mlx_ragtune.clients.http_retries import AGAIN, PassingError, Retries
from mlx_ragtune.clients.ollama_address import parse_host
from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.errors import RecipeError, ToolError, printable

Result = TypeVar("Result")

KEY_VARIABLE = "RAGTUNE_API_KEY"
MAX_REPLY_BYTES = 16 * 2**20
MAX_LINE_BYTES = 2**20
_SEE_LOG = "see the server's log"
_OVERFLOW = re.compile(r"context.?(?:size|length|window)|exceed_context|maximum (?:context|model) len", re.I)
_HIDDEN = "<RAGTUNE_API_KEY>"


class RefusedRequestError(ToolError):
    """A request that the server does not accept as it is (400, 415, 422, 501); ``message`` is the server's."""

    def __init__(self, status: int, message: str, *, where: str) -> None:
        self.message = message
        super().__init__(f"the server answered {status}: {printable(message)[:400]}", where=where, fix=_SEE_LOG)


def endpoint(host: str) -> str:
    """The address of the API: ``host``, with ``/v1`` where it has no path. Raises RecipeError."""
    address = parse_host(host, where="dataset.generator.hosts")
    if address.credentials is not None:
        raise RecipeError(
            f"the host {address.url} contains a user name or password",
            where="dataset.generator.hosts",
            fix=f"remove it, and set the environment variable {KEY_VARIABLE}",
        )
    return address.url if urlsplit(address.url).path else f"{address.url}/v1"


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's."""
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


class _Bearer(httpx.Auth):
    """Sends the key, and nothing that a ``.netrc`` file holds."""

    def __init__(self, key: str) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


class OpenAiServer:
    """One server. A request that a retry may cure is sent up to ``attempts`` times, with growing, jittered pauses.

    ``timeout_seconds`` is the longest wait for the next byte. Redirects are not followed and proxies not used. Raises
    RecipeError for a ``host`` that is not an address, and for a key that would cross a network unencrypted.
    """

    def __init__(
        self, host: str, *, attempts: int = 5, timeout_seconds: float = 600.0, pause_seconds: float = 0.5
    ) -> None:
        self.url = endpoint(host)
        key = os.environ.get("RAGTUNE_API_KEY", "").strip()
        encrypted = self.url.startswith("https:")
        if key and not encrypted and not is_loopback(self.url):
            raise RecipeError(
                f"{KEY_VARIABLE} is set, and would be sent unencrypted to {self.url}",
                where="dataset.generator.hosts",
                fix=f"use an https:// address, or unset {KEY_VARIABLE}",
            )
        if not key.isascii() or not key.isprintable():
            raise RecipeError(
                f"{KEY_VARIABLE} contains characters that a key cannot have", where=KEY_VARIABLE, fix="set it anew"
            )
        self._key, self._timeout_seconds = key, timeout_seconds
        self._retries = Retries(self.url, attempts=attempts, pause_seconds=pause_seconds)
        # no connection is kept alive, so that BoundedTransport can end each one at its deadline
        limits = httpx.Limits(max_keepalive_connections=0)
        self._transport = httpx.HTTPTransport(verify=encrypted, trust_env=False, limits=limits)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def retrying(self, call: Callable[[], Result]) -> Result:
        """The result of ``call``, repeated while it raises PassingError. Raises the last failure."""
        return self._retries.of(call)

    @contextmanager
    def _client(self, limit: Limit) -> Iterator[httpx.Client]:
        with httpx.Client(
            transport=BoundedTransport(self._transport, limit),
            timeout=httpx.Timeout(self._timeout_seconds, connect=min(10.0, self._timeout_seconds)),
            auth=_Bearer(self._key),
            headers={"Accept-Encoding": "identity"},
            follow_redirects=False,
            trust_env=False,
        ) as client:
            try:
                yield client
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error

    def models(self) -> list[Mapping[str, Any]]:
        """What ``/models`` lists, each entry with an ``id``. Raises ToolError where no such server answers."""

        def attempt() -> Any:
            with self._client(Limit(MAX_REPLY_BYTES, self._timeout_seconds)) as client:
                response = client.get(f"{self.url}/models")
                self._check_status(response)
                return self._json(response.content)

        listed = self.retrying(attempt)
        rows = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(rows, list):
            raise ToolError(
                "this is not an OpenAI-compatible server: /models does not list models",
                where=self.url,
                fix="correct dataset.generator.hosts; the address usually ends in /v1",
            )
        return [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]

    def events(self, path: str, body: Mapping[str, Any], *, limit: Limit) -> Generator[dict[str, Any], None, None]:
        """The events of a streamed reply, sent once; a reply that is not streamed is the only event."""
        with self._client(limit) as client, client.stream("POST", f"{self.url}{path}", json=body) as response:
            self._check_status(response)
            if "event-stream" not in response.headers.get("Content-Type", ""):
                yield self._event(response.read())
                return
            for line in split_lines(response.iter_bytes(), max_bytes=MAX_LINE_BYTES):
                field, _, payload = line.partition(b":")
                if field == b"data" and payload.strip() not in (b"", b"[DONE]"):
                    yield self._event(payload)

    def _event(self, data: bytes) -> dict[str, Any]:
        event = self._json(data)
        if not isinstance(event, dict):
            raise PassingError(f"the server sent {ascii(event)[:60]}, not an object", where=self.url, fix=_SEE_LOG)
        if event.get("error"):
            raise self._failure(500, _message(event["error"]))
        return event

    def _json(self, data: bytes) -> Any:
        try:
            return json.loads(data.decode())
        except (ValueError, RecursionError):
            shown = self._redacted(data[:60].decode(errors="replace"))
            raise PassingError(f"the server sent what is not JSON: {shown!a}", where=self.url, fix=_SEE_LOG) from None

    def _check_status(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        body = response.read()
        try:
            message = _message(json.loads(body.decode()))
        except (ValueError, RecursionError):
            message = " ".join(body[:2000].decode(errors="replace").split()) or "no message"
        raise self._failure(response.status_code, message)

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, _HIDDEN) if self._key else text

    def _failure(self, status: int, message: str) -> ToolError:
        message = self._redacted(message)
        if _OVERFLOW.search(message) and status in (400, 413, 422, 500):
            return PromptOverflowError(None, None, where=self.url)
        what = f"the server answered {status}: {printable(message)[:400]}"
        if status in (401, 403):
            return ToolError(
                what, where=self.url, fix=f"set the environment variable {KEY_VARIABLE} to the server's key"
            )
        if 300 <= status < 400 or status in (404, 405):
            return ToolError(
                what, where=self.url, fix="correct dataset.generator.hosts; the address usually ends in /v1"
            )
        if status in (400, 415, 422, 501):
            return RefusedRequestError(status, message, where=self.url)
        return PassingError(what, where=self.url, fix=f"{_SEE_LOG}, then {AGAIN}")

    def _unreachable(self, error: httpx.HTTPError) -> ToolError:
        what = printable((str(error).strip() or type(error).__name__).splitlines()[0][:200])
        if isinstance(error, LimitError):
            return ToolError(f"stopped reading the answer: {what}", where=self.url, fix=_SEE_LOG)
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            fix = "start the server (LM Studio, vLLM, llama-server), or correct dataset.generator.hosts"
            return PassingError(f"no server answers ({what})", where=self.url, fix=fix)
        if isinstance(error, httpx.TimeoutException):
            return PassingError(f"the server timed out ({what})", where=self.url, fix=_SEE_LOG)
        return PassingError(f"the connection broke: {what}", where=self.url, fix=_SEE_LOG)


def _message(value: Any) -> str:
    """The message in an error reply: ``{"error": {"message": …}}``, ``{"error": …}``, ``{"detail": …}`` or the text."""
    while isinstance(value, dict):
        inner = next((value[key] for key in ("error", "message", "detail") if value.get(key)), None)
        if inner is None:
            break
        value = inner
    return value if isinstance(value, str) else json.dumps(value)
