"""arXiv: descriptions of papers from its API, and their PDFs, one request every three seconds.

Sources: info.arxiv.org/help/api/user-manual.html, info.arxiv.org/help/api/tou.html.
"""

import email.utils
import ipaddress
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote, urljoin, urlsplit
from xml.etree.ElementTree import Element

import httpx

from mlx_ragtune import __version__
from mlx_ragtune.clients.http_bounds import BoundedTransport, Limit, LimitError
from mlx_ragtune.errors import InputError, RecipeError, ToolError
from mlx_ragtune.papers.archives import iter_local, local_name, parse_xml
from mlx_ragtune.papers.arxiv_ids import ArxivId, parse_arxiv_id
from mlx_ragtune.papers.blocks import one_line, year_in
from mlx_ragtune.papers.latex_symbols import decode_latex

ADDRESS = "https://export.arxiv.org"
"""The server for programs."""
SPACING_SECONDS = 3.0
"""What arXiv asks programs to leave between two requests."""
MAX_PDF_BYTES = 128 * 2**20
MOST_IN_QUERY = 100
"""Papers that are described by one request."""
_ATTEMPTS, _LONGEST_WAIT_SECONDS = 5, 120.0
_RETRIED = {408, 429, 500, 502, 503, 504}
_WITHDRAWN = re.compile(r"\bwithdrawn\b", re.IGNORECASE)


@dataclass(frozen=True)
class Description:
    """What arXiv says about a version of a paper."""

    id: ArxivId
    title: str
    authors: tuple[str, ...]
    year: int | None
    is_withdrawn: bool


class NotThereError(Exception):
    """arXiv does not have what was asked for; the text says why."""


def arxiv_address() -> str:
    """The server's address. ``RAGTUNE_ARXIV`` may name another one on this machine, for tests.

    Raises RecipeError when it names a server elsewhere.
    """
    address = os.environ.get("RAGTUNE_ARXIV")
    if not address:
        return ADDRESS
    host = urlsplit(address).hostname or ""
    try:
        is_local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = False
    if not is_local:
        raise RecipeError(
            f"RAGTUNE_ARXIV is '{address:.80}', which is not on this machine",
            fix="unset RAGTUNE_ARXIV: it is for tests",
        )
    return address.rstrip("/")


