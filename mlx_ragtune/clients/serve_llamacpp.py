"""The embedded server: llama.cpp in this process, on a free loopback port, behind a key of its own.

The prompt cache is off. With it, 8 of 12 greedy answers of SmolLM2 differed from those of a fresh server,
and 4 of 12 changed with the order of the questions; without it none did, in any order.
"""

import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import xllamacpp

from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.records import ChatReply, ChatRequest, Message

_NO_LIMIT = httpx.Timeout(None, connect=10.0)  # a long answer is bounded by max_tokens, not by a clock


_ATTEMPTS = 3
_SMALL_BYTES = 32 * 2**20


def _threads(gguf: Path) -> int:
    """How many CPU threads serve a model best; -1 leaves a Mac's performance cores to llama.cpp."""
    if gguf.stat().st_size < _SMALL_BYTES:
        return 1  # its threads wait for each other by spinning, which costs more than a toy's arithmetic
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else -1


def _parameters(gguf: Path, context_tokens: int, threads: int | None, key: str) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.n_ctx = context_tokens
    parameters.n_parallel = 1
    for pool in (parameters.cpuparams, parameters.cpuparams_batch):
        pool.n_threads = threads or _threads(gguf)
    parameters.fit_params = False  # else it may choose a smaller context by itself
    parameters.ctx_shift = False
    parameters.cache_prompt = False
    parameters.cache_ram_mib = 0
    parameters.warmup = False
    parameters.verbosity = -1
    parameters.port = 0
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.api_keys = [key]  # it allows requests from any web page's scripts
    return parameters


@dataclass
class _Stream:
    """What a streamed answer adds up to."""

    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    finish_reason: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)
    first_token_at: float | None = None

    def add(self, event: dict[str, Any]) -> None:
        self.usage = event.get("usage") or self.usage
        self.timings = event.get("timings") or self.timings
        for choice in event.get("choices", ()):
            delta = choice.get("delta", {})
            for name, pieces in (("content", self.text), ("reasoning_content", self.thinking)):
                if delta.get(name):
                    pieces.append(delta[name])
                    self.first_token_at = self.first_token_at or time.perf_counter()
            self.finish_reason = choice.get("finish_reason") or self.finish_reason


