"""What a stage needs of a chat server, whichever it is."""

from collections.abc import Sequence
from typing import Protocol, Self

from mlx_ragtune.errors import ToolError
from mlx_ragtune.records import ChatReply, ChatRequest, Message


class PromptOverflowError(ToolError):
    """A prompt that does not fit the context: refused before anything is cut. ``what`` says so first."""

    def __init__(self, prompt_tokens: int | None, context_tokens: int | None, *, where: str) -> None:
        if prompt_tokens is None:
            what = "the prompt is longer than the context"
        else:
            what = f"a prompt of {prompt_tokens} tokens in a context of {context_tokens}"
        super().__init__(
            f"prompt_overflow: {what}",
            where=where,
            fix="raise 'context_tokens', or lower 'retrieval.top_k' or 'corpus.chunk_words'",
        )


class ChatBackend(Protocol):
    """One served model. ``chat`` and ``render`` raise ToolError for what the server did not do."""

    def __enter__(self) -> Self:
        """The backend, ready to answer."""

    def __exit__(self, *_exception: object) -> None:
        """Let go of the model."""

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply to one request, every option of which is sent. Raises PromptOverflowError, never cuts."""

    def render(self, messages: Sequence[Message], *, think: bool) -> str | None:
        """The prompt exactly as the model is given it, or None where the server cannot tell."""

    def identity(self) -> dict[str, str]:
        """``server``, ``version`` and the model's ``digest``: what must be equal to compare answers."""