class ArxivClient:
    """Asks arXiv, slowly, and again after a failure. Use it as a context manager.

    ``pace`` is a file whose time is that of the last request, so that processes one after another keep the distance.
    """

    def __init__(
        self,
        pace: Path,
        *,
        address: str = "",
        wait: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._address = address or arxiv_address()
        self._pace, self._wait, self._say = pace, wait, say
        self._transport = httpx.HTTPTransport(
            verify=self._address.startswith("https:"),
            limits=httpx.Limits(max_keepalive_connections=0),
            proxy=_proxy(self._address),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._transport.close()

    def describe(self, ids: Sequence[ArxivId], *, attempts: int = _ATTEMPTS) -> dict[ArxivId, Description]:
        """The descriptions of the papers that arXiv has, by the id that was asked for.

        Raises ToolError when arXiv cannot be reached or does not answer as documented.
        """
        found: dict[ArxivId, Description] = {}
        for first in range(0, len(ids), MOST_IN_QUERY):
            part = ids[first : first + MOST_IN_QUERY]
            try:
                entries = self._query(part, attempts)
            except NotThereError:  # one id makes the whole query fail
                entries = [entry for one in part for entry in self._query_one(one, attempts)] if len(part) > 1 else []
            for asked in part:
                same = [entry for entry in entries if entry.id.id == asked.id]
                if asked.version is not None:
                    same = [entry for entry in same if entry.id.version == asked.version]
                if same:
                    found[asked] = max(same, key=lambda entry: entry.id.version or 0)
        return found

    def _query_one(self, asked: ArxivId, attempts: int) -> list[Description]:
        try:
            return self._query([asked], attempts)
        except NotThereError:
            return []

    def _query(self, ids: Sequence[ArxivId], attempts: int) -> list[Description]:
        names = ",".join(map(str, ids))
        path = f"/api/query?id_list={quote(names, safe='/,')}&max_results={len(ids)}"
        content = self._get(path, what=names, most=2**24, absent=(400,), attempts=attempts)
        try:
            root = parse_xml(content, "the answer", Path("arXiv"))
        except InputError as error:
            raise ToolError(
                f"arXiv does not answer as documented: {error.what}", where=self._address, fix=_AGAIN
            ) from None
        return [entry for element in iter_local(root, "entry") if (entry := _description(element))]

    def pdf(self, paper: ArxivId) -> bytes:
        """The PDF of a version. Raises NotThereError when arXiv has none, ToolError when it cannot be reached."""
        content = self._get(f"/pdf/{paper}", what=str(paper), most=MAX_PDF_BYTES, absent=(404, 410))
        if b"%PDF" not in content[:1024]:
            raise NotThereError(
                "withdrawn" if _WITHDRAWN.search(content[:65536].decode("utf-8", "replace")) else "no PDF"
            )
        return content

    def _get(self, path: str, *, what: str, most: int, absent: tuple[int, ...], attempts: int = _ATTEMPTS) -> bytes:
        """The body of a response with status 200. Raises NotThereError for a status of ``absent``."""
        problem = ""
        for attempt in range(1, attempts + 1):
            pause = SPACING_SECONDS * 2**attempt
            try:
                response, content = self._request(self._address + path, most)
            except LimitError as error:
                raise ToolError(f"{error}", where=f"arXiv {what:.80}", fix=_AGAIN) from None
            except httpx.TransportError as error:
                problem = _first_line(error)
            else:
                if response.status_code == 200:
                    return content
                problem = f"HTTP {response.status_code}"
                if response.status_code in absent:
                    raise NotThereError(problem)
                if response.status_code not in _RETRIED:
                    break
                pause = max(pause, _retry_after(response))
            if pause > _LONGEST_WAIT_SECONDS:
                problem += f", and asks to wait {pause:.0f} seconds"
                break
            if attempt < attempts:
                self._say(f"arXiv {what:.60}: {problem}; trying again in {pause:.0f} s")
                self._wait(pause)
        raise ToolError(f"cannot download from arXiv: {problem}", where=f"arXiv {what:.80}", fix=_AGAIN)

    def _request(self, url: str, most: int) -> tuple[httpx.Response, bytes]:
        """One response after redirects, which stay at arXiv. Raises httpx.TransportError."""
        for _ in range(5):
            self._keep_distance()
            transport = BoundedTransport(self._transport, Limit(most, 300.0))
            with httpx.Client(transport=transport, timeout=30.0, trust_env=False, headers=_HEADERS) as client:
                response = client.get(url)
            if not response.is_redirect:
                return response, response.content
            url = urljoin(url, response.headers.get("location", ""))
            if not self._is_allowed(url):
                raise NotThereError(f"it is redirected to {urlsplit(url).hostname}")
        raise NotThereError("too many redirects")

    def _is_allowed(self, url: str) -> bool:
        parts, own = urlsplit(url), urlsplit(self._address)
        at_arxiv = (
            parts.scheme == "https" and (parts.hostname or "").endswith((".arxiv.org",))
        ) or parts.hostname == "arxiv.org"
        return (parts.scheme, parts.netloc) == (own.scheme, own.netloc) or (
            own.hostname == "export.arxiv.org" and at_arxiv
        )

    def _keep_distance(self) -> None:
        try:
            left = self._pace.stat().st_mtime + SPACING_SECONDS - time.time()
        except OSError:
            left = 0.0
        if left > 0:
            self._wait(min(left, SPACING_SECONDS))
        self._pace.touch()


_HEADERS = {"User-Agent": f"mlx-ragtune/{__version__}", "Accept-Encoding": "identity"}
_AGAIN = "run the same command again later: papers that were downloaded are kept"


@contextmanager
def one_at_a_time(lock: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock for asking arXiv; wait while another process holds it."""
    from filelock import FileLock, Timeout

    guard = FileLock(lock)
    try:
        guard.acquire(timeout=0)
    except Timeout:
        say("another process is downloading from arXiv; waiting")
        guard.acquire()
    try:
        yield
    finally:
        guard.release()


def _description(entry: Element) -> Description | None:
    """The description in an entry of the API's feed; None for one that reports an error."""
    texts = {local_name(element): element.text or "" for element in entry}
    identifier = parse_arxiv_id(texts.get("id", ""))
    if identifier is None:
        return None
    names = [one_line(name.text or "") for author in iter_local(entry, "author") for name in iter_local(author, "name")]
    notes = f"{texts.get('comment', '')} {texts.get('summary', '')[:200]}"
    return Description(
        identifier,
        decode_latex(texts.get("title", "")),
        tuple(name for name in names if name),
        year_in(texts.get("published", "")),
        _WITHDRAWN.search(notes) is not None,
    )


def _retry_after(response: httpx.Response) -> float:
    """The seconds that a server asks to wait, given as a number or as a date; 0 without."""
    value = response.headers.get("retry-after", "")
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def _proxy(address: str) -> str | None:
    """The proxy that the environment or the system names for the address."""
    parts = urlsplit(address)
    bypass = urllib.request.proxy_bypass(parts.hostname or "")
    return None if bypass or parts.scheme == "http" else urllib.request.getproxies().get(parts.scheme)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
