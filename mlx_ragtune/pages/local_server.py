"""A page for one person on this machine: a server on the loopback address, with a token in the path.

It answers only to its own names (``Host``) and under the token, so that no other site, and no other user of the
machine, can read or write. Nothing of a request is ever used as a path of a file.
"""

import re
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from mlx_ragtune.pages.request_checks import HostNames, cannot_listen, same_secret

IDLE_SECONDS = 60
POLL_SECONDS = 0.05
"""How long the end of a server waits at most."""


class LocalServer(ThreadingHTTPServer):
    """A server on 127.0.0.1 with a new token. Raises ToolError when the port is not available; 0 takes a free one."""

    daemon_threads = True

    def __init__(self, handler: type["LocalHandler"], port: int) -> None:
        self.token = secrets.token_urlsafe(18)
        try:
            super().__init__(("127.0.0.1", port), handler)
        except OSError as error:
            raise cannot_listen("127.0.0.1", port, error) from None

    @property
    def address(self) -> str:
        """The page's address, with the token."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when a browser closes its connection."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class LocalHandler(BaseHTTPRequestHandler):
    """Answers only under the token, and only to this machine's own names, so that no other site can write."""

    server: LocalServer
    server_version = "ragtune"
    sys_version = ""
    timeout = IDLE_SECONDS

    def log_message(self, *_arguments: Any) -> None:
        """Print nothing."""

    def get(self, route: str) -> None:
        """Answer a GET; ``route`` is the path below the token."""
        raise NotImplementedError

    def post(self, route: str) -> None:
        """Answer a POST; ``route`` is the path below the token."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer, or refuse, a GET."""
        if (route := self._route()) is not None:
            self.get(route)

    def do_POST(self) -> None:
        """Answer, or refuse, a POST."""
        if (route := self._route()) is not None:
            self.post(route)

    def _route(self) -> str | None:
        """The path below the token; None, after a 404, for any other request."""
        host = self.headers.get("Host", "")
        path = _path(self.path)
        prefix = f"/{self.server.token}/"
        known = HostNames(self.server.server_port).knows(host)
        if not known or not same_secret(path[: len(prefix)], prefix):
            self.send_error(404)
            return None
        return path[len(prefix) :]

    def body(self, most: int) -> bytes | None:
        """The body of a POST; None, after a 413, without a length or for more than ``most`` bytes."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length) or int(length) > most:
            self.send_error(413)
            return None
        return self.rfile.read(int(length))

    def send_content(
        self,
        status: int,
        content: bytes,
        *,
        kind: str,
        policy: str = "default-src 'none'",
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole response that no cache keeps; ``policy`` is its Content-Security-Policy."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", policy)
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _path(target: str) -> str:
    try:
        return urlsplit(target).path
    except ValueError:  # a malformed request line
        return ""


@contextmanager
def running(server: LocalServer) -> Iterator[str]:
    """The page's address while the context is open; then the server is stopped and its port closed."""
    thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), daemon=True)
    thread.start()
    try:
        yield server.address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
