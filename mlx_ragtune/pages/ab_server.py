"""The blind A/B page: a server on the loopback address. Votes and session are in ``ab_session``."""

import errno
import re
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from mlx_ragtune.errors import RagtuneError, ToolError
from mlx_ragtune.pages.ab_analysis import needed_votes, references
from mlx_ragtune.pages.ab_session import REASONS, Session

_HERE = Path(__file__).parent
MAX_BODY_BYTES = 10_000
IDLE_SECONDS = 60


def smooth(text: str) -> str:
    """The text without Markdown markup, which would give a model away; no word changes."""
    lines = [re.sub(r"^\s*(?:#{1,6}|[-*+]|\d+[.)]|>)\s+", "", line) for line in text.splitlines()]
    plain = re.sub(r"\*\*|__|```\w*|`|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)", "", "\n".join(lines))
    return re.sub(r"\n{3,}", "\n\n", plain).strip()


def render_page(session: Session, *, at: int | None, nonce: str, problem: str = "") -> str:
    """The start page (``at`` None), a comparison, the unblinding, the result, or a ``problem``.

    Never says which side is whose.
    """
    total = len(session.trials)
    place = session.done if at is None else max(0, min(at, session.done))
    result = None if problem else session.result()
    shows_trial = at is not None and place < total and result is None and not problem
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True)
    return environment.get_template("ab.html.jinja").render(
        css=Markup((_HERE / "style.css").read_text(encoding="utf-8")),  # noqa: S704 (a file of this package)
        nonce=nonce,
        problem=problem,
        trial=session.trials[place] if shows_trial else None,
        result=result,
        at=place,
        total=total,
        sizes=_sizes(session),
        checks=sum(trial.kind == "check" for trial in session.trials),
        reasons=REASONS,
        smooth=smooth,
        needed=needed_votes,
    )


def _sizes(session: Session) -> list[int]:
    """How many votes each comparison gets."""
    real = [trial.against for trial in session.trials if trial.kind == "real"]
    return [real.count(reference) for reference in references(session.trials)]


class _Handler(BaseHTTPRequestHandler):
    """Answers only under the token, and only to this machine's own names, so that no other site can vote."""

    server: "_Server"
    server_version = "ragtune"
    sys_version = ""
    timeout = IDLE_SECONDS

    def log_message(self, *_arguments: Any) -> None:
        pass

    def _route(self) -> str | None:
        """The path below the token; None, after a 404, for any other request."""
        host = self.headers.get("Host", "")
        path = _path(self.path)
        prefix = f"/{self.server.token}/"
        known = host in (f"127.0.0.1:{self.server.server_port}", f"localhost:{self.server.server_port}")
        given = path[: len(prefix)]
        if not known or not secrets.compare_digest(given.encode("utf-8", "replace"), prefix.encode()):
            self.send_error(404)
            return None
        return path[len(prefix) :]

    def do_GET(self) -> None:
        route = self._route()
        if route is None:
            return
        if route:
            self.send_error(404)
            return
        asked = parse_qs(urlsplit(self.path).query).get("at", [""])[0]
        at = int(asked) if re.fullmatch(r"[0-9]{1,6}", asked) else None
        try:
            self._send_page(200, at=at)
        except RagtuneError as error:
            self._send_page(500, problem=str(error))

    def _send_page(self, status: int, *, at: int | None = None, problem: str = "") -> None:
        nonce = secrets.token_urlsafe(16)
        body = render_page(self.server.session, at=at, nonce=nonce, problem=problem).encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header(
            "Content-Security-Policy",
            f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        )
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        route = self._route()
        if route is None:
            return
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length) or int(length) > MAX_BODY_BYTES:
            self.send_error(413)
            return
        form = parse_qs(self.rfile.read(int(length)).decode("utf-8", "replace"))
        session = self.server.session
        try:
            if route == "vote":
                choice = form.get("choice", [""])[0]
                accepted = session.vote(form.get("trial", [""])[0], choice, form.get("reason", []))
            else:
                accepted = route == "unblind" and session.unblind()
        except RagtuneError as error:
            self._send_page(500, problem=str(error))
            return
        if not accepted:
            self.send_error(409, "not accepted")
            return
        self.send_response(303)
        self.send_header("Location", f"/{self.server.token}/?at={session.done}")
        self.send_header("Content-Length", "0")
        self.end_headers()


def _path(target: str) -> str:
    try:
        return urlsplit(target).path
    except ValueError:  # a malformed request line
        return ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, session: Session, token: str, port: int) -> None:
        self.session, self.token = session, token
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when a browser closes its connection."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _open_server(session: Session, token: str, port: int) -> _Server:
    try:
        return _Server(session, token, port)
    except OSError as error:
        reason = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise ToolError(
            f"cannot listen on port {port}: {reason}",
            where=f"127.0.0.1:{port}",
            fix="choose another port with --port, or leave it out for a free one",
        ) from None


@contextmanager
def serve(session: Session, *, port: int = 0) -> Iterator[str]:
    """The page's address while the context is open: loopback only, with a new token in the path each time.

    Raises ArtifactError when another process serves this session, ToolError when the port is not available.
    """
    token = secrets.token_urlsafe(18)
    with session.exclusive():
        server = _open_server(session, token, port)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{token}/"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
