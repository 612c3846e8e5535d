"""Greedy answers in MLX: several prompts at a time, and what prompts share is computed once.

Prompts are grouped by their first tokens as training rows are. The start that all of them share (the system turn,
examples) goes through the model once, then the start that a group shares (the passages), then the rest of each
prompt. Finished answers make room for further prompts at once.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.models.prompts import end_of_turn
from mlx_ragtune.tuning.groups import Group, make_groups
from mlx_ragtune.tuning.lean_kernels import lean_kernels, on_cpu
from mlx_ragtune.tuning.memory import apply_caps, caps_here
from mlx_ragtune.tuning.token_rows import TokenRow

MOST_AT_ONCE = 32
MOST_TOKENS = 16384
"""Prompts that are answered at a time, and their tokens with their answers: this bounds the memory of the caches."""
STEP_TOKENS = 256
"""Tokens of each prompt that go through the layers at once."""
_TOKENS_PER_LOOK = 8


@dataclass(frozen=True)
class Decoded:
    """One answer. ``tokens`` counts it without its end; ``reason`` says why it ended (``loop``: ``stop`` said so)."""

    text: str
    tokens: int
    reason: Literal["stop", "length", "loop"]


@dataclass
class _Row:
    """A prompt that is being answered."""

    index: int
    tokens: list[int] = field(default_factory=list)


def at_once(prompts: Sequence[Sequence[int]], max_tokens: int) -> int:
    """How many of the prompts are answered at a time."""
    longest = max(map(len, prompts)) + max_tokens
    return max(1, min(MOST_AT_ONCE, MOST_TOKENS // longest))


def decode(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    stop: Callable[[str], bool] | None = None,
) -> Iterator[tuple[int, Decoded]]:
    """(index of the prompt, its greedy answer), each as soon as it is finished.

    ``prompts`` are token ids. An answer ends with the end of turn, with ``max_tokens`` tokens, or when ``stop`` is
    true of its text so far. ``tokenizer`` is mlx-lm's wrapper, which knows the tokens that end a text.
    """
    if not prompts:
        return
    training = model.training
    model.eval()
    decoder = _Decoder(model, tokenizer, prompts, max_tokens=max_tokens)
    try:
        yield from decoder.answers(stop)
    finally:
        decoder.close()
        model.train(training)


class _Decoder:
    """Feeds mlx-lm's batch generator with prompts whose shared starts are computed already."""

    def __init__(self, model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], *, max_tokens: int) -> None:
        from mlx_lm.generate import BatchGenerator

        self._model, self._tokenizer = model, tokenizer
        self._most = at_once(prompts, max_tokens)
        ends = {(token,) for token in tokenizer.eos_token_ids} | {tuple(end_of_turn(tokenizer))}
        self._generator = BatchGenerator(
            model,
            max_tokens=max_tokens,
            stop_tokens=sorted(map(list, ends)),
            completion_batch_size=self._most,
            prefill_batch_size=self._most,
            prefill_step_size=STEP_TOKENS,
        )
        apply_caps(caps_here())  # the generator has just wired the whole recommended working set (mlx-lm#828)
        self._rows: dict[int, _Row] = {}
        self._shares = self._can_share()
        rows = [_token_row(index, prompt) for index, prompt in enumerate(prompts)]
        groups = make_groups(rows) if self._shares else [Group((row,), 0) for row in rows]
        self._waiting = deque(sorted(groups, key=lambda group: (len(group.rows[0].tokens), group.rows[0].id)))
        self._trunk_length = _shared_by_all(rows) if self._shares else 0
        with self._kernels():
            self._trunk = self._extended(None, rows[0].tokens[: self._trunk_length]) if self._trunk_length else None

    def close(self) -> None:
        """Release the caches."""
        self._trunk = None
        self._generator.close()
        del self._generator
        mx.clear_cache()

    def answers(self, stop: Callable[[str], bool] | None) -> Iterator[tuple[int, Decoded]]:
        """The answers, as they are finished."""
        while self._waiting or self._rows:
            with self._kernels():  # not across a yield: what runs there has kernels of its own
                while self._waiting and len(self._rows) < self._most:
                    self._insert(self._waiting.popleft())
                replies = self._generator.next_generated()
            for reply in replies:
                row = self._rows[reply.uid]
                if reply.finish_reason != "stop":
                    row.tokens.append(int(reply.token))
                reason = reply.finish_reason
                if reason is None and self._stops(row, stop):
                    self._generator.remove([reply.uid])
                    reason = "loop"
                if reason is not None:
                    del self._rows[reply.uid]
                    yield row.index, Decoded(self._text(row), len(row.tokens), reason)

    def _stops(self, row: _Row, stop: Callable[[str], bool] | None) -> bool:
        return stop is not None and len(row.tokens) % _TOKENS_PER_LOOK == 0 and stop(self._text(row))

    def _text(self, row: _Row) -> str:
        """The text so far, without a last character that is not complete."""
        return str(self._tokenizer.decode(row.tokens, skip_special_tokens=True)).rstrip("\ufffd")

    def _insert(self, group: Group) -> None:
        """Compute what the group shares and queue its prompts."""
        start, cache = self._trunk_length, self._trunk
        if len(group.rows) > 1 and group.prefix_length > start:
            cache = self._extended(self._trunk, group.rows[0].tokens[start : group.prefix_length])
            start = group.prefix_length
        rest = [row.tokens[start:].tolist() for row in group.rows]
        caches = None if cache is None else [cache] * len(rest)  # the generator copies them
        for uid, row in zip(self._generator.insert(rest, caches=caches), group.rows, strict=True):
            self._rows[uid] = _Row(int(row.id))

    def _extended(self, cache: list[Any] | None, tokens: Any) -> list[Any]:
        """The cache of what ``cache`` holds and these tokens; ``cache`` stays as it is."""
        from mlx_lm.models.cache import make_prompt_cache

        longer = make_prompt_cache(self._model) if cache is None else deepcopy(cache)
        for begin in range(0, len(tokens), STEP_TOKENS):
            self._model(mx.array(tokens[begin : begin + STEP_TOKENS])[None], cache=longer)
            mx.eval([layer.state for layer in longer])
        return longer

    def _kernels(self) -> AbstractContextManager[None]:
        """Faster attention on a CPU; a GPU has its own."""
        return lean_kernels(self._model) if on_cpu() else nullcontext()

    def _can_share(self) -> bool:
        """Whether the model keeps all keys and values: a sliding window forgets the start of a prompt."""
        from mlx_lm.models.cache import KVCache, make_prompt_cache

        return all(type(layer) is KVCache for layer in make_prompt_cache(self._model))


def _token_row(index: int, prompt: Sequence[int]) -> TokenRow:
    """The prompt as a row that can be grouped, named by its place."""
    return TokenRow(f"{index:09d}", "", "grounded", np.array(prompt, np.int32), len(prompt))


def _shared_by_all(rows: Sequence[TokenRow]) -> int:
    """How many tokens all prompts start with, at least one less than the shortest has."""
    ordered = sorted(rows, key=lambda row: row.tokens.tolist())
    first, last = ordered[0].tokens, ordered[-1].tokens
    limit = min(len(row.tokens) for row in rows) - 1
    same = first[:limit] == last[:limit]
    return int(limit if same.all() else np.argmin(same))
