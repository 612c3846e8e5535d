"""M0: is this a valid answer? A deterministic check before every metric.

The first check that applies wins: transport_error, prompt_overflow, empty, think_leak, repetition_loop,
truncated, too_short. An invalid answer is thus classified by its cause, not by its symptom.
"""

import re
from collections import Counter

from mlx_ragtune.records import Answer, Sampling, Validity
from mlx_ragtune.scoring.answers.normalize import fold, sentences, words
from mlx_ragtune.scoring.answers.refusal import is_refusal

MIN_WORDS = 4
LONGEST_LOOP_WORDS = 40
LOOP_WORDS = 16

_THINKING = re.compile(
    r"</?think(?:ing)?\b|^\s*(?:okay|ok|alright|hmm|wait)[,.]? (?:so,? )?"
    r"(?:the user|i need to|i should|i have to|let me|let's)\b",
    re.IGNORECASE,
)


def classify(answer: Answer, sampling: Sampling) -> Validity:
    """The first problem of the answer, or ``ok``.

    - transport_error: the request failed (``answer.error``, unless it begins with ``prompt_overflow``)
    - prompt_overflow: the prompt does not fit in the context, or generation stopped for length before
      ``max_tokens``, which happens when the context is full
    - think_leak: a think tag in the visible text, or the reasoning that Qwen3 writes without a tag
    - repetition_loop: stopped by the server as a loop, or ``loops``
    - truncated: stopped for length
    - too_short: fewer than ``MIN_WORDS`` words and not a refusal ("I don't know." is complete)
    """
    if answer.error and not answer.error.startswith("prompt_overflow"):
        return "transport_error"
    full = answer.done_reason == "length" and 0 < answer.answer_tokens < sampling.max_tokens
    if answer.error or answer.prompt_tokens >= sampling.context_tokens or full:
        return "prompt_overflow"
    if not words(answer.text):
        return "empty"
    if _THINKING.search(answer.text):
        return "think_leak"
    if answer.done_reason == "loop" or loops(answer.text):
        return "repetition_loop"
    if answer.done_reason == "length":
        return "truncated"
    if len(words(answer.text)) < MIN_WORDS and not is_refusal(answer.text):
        return "too_short"
    return "ok"


def loops(text: str) -> bool:
    """Whether a block of words repeats back to back, or a sentence of five or more words occurs three times.

    Back to back: a block of 1 to 40 words at least four times (three times from eight words on), and at
    least 16 words in total.
    """
    tokens = [word.casefold() for word in words(text)]
    for size in range(1, min(LONGEST_LOOP_WORDS, len(tokens) // 3) + 1):
        needed = max(size * (4 if size < 8 else 3), LOOP_WORDS)
        run = size
        for position in range(size, len(tokens)):
            run = run + 1 if tokens[position] == tokens[position - size] else size
            if run >= needed:
                return True
    counts = Counter(" ".join(words(part)) for part in sentences(fold(text)))
    return any(count >= 3 and len(part.split()) >= 5 for part, count in counts.items())
