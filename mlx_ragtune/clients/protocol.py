"""What a stage needs from a chat server, whichever it is."""

from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple, Protocol, Self, TypeVar

from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.records import ChatReply, ChatRequest, Message

TOKENS_PER_LOOK = 8
"""After so many tokens a backend asks again whether the answer so far is to be ended: the same for all servers."""
Result = TypeVar("Result")


class Piece(NamedTuple):
    """What a server sent of an answer at a time: a piece of its text, or of its thinking."""

    text: str = ""
    thinking: str = ""


def drained(stream: Generator[object, None, Result]) -> Result:
    """What a generator returns; what it yields is dropped."""
    try:
        while True:
            next(stream)
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        stream.close()


class PromptOverflowError(ToolError):
    """A prompt that does not fit in the context; nothing was cut. ``what`` begins with ``prompt_overflow``."""

    def __init__(self, prompt_tokens: int | None, context_tokens: int | None, *, where: str) -> None:
        what = (
            "the prompt is longer than the context" if prompt_tokens is None else f"a prompt of {prompt_tokens} tokens"
        )
        if context_tokens is not None:
            what += f" of {context_tokens} tokens" if prompt_tokens is None else f" in a context of {context_tokens}"
        super().__init__(
            f"prompt_overflow: {what}",
            where=where,
            fix="raise 'context_tokens', or lower 'retrieval.top_k' or 'corpus.chunk_tokens'",
        )


def require_unicode(texts: Iterable[str], *, where: str) -> None:
    """Raise InputError for a text with a lone surrogate, such as from bytes that are not UTF-8."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"the text is not valid Unicode at character {error.start}: {text[error.start :][:20]!a}",
                where=where,
                fix="replace or remove this character",
            ) from None


class ChatBackend(Protocol):
    """One served model. ``chat`` and ``render`` raise ToolError when the server fails."""

    def __enter__(self) -> Self:
        """The backend, ready to answer."""

    def __exit__(self, *_exception: object) -> None:
        """Release the model."""

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply to one request; every option is sent. Raises PromptOverflowError, and never cuts a prompt."""

    def render(self, messages: Sequence[Message], *, think: bool) -> str | None:
        """The prompt exactly as the model receives it, or None where the server does not return it."""

    def identity(self) -> dict[str, str]:
        """``server``, ``version`` and the model's ``digest``: what must be equal to compare answers."""


class StreamingBackend(ChatBackend, Protocol):
    """A served model whose answer can be read while it is generated."""

    def stream(self, request: ChatRequest) -> Generator[Piece, None, ChatReply]:
        """The pieces of the reply that ``chat`` returns, and then that reply; raises as ``chat``.

        The request ends when the generator is closed.
        """
