"""Sends requests one by one or several at a time, and keeps a model loaded as long as it is asked."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Self

from mlx_ragtune.artifact import Track
from mlx_ragtune.clients.http_retries import ServerGoneError
from mlx_ragtune.clients.protocol import ChatBackend
from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.failed_requests import FailedRequests
from mlx_ragtune.evaluation.items import Item
from mlx_ragtune.evaluation.overlap import Timed
from mlx_ragtune.evaluation.pool import answered
from mlx_ragtune.evaluation.served_prompt import ServedPromptError
from mlx_ragtune.records import Answer, Arm

FILES: dict[Arm, str] = {"base": "base", "prompted": "base", "tuned": "tuned"}
"""The exported model that answers for each arm."""


class Setting(NamedTuple):
    """How a model is run: ``threads`` (None: the default), and ``second``, by the embedded server instead of Ollama."""

    threads: int | None = None
    second: bool = False


class Request(NamedTuple):
    """One request: who is asked what, with which seed, how the model is run, and whether beside others.

    ``key`` is that of the answer.
    """

    arm: Arm
    item: Item
    seed: int
    setting: Setting
    parallel: bool
    key: str


Open = Callable[[str, Setting], AbstractContextManager[ChatBackend]]
"""Opens an exported model."""


class _Served:
    """The one model that is loaded."""

    def __init__(self, opener: Open) -> None:
        self._opener = opener
        self._name: tuple[str, Setting] | None = None
        self._held: AbstractContextManager[ChatBackend] | None = None
        self._backend: ChatBackend | None = None
        self._opening_seconds: float | None = None

    def get(self, name: str, setting: Setting) -> ChatBackend:
        """The backend of a model; the one that was loaded before is released first."""
        if self._backend is None or self._name != (name, setting):
            self.close()
            started = time.perf_counter()
            held = self._opener(name, setting)
            self._backend = held.__enter__()
            self._held, self._name, self._opening_seconds = held, (name, setting), time.perf_counter() - started
        return self._backend

    def first(self, answer: Answer) -> Answer:
        """The answer, marked as cold with the time of loading if it is the first one since then."""
        seconds, self._opening_seconds = self._opening_seconds, None
        return answer if seconds is None or answer.error or answer.parallel else _cold(answer, seconds)

    def close(self) -> None:
        """Release the model."""
        held, self._held, self._backend = self._held, None, None
        if held is not None:
            held.__exit__(None, None, None)


class Sender:
    """Sends requests and hands each answer to ``keep`` as soon as it arrives, always in the caller's thread."""

    def __init__(
        self,
        opener: Open,
        reply: Callable[[ChatBackend, Request], Answer],
        keep: Callable[[Answer], None],
        *,
        slots: int,
        track: Track,
    ) -> None:
        self._served, self._reply, self._keep = _Served(opener), reply, keep
        self._slots, self._track = slots, track
        self._failures = FailedRequests()
        self.timed: list[Timed] = []
        """The answers that were asked in parallel."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Release the model."""
        self._served.close()

    def require_none_failed(self) -> None:
        """Raise ToolError when a request failed, with the number and the reasons."""
        self._failures.require_none()

    def send(self, arm: Arm, requests: Sequence[Request]) -> None:
        """Ask one arm: first what is asked one by one, then the rest in parallel.

        Raises ServedPromptError and ServerGoneError at once, ToolError when too many requests in a row fail.
        """
        for setting in dict.fromkeys(request.setting for request in requests):
            wanted = [request for request in requests if request.setting == setting]
            backend = self._served.get(FILES[arm], setting)
            for request in wanted:
                if not request.parallel:
                    self._take(request, self._try(backend, request))
            beside = [request for request in wanted if request.parallel]
            call = partial(self._timed, backend)
            with closing(answered(beside, call, workers=self._slots)) as replies:  # stops the threads on an error
                for request, reply in replies:
                    self._take(request, reply)

    def _timed(self, backend: ChatBackend, request: Request) -> Answer:
        """The answer to a request that is sent beside others."""
        answer = self._reply(backend, request)
        if answer.first_token_seconds is not None:
            end = time.perf_counter()
            sent = end - answer.latency_seconds
            self.timed.append(Timed(sent, sent + answer.first_token_seconds, end))
        return answer

    def _try(self, backend: ChatBackend, request: Request) -> Answer | Exception:
        try:
            return self._reply(backend, request)
        except ToolError as error:
            return error

    def _take(self, request: Request, reply: Answer | Exception) -> None:
        """Keep an answer; count a failure. Raises the errors that end the asking."""
        note = f"{request.arm}: {request.item.question.id}"
        if isinstance(reply, Answer):
            self._failures.succeeded()
            self._keep(self._served.first(reply))
        elif isinstance(reply, ServedPromptError | ServerGoneError) or not isinstance(reply, ToolError):
            raise reply
        else:
            self._failures.failed(reply, example=f"question '{request.item.question.id}', {request.arm} model")
        self._track.advance(note=note)


def _cold(answer: Answer, opening_seconds: float) -> Answer:
    """The first answer after loading the model: Ollama loads in its first request, the embedded server on opening."""
    if answer.load_seconds is not None:
        return replace(answer, cold=True)
    first = None if answer.first_token_seconds is None else answer.first_token_seconds + opening_seconds
    return replace(
        answer,
        cold=True,
        load_seconds=opening_seconds,
        latency_seconds=answer.latency_seconds + opening_seconds,
        first_token_seconds=first,
    )
