"""One Ollama server over HTTP: bounded requests, retries, and its errors as messages.

What the ``ollama`` package can do goes through it (list, ps, create, embed, delete, unload). It lacks ``truncate``,
``shift`` and ``_debug_render_only``, drops ``renderer`` and ``parser``, and splits streamed lines at U+2028, so
chat, show and blobs are sent by httpx.
"""

import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from mlx_ragtune.clients.http_bounds import BoundedTransport, Limit, LimitError, split_lines
from mlx_ragtune.clients.http_retries import AGAIN, PassingError, Retries
from mlx_ragtune.clients.ollama_address import credentials_for, parse_host, pull_command, start_command
from mlx_ragtune.clients.ollama_replies import Checked, Shown, VersionReply, check_reply, malformed
from mlx_ragtune.clients.ollama_versions import (
    DEVELOPMENT_VERSION,
    OLDEST,
    RENDERS_SINCE,
    Era,
    Version,
    era_of,
    parse_version,
)
from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.errors import RecipeError, ToolError, printable

if TYPE_CHECKING:
    import ollama

Result = TypeVar("Result")

MAX_REPLY_BYTES = 64 * 2**20
MAX_LINE_BYTES = MAX_STATUS_BYTES = 2**20
_SLOWEST_UPLOAD = 2**20
"""Bytes per second; slower uploads are ended."""
_CREATE_SECONDS = 4 * 3600.0
"""Servers of some versions rewrite the uploaded model, which takes minutes for each GiB."""
_HEADERS = {"Accept-Encoding": "identity"}


class _Authorization(httpx.Auth):
    """Sends the credentials of OLLAMA_HOST to its server, and nothing elsewhere.

    Without it the ``ollama`` package would send OLLAMA_API_KEY, which is for ollama.com, to every host.
    """

    def __init__(self, credentials: tuple[str, str] | None) -> None:
        self._basic = httpx.BasicAuth(*credentials) if credentials else None

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        request.headers.pop("Authorization", None)
        if self._basic is None:
            yield request
        else:
            yield from self._basic.auth_flow(request)


