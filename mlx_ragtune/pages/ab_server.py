"""The blind A/B page: a server on the loopback address. Votes and session are in ``ab_session``."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from mlx_ragtune.errors import RagtuneError
from mlx_ragtune.pages.ab_analysis import needed_votes, references
from mlx_ragtune.pages.ab_session import REASONS, Session
from mlx_ragtune.pages.local_server import LocalHandler, LocalServer, running

_HERE = Path(__file__).parent
MAX_BODY_BYTES = 10_000


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


class _Handler(LocalHandler):
    """The page, votes, and the unblinding."""

    server: "_Server"

    def get(self, route: str) -> None:
        """Send the page; any other route is a 404."""
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
        page = render_page(self.server.session, at=at, nonce=nonce, problem=problem)
        self.send_content(
            status,
            page.encode("utf-8", "replace"),
            kind="text/html; charset=utf-8",
            policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        )

    def post(self, route: str) -> None:
        """Take a vote, or unblind."""
        if (content := self.body(MAX_BODY_BYTES)) is None:
            return
        form = parse_qs(content.decode("utf-8", "replace"))
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


class _Server(LocalServer):
    def __init__(self, session: Session, port: int) -> None:
        self.session = session
        super().__init__(_Handler, port)


@contextmanager
def serve(session: Session, *, port: int = 0) -> Iterator[str]:
    """The page's address while the context is open: loopback only, with a new token in the path each time.

    Raises ArtifactError when another process serves this session, ToolError when the port is not available.
    """
    with session.exclusive(), running(_Server(session, port)) as address:
        yield address
