"""M0: is this a valid answer? A deterministic check before every metric.

The first check that applies wins, in this order: transport_error, prompt_overflow, empty (unless the server stopped a
loop of marks, a repetition_loop), think_leak,
turn_token_leak, prompt_leak, self_dialogue, repetition_loop, truncated, too_short. An invalid answer is thus
classified by its cause, not by its symptom: what went on after ``<|im_end|>`` and was cut off is a turn_token_leak.
"""

import re
from collections import Counter
from collections.abc import Sequence

from mlx_ragtune.records import Answer, Passage, Question, Sampling, Validity
from mlx_ragtune.scoring.answers.fragment import breaks_off, says_nothing
from mlx_ragtune.scoring.answers.leaks import has_turn_token, repeats_prompt, talks_to_itself, thinks_aloud
from mlx_ragtune.scoring.answers.normalize import fold, sentences, words
from mlx_ragtune.scoring.answers.nuggets import correctness
from mlx_ragtune.scoring.answers.refusal import is_refusal

LONGEST_LOOP_WORDS = 40
LOOP_WORDS = 16
LOOP_CHARACTERS = 40
_RULE_MARKS = frozenset("-–—=_|:+*#~.…·")
_BLOCK = re.compile(r"(\S{1,12}?)\1{5,}")


def classify(
    answer: Answer,
    sampling: Sampling,
    *,
    question: Question | None = None,
    passages: Sequence[Passage] = (),
    system: str = "",
) -> Validity:
    """The first problem of the answer, or ``ok``.

    ``question``, ``passages`` and ``system`` are what the model was sent; without them what depends on them is
    not recognized.

    - transport_error: the request failed (``answer.error``, unless it begins with ``prompt_overflow``)
    - prompt_overflow: the prompt does not fit in the context, or generation stopped for length before
      ``max_tokens``, which happens when the context is full
    - empty: not one letter or digit
    - think_leak: a think tag in the visible text, or the reasoning that Qwen3 writes without a tag
    - turn_token_leak: a token of a chat template, such as ``<|im_end|>``, ``</s>`` or ``[INST]``, or "Thinking..."
    - prompt_leak: a part of the system prompt, a heading of the passages, or more of them than a quote
    - self_dialogue: a user's or an assistant's turn, or a further question and its answer
    - repetition_loop: stopped by the server as a loop (``done_reason``), or ``loops``
    - truncated: stopped for length
    - too_short: a few words that break off or say nothing. A short answer ("12 layers") is valid
    """
    if answer.error and not answer.error.startswith("prompt_overflow"):
        return "transport_error"
    full = answer.done_reason == "length" and 0 < answer.answer_tokens < sampling.max_tokens
    if answer.error or answer.prompt_tokens >= sampling.context_tokens or full:
        return "prompt_overflow"
    if not words(answer.text):
        return "repetition_loop" if answer.done_reason == "loop" else "empty"
    if leak := _leak(answer.text, question, passages, system):
        return leak
    if answer.done_reason == "loop" or loops(answer.text):
        return "repetition_loop"
    if answer.done_reason == "length":
        return "truncated"
    return "too_short" if _is_no_answer(answer.text, question, passages) else "ok"


def _leak(text: str, question: Question | None, passages: Sequence[Passage], system: str) -> Validity | None:
    shown = [question.question if question else "", *(f"{passage.title}\n{passage.text}" for passage in passages)]
    if thinks_aloud(text, shown):
        return "think_leak"
    if has_turn_token(text, shown):
        return "turn_token_leak"
    if repeats_prompt(text, question.question if question else "", passages, system):
        return "prompt_leak"
    return "self_dialogue" if talks_to_itself(text, shown) else None


def _is_no_answer(text: str, question: Question | None, passages: Sequence[Passage]) -> bool:
    """Whether a few words break off, or say nothing and state no fact that the question asks for."""
    if is_refusal(text):
        return False
    asked = question.question if question else ""
    if breaks_off(text, asked, [passage.text for passage in passages]):
        return True
    return says_nothing(text, asked) and not (question and correctness(text, question.nuggets).score)


def loops(text: str) -> bool:
    """Whether a block of words or characters repeats back to back, or a sentence of five words occurs three times.

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
    if _repeats_characters(text):
        return True
    counts = Counter(" ".join(words(part)) for part in sentences(fold(text)))
    return any(count >= 3 and len(part.split()) >= 5 for part, count in counts.items())


def _repeats_characters(text: str) -> bool:
    """Whether a block of a few characters repeats without spaces ("0000"); rules of tables and headings are no loop."""
    runs = (run for run in _BLOCK.finditer(text) if len(run[0]) >= LOOP_CHARACTERS)
    return any(not _RULE_MARKS.issuperset(run[1]) for run in runs)
