"""The gate between training and serving: the model must be asked exactly as it was trained.

A server that does not return the rendered prompt proves nothing; such answers are counted separately.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.protocol import ChatBackend
from mlx_ragtune.errors import ToolError
from mlx_ragtune.records import ChatReply, Message

_SHOWN = 40


@dataclass(frozen=True)
class PromptGate:
    """How many answers belong to a prompt that equals the training render, and to one that could not be read."""

    equal: int
    unproven: int

    def __str__(self) -> str:
        """For the report: never ``equal`` where it was not checked."""
        if not self.unproven and self.equal:
            return f"equal to the training render, byte for byte ({self.equal} prompts)"
        total = self.equal + self.unproven
        return f"not proven: this server does not return its prompts ({self.unproven} of {total})"


class ServedPromptError(ToolError):
    """The model is not asked as it was trained, so its answers would be meaningless."""


def check_prompt(
    backend: ChatBackend, name: str, messages: Sequence[Message], trained: str, *, think: bool
) -> bool | None:
    """True when the served prompt of question ``name`` equals its training render; None when it cannot be read.

    Raises ServedPromptError with the first difference. For a server that does not return its prompts, a
    different number of tokens is still detected.
    """
    served = backend.render(messages, think=think)
    if served is None:
        if isinstance(backend, OllamaChat) and not backend.same_length(messages, trained, think=think):
            raise _different(name, "the served prompt and the training render differ in their number of tokens")
        return None
    if served != trained:
        raise _different(name, _first_difference(trained, served))
    return True


def check_count(reply: ChatReply, expected_tokens: int, name: str) -> None:
    """Raise ServedPromptError unless the server read ``expected_tokens`` prompt tokens (0: it does not say)."""
    if reply.prompt_tokens not in (0, expected_tokens):
        raise _different(
            name,
            f"the server read {reply.prompt_tokens} prompt tokens instead of {expected_tokens}; it truncated the "
            "prompt or added to it",
        )


def _different(name: str, what: str) -> ServedPromptError:
    return ServedPromptError(
        f"the model is not served as it was trained: {what}",
        where=f"question '{name}'",
        fix="ragtune register RECIPE --redo; if that does not help, change dataset.thinking to what the server does",
    )


def _first_difference(trained: str, served: str) -> str:
    pairs = zip(trained, served, strict=False)
    at = next((index for index, (left, right) in enumerate(pairs) if left != right), min(len(trained), len(served)))
    start = max(0, at - _SHOWN // 2)
    expected, actual = (text[start : at + _SHOWN] for text in (trained, served))
    return f"at character {at}, trained on {expected!r}, served {actual!r}"
