"""``ragtune serve``: a chat page and an OpenAI-compatible endpoint for the papers of a recipe."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from mlx_ragtune.answering.opened_answers import open_answers
from mlx_ragtune.answering.votes import VOTES, VoteLog
from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.errors import RecipeError
from mlx_ragtune.pages.chat_app import Shown, chat_app
from mlx_ragtune.pages.chat_engine import Engine
from mlx_ragtune.pages.chat_guard import Access
from mlx_ragtune.pages.chat_server import serving
from mlx_ragtune.pages.request_checks import HostNames, is_address, is_loopback, listen, require_names, split_host

TOKEN_VARIABLE = "RAGTUNE_SERVE_TOKEN"
_LEAST_TOKEN = 16


@dataclass(frozen=True)
class ServeOptions:
    """How a run is served. ``token``: require one on this machine too, as everywhere else."""

    host: str = "127.0.0.1"
    port: int = 0
    preview: bool = False
    turns: int = 0
    slots: int | None = None
    token: bool = False
    allow_hosts: tuple[str, ...] = ()
    append_sources: bool = False


@dataclass(frozen=True)
class Served:
    """Where a run is served. ``page`` holds the token where it was made for this run of the server only."""

    page: str
    endpoint: str
    token: str | None
    models: tuple[str, ...]


@contextmanager
def serve(run: OpenRun, options: ServeOptions, *, say: Callable[[str], None]) -> Iterator[Served]:
    """Serve the papers of a run until the end of the context.

    Raises RecipeError for options that do not fit, ArtifactError for models that are not those of the recipe, ToolError
    for an address that is not available.
    """
    token, made = find_token(required=options.token or not is_loopback(options.host))
    more = require_names(options.allow_hosts)
    own, _ = split_host(f"[{options.host}]" if ":" in options.host else options.host)
    if own and not is_address(own):
        more |= {own}
    slots = options.slots or run.recipe.evaluate.slots
    with (
        closing(listen(options.host, options.port)) as listening,  # before models are loaded
        open_answers(run, preview=options.preview, turns=options.turns, slots=slots, at_once=True) as answers,
    ):
        shown = Shown(run.recipe.name, options.preview, options.append_sources, say)
        engine, votes = Engine(answers, slots=slots), VoteLog(run.home / VOTES)
        port = listening.getsockname()[1]
        names = HostNames(port, more, any_address=not is_loopback(options.host))
        with serving(chat_app(engine, votes, Access(names, token), shown), listening):
            address = _address(options.host, port)
            fragment = f"#token={quote(token, safe='')}" if token and made else ""
            yield Served(f"{address}/{fragment}", f"{address}/v1", token, answers.arms)


def _address(host: str, port: int) -> str:
    """The address as this machine reaches it."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{port}"


def find_token(*, required: bool) -> tuple[str | None, bool]:
    """The token, and whether it was made now; None where none is needed. Raises RecipeError for a short one."""
    given = os.environ.get(TOKEN_VARIABLE, "").strip()
    if given:
        if len(given) < _LEAST_TOKEN or not given.isascii() or not given.isprintable() or " " in given:
            raise RecipeError(
                f"the token has to be {_LEAST_TOKEN} or more printable ASCII characters without spaces",
                where=TOKEN_VARIABLE,
                fix=f"export {TOKEN_VARIABLE}=$(openssl rand -hex 24)",
            )
        return given, False
    return (secrets.token_urlsafe(24), True) if required else (None, False)
