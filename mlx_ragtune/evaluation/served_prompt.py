"""The gate between training and serving: the model must be asked exactly as it was trained.

A server that does not say how it renders proves nothing: that is counted apart, and never as equal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.protocol import ChatBackend
from mlx_ragtune.errors import ToolError
from mlx_ragtune.records import ChatReply, Message

_SHOWN = 40


@dataclass(frozen=True)
class PromptGate:
    """How many served prompts equal the training render byte for byte, and how many could not be read."""

    equal: int
    unproven: int

    def __str__(self) -> str:
        """For the report: never ``equal`` where it was not seen."""
        if not self.unproven and self.equal:
            return f"equal to the training render, byte for byte ({self.equal} prompts)"
        return f"not proven: this server does not show its prompts ({self.unproven} of {self.equal + self.unproven})"


class ServedPromptError(ToolError):
    """The model is asked otherwise than it was trained: no answer of it would mean anything."""


def check_prompt(
    backend: ChatBackend, name: str, messages: Sequence[Message], trained: str, *, think: bool
) -> bool | None:
    """True when the served prompt of question ``name`` equals its training render; None where it cannot be read.

    Raises ServedPromptError that shows the first difference. Where the server does not render for us, a prompt
    of another number of tokens is still found.
    """
    served = backend.render(messages, think=think)
    if served is None:
        if isinstance(backend, OllamaChat) and not backend.same_length(messages, trained, think=think):
            raise _different(name, "the served prompt has another number of tokens than the training render")
        return None
    if served != trained:
        raise _different(name, _first_difference(trained, served))
    return True


def check_prompts(
    backend: ChatBackend, prompts: Mapping[str, tuple[Sequence[Message], str]], *, think: bool
) -> PromptGate:
    """``check_prompt`` for every question: ``prompts`` maps its id to its messages and their training render."""
    found = [check_prompt(backend, name, *prompt, think=think) for name, prompt in prompts.items()]
    return PromptGate(equal=found.count(True), unproven=found.count(None))


def check_count(reply: ChatReply, ours: int, name: str) -> None:
    """Raise ServedPromptError when the server read another number of prompt tokens than we count (0: not told)."""
    if reply.prompt_tokens not in (0, ours):
        raise _different(
            name,
            f"the server read {reply.prompt_tokens} prompt tokens where there are {ours}; it cut the prompt, or "
            "put something before it",
        )


def _different(name: str, what: str) -> ServedPromptError:
    return ServedPromptError(
        f"the model is not served as it was trained: {what}",
        where=f"question '{name}'",
        fix="ragtune register RECIPE --redo; 'dataset.thinking' must be what the server does",
    )


def _first_difference(trained: str, served: str) -> str:
    pairs = zip(trained, served, strict=False)
    at = next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(trained), len(served)))
    start = max(0, at - _SHOWN // 2)
    ours, theirs = (text[start : at + _SHOWN] for text in (trained, served))
    return f"at character {at}, trained on {ours!r}, served {theirs!r}"
