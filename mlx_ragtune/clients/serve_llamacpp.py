"""The embedded server: llama.cpp in this process, on a free loopback port, behind its own API key.

The engine's own prompt cache is off. With it, 8 of 12 greedy answers of SmolLM2 differed from those of a fresh
server, and 4 of 12 changed with the order of the questions; without it none did, in any order. What such a cache finds
depends on the question before. In its place the leading turns that a request declares as shared are computed once,
alone, and that state is restored before each request: no answer then depends on the order or on the server's age, and
three long examples in a prompt are read once.
"""

import json
import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import xllamacpp

from mlx_ragtune.clients.gguf_header import read_header, require_gguf
from mlx_ragtune.clients.http_bounds import split_lines
from mlx_ragtune.clients.prompt_echo import PromptEcho
from mlx_ragtune.clients.protocol import TOKENS_PER_LOOK, Piece, PromptOverflowError, drained, require_unicode
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.records import ChatReply, ChatRequest, Message

_NO_LIMIT = httpx.Timeout(None, connect=10.0)  # a long answer is bounded by max_tokens, not by a clock
_MAX_LINE_BYTES = 16 * 2**20
_ATTEMPTS = 3
_SMALL_BYTES = 32 * 2**20
BATCH_TOKENS, UNIT_TOKENS = 2048, 512
"""Tokens that are taken together, and computed together: another size gives other roundings."""
_CLOSING_SECONDS = 120.0
_UNPARSED = "does not match the expected"
_MAX_CHARACTERS_PER_TOKEN = 128
"""More than any prompt of text has: longer ones are refused unread, as tokenizing them takes minutes."""


def default_threads(gguf: Path) -> int:
    """How many CPU threads serve a model best: the usable cores, on a Mac its performance cores; 1 for a toy model."""
    if gguf.stat().st_size < _SMALL_BYTES:
        return 1  # waiting threads spin, which costs more than the arithmetic of a toy model
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    try:
        text = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "hw.perflevel0.physicalcpu"], capture_output=True, text=True, check=True
        ).stdout
        return max(1, int(text))
    except (OSError, ValueError, subprocess.SubprocessError):
        return os.cpu_count() or 1


def engine_build() -> str:
    """The engine as it is installed here: another build, or another processor, gives other roundings."""
    build = " ".join(str(value) for value in xllamacpp.BUILD_INFO.values())
    features = (part.strip() for part in xllamacpp.get_system_info().split(":", 1)[-1].split("|"))
    names = [feature.removesuffix(" = 1") for feature in features if feature.endswith(" = 1")]
    return f"xllamacpp {xllamacpp.__version__}, build {build}, {' '.join(names)}"


def require_memory(gguf: Path, context_tokens: int) -> None:
    """Raise ToolError when weights and key-value cache cannot fit in this machine's memory.

    llama.cpp would abort, or be killed. The cache takes 2 bytes (float16) for each key and value, that is
    2 x layers x (key_length + value_length) x KV heads for each token of the context.
    """
    header = read_header(gguf)

    def number(key: str, default: float) -> float:
        value = header.get(f"{header.get('general.architecture')}.{key}", default)
        return float(value) if isinstance(value, int | float) else default

    heads = number("attention.head_count", 1)
    head = number("embedding_length", 0) / max(1.0, heads)
    lengths = number("attention.key_length", head) + number("attention.value_length", head)
    per_token = 2 * number("block_count", 0) * lengths * number("attention.head_count_kv", heads)
    if number("attention.sliding_window", 0):
        per_token /= 6  # Gemma 3: one layer in six keeps the whole context
    needed = gguf.stat().st_size + per_token * context_tokens
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory or context_tokens >= 2**31:
        raise ToolError(
            f"{context_tokens} context tokens need about {needed / 2**30:.1f} GiB with this model; "
            f"this machine has {memory / 2**30:.1f} GiB of memory",
            where=str(gguf),
            fix="lower 'context_tokens'",
        )


