"""M9: what an answer cost: time without loading, tokens, tokens per second, time to the first token."""

from mlx_ragtune.records import Answer


def cost_metrics(answer: Answer) -> dict[str, float]:
    """Measured costs of one answer; what the server did not report is absent."""
    values: dict[str, float] = {"answer_tokens": float(answer.answer_tokens)}
    if answer.latency_seconds > 0:
        values["latency_seconds"] = answer.latency_seconds
    generating = answer.latency_seconds
    if answer.first_token_seconds is not None:
        values["first_token_seconds"] = answer.first_token_seconds
        generating -= answer.first_token_seconds
    if generating > 0 and answer.answer_tokens > 1:
        after_first = answer.first_token_seconds is not None
        values["tokens_per_second"] = (answer.answer_tokens - after_first) / generating
    return values