class LlamaCppServer:
    """A GGUF file served by llama.cpp; the same request gives the same greedy text, whatever came before.

    ``context_tokens`` is the window; ``threads`` the CPU threads (default: the usable cores, for a toy one);
    ``adapter`` a LoRA adapter as GGUF, applied to the model. Raises InputError on entering when a file is not
    there or cannot be loaded.
    """

    def __init__(
        self, gguf: Path, *, context_tokens: int, threads: int | None = None, adapter: Path | None = None
    ) -> None:
        self._gguf, self._context_tokens, self._threads, self._adapter = gguf, context_tokens, threads, adapter
        self._server: Any = None
        self._client: httpx.Client | None = None

    def __enter__(self) -> Self:
        """Load the model (a second for a small one)."""
        if not self._gguf.is_file():
            raise InputError("no such GGUF file", where=str(self._gguf), fix="ragtune export RECIPE")
        key = secrets.token_hex(16)
        parameters = _parameters(self._gguf, self._context_tokens, self._threads, key)
        self._adjust(parameters)
        try:
            self._server = xllamacpp.Server(parameters)
        except RuntimeError:
            raise InputError(
                "llama.cpp cannot load this file: damaged, of an unsupported architecture, or too large "
                f"for the memory at {self._context_tokens} context tokens",
                where=str(self._gguf),
                fix="export it again, or lower 'context_tokens'",
            ) from None
        self._client = httpx.Client(
            base_url=self._server.listening_address,
            headers={"Authorization": f"Bearer {key}"},
            trust_env=False,
            timeout=_NO_LIMIT,
            # the engine closes connections without a word after a stream: never use one twice
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        return self

    def _adjust(self, parameters: Any) -> None:
        """Settings beyond those that every kind of server here has."""
        if self._adapter is not None:
            lora = xllamacpp.CommonAdapterLoraInfo()
            lora.path, lora.scale = str(self._adapter), 1.0
            parameters.lora_adapters = [lora]

    def __exit__(self, *_exception: object) -> None:
        """Stop the server and free the model's memory."""
        if self._client is not None:
            self._client.close()
        self._client = self._server = None

    def _where(self) -> str:
        return f"llama.cpp on {self._gguf}"

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
        except (ValueError, KeyError, TypeError):
            message = body
        return ToolError(f"the engine answered {status}: {message[:300]}", where=self._where())

    @contextmanager
    def _response(self, path: str, body: dict[str, Any]) -> Iterator[httpx.Response]:
        """The engine's answer, its body not yet read. Raises ToolError for an error."""
        client = self._open()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                response = client.send(client.build_request("POST", path, json=body), stream=True)
                break
            except httpx.HTTPError as error:
                # on a busy machine the engine now and then drops a connection before it has read the request
                if attempt == _ATTEMPTS or not isinstance(error, httpx.RemoteProtocolError):
                    raise ToolError(f"the engine does not answer: {error}", where=self._where()) from error
        try:
            if response.status_code != 200:
                raise self._error(response.status_code, response.read().decode(errors="replace"))
            yield response
        except httpx.HTTPError as error:
            raise ToolError(f"the engine broke off: {error}", where=self._where()) from error
        finally:
            response.close()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The engine's JSON answer to one of its own endpoints (``/completion``, ``/tokenize``, …)."""
        with self._response(path, body) as response:
            return json.loads(response.read())

    def events(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer, as the engine sends them. Raises ToolError for an error event."""
        with self._response(path, {**body, "stream": True}) as response:
            for line in response.iter_lines():
                kind, _, payload = line.partition(": ")
                if kind == "error":
                    raise self._error(500, json.dumps({"error": json.loads(payload)}))
                if kind == "data" and payload != "[DONE]":
                    event = json.loads(payload)
                    if "error" in event:
                        raise self._error(500, payload)
                    yield event

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply to one request. Raises PromptOverflowError, or ToolError for an error of the engine."""
        prompt = self.render(request.messages, think=request.think)
        needed = len(self.tokenize(prompt))
        if needed >= self._context_tokens:  # the engine rounds its window up
            raise PromptOverflowError(needed, self._context_tokens, where=self._where())
        stream, started = _Stream(), time.perf_counter()
        for event in self.events("/v1/chat/completions", chat_body(request)):
            stream.add(event)
        if not stream.finish_reason or "completion_tokens" not in stream.usage:
            raise ToolError("the engine's answer ended without a last event", where=self._where())
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

    def render(self, messages: Sequence[Message], *, think: bool = False) -> str:
        """The prompt that the model's own template makes of the messages."""
        body = {"messages": _plain(messages), "chat_template_kwargs": {"enable_thinking": think}}
        return str(self.post("/apply-template", body)["prompt"])

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a rendered prompt: special tokens by their text, nothing put in front."""
        body = {"content": text, "add_special": False, "parse_special": True}
        return [int(token) for token in self.post("/tokenize", body)["tokens"]]

    def next_tokens(self, prompt_ids: Sequence[int], n: int) -> list[tuple[int, float]]:
        """The ``n`` likeliest next tokens, best first, each with its natural-log probability."""
        body = {
            "prompt": list(prompt_ids),
            "n_predict": 1,
            "n_probs": n,
            "temperature": 0,
            "cache_prompt": False,
            # Probabilities are taken before sampling, but are not reported when what is sampled is the end
            # or half a character: so a whole one is forced.
            "logit_bias": [[self.tokenize("a")[0], 1000.0]],
        }
        ranked = self.post("/completion", body)["completion_probabilities"][0]["top_logprobs"]
        return [(int(one["id"]), float(one["logprob"])) for one in ranked]

    def identity(self) -> dict[str, str]:
        """Server, version, and the GGUF file's sha256."""
        from mlx_ragtune.clients.file_digests import file_digest

        return {
            "server": "llama.cpp",
            "version": f"xllamacpp {xllamacpp.__version__}",
            "digest": file_digest(self._gguf),
        }


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": one.role, "content": one.content} for one in messages]


def chat_body(request: ChatRequest) -> dict[str, Any]:
    """The request as llama.cpp's chat endpoint takes it, no option left to a default."""
    options = request.sampling
    body: dict[str, Any] = {
        "messages": _plain(request.messages),
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
