"""Examples as token rows: what is trained is the answer and the token that ends it, nothing else."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.prompts import end_of_turn, prompt_tokens
from mlx_ragtune.records import Example, Kind

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class TokenRow:
    """``tokens[prompt_length:]`` are the answer and its end-of-turn token. Shape [T], int32."""

    id: str
    group: str
    kind: Kind
    tokens: Tokens
    prompt_length: int


@dataclass(frozen=True)
class Refused:
    """A row that is not trained on, and why."""

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
    """Rows in order, and those that do not fit. Raises InputError for any that does not fit under ``fail``.

    An answer is never cut; a row without an answer is refused like one that is too long.
    """
    end = end_of_turn(tokenizer)
    rows: list[TokenRow] = []
    refused: list[Refused] = []
    for one in examples:
        prompt = prompt_tokens(one.messages[:-1], tokenizer, thinking=thinking)
        text = unicodedata.normalize("NFC", one.messages[-1].content).strip()
        answer = list(tokenizer.encode(text, add_special_tokens=False))
        tokens = np.array([*prompt, *answer, *end], dtype=np.int32)
        if not answer:
            refused.append(Refused(one.id, len(tokens), "no answer tokens"))
        elif len(tokens) > max_tokens:
            refused.append(Refused(one.id, len(tokens), f"{len(tokens)} tokens, more than {max_tokens}"))
        else:
            rows.append(TokenRow(one.id, one.group, one.kind, tokens, len(prompt)))
    if refused and on_too_long == "fail":
        listing = "\n".join(f"  {one.id}: {one.reason}" for one in refused[:10])
        raise InputError(
            f"{len(refused)} rows do not fit:\n{listing}",
            where="dataset.max_tokens",
            fix="raise dataset.max_tokens, lower retrieval.top_k or corpus.chunk_words, or on_too_long: drop",
        )
    return rows, refused