class Ollama:
    """One server. A request that a retry may cure is sent up to ``attempts`` times, with growing, jittered pauses.

    ``timeout_seconds`` is the longest wait for the next byte, for example while a model is loaded. Redirects are not
    followed and proxies not used. Each failure that a retry cured is printed to stderr and kept in ``retried``.
    ``development_build`` accepts a server without a released version. Raises RecipeError for a ``host`` that is not
    an address or contains credentials.
    """

    def __init__(
        self,
        host: str,
        *,
        attempts: int = 5,
        timeout_seconds: float = 600.0,
        pause_seconds: float = 0.5,
        development_build: bool = False,
    ) -> None:
        address = parse_host(host)
        if address.credentials is not None:
            raise RecipeError(
                f"the host {address.url} contains a user name or password",
                where="host",
                fix="put them into OLLAMA_HOST, and leave 'host' out of the recipe",
            )
        self.host = address.url
        self._timeout_seconds = timeout_seconds
        self._retries = Retries(address.url, attempts=attempts, pause_seconds=pause_seconds)
        self._auth = _Authorization(credentials_for(address.url))
        # no connection is kept alive, so that BoundedTransport can end each one at its deadline
        limits = httpx.Limits(max_keepalive_connections=0)
        # loading the certificates takes longer than a request, and plain HTTP has none
        encrypted = self.host.startswith("https:")
        self._transport = httpx.HTTPTransport(verify=encrypted, trust_env=False, limits=limits)
        self._version: str | None = None
        self._development_build = development_build

    @property
    def retried(self) -> list[str]:
        """The failures that a retry cured."""
        return self._retries.cured

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _settings(self, limit: Limit | None) -> dict[str, Any]:
        limit = limit or Limit(MAX_REPLY_BYTES, self._timeout_seconds)
        return {
            "transport": BoundedTransport(self._transport, limit),
            "timeout": httpx.Timeout(self._timeout_seconds, connect=min(10.0, self._timeout_seconds)),
            "auth": self._auth,
            "headers": _HEADERS,
            "follow_redirects": False,
            "trust_env": False,
        }

    def _client(self, limit: Limit | None = None) -> httpx.Client:
        return httpx.Client(base_url=self.host, **self._settings(limit))

    @property
    def version(self) -> str:
        """The server's version. Raises ToolError when no Ollama answers."""
        if self._version is None:
            answer = self.request("GET", "/api/version")
            self._version = check_reply(VersionReply, answer, where=self.host).version
        return self._version

    @property
    def era(self) -> Era:
        """What this server does. Raises ToolError for a version before 0.9, which cannot switch thinking off."""
        version = self._release()
        if DEVELOPMENT_VERSION < version < OLDEST:
            raise ToolError(
                f"Ollama {self.version} is too old: it cannot switch thinking off",
                where=self.host,
                fix="update Ollama to 0.30 or later",
            )
        return era_of(version)

    @property
    def renders(self) -> bool:
        """Whether the server may return a rendered prompt; a development build is asked for it."""
        version = self._release()
        return version in (DEVELOPMENT_VERSION, max(version, RENDERS_SINCE))

    def _release(self) -> Version:
        return parse_version(self.version, where=self.host, development_build=self._development_build)

    def retrying(self, call: Callable[[], Result]) -> Result:
        """The result of ``call``, which is repeated while it raises PassingError. The last failure is raised."""
        return self._retries.of(call)

    def call(self, action: Callable[["ollama.Client"], Result], *, limit: Limit | None = None) -> Result:
        """The result of a call of the ``ollama`` package, with our bounds, retries and errors."""
        import ollama

        def attempt() -> Result:
            try:
                with ollama.Client(self.host, **self._settings(limit)) as client:
                    return action(client)
            except ollama.ResponseError as error:
                raise self.failure(error.status_code if error.status_code > 0 else 500, str(error.error)) from None
            except (httpx.HTTPError, ConnectionError) as error:
                raise self._unreachable(error) from error
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                # the package takes for granted that a reply is the JSON object it expects
                raise malformed(_first_line(error), self.host) from None

        return self.retrying(attempt)

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON reply. Raises ToolError with Ollama's own message."""

        def attempt() -> Any:
            with self._client() as client:
                response = client.request(method, path, json=body)
                self._check_status(response)
            try:
                return _parse_json(response.content)
            except ValueError:
                raise malformed(ascii(response.text[:60]), self.host) from None

        return self._sending(attempt)

    def _sending(self, attempt: Callable[[], Result]) -> Result:
        def translated() -> Result:
            try:
                return attempt()
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error

        return self.retrying(translated)

    def _check_status(self, response: httpx.Response) -> None:
        if not response.is_success:
            raise self.failure(response.status_code, _message(response.read()))

    def show(self, model: str) -> Shown:
        """What the server says about a model. Raises ToolError when it does not have it."""
        return self.checked(Shown, "/api/show", {"model": model})

    def checked(self, kind: type[Checked], path: str, body: Mapping[str, Any]) -> Checked:
        """The reply to a POST, checked field by field. Raises ToolError."""
        return check_reply(kind, self.request("POST", path, body), where=self.host)

    def digests(self) -> dict[str, str]:
        """The digest of each model that the server has, by its name with tag."""
        listed = self.call(lambda client: client.list()).models
        return {entry.model: entry.digest for entry in listed if entry.model and entry.digest}

    def windows(self) -> dict[str, int]:
        """The context window, in tokens, of each loaded model by its name with tag; servers before 0.11 omit it."""
        loaded = self.call(lambda client: client.ps()).models
        return {entry.name: entry.context_length for entry in loaded if entry.name and entry.context_length}

    def unload(self, model: str) -> None:
        """Free the memory that a model takes at the server."""
        self.call(lambda client: client.generate(model, keep_alive=0))

    def delete(self, model: str) -> None:
        """Remove a model. Raises ToolError when the server does not have it."""
        self.call(lambda client: client.delete(model))

    def copy(self, model: str, name: str) -> None:
        """Give a model a second name, replacing what has that name. Raises ToolError when it does not exist."""
        self.call(lambda client: client.copy(model, name))

    def create(self, model: str, files: Mapping[str, str], **options: Any) -> None:
        """Make a model of uploaded files (digest by name), replacing one of that name. Raises ToolError."""

        def attempt(client: "ollama.Client") -> None:
            status = None
            for line in client.create(model, files=dict(files), stream=True, **options):
                status = line.status or status
            if status != "success":
                raise PassingError(f"creating the model ended with '{status}', not with 'success'", where=self.host)

        self.call(attempt, limit=Limit(MAX_STATUS_BYTES, _CREATE_SECONDS))

    def has_blob(self, digest: str) -> bool:
        """Whether the server already has the blob ``sha256:…``, which the ``ollama`` package cannot ask."""

        def attempt() -> bool:
            with self._client() as client:
                response = client.head(f"/api/blobs/{digest}")
            if response.status_code in (200, 404):
                return response.status_code == 200
            raise self.failure(response.status_code, f"it cannot look up blob {digest}")

        return self._sending(attempt)

    def upload(self, digest: str, pieces: Callable[[], Iterator[bytes]], size: int) -> None:
        """Send a blob of ``size`` bytes; the server checks its digest. ``pieces`` starts anew at each attempt.

        ``create_blob`` of the ``ollama`` package would read the file once more for its digest, and tell no progress.
        """
        limit = Limit(MAX_REPLY_BYTES, self._timeout_seconds + size / _SLOWEST_UPLOAD)

        def attempt() -> None:
            headers = {"Content-Length": str(size)}
            with self._client(limit) as client:
                self._check_status(client.post(f"/api/blobs/{digest}", content=pieces(), headers=headers))

        self._sending(attempt)

    def lines(self, path: str, body: Mapping[str, Any], *, limit: Limit) -> Generator[Any, None, None]:
        """The JSON values of a streamed reply, sent once. Raises ToolError for an error among them."""
        try:
            with self._client(limit) as client, client.stream("POST", path, json=body) as response:
                self._check_status(response)
                for line in split_lines(response.iter_bytes(), max_bytes=MAX_LINE_BYTES):
                    if not line.strip():
                        continue
                    try:
                        value = _parse_json(line)
                    except ValueError:
                        raise PassingError(
                            f"a line of the answer is not JSON: {line[:60].decode(errors='replace')!a}",
                            where=self.host,
                            fix=_SEE_LOG,
                        ) from None
                    if isinstance(value, dict) and "error" in value:
                        raise self.failure(500, str(value["error"]))
                    yield value
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> ToolError:
        if isinstance(error, ConnectionError) and isinstance(error.__context__, httpx.HTTPError):
            error = error.__context__  # the reason, in place of the package's general advice
        what = _first_line(error)
        if isinstance(error, LimitError):
            return ToolError(f"stopped reading Ollama's answer: {what}", where=self.host, fix=_SEE_LOG)
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | ConnectionError):
            return PassingError(f"no Ollama server answers ({what})", where=self.host, fix=start_command(self.host))
        if isinstance(error, httpx.TimeoutException):
            return PassingError(
                f"Ollama timed out ({what})",
                where=self.host,
                fix=f"{_SEE_LOG}; the model may be too large for its memory",
            )
        return PassingError(f"the connection to Ollama broke: {what}", where=self.host, fix=_SEE_LOG)

    def failure(self, status: int, message: str) -> ToolError:
        """The error for a reply that is an error: a PassingError, a PromptOverflowError or a final ToolError."""
        if _OVERFLOW.search(message):
            numbers = re.search(r"request \((\d{1,9}) tokens\).*?context size \((\d{1,9})", message)
            prompt, context = (int(number) for number in numbers.groups()) if numbers else (None, None)
            return PromptOverflowError(prompt, context, where=self.host)
        what = f"Ollama answered {status}: {printable(message)[:400]}"
        if status in (408, 429, 502, 503, 504) or _DIED.search(message):
            return PassingError(what, where=self.host, fix=f"{_SEE_LOG}, then {AGAIN}")
        return ToolError(what, where=self.host, fix=self._fix(status, message))

    def _fix(self, status: int, message: str) -> str:
        missing = re.search(r"model ['\"]([\w./:-]{1,200})['\"] not found", message, re.ASCII)
        if missing:
            return f"{pull_command(self.host, missing[1])}; for a model of a run: ragtune register RECIPE"
        if "no space left" in message:
            return f"free some disk where the server keeps its models, then {AGAIN}"
        if "not support thinking" in message:
            return "set 'dataset.thinking: off'"
        if status in (401, 403):
            return "put the credentials into OLLAMA_HOST: http://USER:PASSWORD@HOST:PORT"
        if 300 <= status < 400 or status == 404:
            return "correct the address: this one is not an Ollama server"
        return _SEE_LOG


_SEE_LOG = "see the server's log"
_DIED = re.compile(
    r"unexpected EOF|has terminated|connection (?:refused|reset)|error was encountered while running", re.I
)
_OVERFLOW = re.compile(
    r"exceeds the available context size|prompt is longer than the context|exceeds? the context length", re.I
)


def _first_line(error: Exception) -> str:
    return printable((str(error).strip() or type(error).__name__).splitlines()[0][:200])


def _parse_json(data: bytes) -> Any:
    """The JSON value. Raises ValueError also for NaN, invalid UTF-8 and nesting beyond the parser's depth."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        return json.loads(data.decode(), parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _message(body: bytes) -> str:
    """Ollama's message in the body of an error reply."""
    try:
        return str(_parse_json(body)["error"])
    except (ValueError, KeyError, TypeError, IndexError):
        return " ".join(body[:2000].decode(errors="replace").split()) or "no message"
