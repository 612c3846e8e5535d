"""The models of a run that answer: the registered ones, opened when they are first asked, or base and adapter."""

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path
from typing import Self

from mlx_ragtune.clients.protocol import Piece, StreamingBackend
from mlx_ragtune.errors import InputError
from mlx_ragtune.records import ChatReply, ChatRequest

MOST_STRENGTH = 4.0
"""Far beyond what is useful; a larger factor gives noise."""
Open = Callable[[str], AbstractContextManager[StreamingBackend]]
"""Opens an exported model, by its name."""


class RegisteredModels:
    """The exported base and tuned model. Each is opened at its first request and closed at the end.

    With ``together`` false one is closed before the other is opened, for a machine whose memory holds only one.
    """

    def __init__(self, opener: Open, *, together: bool = True) -> None:
        self._opener, self._together = opener, together
        self._held = ExitStack()
        self._opened: dict[str, StreamingBackend] = {}
        self._opening = threading.Lock()
        self._alone = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Release the models."""
        self._held.close()
        self._opened.clear()

    def open_all(self, models: Iterable[str]) -> None:
        """Open these models now, or the first one where only one fits. Raises as their opener."""
        for model in models if self._together else list(models)[:1]:
            self._get(model)

    def _get(self, model: str) -> StreamingBackend:
        with self._opening:
            if model not in self._opened:
                if not self._together:
                    self.__exit__()
                self._opened[model] = self._held.enter_context(self._opener(model))
            return self._opened[model]

    def stream(
        self, model: str, request: ChatRequest, *, strength: float | None = None
    ) -> Generator[Piece, None, ChatReply]:
        """The pieces of a reply, then the reply. Raises InputError for a strength: the adapter is merged."""
        if strength is not None:
            raise InputError(
                "the registered model has its adapter merged: its strength cannot be changed",
                where="strength",
                fix="start with --preview, which keeps base and adapter apart",
            )
        with nullcontext() if self._together else self._alone, closing(self._get(model).stream(request)) as pieces:
            return (yield from pieces)


class AdapterModels:
    """The base's GGUF with the adapter beside it in one embedded server: the base is strength 0, the tuned model 1."""

    def __init__(self, base: Path, adapter: Path, *, context_tokens: int, slots: int = 1) -> None:
        from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer

        self._server = LlamaCppServer(base, context_tokens=context_tokens, adapter=adapter, slots=slots)

    def __enter__(self) -> Self:
        """Load the model."""
        self._server.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Release the model."""
        self._server.__exit__(*exception)

    def stream(
        self, model: str, request: ChatRequest, *, strength: float | None = None
    ) -> Generator[Piece, None, ChatReply]:
        """The pieces of a reply, then the reply. Raises InputError for a strength that cannot be used."""
        if strength is not None and model != "tuned":
            raise InputError("only the tuned model has a strength", where="strength", fix="ask the tuned model")
        if strength is not None and not 0 <= strength <= MOST_STRENGTH:
            raise InputError(f"a strength is between 0 and {MOST_STRENGTH:g}", where="strength", fix="use 1 for all")
        factor = (1.0 if strength is None else strength) if model == "tuned" else 0.0
        with closing(self._server.stream(request, strength=factor)) as pieces:
            return (yield from pieces)
