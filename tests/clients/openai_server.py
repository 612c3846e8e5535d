"""A stand-in for an OpenAI-compatible server: a backend behind ``/v1/models`` and ``/v1/chat/completions``."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from mlx_ragtune.records import ChatReply, ChatRequest, Message, Sampling

Answer = Callable[[ChatRequest], ChatReply]
Refuse = Callable[[dict[str, Any]], tuple[int, Any] | None]


class OpenAiStandIn:
    """The server on a free loopback port; ``refuse`` may answer a request's body with a status and a JSON value.

    ``cut`` ends the stream after so many events; ``plain`` answers without streaming, ``unread`` without a schema
    being needed: the one of the last request that had one is used.
    """

    def __init__(self, answer: Answer, *, models: tuple[dict[str, Any], ...] = ({"id": "writer"},)) -> None:
        self.answer, self.models = answer, list(models)
        self.refuse: Refuse = lambda _body: None
        self.cut: int | None = None
        self.plain = False
        self.bodies: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        handler = type("Handler", (_Handler,), {"standin": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.host = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def reply(self, body: dict[str, Any]) -> ChatReply:
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        messages = tuple(Message(turn["role"], turn["content"]) for turn in body["messages"])
        sampling = Sampling(
            temperature=body["temperature"], seed=body.get("seed", 0), max_tokens=body.get("max_tokens", 1)
        )
        return self.answer(ChatRequest(messages, sampling, schema=schema))


class _Handler(BaseHTTPRequestHandler):
    standin: OpenAiStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        pass

    def _json(self, status: int, value: Any) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.standin.authorizations.append(self.headers.get("Authorization"))
        if self.path != "/v1/models":
            self._json(404, {"detail": "Not Found"})
        elif (refused := self.standin.refuse({})) is not None:
            self._json(*refused)
        else:
            self._json(200, {"object": "list", "data": self.standin.models})

    def do_POST(self) -> None:
        standin = self.standin
        standin.authorizations.append(self.headers.get("Authorization"))
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        standin.bodies.append(body)
        if (refused := standin.refuse(body)) is not None:
            self._json(*refused)
            return
        reply = standin.reply(body)
        usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.answer_tokens}
        if standin.plain:
            message = {"role": "assistant", "content": reply.text, "reasoning_content": reply.thinking or None}
            self._json(200, {"choices": [{"message": message, "finish_reason": reply.done_reason}], "usage": usage})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        size = 7
        pieces = [{"content": reply.text[at : at + size]} for at in range(0, len(reply.text), size)]
        thought = [{"reasoning_content": reply.thinking}] if reply.thinking else []
        events: list[dict[str, Any]] = [
            {"choices": [{"delta": {"role": "assistant"}, "finish_reason": None}]},
            *({"choices": [{"delta": delta, "finish_reason": None}]} for delta in [*thought, *pieces]),
            {"choices": [{"delta": {}, "finish_reason": reply.done_reason}]},
        ]
        if body.get("stream_options"):
            events.append({"choices": [], "usage": usage})
        try:
            self.wfile.write(b": a comment that keeps the connection open\n\n")
            for event in events[: standin.cut]:
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            if standin.cut is None:
                self.wfile.write(b"data: [DONE]\n\n")
        except OSError:  # the client has seen enough
            pass
