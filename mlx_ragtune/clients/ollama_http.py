"""One Ollama server over HTTP: its version and what that version does, requests, retries, its errors in words.

httpx and not the ``ollama`` client: that one has no ``truncate``, ``shift``, ``renderer`` or
``_debug_render_only``, drops fields it does not know, and waits for ever by default.
"""

import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.errors import ToolError

Version = tuple[int, int, int]
Result = TypeVar("Result")

OLDEST: Version = (0, 9, 0)
RENDERS_SINCE: Version = (0, 11, 5)
CHUNK_BYTES = 2**20


class PassingError(ToolError):
    """A failure that may heal by itself: a refused or cut connection, a busy server, an engine that died."""


class ServerGoneError(ToolError):
    """Nobody answers at the address, however often it is tried: going on would only fail again."""


@dataclass(frozen=True)
class Era:
    """What servers from version ``since`` on do with a GGUF that we send them."""

    name: str
    since: Version
    reads_jinja: bool
    """The template inside the GGUF is used; below, a model without TEMPLATE is served raw."""
    keeps_bytes: bool
    """The stored blob is the uploaded one; else it is rewritten and its digest says nothing."""
    imports_folders: bool
    """On a Mac a safetensors folder becomes a model of its MLX engine."""


ERAS = (
    Era("in-process engine", (0, 0, 0), reads_jinja=False, keeps_bytes=True, imports_folders=False),
    Era("llama-server", (0, 30, 0), reads_jinja=True, keeps_bytes=False, imports_folders=False),
    Era("llama-server and MLX", (0, 34, 1), reads_jinja=True, keeps_bytes=True, imports_folders=True),
)


def parse_version(text: str, *, where: str) -> Version:
    """``0.33.0-rc2`` as (0, 33, 0). Raises ToolError for what names no release, such as a build from source."""
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    if match is None or text.startswith("0.0.0"):
        raise ToolError(
            f"Ollama's version '{text}' is no release, so what it does is not known",
            where=where,
            fix="use a released version",
        )
    major, minor, patch = (int(part) for part in match.groups())
    return major, minor, patch


def era_of(version: Version) -> Era:
    """The era that a version belongs to."""
    return [era for era in ERAS if version >= era.since][-1]


def address(host: str) -> str:
    """A base URL from what people write into OLLAMA_HOST: scheme added, 0.0.0.0 made an address to call."""
    host = host.strip().rstrip("/")
    host = host if "://" in host else f"http://{host}"
    if not re.search(r":\d+$", host) and host.startswith("http://"):
        host += ":11434"
    return host.replace("://0.0.0.0", "://127.0.0.1")


