"""The blind A/B page: a server on this machine alone, votes in an append-only file, unblinding at the end.

session folder: key (secret) · session.json (n, digest of the plan) · votes.jsonl · unblinded.json
"""

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.jsonl import to_json
from mlx_ragtune.pages.ab_analysis import CHOICES, Choice, analyse, needed_votes, report_part
from mlx_ragtune.pages.ab_plan import Item, Trial, plan_digest, plan_trials
from mlx_ragtune.pages.report_data import ABPart

_HERE = Path(__file__).parent
REASONS = ("right", "grounded", "names its paper", "clear", "complete")
MOST_BYTES = 10_000


def smooth(text: str) -> str:
    """The text without Markdown's marks, which give a model away; no word changes."""
    lines = [re.sub(r"^\s*(?:#{1,6}|[-*+]|\d+[.)]|>)\s+", "", line) for line in text.splitlines()]
    plain = re.sub(r"\*\*|__|```\w*|`|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)", "", "\n".join(lines))
    return re.sub(r"\n{3,}", "\n\n", plain).strip()


@dataclass
class Session:
    """One plan and the votes on it. A later vote on a trial replaces the earlier one; both stay in the file."""

    folder: Path
    trials: list[Trial]
    n: int
    votes: dict[str, Choice] = field(default_factory=dict)
    judge: Mapping[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def done(self) -> int:
        """Place of the first trial without a vote."""
        return next((at for at, trial in enumerate(self.trials) if trial.id not in self.votes), len(self.trials))

    @property
    def unblinded(self) -> bool:
        """Whether the result has been looked at."""
        return (self.folder / "unblinded.json").exists()

    def vote(self, trial: str, choice: str, reasons: Sequence[str] = ()) -> bool:
        """Append a vote, fsynced. False, and nothing written, for what is no vote or comes too late."""
        known = {one.id for one in self.trials}
        chosen: Choice | None = next((one for one in CHOICES if one == choice), None)
        if trial not in known or chosen is None:
            return False
        row = {
            "trial": trial,
            "choice": chosen,
            "reasons": [one for one in REASONS if one in reasons],
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        with self.lock:
            if self.unblinded:
                return False
            with (self.folder / "votes.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(to_json(row) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            self.votes[trial] = chosen
        return True

    def unblind(self) -> bool:
        """Write the result, once every trial has its vote; no vote is taken after that."""
        with self.lock:
            if self.done < len(self.trials):
                return False
            if not self.unblinded:
                result = json.dumps(
                    report_part(analyse(self.trials, self.votes, judge=self.judge)), ensure_ascii=False, indent=1
                )
                aside = self.folder / "unblinded.json.part"
                aside.write_text(result + "\n", encoding="utf-8")
                aside.rename(self.folder / "unblinded.json")
        return True

    def result(self) -> ABPart | None:
        """What the votes said; None before the unblinding."""
        if not self.unblinded:
            return None
        part: ABPart = json.loads((self.folder / "unblinded.json").read_text(encoding="utf-8"))
        return part


def _key(folder: Path) -> bytes:
    path = folder / "key"
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_hex(32))
    return bytes.fromhex(path.read_text())


def _read_votes(path: Path) -> Iterator[tuple[str, Choice]]:
    """Votes in order. A last line without its end was cut by a stop and is cut off; it was never confirmed."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    for number, line in enumerate(whole.decode("utf-8", "replace").splitlines(), start=1):
        try:
            row = json.loads(line)
            yield row["trial"], row["choice"]
        except (ValueError, KeyError, TypeError):
            raise ArtifactError("not a vote", where=f"{path}:{number}", fix="remove this line") from None


def open_session(folder: Path, items: Sequence[Item], *, n: int, judge: Mapping[str, str] | None = None) -> Session:
    """The session in the folder, begun or gone on with. ``judge`` maps question ids to its preferences.

    Raises ArtifactError when votes were given on other answers, or another ``n`` was set at the beginning;
    InputError as ``plan_trials``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trials = plan_trials(items, _key(folder), n=n)
    described = {"n": n, "plan": plan_digest(trials)}
    path = folder / "session.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != described:
        raise ArtifactError(
            "votes were given here on other answers, or with another number of comparisons",
            where=str(folder),
            fix="move that folder away to begin again",
        )
    path.write_text(json.dumps(described) + "\n", encoding="utf-8")
    votes = dict(_read_votes(folder / "votes.jsonl"))
    valid = {name: choice for name, choice in votes.items() if choice in CHOICES}
    return Session(folder, trials, n, valid, judge or {})


def render_page(session: Session, *, at: int | None, nonce: str) -> str:
    """The start page (``at`` None), a trial, the unblinding, or the result. Never says which side is whose."""
    total = len(session.trials)
    place = session.done if at is None else max(0, min(at, session.done))
    result = session.result()
    trial = session.trials[place] if at is not None and place < total and result is None else None
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True)
    return environment.get_template("ab.html.jinja").render(
        css=Markup((_HERE / "style.css").read_text(encoding="utf-8")),  # noqa: S704 (a file of this package)
        nonce=nonce,
        trial=trial,
        result=result,
        at=place,
        total=total,
        n=session.n,
        reasons=REASONS,
        smooth=smooth,
        needed=needed_votes,
    )


class _Handler(BaseHTTPRequestHandler):
    """Answers only under the token, only to this machine's own names: another site's page cannot vote."""

    server: "_Server"
    server_version = "ragtune"
    sys_version = ""

    def log_message(self, *_arguments: Any) -> None:
        pass

    def _route(self) -> str | None:
        """The path below the token; None for a stranger."""
        host = self.headers.get("Host", "")
        path = urlsplit(self.path).path
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
        nonce = secrets.token_urlsafe(16)
        at = int(asked) if re.fullmatch(r"\d{1,6}", asked) else None
        body = render_page(self.server.session, at=at, nonce=nonce).encode()
        self.send_response(200)
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
        if not length.isdigit() or int(length) > MOST_BYTES:
            self.send_error(413)
            return
        form = parse_qs(self.rfile.read(int(length)).decode("utf-8", "replace"))
        session = self.server.session
        if route == "vote":
            choice = form.get("choice", [""])[0]
            taken = session.vote(form.get("trial", [""])[0], choice, form.get("reason", []))
        else:
            taken = route == "unblind" and session.unblind()
        if not taken:
            self.send_error(409, "not taken")
            return
        self.send_response(303)
        self.send_header("Location", f"/{self.server.token}/?at={session.done}")
        self.send_header("Content-Length", "0")
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, session: Session, token: str, port: int) -> None:
        self.session, self.token = session, token
        super().__init__(("127.0.0.1", port), _Handler)


@contextmanager
def serve(session: Session, *, port: int = 0) -> Iterator[str]:
    """The page's address while the context is open; loopback only, a fresh token in the path each time."""
    token = secrets.token_urlsafe(18)
    server = _Server(session, token, port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{token}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
