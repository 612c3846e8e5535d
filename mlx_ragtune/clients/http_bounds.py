"""HTTP responses with a limit in bytes and in seconds, and their lines.

httpx limits neither: its timeouts restart with every byte, and a response or a line may grow without end.
"""

import contextlib
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Limit:
    """The largest response in bytes, and the longest time from the request to its end in seconds."""

    bytes: int
    seconds: float


class LimitError(httpx.TransportError):
    """A response that exceeds its limit; retrying would exceed it again."""


def split_lines(chunks: Iterable[bytes], *, max_bytes: int) -> Iterator[bytes]:
    r"""The lines of a response, split at ``\n`` alone, without their ends.

    ``httpx.Response.iter_lines`` also splits at U+2028, U+2029 and U+0085, which JSON allows inside strings. Raises
    LimitError for a line longer than ``max_bytes``.
    """
    rest = b""
    for chunk in chunks:
        first, *more = chunk.split(b"\n")
        rest += first
        if more:
            yield rest.removesuffix(b"\r")
            yield from (line.removesuffix(b"\r") for line in more[:-1])
            rest = more[-1]
        if len(rest) > max_bytes:
            raise LimitError(f"a line is longer than {max_bytes} bytes")
    if rest:
        yield rest.removesuffix(b"\r")


class BoundedTransport(httpx.BaseTransport):
    """Another transport with a limit on each response. Closing it leaves the other open.

    When the time is over, the connection's socket is shut down: that also ends a read that waits for one byte
    after the other of a response's headers. So connections must not be kept alive.
    """

    def __init__(self, transport: httpx.BaseTransport, limit: Limit) -> None:
        self._transport, self._limit = transport, limit

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The response of the other transport, its body limited."""
        watch = _Watch(self._limit)
        request.extensions = {**request.extensions, "trace": watch.trace}
        try:
            response = self._transport.handle_request(request)
        except BaseException as error:
            watch.stop()
            if isinstance(error, httpx.TransportError):
                watch.check(error)
            raise
        headers = [pair for pair in response.headers.raw if pair[0].lower() != b"content-encoding"]
        assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 (a synchronous transport)
        return httpx.Response(
            response.status_code,
            headers=headers,  # undecoded: a small compressed body can expand without bound, and none is asked for
            stream=_BoundedStream(response.stream, watch),
            extensions=response.extensions,
        )


class _Watch:
    """Shuts down the socket of one request when its time is over."""

    def __init__(self, limit: Limit) -> None:
        self.limit, self._expired = limit, False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(limit.seconds, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def trace(self, event: str, about: Mapping[str, Any]) -> None:
        """Called by httpcore at each step of a request; keeps the socket that it opens."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = about["return_value"].get_extra_info("socket")
            if self._expired:
                self._expire()

    def _expire(self) -> None:
        self._expired = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed at the same moment
                self._socket.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._timer.cancel()

    def check(self, error: httpx.TransportError | None = None) -> None:
        """Raise LimitError when the time is over, which also caused ``error``."""
        if self._expired:
            raise LimitError(f"the answer took longer than {self.limit.seconds:.0f} seconds") from error


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, watch: _Watch) -> None:
        self._stream, self._watch = stream, watch

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        try:
            for chunk in self._stream:
                size += len(chunk)
                if size > self._watch.limit.bytes:
                    raise LimitError(f"the answer is longer than {self._watch.limit.bytes} bytes")
                self._watch.check()
                yield chunk
        except httpx.TransportError as error:
            self._watch.check(error)
            raise
        self._watch.check()  # a body without a length ends like that when its socket is shut down

    def close(self) -> None:
        self._watch.stop()
        self._stream.close()
