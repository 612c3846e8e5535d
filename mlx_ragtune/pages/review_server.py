"""The review page: one HTML page with its script, and the requests of that script, on the loopback address.

    GET  ""                       the page
    GET  state                    progress, decisions and summaries
    GET  item?n=3                 one item with its passages
    GET  page?n=3&place=0&page=7  a page of the paper as PNG, with the quote marked
    POST review · check · undo · more · apply · finish    JSON only, which no form of another site can send

Items and passages are named by number: no request holds a path.
"""

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from mlx_ragtune.errors import InputError, RagtuneError, printable
from mlx_ragtune.jsonl import parse_row, to_json
from mlx_ragtune.pages.local_server import LocalHandler, LocalServer, running
from mlx_ragtune.reviewing.review_session import Checked, Sent, Session

_HERE = Path(__file__).parent
MAX_BODY_BYTES = 200_000
Row = TypeVar("Row")


def render_shell(nonce: str) -> str:
    """The page without any content of the user: its script asks for that and sets it as text."""
    files = {name: Markup((_HERE / file).read_text(encoding="utf-8")) for name, file in _FILES.items()}  # noqa: S704
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True)
    return environment.get_template("review.html.jinja").render(nonce=nonce, **files)


_FILES = {"base_css": "style.css", "css": "review.css", "script": "review.js"}
"""Files of this package, by their names in the template."""


class _Handler(LocalHandler):
    """The page and what its script asks for."""

    server: "_Server"

    def get(self, route: str) -> None:
        """Send the page, the state, an item or a page image."""
        session = self.server.session
        if route == "":
            nonce = secrets.token_urlsafe(16)
            self.send_content(
                200,
                render_shell(nonce).encode(),
                kind="text/html; charset=utf-8",
                policy=f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
                "connect-src 'self'; img-src blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
            )
        elif route == "state":
            self._answer(session.state)
        elif route == "item":
            self._answer(lambda: session.details(self._number("n")))
        elif route == "page":
            self._send_image()
        else:
            self.send_error(404)

    def post(self, route: str) -> None:
        """Check, save or take back a decision; apply the reviews; end the session."""
        if (content := self.body(MAX_BODY_BYTES)) is None:
            return
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a form of another site cannot send this without asking first
            self.send_error(415)
            return
        if route not in ("review", "check", "undo", "more", "apply", "finish"):
            self.send_error(404)
            return
        self._answer(lambda: self._do(route, content))

    def _do(self, route: str, content: bytes) -> dict[str, Any]:
        session = self.server.session
        if route == "check":
            return {"problems": session.check(_parsed(Checked, content))}
        if route == "review":
            session.decide(_parsed(Sent, content))
            return session.state()
        if route == "undo":
            undone = session.undo()
            return {**session.state(), "undone": undone}
        if route == "more":
            session.more(_object(content).get("part"))
            return session.state()
        if route == "apply":
            return self._apply(_object(content).get("part"))
        session.finished.set()
        return {}

    def _apply(self, part: object) -> dict[str, Any]:
        session = self.server.session
        applied = session.write(part)
        return {**session.state(), "applied": printable(applied.text), "then": session.next_step(applied)}

    def _number(self, name: str, *, missing: int | None = None) -> int:
        """A number of the query. Raises InputError for anything else."""
        asked = parse_qs(urlsplit(self.path).query).get(name, [""])[0]
        if not asked and missing is not None:
            return missing
        if not re.fullmatch(r"[0-9]{1,9}", asked):
            raise InputError(f"'{name}' must be a number")
        return int(asked)

    def _answer(self, compute: Any) -> None:
        """Send what ``compute`` returns as JSON, or the error that it raises."""
        status, value = 200, None
        try:
            value = compute()
        except InputError as error:
            status, value = 400, {"error": printable(error.what)}
        except RagtuneError as error:
            status, value = 500, {"error": str(error)}
        except Exception as error:
            self.send_content(500, to_json({"error": f"this is a bug: {error}"}).encode(), kind="application/json")
            raise
        self.send_content(status, to_json(value).encode(), kind="application/json")

    def _send_image(self) -> None:
        try:
            image = self.server.session.image(
                self._number("n"), self._number("place"), self._number("page", missing=0) or None
            )
        except RagtuneError as error:
            self.send_content(400, to_json({"error": printable(error.what)}).encode(), kind="application/json")
            return
        about = {
            "X-Page": str(image.page),
            "X-Pages": str(image.pages),
            "X-Marked": image.marked,
            "X-Top": str(image.top),
        }
        self.send_content(200, image.png, kind="image/png", more=about)


def _object(content: bytes) -> dict[str, Any]:
    """A JSON object. Raises InputError."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise InputError("the request is not JSON") from None
    if not isinstance(value, dict):
        raise InputError("the request is not a JSON object")
    return value


def _parsed(kind: type[Row], content: bytes) -> Row:
    """The request as a ``kind``. Raises InputError."""
    return parse_row(kind, _object(content), where="request")


class _Server(LocalServer):
    def __init__(self, session: Session, port: int) -> None:
        self.session = session
        super().__init__(_Handler, port)


@contextmanager
def serve(session: Session, *, port: int = 0) -> Iterator[str]:
    """The page's address while the context is open: loopback only, with a new token in the path each time.

    Several processes may serve the same reviews. Raises ToolError when the port is not available.
    """
    with running(_Server(session, port)) as address:
        yield address
