"""Greedy answers in MLX, several prompts at a time."""

from collections.abc import Sequence
from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx


def greedy_answers(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], *, max_tokens: int, at_once: int = 8
) -> list[str]:
    """Greedy continuation of each prompt (token ids) up to the end of turn or ``max_tokens``, in the given order.

    ``tokenizer`` is mlx-lm's wrapper, which knows the tokens that end a turn.
    """
    from mlx_lm.generate import batch_generate

    training = model.training
    model.eval()
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    texts = [""] * len(prompts)
    for start in range(0, len(order), at_once):
        part = order[start : start + at_once]
        reply = batch_generate(model, tokenizer, [list(prompts[index]) for index in part], max_tokens=max_tokens)
        for index, text in zip(part, reply.texts, strict=True):
            texts[index] = text.strip()
        mx.clear_cache()
    model.train(training)
    return texts
