"""The embedded server: llama.cpp in this process over one GGUF file, by ``xllamacpp``."""

import importlib.metadata
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import xllamacpp

from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.records import ChatReply, ChatRequest, Message

TIMEOUT_SECONDS = 600.0


class LlamaCppServer:
    """A loaded model, usable as a context manager. Greedy answers repeat: no cache is kept between requests.

    With a cache a prompt's tail is computed in other batches than the whole, and float sums differ.
    """

    def __init__(self, gguf: Path, *, context_tokens: int, adapter: Path | None = None) -> None:
        if not gguf.is_file():
            raise InputError("no such GGUF file", where=str(gguf), fix="ragtune export RECIPE --redo")
        self._gguf, self._context, self._adapter = gguf, context_tokens, adapter
        self._server: Any = None
        self._http: httpx.Client | None = None

    def _parameters(self) -> Any:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(self._gguf)
        parameters.n_ctx = self._context
        parameters.n_parallel = 1
        parameters.cache_prompt = False
        parameters.ctx_shift = False
        parameters.warmup = False
        parameters.use_jinja = True
        parameters.verbosity = -1
        parameters.port = 0
        parameters.ui = False
        threads = os.cpu_count() or 2
        for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
            cpu.n_threads = threads
            cpu.poll = 0  # spinning threads crawl when another process wants the same cores
        return parameters

    def __enter__(self) -> Self:
        try:
            self._server = xllamacpp.Server(self._parameters())
        except (RuntimeError, ValueError) as error:
            raise ToolError(f"llama.cpp cannot load it: {error}", where=str(self._gguf)) from None
        self._http = httpx.Client(base_url=self._server.listening_address, timeout=TIMEOUT_SECONDS, trust_env=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http:
            self._http.close()
        self._server = self._http = None

    def identity(self) -> dict[str, str]:
        """llama.cpp by the version of the package that carries it."""
        return {"server": "llamacpp", "version": importlib.metadata.version("xllamacpp")}

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self._http is None:
            raise RuntimeError("use it as a context manager")
        try:
            reply = self._http.post(path, json=body)
        except httpx.HTTPError as error:
            raise ToolError(f"the embedded server does not answer: {error}", where=self._gguf.name) from None
        if reply.status_code != httpx.codes.OK:
            raise ToolError(f"{path}: {reply.text[:300]}", where=self._gguf.name)
        answer: dict[str, Any] = reply.json()
        return answer

    def render(self, messages: Sequence[Message], *, think: bool) -> str:
        """The prompt by the GGUF's own chat template."""
        body = {"messages": [vars(one) for one in messages], "chat_template_kwargs": {"enable_thinking": think}}
        return str(self._post("/apply-template", body)["prompt"])

    def tokenize(self, text: str) -> list[int]:
        """Token ids; special tokens in the text are recognised, none is added."""
        return list(self._post("/tokenize", {"content": text, "add_special": False, "parse_special": True})["tokens"])

    def next_logprobs(self, prompt: Sequence[int], count: int) -> dict[int, float]:
        """The ``count`` most probable next tokens after a prompt of ids → natural log probability."""
        body = {"prompt": list(prompt), "n_predict": 1, "n_probs": count, "temperature": 0, "cache_prompt": False}
        probabilities = self._post("/completion", body)["completion_probabilities"][0]["top_logprobs"]
        return {int(one["id"]): float(one["logprob"]) for one in probabilities}

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply, greedy at temperature 0. Raises ToolError when prompt and answer do not fit the context."""
        if self._server is None:
            raise RuntimeError("use it as a context manager")
        started = time.perf_counter()
        reply = self._server.handle_chat_completions(self._body(request))
        seconds = time.perf_counter() - started
        if "error" in reply or "choices" not in reply:
            raise ToolError(f"the embedded server refused: {reply.get('error', reply)}", where=self._gguf.name)
        choice, usage = reply["choices"][0], reply["usage"]
        message = choice["message"]
        return ChatReply(
            text=message.get("content") or "",
            done_reason=choice["finish_reason"],
            prompt_tokens=usage["prompt_tokens"],
            answer_tokens=usage["completion_tokens"],
            latency_seconds=seconds,
            first_token_seconds=reply["timings"]["prompt_ms"] / 1000,
            thinking=message.get("reasoning_content") or "",
        )

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "messages": [vars(one) for one in request.messages],
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repeat_penalty,
            "seed": sampling.seed,
            "max_tokens": sampling.max_tokens,
            "cache_prompt": False,
            "chat_template_kwargs": {"enable_thinking": request.think},
        }
        if request.schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"schema": request.schema}}
        return body