class Ollama:
    """One server. Requests that may heal are tried ``attempts`` times, with growing, jittered pauses.

    ``timeout_seconds`` is the longest silence: while a model loads, or a long prompt is read. Each failure
    that healed is said on stderr and kept in ``healed``.
    """

    def __init__(
        self,
        host: str,
        *,
        attempts: int = 5,
        timeout_seconds: float = 600.0,
        pause_seconds: float = 0.5,
    ) -> None:
        self.host = address(host)
        self._attempts, self._pause = attempts, pause_seconds
        self._jitter = random.Random()  # noqa: S311 (spreads retries, decides nothing)
        self._client = httpx.Client(
            base_url=self.host,
            timeout=httpx.Timeout(timeout_seconds, connect=10.0),
            trust_env=False,
        )
        self._version: str | None = None
        self.healed: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def version(self) -> str:
        """The server's version as it says it. Raises ToolError when no Ollama answers there."""
        if self._version is None:
            answer = self.request("GET", "/api/version")
            if not isinstance(answer, dict) or "version" not in answer:
                raise ToolError("something answers, but it is not Ollama", where=self.host, fix="set 'register.host'")
            self._version = str(answer["version"])
        return self._version

    @property
    def era(self) -> Era:
        """What this server does. Raises ToolError when it is older than 0.9, which has no ``think``."""
        version = parse_version(self.version, where=self.host)
        if version < OLDEST:
            raise ToolError(
                f"Ollama {self.version} is too old: thinking cannot be switched off below 0.9",
                where=self.host,
                fix="update Ollama to 0.30 or later",
            )
        return era_of(version)

    def healing(self, call: Callable[[], Result]) -> Result:
        """The result of ``call``, tried again while it raises PassingError. The last failure is raised."""
        failures: list[str] = []
        while True:
            try:
                result = call()
            except PassingError as error:
                failures.append(error.what)
                if len(failures) == self._attempts:
                    what = f"{error.what} (tried {len(failures)} times)"
                    gone = isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
                    kind = ServerGoneError if gone else ToolError
                    raise kind(what, where=error.where, fix=error.fix) from error
                time.sleep(self._pause * 2 ** (len(failures) - 1) * self._jitter.uniform(0.5, 1.5))
            else:
                for failure in failures:
                    print(f"{self.host}: {failure}; tried again and it went well", file=sys.stderr, flush=True)
                self.healed += failures
                return result

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON answer, or None for an empty one. Raises ToolError with Ollama's own message."""

        def once() -> Any:
            try:
                response = self._client.request(method, path, json=body)
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error
            if response.status_code >= 400:
                raise self.failure(response.status_code, _message(response.text))
            return _parsed(response, self.host) if response.content else None

        return self.healing(once)

    def holds(self, digest: str) -> bool:
        """Whether the server already has the blob ``sha256:…``."""

        def once() -> bool:
            try:
                response = self._client.head(f"/api/blobs/{digest}")
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error
            if response.status_code in (200, 404):
                return response.status_code == 200
            raise self.failure(response.status_code, f"HEAD of blob {digest}")

        return self.healing(once)

    def upload(self, digest: str, pieces: Callable[[], Iterator[bytes]], size: int) -> None:
        """Send a blob; the server checks it against its digest. ``pieces`` starts from the front each time."""

        def once() -> None:
            try:
                response = self._client.post(
                    f"/api/blobs/{digest}", content=pieces(), headers={"Content-Length": str(size)}
                )
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error
            if response.status_code not in (200, 201):
                raise self.failure(response.status_code, _message(response.text))

        self.healing(once)

    def lines(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The objects of a streamed answer, once and without retries. Raises ToolError for an error among them."""
        try:
            with self._client.stream("POST", path, json=body) as response:
                if response.status_code >= 400:
                    raise self.failure(response.status_code, _message(response.read().decode(errors="replace")))
                for line in response.iter_lines():
                    if not line.strip():
                        continue
                    try:
                        value = json.loads(line)
                    except ValueError:
                        raise PassingError("a line of the answer was cut off", where=self.host) from None
                    if "error" in value:
                        raise self.failure(500, str(value["error"]))
                    yield value
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.HTTPError) -> PassingError:
        what = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return PassingError(f"Ollama does not answer: {what}", where=self.host, fix="ollama serve")
        if isinstance(error, httpx.TimeoutException):
            return PassingError(
                f"Ollama fell silent ({what})", where=self.host, fix="look at its log; is the model too large?"
            )
        return PassingError(f"the connection to Ollama broke: {what}", where=self.host, fix="look at its log")

    def failure(self, status: int, message: str) -> ToolError:
        """The error for a refusal of the server: one that may heal, one that cannot, or an overflow."""
        return _failure(status, message, self.host)


def _message(text: str) -> str:
    """Ollama's message out of an error body."""
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text.strip() or "no message"


def _parsed(response: httpx.Response, host: str) -> Any:
    try:
        return response.json()
    except ValueError:
        raise ToolError(
            f"something answers, but it is not Ollama: {response.text[:60]!r}", where=host, fix="check the address"
        ) from None


_DIED = re.compile(
    r"unexpected EOF|has terminated|connection (?:refused|reset)|error was encountered while running", re.I
)
_OVERFLOW = re.compile(
    r"exceeds the available context size|prompt is longer than the context|exceeds? the context length", re.I
)


def _failure(status: int, message: str, host: str) -> ToolError:
    if _OVERFLOW.search(message):
        numbers = re.search(r"request \((\d+) tokens\).*?context size \((\d+)", message)
        prompt, context = (int(one) for one in numbers.groups()) if numbers else (None, None)
        return PromptOverflowError(prompt, context, where=host)
    what = f"Ollama refused with {status}: {message[:400]}"
    if "no space left" in message:
        return ToolError(what, where=host, fix="free some disk where the server keeps its models")
    if "not found" in message and status == 404:
        return ToolError(what, where=host, fix="ragtune register RECIPE --redo")
    if "not support thinking" in message:
        return ToolError(what, where=host, fix="set 'dataset.thinking: off'")
    if status in (408, 429, 502, 503, 504) or _DIED.search(message):
        return PassingError(what, where=host, fix="look at the server's log, then run the same command again")
    return ToolError(what, where=host, fix="look at the server's log")
