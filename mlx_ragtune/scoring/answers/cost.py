"""M9: the cost of an answer: time without loading, time to the first token, tokens of prompt and answer, speed.

The first answer after loading the model is cold: caches are empty. It is reported separately from warm answers.
"""

from mlx_ragtune.records import Answer


def cost_metrics(answer: Answer) -> dict[str, float]:
    """Measured costs of one answer; unknown ones are absent. Times of warm and cold answers are never mixed."""
    load = answer.load_seconds or 0.0
    seconds = answer.latency_seconds - load
    first = None if answer.first_token_seconds is None else answer.first_token_seconds - load
    values: dict[str, float | None] = {
        "answer_tokens": float(answer.answer_tokens),
        "prompt_tokens": float(answer.prompt_tokens) or None,
    }
    if answer.cold:
        values |= {"load_seconds": answer.load_seconds, "cold_first_token_seconds": first}
    elif seconds > 0:
        speed = _tokens_per_second(answer)
        values |= {"latency_seconds": seconds, "first_token_seconds": first, "tokens_per_second": speed}
    return {name: value for name, value in values.items() if value is not None}


def _tokens_per_second(answer: Answer) -> float | None:
    """By the server's generation time if known, otherwise by the client's time after the first token."""
    if answer.generate_seconds:
        return answer.answer_tokens / answer.generate_seconds if answer.answer_tokens else None
    generating = answer.latency_seconds - (answer.first_token_seconds or 0.0)
    if generating <= 0 or answer.answer_tokens <= 1:
        return None
    return (answer.answer_tokens - (answer.first_token_seconds is not None)) / generating
