"""A stand-in for arXiv on this machine: its API and its PDFs, with every fault that it is known for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from mlx_ragtune.papers.arxiv_ids import parse_arxiv_id

ENTRY = """<entry><id>http://arxiv.org/abs/{id}</id><published>{year}-05-23T17:50:33Z</published>
<title>{title}</title><summary>Text.</summary><author><name>Tim Dettmers</name></author>
<author><name>Kurt Gödel</name></author><arxiv:comment>{comment}</arxiv:comment></entry>"""
FEED = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:arxiv="http://arxiv.org/schemas/atom">{entries}</feed>"""


@dataclass
class Upstream:
    """What the server has: PDFs by id and version, titles and comments by id, and answers to give first."""

    pdfs: dict[str, bytes] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    faults: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    address: str = ""

    def add(self, paper: str, content: bytes, *, version: int = 1, title: str = "A Paper", comment: str = "") -> None:
        self.pdfs[f"{paper}v{version}"] = content
        self.newest[paper] = max(version, self.newest.get(paper, 0))
        self.titles[paper], self.comments[paper] = title, comment

    def feed(self, names: list[str]) -> str:
        entries = []
        for name in names:
            asked = parse_arxiv_id(name)
            assert asked is not None, name
            version = asked.version or self.newest.get(asked.id, 0)
            if version and version <= self.newest.get(asked.id, 0):
                entries.append(
                    ENTRY.format(
                        id=f"{asked.id}v{version}",
                        year=2023,
                        title=escape(self.titles[asked.id]),
                        comment=escape(self.comments[asked.id]),
                    )
                )
        return FEED.format(entries="".join(entries))


def _handler(upstream: Upstream) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            upstream.requests.append(unquote(self.path))
            upstream.agents.add(self.headers.get("User-Agent", ""))
            if upstream.faults:
                status, headers = upstream.faults.pop(0)
                if status == 0:
                    self.close_connection = True
                    return
                self.answer(status, b"busy", headers)
            elif parts.path == "/api/query":
                names = parse_qs(parts.query)["id_list"][0].split(",")
                self.answer(200, upstream.feed(names).encode(), {"Content-Type": "application/atom+xml"})
            else:
                content = upstream.pdfs.get(parts.path.removeprefix("/pdf/"))
                self.answer(404 if content is None else 200, content or b"<html>not found</html>", {})

        def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def arxiv_server() -> Iterator[Upstream]:
    """The server, on a free port."""
    upstream = Upstream()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(upstream))
    upstream.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
