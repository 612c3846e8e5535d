"""What the stages need of a served model, whoever serves it."""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from mlx_ragtune.records import ChatReply, ChatRequest, Message


class ChatBackend(Protocol):
    """A served chat model. Failures that outlast the backend's own retries are ToolError."""

    def chat(self, request: ChatRequest) -> ChatReply:
        """The model's reply. Every option is sent; a prompt that does not fit is refused, never cut."""
        ...

    def render(self, messages: Sequence[Message], *, think: bool) -> str | None:
        """The prompt as the server renders it, or None where the server cannot tell."""
        ...

    def identity(self) -> dict[str, str]:
        """``server`` and ``version`` of what serves, and ``device`` it computes on."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
