"""The few endpoints of Ollama that one chat needs, in front of the embedded server: for timing the client alone."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.file_digests import file_digest
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer


@contextmanager
def ollama_front(gguf: Path, model: str, *, context_tokens: int) -> Iterator[str]:
    """The address of a server that answers for ``model`` with the GGUF file."""
    listed = {"name": f"{model}:latest", "model": f"{model}:latest", "digest": file_digest(gguf)}
    replies = {
        "/api/version": {"version": "0.33.0"},
        "/api/tags": {"models": [listed]},
        "/api/ps": {"models": [{**listed, "context_length": context_tokens}]},
        "/api/show": {"details": {}, "capabilities": ["completion"]},
        "/api/generate": {"response": "", "done": True},
    }
    with LlamaCppServer(gguf, context_tokens=context_tokens) as engine:
        handler = type("Handler", (_Handler,), {"engine": engine, "replies": replies})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            yield f"http://127.0.0.1:{server.server_address[1]}"
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    engine: LlamaCppServer
    replies: dict[str, Any]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/chat":
            self._chat(json.loads(body))
        else:
            self._reply()

    def _reply(self) -> None:
        content = json.dumps(self.replies[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _chat(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        options = body["options"]
        request = {
            "messages": body["messages"],
            "max_tokens": options["num_predict"],
            "temperature": options["temperature"],
            "cache_prompt": False,
        }
        for event in self.engine.events("/v1/chat/completions", request):
            for choice in event["choices"]:
                if choice["delta"].get("content"):
                    self._line({"message": {"content": choice["delta"]["content"]}, "done": False})
        self._line({"message": {"content": ""}, "done": True, "done_reason": "stop"})
        self.wfile.write(b"0\r\n\r\n")

    def _line(self, value: dict[str, Any]) -> None:
        line = json.dumps(value).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()
