"""Numbers of a report as text, the same in HTML, Markdown and on the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from mlx_ragtune.scoring.verdict.comparison import MetricRow
from mlx_ragtune.scoring.verdict.headline import signed

STATE_LABELS = {
    "ok": "valid",
    "empty": "empty",
    "too_short": "too short",
    "truncated": "cut off at the token limit",
    "think_leak": "contains thinking text",
    "turn_token_leak": "contains tokens of the chat template",
    "prompt_leak": "repeats its prompt",
    "self_dialogue": "contains further dialogue turns",
    "prompt_overflow": "prompt too long",
    "repetition_loop": "repetition loop",
    "transport_error": "request failed",
}


def state_label(state: str) -> str:
    """What a validity state is called."""
    return STATE_LABELS.get(state, state.replace("_", " "))


def amount(row: MetricRow, value: float) -> str:
    """A mean in its unit: shares as percentages."""
    if row.unit == "share":
        return f"{100 * value:.1f}%"
    return f"{value:.2f} s" if row.unit == "seconds" else f"{value:.1f} {row.unit}"


def change(row: MetricRow) -> str:
    """The difference with its sign; that of shares in percentage points."""
    if row.unit == "share":
        return signed(100 * row.all.difference, 1)
    return signed(row.all.difference, 2)


def interval(row: MetricRow) -> str:
    """``−3.1 to +12.0``; empty without an interval."""
    if row.all.low is None or row.all.high is None:
        return ""
    scale, digits = (100, 1) if row.unit == "share" else (1, 2)
    return f"{signed(scale * row.all.low, digits)} to {signed(scale * row.all.high, digits)}"


def p_value(value: float) -> str:
    """Three decimals; ``<0.001`` below."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def rate(value: float | None) -> str:
    """A share as a percentage, or ``undefined``."""
    return "undefined" if value is None else f"{100 * value:.1f}%"


def flat(settings: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as ``train.rank`` → ``16``; what is empty is left out, bytes are given in GiB."""
    for key, value in settings.items():
        name = f"{at}.{key}" if at else str(key)
        if isinstance(value, Mapping):
            yield from flat(value, name)
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            yield from flat({str(number): item for number, item in enumerate(value, start=1)}, name)
        elif isinstance(value, list | tuple) and value:
            yield name, ", ".join(map(_text, value))
        elif value not in (None, "", [], ()):
            yield (
                (name.removesuffix("_bytes"), f"{value / 2**30:.2f} GiB")
                if name.endswith("_bytes")
                else (name, _text(value))
            )


def _text(value: Any) -> str:
    """A value as in a recipe: ``false``, ``0.0005``; a measured number with four digits, like 0.9848 or 1.2e-06."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
