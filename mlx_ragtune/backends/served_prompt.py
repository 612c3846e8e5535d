"""The gate between training and serving: the model must be asked exactly as it was trained.

A server that does not say how it renders proves nothing: that is counted apart, and never as equal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlx_ragtune.backends.chat_ollama import OllamaChat
from mlx_ragtune.backends.protocol import ChatBackend
from mlx_ragtune.errors import ToolError
from mlx_ragtune.records import Message

_SHOWN = 40


@dataclass(frozen=True)
class PromptGate:
    """How many served prompts equal the training render byte for byte, and how many could not be read."""

    equal: int
    unproven: int

    def __str__(self) -> str:
        """For the report: never ``equal`` where it was not seen."""
        if not self.unproven:
            return f"equal to the training render, byte for byte ({self.equal} prompts)"
        return f"not proven: this server does not show its prompts ({self.unproven} of {self.equal + self.unproven})"


def check_prompts(
    backend: ChatBackend, prompts: Mapping[str, tuple[Sequence[Message], str]], *, think: bool
) -> PromptGate:
    """Compare the served prompt of every question with its training render.

    ``prompts`` maps a question's id to its messages and the prompt as training rendered it. Raises ToolError
    that shows the first difference. Where the server does not render for us, prompts of unequal token
    counts are still found.
    """
    equal = unproven = 0
    for name, (messages, trained) in prompts.items():
        served = backend.render(messages, think=think)
        if served is None:
            if isinstance(backend, OllamaChat) and not backend.same_length(messages, trained, think=think):
                raise _different(name, "the served prompt has another number of tokens than the training render")
            unproven += 1
        elif served != trained:
            raise _different(name, _first_difference(trained, served))
        else:
            equal += 1
    return PromptGate(equal, unproven)


def _different(name: str, what: str) -> ToolError:
    return ToolError(
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
