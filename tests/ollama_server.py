"""A stand-in for an Ollama server: it follows the recorded contract and answers with a real engine.

    python tests/ollama_server.py --era 0.33 --port 0 --home DIR

Blobs and models are files under its home. A prompt is rendered as the server of that version would,
and llama.cpp answers on the very GGUF that was uploaded: a wrong file, template or option shows.
"""

import argparse
import hashlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # in place of tests/, whose gguf/ hides the package

from mlx_ragtune.clients.ollama_versions import RENDERS_SINCE, era_of, parse_version
from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import ToolError
from tests.clients.ollama_models import NAME, ApiError, Engines, Model, Store, full_name, now

VERSIONS = {"0.20": "0.20.7", "0.33": "0.33.0-rc2", "0.35": "0.35.0"}
LOOP_TOKENS = 30
DEFAULT_CONTEXT = 4096
_OVERFLOW = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    ``refuse`` closes the connection unanswered, ``status`` answers with an error, ``cut`` breaks the
    connection after ``after`` lines, ``end`` ends the stream there without ``done``, ``error`` puts an
    error line there, ``stall`` says nothing until ``resume`` is set, ``raw`` sends these bytes, status line
    included, then ``repeat`` until the client closes the connection.
    """

    kind: str
    after: int = 0
    status: int = 500
    message: str = "something broke"
    resume: threading.Event | None = None
    raw: bytes = b""
    repeat: bytes = b""


NO_FAULT: Callable[[str], Fault | None] = lambda _path: None  # noqa: E731


@dataclass
class _Answer:
    """A generation: its pieces as they come, then its last object."""

    last: dict[str, Any]
    looped: bool = False
    pieces: Generator[tuple[str, list[dict[str, Any]]], None, None] = field(init=False)


class OllamaStandIn:
    """The server on a free loopback port; ``fault`` is asked for each request's path.

    ``thinks_anyway``: capable models think whatever is asked; ``cuts_to``: prompts lose all but so many tokens,
    without a word. Both are what servers have done.
    """

    thinks_anyway = False
    cuts_to: int | None = None

    def __init__(self, home: Path, *, version: str = VERSIONS["0.33"], port: int = 0) -> None:
        released = parse_version(version, where="stand-in")
        self.version, self.era, self.renders = version, era_of(released), released >= RENDERS_SINCE
        self.store = Store(home, self.era)
        self.engines = Engines(self.store)
        self.fault = NO_FAULT
        self.requests: list[tuple[str, str, Any]] = []
        self.authorizations: list[str | None] = []
        handler = type("Handler", (_Handler,), {"standin": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        self.host = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self.engines.unload_all()

    def stop_listening(self) -> None:
        """As when the server is stopped: no new connection is taken."""
        self._http.shutdown()  # a socket closed while it is polled would still take connections, and reset them
        self._http.server_close()

    def ps(self) -> dict[str, Any]:
        """The answer of ``/api/ps``."""
        return {"models": [self._running(held.model, held.context_tokens) for held in self.engines.loaded()]}

    def _running(self, model: Model, context_tokens: int) -> dict[str, Any]:
        return {
            "name": model.name,
            "model": model.name,
            "size": self.store.blob(f"sha256:{model.gguf}").stat().st_size,
            "digest": model.digest,
            "details": self.store.details(model),
            "expires_at": now(),
            "size_vram": 0,
            "context_length": context_tokens,
        }

    def tags(self) -> dict[str, Any]:
        """The answer of ``/api/tags``."""
        rows = []
        for model in self.store.models():
            details = self.store.details(model, context_length=True, embedding_length=True)
            size = self.store.blob(f"sha256:{model.gguf}").stat().st_size
            about = {"name": model.name, "model": model.name, "modified_at": model.modified_at, "size": size}
            rows.append({**about, "digest": model.digest, "details": details, "capabilities": ["completion"]})
        return {"models": rows}

    def options(self, body: dict[str, Any], model: Model) -> dict[str, Any]:
        """The request's options over the model's parameters, checked as far as the server checks."""
        options = {**model.parameters, **(body.get("options") or {})}
        for name in ("num_ctx", "num_predict", "num_thread", "seed", "top_k"):
            if name in options and not isinstance(options[name], int):
                raise ApiError(500, f'option "{name}" must be of type integer')
        return options

    def prompt_tokens(self, engine: LlamaCppServer, prompt: str, body: dict[str, Any], window: int) -> list[int]:
        """Token ids of the prompt: cut to the window without a word, unless the request forbids it."""
        tokens = engine.tokenize(prompt)
        if self.cuts_to is not None:
            return tokens[-self.cuts_to :]
        if len(tokens) < window:
            return tokens
        if body.get("truncate") is False:
            error = {
                "code": 400,
                "message": f"request ({len(tokens)} tokens) exceeds the available context size ({window} tokens), "
                "try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": len(tokens),
                "n_ctx": window,
            }
            raise ApiError(400, json.dumps({"error": error}, separators=(",", ":")))
        if body.get("shift") is False:
            raise ApiError(400, _OVERFLOW)
        return tokens[-(window // 2 + 2) :]

    def generate(self, body: dict[str, Any], model: Model, prompt: str) -> _Answer:
        """Answer a rendered prompt with the real engine."""
        options = self.options(body, model)
        window = options.get("num_ctx", DEFAULT_CONTEXT)
        engine, load_ns = self.engines.get(model, window)
        tokens = self.prompt_tokens(engine, prompt, body, window)
        request = {
            "prompt": tokens,
            "n_predict": options.get("num_predict", -1),
            "temperature": options.get("temperature", 0.8),
            "top_k": options.get("top_k", 40),
            "top_p": options.get("top_p", 0.9),
            "min_p": options.get("min_p", 0.0),
            "repeat_penalty": options.get("repeat_penalty", 1.0),
            "seed": options.get("seed", -1),
            "stop": options.get("stop", []),
            "cache_prompt": False,
        }
        if schema := _schema(body.get("format"), ordered=model.template is not None):
            request["json_schema"] = schema
        if body.get("logprobs"):
            request["n_probs"] = max(1, body.get("top_logprobs", 1))
        answer = _Answer({})
        answer.pieces = self._pieces(engine, request, answer, load_ns)
        return answer

    def _pieces(
        self, engine: LlamaCppServer, request: dict[str, Any], answer: _Answer, load_ns: int
    ) -> Generator[tuple[str, list[dict[str, Any]]], None, None]:
        started, run, before = time.perf_counter_ns(), 0, None
        with self.engines.lock:
            for event in engine.events("/completion", request):
                if event.get("content"):
                    run = run + 1 if event["content"].strip() == before else 1
                    before = event["content"].strip()
                    yield event["content"], event.get("completion_probabilities", [])
                    if run > LOOP_TOKENS:
                        answer.looped = True
                        return
                if event.get("stop"):
                    times = event["timings"]
                    answer.last = {
                        "done": True,
                        "done_reason": "length" if event["stop_type"] == "limit" else "stop",
                        "total_duration": time.perf_counter_ns() - started + load_ns,
                        "load_duration": load_ns,
                        "prompt_eval_count": event["tokens_evaluated"],
                        "prompt_eval_duration": int(times["prompt_ms"] * 1e6),
                        "eval_count": event["tokens_predicted"],
                        "eval_duration": int(times["predicted_ms"] * 1e6),
                    }


def _schema(wanted: Any, *, ordered: bool) -> dict[str, Any] | None:
    """The schema for the engine: the native path puts the keys into alphabetical order."""
    if wanted in (None, ""):
        return None
    if wanted == "json":
        return {"type": "object"}
    if not isinstance(wanted, dict):
        shown = json.dumps(json.dumps(wanted))
        raise ApiError(500, f'invalid format: {shown}; expected "json" or a valid JSON Schema object')
    if ordered or "properties" not in wanted:
        return wanted
    return {**wanted, "properties": dict(sorted(wanted["properties"].items()))}


def _logprob(token: dict[str, Any]) -> dict[str, Any]:
    known = {key: token[key] for key in ("token", "logprob", "bytes")}
    if "top_logprobs" not in token:
        return known
    return {**known, "top_logprobs": [_logprob(top) for top in token["top_logprobs"]]}


class _CutError(Exception):
    """The connection is to be broken here."""


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    standin: OllamaStandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for a delayed ACK

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        self._handle("GET")

    def do_HEAD(self) -> None:
        self._handle("HEAD")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        fault = self.standin.fault(self.path)
        self.standin.authorizations.append(self.headers.get("Authorization"))
        try:
            if fault and fault.kind == "refuse":
                raise _CutError
            if fault and fault.resume is not None:
                fault.resume.wait(60)
                raise _CutError
            if fault and fault.kind == "raw":
                self._raw(fault, length)
                return
            if fault and fault.kind == "status":
                self.rfile.read(length)
                raise ApiError(fault.status, fault.message)
            if self.path.startswith("/api/blobs/"):
                self._blob(method, self.path.removeprefix("/api/blobs/"), length)
                return
            self._route(method, self.rfile.read(length), fault)
        except ApiError as error:
            self._json({"error": error.message}, error.status)
        except PromptOverflowError as error:
            self._json({"error": error.what}, 400)
        except ToolError as error:
            self._json({"error": error.what}, 500)
        except (_CutError, BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _raw(self, fault: Fault, length: int) -> None:
        self.rfile.read(length)
        self.close_connection = True
        self.wfile.write(fault.raw)
        while fault.repeat:
            self.wfile.write(fault.repeat)

    def _send(self, body: bytes, status: int = 200, kind: str = "") -> None:
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any, status: int = 200) -> None:
        body = b"" if self.command == "HEAD" else json.dumps(value, ensure_ascii=False).encode()
        self._send(body, status, "application/json; charset=utf-8")

    def _lines(self, lines: Generator[dict[str, Any], None, None], fault: Fault | None) -> None:
        """Stream objects, one a line; what goes wrong goes wrong here."""
        with closing(lines):
            self._stream(lines, fault)

    def _stream(self, lines: Iterator[dict[str, Any]], fault: Fault | None) -> None:
        first = next(lines, None)  # an error before the first line still has a status of its own
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        count = 0
        while first is not None:
            if fault and fault.kind in ("cut", "end", "error") and count == fault.after:
                if fault.kind == "cut":
                    raise _CutError
                if fault.kind == "error":
                    self._chunk({"error": fault.message})
                break
            self._chunk(first)
            count += 1
            try:
                first = next(lines, None)
            except ApiError as error:
                self._chunk({"error": error.message})
                break
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, value: Any) -> None:
        line = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def _blob(self, method: str, digest: str, length: int) -> None:
        blob = self.standin.store.blob(digest)
        self.standin.requests.append((method, self.path, length))
        if method == "HEAD":
            self._send(b"", 200 if blob.exists() else 404)
            return
        aside, seen, left = blob.with_suffix(f".{threading.get_ident()}"), hashlib.sha256(), length
        with aside.open("wb") as stream:
            while left > 0 and (piece := self.rfile.read(min(left, 2**20))):
                seen.update(piece)
                stream.write(piece)
                left -= len(piece)
        got = f"sha256:{seen.hexdigest()}"
        if got != digest:
            aside.unlink()
            raise ApiError(400, f'digest mismatch, expected "{digest}", got "{got}"')
        known = blob.exists()
        aside.rename(blob)
        self._send(b"", 200 if known else 201)

    def _route(self, method: str, raw: bytes, fault: Fault | None) -> None:
        routes: dict[str, tuple[str, Callable[[Any, Fault | None], None]]] = {
            "/": ("GET", lambda _body, _fault: self._send(b"Ollama is running", kind="text/plain; charset=utf-8")),
            "/api/version": ("GET", lambda _body, _fault: self._json({"version": self.standin.version})),
            "/api/tags": ("GET", lambda _body, _fault: self._json(self.standin.tags())),
            "/api/ps": ("GET", lambda _body, _fault: self._json(self.standin.ps())),
            "/api/create": ("POST", self._create),
            "/api/show": ("POST", self._show),
            "/api/chat": ("POST", self._chat),
            "/api/generate": ("POST", self._generate),
            "/api/embed": ("POST", self._embed),
            "/api/copy": ("POST", self._copy),
            "/api/delete": ("DELETE", self._delete),
            "/v1/chat/completions": ("POST", self._v1),
        }
        if self.path not in routes:
            self._send(b"404 page not found", 404, "text/plain")
            return
        wanted, answer = routes[self.path]
        if method != wanted:
            self._send(b"405 method not allowed", 405, "text/plain")
            return
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            raise ApiError(400, "unexpected EOF") from None
        self.standin.requests.append((method, self.path, body))
        answer(body, fault)

    def _create(self, body: Any, fault: Fault | None) -> None:
        if not NAME.fullmatch(body.get("model", "")):
            raise ApiError(400, "invalid model name")
        if body.get("adapters") and self.standin.era.imports_folders:
            raise ApiError(400, "adapters are no longer supported")
        if not body.get("from") and not body.get("files"):
            raise ApiError(400, "neither 'from' or 'files' was specified")
        if any(".." in Path(name).parts or Path(name).is_absolute() for name in body.get("files", ())):
            raise ApiError(400, "file path must be relative")
        if body.get("stream") is False:
            model, _ = self.standin.store.build(body)
            self.standin.store.put(model)
            self._json({"status": "success"})
            return

        def lines() -> Generator[dict[str, Any], None, None]:
            yield {"status": "parsing GGUF"}
            model, said = self.standin.store.build(body)
            yield from ({"status": status} for status in said[1:])
            self.standin.store.put(model)
            yield {"status": "success"}

        self._lines(lines(), fault)

    def _show(self, body: Any, _fault: Fault | None) -> None:
        store = self.standin.store
        self._json(store.show(store.get(body["model"], f"model '{full_name(body['model'])}' not found")))

    def _copy(self, body: Any, _fault: Fault | None) -> None:
        source = self.standin.store.get(body["source"], f"model '{body['source']}' not found")
        self.standin.store.put(Model(**{**asdict(source), "name": body["destination"]}))
        self._send(b"")

    def _delete(self, body: Any, _fault: Fault | None) -> None:
        self.standin.store.delete(body["model"])
        self.standin.engines.unload(body["model"])
        self._send(b"")

    def _stem(self, body: Any) -> dict[str, Any]:
        return {"model": body["model"], "created_at": now()}

    def _chat(self, body: Any, fault: Fault | None) -> None:
        model = self.standin.store.get(body["model"], f"model '{body['model']}' not found")
        if not body.get("messages"):
            self._load(body, model, {"message": {"role": "assistant", "content": ""}})
            return
        if body.get("think") and "thinking" not in model.capabilities:
            raise ApiError(400, f'"{body["model"]}" does not support thinking')
        think = True if self.standin.thinks_anyway and "thinking" in model.capabilities else body.get("think")
        prompt = model.render(body["messages"], think)
        if body.get("_debug_render_only") and self.standin.renders:
            empty = {"message": {"role": "", "content": ""}, "done": False}
            self._json({**self._stem(body), **empty, "_debug_info": {"rendered_template": prompt}})
            return
        answer = self.standin.generate(body, model, prompt)
        split = "thinking" in model.capabilities and body.get("think") is not False
        self._reply(body, answer, fault, lambda text, inside: _message(text, inside and split))

    def _generate(self, body: Any, fault: Fault | None) -> None:
        model = self.standin.store.get(body["model"], f"model '{body['model']}' not found")
        if not body.get("prompt"):
            self._load(body, model, {"response": ""})
            return
        raw = body.get("raw")
        turn = [{"role": "user", "content": body["prompt"]}]
        prompt = body["prompt"] if raw else model.render(turn, body.get("think"))
        if body.get("_debug_render_only"):
            empty = {"response": "", "done": False, "_debug_info": {"rendered_template": prompt}}
            self._json({**self._stem(body), **empty})
            return
        answer = self.standin.generate(body, model, prompt)
        more = {} if raw else {"context": [1, 2, 3]}
        self._reply(body, answer, fault, lambda text, _inside: {"response": text}, more)

    def _load(self, body: Any, model: Model, empty: dict[str, Any]) -> None:
        if body.get("keep_alive") == 0:
            self.standin.engines.unload(model.name)
            reason = "unload"
        else:
            window = self.standin.options(body, model).get("num_ctx", DEFAULT_CONTEXT)
            self.standin.engines.get(model, window)
            reason = "load"
        self._json({**self._stem(body), **empty, "done": True, "done_reason": reason})

    def _reply(
        self,
        body: Any,
        answer: _Answer,
        fault: Fault | None,
        shape: Callable[[str, bool], dict[str, Any]],
        more: dict[str, Any] | None = None,
    ) -> None:
        def lines() -> Generator[dict[str, Any], None, None]:
            inside = False
            with closing(answer.pieces) as pieces:  # an answer that is broken off must free the engine
                for text, probabilities in pieces:
                    inside = inside or "<think>" in text
                    line = {**self._stem(body), **shape(text, inside), "done": False}
                    yield {**line, "logprobs": [_logprob(token) for token in probabilities]} if probabilities else line
                    inside = inside and "</think>" not in text
            if not answer.looped:
                yield {**self._stem(body), **shape("", False), **answer.last, **(more or {})}

        if body.get("stream", True):
            self._lines(lines(), fault)
        else:
            self._json(_joined(list(lines())))

    def _embed(self, body: Any, _fault: Fault | None) -> None:
        name = body["model"]
        model = self.standin.store.get(name, f'model "{name}" not found, try pulling it first')
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if not texts:
            self._json({"model": name, "embeddings": []})
            return
        engine, load_ns = self.standin.engines.get(model, DEFAULT_CONTEXT)
        counts = [len(engine.tokenize(text)) for text in texts]
        if body.get("truncate") is False and max(counts) > DEFAULT_CONTEXT:
            raise ApiError(400, "the input length exceeds the context length")
        if "embed" not in name:
            raise ApiError(501, "This server does not support embeddings. Start it with `--embeddings`")
        vectors = [_hashed_words(text) for text in texts]
        times = {"total_duration": load_ns, "load_duration": load_ns, "prompt_eval_count": sum(counts)}
        self._json({"model": name, "embeddings": vectors, **times})

    def _v1(self, body: Any, _fault: Fault | None) -> None:
        model = self.standin.store.get(body["model"], f"model '{body['model']}' not found")
        names = {"max_tokens": "num_predict", "temperature": "temperature", "seed": "seed"}
        options = {ours: body[theirs] for theirs, ours in names.items() if theirs in body}
        prompt = model.render(body["messages"], None)
        answer = self.standin.generate({"model": body["model"], "options": options}, model, prompt)
        text = "".join(piece for piece, _ in answer.pieces)
        read, written = answer.last["prompt_eval_count"], answer.last["eval_count"]
        message = {"role": "assistant", "content": text}
        self._json(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": body["model"],
                "system_fingerprint": "fp_ollama",
                "choices": [{"index": 0, "message": message, "finish_reason": answer.last["done_reason"]}],
                "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
            }
        )


def _message(text: str, thinking: bool) -> dict[str, Any]:
    if thinking:
        plain = text.replace("<think>", "").replace("</think>", "")
        return {"message": {"role": "assistant", "content": "", "thinking": plain}}
    return {"message": {"role": "assistant", "content": text}}


def _joined(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """A stream's lines as the one object that is sent without streaming."""
    whole = dict(lines[-1])
    for key in ("response", "message"):
        if key in whole and isinstance(whole[key], str):
            whole[key] = "".join(line[key] for line in lines)
        elif key in whole:
            parts = {name: "".join(line[key].get(name, "") for line in lines) for name in ("content", "thinking")}
            whole[key] = {
                "role": "assistant",
                **{name: text for name, text in parts.items() if text or name == "content"},
            }
    probabilities = [token for line in lines for token in line.get("logprobs", ())]
    return {**whole, "logprobs": probabilities} if probabilities else whole


def _hashed_words(text: str, size: int = 64) -> list[float]:
    """A unit vector of hashed words: equal texts are equal, texts with common words are near."""
    counts = [0.0] * size
    for word in text.lower().split():
        counts[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little") % size] += 1.0
    norm = sum(count * count for count in counts) ** 0.5 or 1.0
    return [count / norm for count in counts]


def main() -> None:
    """Serve until a signal comes; the address is the first line on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--era", choices=sorted(VERSIONS), default="0.33")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--home", type=Path, required=True)
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    with OllamaStandIn(arguments.home, version=VERSIONS[arguments.era], port=arguments.port) as standin:
        print(standin.host, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
