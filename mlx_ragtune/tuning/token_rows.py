"""Examples as token rows. Only the answer and its end-of-turn token are trained."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.prompts import answer_tokens, end_of_turn, prompt_text, text_tokens
from mlx_ragtune.records import Example, RowKind

Tokens = npt.NDArray[np.int32]
NO_ANSWER = "no answer tokens"
"""Why a row is refused whose answer is empty."""


@dataclass(frozen=True)
class TokenRow:
    """``tokens``, shape [T], int32; ``tokens[prompt_length:]`` is the answer and its end-of-turn token.

    ``rejected``, int32, is the same prompt with an answer that the model should prefer less, or None.
    """

    id: str
    group: str
    kind: RowKind
    tokens: Tokens
    prompt_length: int
    rejected: Tokens | None = None

    @property
    def branches(self) -> tuple[Tokens, ...]:
        """The token sequences that go through the layers: with its answer, then with its rejected answer if any."""
        return (self.tokens,) if self.rejected is None else (self.tokens, self.rejected)

    @property
    def is_rehearsal(self) -> bool:
        """Whether its answer is the base model's own."""
        return self.kind == "rehearsal"


@dataclass(frozen=True)
class Refused:
    """A row that is left out of training, with its length in tokens and the reason."""

    id: str
    tokens: int
    reason: str


def tokenize(
    examples: Iterable[Example],
    tokenizer: Any,
    *,
    thinking: bool,
    max_tokens: int,
    on_too_long: Literal["fail", "drop"],
) -> tuple[list[TokenRow], list[Refused]]:
    """(rows in order, rows left out). Raises InputError for rows that do not fit when ``on_too_long`` is ``fail``.

    Answers are never cut. A row without an answer is treated like one that is too long. A row keeps its rejected
    answer where that fits too.
    """
    end = end_of_turn(tokenizer)

    def tokens_of(text: str, prompt: list[int], before: str) -> list[int]:
        return answer_tokens(unicodedata.normalize("NFC", text).strip(), prompt, before, tokenizer)

    rows: list[TokenRow] = []
    refused: list[Refused] = []
    for example in examples:
        before = prompt_text(example.messages[:-1], tokenizer, thinking=thinking)
        prompt = text_tokens(before, tokenizer)
        answer = tokens_of(example.messages[-1].content, prompt, before)
        tokens = np.array([*prompt, *answer, *end], dtype=np.int32)
        if not answer:
            refused.append(Refused(example.id, len(tokens), NO_ANSWER))
        elif len(tokens) > max_tokens:
            refused.append(Refused(example.id, len(tokens), f"{len(tokens)} tokens, more than {max_tokens}"))
        else:
            worse = tokens_of(example.rejected, prompt, before) if example.rejected else []
            rejected = np.array([*prompt, *worse, *end], dtype=np.int32)
            kept = rejected if worse and worse != answer and len(rejected) <= max_tokens else None
            rows.append(TokenRow(example.id, example.group, example.kind, tokens, len(prompt), kept))
    if on_too_long == "fail":
        require_fitting(refused)
    return rows, refused


def require_fitting(refused: Sequence[Refused]) -> None:
    """Raise InputError, which lists the first ten, when rows were left out."""
    if refused:
        listing = "\n".join(f"  {row.id}: {row.reason}" for row in refused[:10])
        raise InputError(
            f"{len(refused)} rows do not fit:\n{listing}",
            where="dataset.max_tokens",
            fix="raise dataset.max_tokens, lower retrieval.top_k or corpus.chunk_tokens, or set on_too_long: drop",
        )