def _parameters(gguf: Path, key: str, saved: str, *, context_tokens: int, threads: int | None, slots: int) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.n_ctx = slots * context_tokens  # the engine divides it by the slots
    parameters.n_parallel = slots
    parameters.kv_unified = False
    parameters.n_batch, parameters.n_ubatch = BATCH_TOKENS, UNIT_TOKENS
    for pool in (parameters.cpuparams, parameters.cpuparams_batch):
        pool.n_threads = threads or default_threads(gguf)
    parameters.fit_params = False  # otherwise it may choose a smaller context
    parameters.ctx_shift = False
    parameters.cache_prompt = False  # only for what was just restored
    parameters.slot_save_path = f"{saved}{os.sep}"
    parameters.cache_ram_mib = 0
    parameters.warmup = False
    parameters.verbosity = -1
    parameters.port = 0
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.api_keys = [key]  # without one, it answers the scripts of any web page
    return parameters


@dataclass
class _Stream:
    """The events of a streamed answer, added up."""

    echo: PromptEcho = field(default_factory=PromptEcho)
    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    finish_reason: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)
    first_token_at: float | None = None
    tokens: int = 0

    def add(self, event: dict[str, Any]) -> Iterator[Piece]:
        self.usage = event.get("usage") or self.usage
        self.timings = event.get("timings") or self.timings
        for choice in event.get("choices", ()):
            delta = choice.get("delta", {})
            delta["content"] = self.echo.without(delta.get("content") or "")
            for name, pieces in (("content", self.text), ("reasoning_content", self.thinking)):
                if delta.get(name):
                    pieces.append(delta[name])
                    self.tokens += 1
                    self.first_token_at = self.first_token_at or time.perf_counter()
            if delta.get("content") or delta.get("reasoning_content"):
                yield Piece(delta.get("content") or "", delta.get("reasoning_content") or "")
            self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def end_unparsed(self, prompt_tokens: int) -> None:
        """End a reply that the engine could not parse with what was streamed: whoever asked reads what it can."""
        self.finish_reason = "stop"
        self.usage = {"prompt_tokens": prompt_tokens, "completion_tokens": self.tokens}

    def stops(self, stop: Callable[[str], bool]) -> bool:
        """Whether ``stop`` is true of the text, looked at now and then; the counts are then those so far."""
        if self.finish_reason or not self.text or self.tokens % TOKENS_PER_LOOK or not stop("".join(self.text)):
            return False
        self.finish_reason = "loop"
        self.usage = {
            "prompt_tokens": self.timings.get("cache_n", 0) + self.timings.get("prompt_n", 0),
            "completion_tokens": self.timings.get("predicted_n", self.tokens),
        }
        return True


class _UnparsedReplyError(ToolError):
    """The engine cannot parse the whole of a reply with a schema, whose text it has streamed already."""


