"""Prompts that do not fit into the context window are refused before anything is asked."""

from collections.abc import Iterable, Sequence
from typing import Any

from mlx_ragtune.errors import InputError
from mlx_ragtune.evaluation.items import Item
from mlx_ragtune.models.prompts import prompt_text, text_tokens
from mlx_ragtune.recipe import SamplingSettings
from mlx_ragtune.records import ARMS, Arm
from mlx_ragtune.retrieval.prompt import build_messages

KEY = "evaluate.sampling.context_tokens"


def require_fit(items: Sequence[Item], sampling: SamplingSettings, *, window: int) -> None:
    """Raise InputError unless every prompt of every arm, and an answer of ``max_tokens`` behind it, fits.

    An answer that is cut off because the window is full would count against the model. The error names the longest
    prompt and the number of tokens to set; ``window`` is what the base model reads at most.
    """
    lengths = [(item.prompt(arm).tokens, item, arm) for item in items for arm in _arms(item)]
    too_long = [length for length, _, _ in lengths if length + sampling.max_tokens > sampling.context_tokens]
    if not too_long:
        return
    longest, item, arm = max(lengths, key=lambda row: row[0])
    needed = longest + sampling.max_tokens
    raise InputError(
        f"{len(too_long)} of {len(lengths)} prompts do not fit: the longest has {longest} tokens, and with an answer "
        f"of {sampling.max_tokens} tokens needs {needed}, but {KEY} is {sampling.context_tokens}",
        where=f"question '{item.question.id}', {arm} model",
        fix=_fix(needed, window, examples=arm == "prompted"),
    )


def require_questions_fit(
    questions: Iterable[tuple[str, str]], tokenizer: Any, sampling: SamplingSettings, *, thinking: bool, window: int
) -> None:
    """Raise InputError for a question (``file:line``, text) that does not even fit without any passage.

    What the passages add is known only when the corpus is read.
    """
    for where, text in questions:
        prompt = prompt_text(build_messages((), text), tokenizer, thinking=thinking)
        needed = len(text_tokens(prompt, tokenizer)) + sampling.max_tokens
        if needed > sampling.context_tokens:
            raise InputError(
                f"even without passages the prompt needs {needed} tokens with an answer of {sampling.max_tokens}, "
                f"but {KEY} is {sampling.context_tokens}",
                where=where,
                fix=_fix(needed, window, examples=False),
            )


def _arms(item: Item) -> tuple[Arm, ...]:
    return tuple(arm for arm in ARMS if arm != "prompted" or item.prompted is not None)


def _fix(needed: int, window: int, *, examples: bool) -> str:
    smaller = "lower evaluate.sampling.max_tokens, retrieval.top_k or corpus.chunk_tokens"
    if examples:
        smaller = smaller.replace("evaluate.sampling.max_tokens", "evaluate.prompted.tokens")
    if needed > window:
        return f"{smaller}: the base model reads at most {window} tokens"
    return f"set {KEY}: {needed}, or {smaller}"