class LlamaCppServer:
    """A GGUF file served by llama.cpp; the same request gives the same greedy text, whatever was asked before.

    That holds for requests that are sent one by one: what is computed together with others is rounded otherwise.

    ``context_tokens`` is the context window of each of ``slots`` requests at a time; ``threads`` the number of CPU
    threads (default: ``default_threads``); ``adapter`` a LoRA adapter as GGUF, applied to the model. An answer ends,
    with ``done_reason`` ``loop``, as soon as ``stop`` is true of its text. ``keeps_prompts`` reads the common start of
    a slot's prompts once, which is faster for requests on one passage; rounding then depends on what came before, so
    it is for writing pairs and not for evaluation. Entering raises InputError when a file is missing or cannot be
    loaded, ToolError when the memory does not suffice.
    """

    def __init__(
        self,
        gguf: Path,
        *,
        context_tokens: int,
        threads: int | None = None,
        slots: int = 1,
        adapter: Path | None = None,
        stop: Callable[[str], bool] | None = None,
        keeps_prompts: bool = False,
    ) -> None:
        self._keeps_prompts = keeps_prompts
        self._gguf, self._context_tokens, self._threads, self._adapter = gguf, context_tokens, threads, adapter
        self._slots, self._stop = slots, stop
        self._saved: tempfile.TemporaryDirectory[str] | None = None
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._prefixes: dict[tuple[Any, ...], str] = {}
        self._prefix_lock = threading.Lock()
        self._requests = threading.Condition()
        self._running, self._closing = 0, False
        self._server: Any = None
        self._client: httpx.Client | None = None

    def __enter__(self) -> Self:
        """Load the model (a second for a small one)."""
        self._closing = False
        require_gguf(self._gguf)
        require_memory(self._gguf, self._slots * self._context_tokens)
        key = secrets.token_hex(16)
        self._saved = tempfile.TemporaryDirectory(prefix="ragtune-")
        self._free = queue.SimpleQueue()
        for slot in range(self._slots):
            self._free.put(slot)
        parameters = _parameters(
            self._gguf,
            key,
            self._saved.name,
            context_tokens=self._context_tokens,
            threads=self._threads,
            slots=self._slots,
        )
        self._adjust(parameters)
        try:
            self._server = xllamacpp.Server(parameters)
        except (RuntimeError, UnicodeEncodeError):  # the latter for a path that is not UTF-8
            self._saved.cleanup()
            raise InputError(
                "llama.cpp cannot load this file: it is damaged, its architecture is not supported, or the memory "
                f"does not suffice for {self._context_tokens} context tokens",
                where=str(self._gguf),
                fix="export or download it again, or lower 'context_tokens'",
            ) from None
        self._client = httpx.Client(
            base_url=self._server.listening_address,
            headers={"Authorization": f"Bearer {key}"},
            trust_env=False,
            timeout=_NO_LIMIT,
            # the engine closes connections after a stream without saying so: none is used twice
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        return self

    def _adjust(self, parameters: Any) -> None:
        """Set the parameters in which a subclass differs."""
        if self._adapter is not None:
            lora = xllamacpp.CommonAdapterLoraInfo()
            lora.path, lora.scale = str(self._adapter), 1.0
            parameters.lora_adapters = [lora]

    def __exit__(self, *_exception: object) -> None:
        """Stop the server and free the model's memory; requests of other threads end at their next token."""
        with self._requests:
            self._closing = True
            self._requests.wait_for(lambda: not self._running, timeout=_CLOSING_SECONDS)
        if self._client is not None:
            self._client.close()
        self._client = self._server = None
        self._prefixes.clear()
        if self._saved is not None:
            self._saved.cleanup()

    def _where(self) -> str:
        return f"llama.cpp, {self._gguf}"

    def _open(self) -> httpx.Client:
        if self._client is None:
            raise RuntimeError("LlamaCppServer is used as a context manager")
        return self._client

    def _error(self, status: int, body: str) -> ToolError:
        try:
            error = json.loads(body)["error"]
            if error.get("type") == "exceed_context_size_error":
                return PromptOverflowError(error["n_prompt_tokens"], error["n_ctx"], where=self._where())
            message = error["message"]
        except (ValueError, KeyError, TypeError, AttributeError):
            message = body
        kind = _UnparsedReplyError if _UNPARSED in str(message) else ToolError
        return kind(f"llama.cpp answered {status}: {str(message)[:300]}", where=self._where())

    @contextmanager
    def _response(self, path: str, body: dict[str, Any]) -> Iterator[httpx.Response]:
        """The engine's response, its body not yet read. Raises ToolError for an error, and when the server closes."""
        with self._requests:
            self._require_open()
            self._running += 1
        try:
            with self._sent(path, body) as response:
                yield response
        finally:
            with self._requests:
                self._running -= 1
                self._requests.notify_all()

    def _require_open(self) -> None:
        if self._closing:  # the engine would wait for ever for a request that it is answering
            raise ToolError("the server is being closed", where=self._where())

    @contextmanager
    def _sent(self, path: str, body: dict[str, Any]) -> Iterator[httpx.Response]:
        client = self._open()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                response = client.send(client.build_request("POST", path, json=body), stream=True)
                break
            except httpx.HTTPError as error:
                # on a busy machine the engine sometimes drops a connection before it has read the request
                if attempt == _ATTEMPTS or not isinstance(error, httpx.RemoteProtocolError):
                    raise ToolError(f"llama.cpp does not answer: {error}", where=self._where()) from error
        try:
            if response.status_code != 200:
                raise self._error(response.status_code, response.read().decode(errors="replace"))
            yield response
        except httpx.HTTPError as error:
            raise ToolError(f"the connection to llama.cpp broke: {error}", where=self._where()) from error
        finally:
            response.close()

    def _json(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            shown = data[:60].decode(errors="replace")
            raise ToolError(f"llama.cpp sent what is not JSON: {shown!r}", where=self._where()) from None

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The engine's JSON response from one of its own endpoints (``/completion``, ``/tokenize``, …).

        Raises ToolError for an error of the engine, InputError for a text that is not valid Unicode.
        """
        texts = [*body.values(), *(turn["content"] for turn in body.get("messages", ()))]
        require_unicode((text for text in texts if isinstance(text, str)), where="prompt")
        with self._response(path, body) as response:
            return self._json(response.read())

    def events(self, path: str, body: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """The events of a streamed answer, as the engine sends them. Raises ToolError for an error event."""
        with self._response(path, {**body, "stream": True}) as response:
            for line in split_lines(response.iter_bytes(), max_bytes=_MAX_LINE_BYTES):
                self._require_open()
                kind, _, payload = line.partition(b": ")
                if kind == b"error":
                    raise self._error(500, json.dumps({"error": self._json(payload)}))
                if kind == b"data" and payload != b"[DONE]":
                    event = self._json(payload)
                    if "error" in event:
                        raise self._error(500, json.dumps(event))
                    yield event

    def _require_fit(self, characters: int) -> None:
        """Raise PromptOverflowError for a text that is too long to be tokenized at all."""
        if characters > self._context_tokens * _MAX_CHARACTERS_PER_TOKEN:
            raise PromptOverflowError(None, self._context_tokens, where=self._where())

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply to one request. Raises PromptOverflowError, or ToolError for an error of the engine."""
        return drained(self.stream(request))

    def stream(self, request: ChatRequest, *, strength: float | None = None) -> Generator[Piece, None, ChatReply]:
        """The pieces of the reply, and then the whole; ``strength`` is a factor on the adapter, 0 the bare base.

        Raises as ``chat``, and ValueError for a strength without an adapter.
        """
        more = self._scaled(strength)
        self._require_fit(sum(len(message.content) for message in request.messages))
        prompt = self.render(request.messages, think=request.think)
        needed = len(self.tokenize(prompt, whole=True))
        if needed >= self._context_tokens:  # the engine rounds its window up
            raise PromptOverflowError(needed, self._context_tokens, where=self._where())
        with self._slot(request) as options:
            stream, started = _Stream(echo=PromptEcho(prompt)), time.perf_counter()
            body = {**chat_body(request), **options, **more}
            try:
                yield from self._read(stream, body)
            except _UnparsedReplyError:
                stream.end_unparsed(needed)
        if not stream.finish_reason or "completion_tokens" not in stream.usage:
            raise ToolError("the answer of llama.cpp ended without its last event", where=self._where())
        first = stream.first_token_at
        return ChatReply(
            text="".join(stream.text),
            thinking="".join(stream.thinking),
            done_reason=stream.finish_reason,
            prompt_tokens=stream.usage["prompt_tokens"],
            answer_tokens=stream.usage["completion_tokens"],
            latency_seconds=time.perf_counter() - started,
            first_token_seconds=None if first is None else first - started,
            generate_seconds=stream.timings.get("predicted_ms", 0.0) / 1000 or None,
        )

    def _scaled(self, strength: float | None) -> dict[str, Any]:
        if strength is None:
            return {}
        if self._adapter is None:
            raise ValueError("this server has no adapter")
        return {"lora": [{"id": 0, "scale": strength}]}

    def _read(self, stream: _Stream, body: dict[str, Any]) -> Iterator[Piece]:
        with closing(self.events("/v1/chat/completions", body)) as events:
            for event in events:
                yield from stream.add(event)
                if self._stop is not None and stream.stops(self._stop):
                    break  # closing the connection ends the request

    @contextmanager
    def _slot(self, request: ChatRequest) -> Iterator[dict[str, Any]]:
        """More options for a request: a slot of its own, with the state of its shared turns restored there."""
        slot = self._free.get()
        try:
            options: dict[str, Any] = {"id_slot": slot, "timings_per_token": self._stop is not None}
            if self._keeps_prompts:
                del options["id_slot"]  # the engine takes the slot whose prompt began alike
                options["cache_prompt"] = True
            elif request.shared_turns:
                name = self._prefix(request.messages[: request.shared_turns], request.think, slot)
                self.post(f"/slots/{slot}?action=restore", {"filename": name})
                options["cache_prompt"] = True
            yield options
        finally:
            self._free.put(slot)

    def _prefix(self, turns: Sequence[Message], think: bool, slot: int) -> str:
        """The name of the saved state of these turns, computed alone in a slot if it was not yet."""
        with self._prefix_lock:
            key = (*turns, think)
            if key not in self._prefixes:
                first, second = (
                    self.tokenize(self.render([*turns, Message("user", text)], think=think), whole=True)
                    for text in ("a", "Z")
                )
                same = next(n for n, (one, two) in enumerate(zip(first, second, strict=False)) if one != two)
                body = {
                    "prompt": first[:same],
                    "n_predict": 0,
                    "temperature": 0,
                    "cache_prompt": False,
                    "id_slot": slot,
                }
                self.post("/completion", body)
                name = f"prefix-{len(self._prefixes)}"
                self.post(f"/slots/{slot}?action=save", {"filename": name})
                self._prefixes[key] = name
            return self._prefixes[key]

    def render(self, messages: Sequence[Message], *, think: bool = False) -> str:
        """The prompt that the model's own template renders from the messages."""
        body = {"messages": _turns(messages), "chat_template_kwargs": {"enable_thinking": think}}
        return str(self.post("/apply-template", body)["prompt"])

    def tokenize(self, text: str, *, whole: bool = False) -> list[int]:
        """Token ids of a text: special tokens are recognized by their text.

        ``whole``: of a prompt as the engine reads it, with the BOS that it adds; else none is added.
        """
        body = {"content": text, "add_special": whole, "parse_special": True}
        return [int(token) for token in self.post("/tokenize", body)["tokens"]]

    def next_tokens(self, prompt_ids: Sequence[int], n: int) -> list[tuple[int, float]]:
        """The ``n`` most likely next tokens, best first, each with its natural-log probability."""
        body = {
            "prompt": list(prompt_ids),
            "n_predict": 1,
            "n_probs": n,
            "temperature": 0,
            "cache_prompt": False,
            # Probabilities are taken before sampling, but not reported when the sampled token is the end or
            # half a character: so a whole one is forced.
            "logit_bias": [[self.tokenize("a")[0], 1000.0]],
        }
        ranked = self.post("/completion", body)["completion_probabilities"][0]["top_logprobs"]
        return [(int(token["id"]), float(token["logprob"])) for token in ranked]

    def identity(self) -> dict[str, str]:
        """Server, version, and the GGUF file's sha256."""
        from mlx_ragtune.clients.file_digests import file_digest

        return {
            "server": "llama.cpp",
            "version": f"xllamacpp {xllamacpp.__version__}",
            "digest": file_digest(self._gguf),
        }


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def chat_body(request: ChatRequest) -> dict[str, Any]:
    """The request as llama.cpp's chat endpoint takes it, every option given."""
    options = request.sampling
    body: dict[str, Any] = {
        "messages": _turns(request.messages),
        "temperature": options.temperature,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": options.min_p,
        "repeat_penalty": options.repeat_penalty,
        "seed": options.seed,
        "max_tokens": options.max_tokens,
        "cache_prompt": False,
        "chat_template_kwargs": {"enable_thinking": request.think},
        # thinking that was not asked for stays in the text, where the validity check finds it
        "reasoning_format": "deepseek" if request.think else "none",
        "stream_options": {"include_usage": True},
    }
    if request.schema is not None:
        schema = {"name": "answer", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body
