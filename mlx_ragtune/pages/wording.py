"""Numbers of a report as text, the same in HTML, Markdown and on the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from mlx_ragtune.scoring.answers.metrics import Unit
from mlx_ragtune.scoring.verdict.comparison import MetricRow
from mlx_ragtune.scoring.verdict.headline import signed

STATE_LABELS = {
    "ok": "valid",
    "empty": "empty",
    "too_short": "too short",
    "truncated": "cut off at the token limit",
    "think_leak": "with thinking text",
    "prompt_leak": "repeating the prompt",
    "self_dialogue": "dialogue with itself",
    "turn_token_leak": "with tokens of the chat template",
    "prompt_overflow": "prompt too long",
    "repetition_loop": "repeating the same text",
    "transport_error": "request failed",
}
RESULTS: dict[str | None, str] = {
    "IMPROVED": "better", "REGRESSED": "worse", "EQUIVALENT": "same", "INCONCLUSIVE": "unclear", None: "not judged"
}  # fmt: skip


def state_label(state: str) -> str:
    """What a validity state is called."""
    return STATE_LABELS.get(state, state.replace("_", " "))


def result(verdict: str | None) -> str:
    """A row's verdict in a plain word."""
    return RESULTS[verdict]


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop; a recipe key keeps its case."""
    first = text.partition(" ")[0]
    start = text if "." in first.rstrip(".") or "_" in first else text[:1].upper() + text[1:]
    return start if start.endswith((".", "!", "?")) else f"{start}."


def points(value: float) -> str:
    """A difference of shares in percentage points."""
    return signed(100 * value, 1)


def amount(row: MetricRow, value: float) -> str:
    """A mean in its unit: shares as percentages."""
    if row.unit == "share":
        return f"{100 * value:.1f}%"
    if row.unit in ("tokens", "words"):
        return f"{value:,.0f} {row.unit}"
    return f"{value:.2f} s" if row.unit == "seconds" else f"{value:.1f} {row.unit}"


def change(row: MetricRow) -> str:
    """The difference with its sign; that of shares in percentage points."""
    if row.unit == "share":
        return points(row.all.difference)
    return signed(row.all.difference, _digits(row))


def _digits(row: MetricRow) -> int:
    return 0 if row.unit in ("tokens", "words") else 2


def interval(row: MetricRow) -> str:
    """``−3.1 to +12.0``; empty without an interval."""
    if row.all.low is None or row.all.high is None:
        return ""
    scale, digits = (100, 1) if row.unit == "share" else (1, _digits(row))
    return f"{signed(scale * row.all.low, digits)} to {signed(scale * row.all.high, digits)}"


def floor(value: float, unit: Unit) -> str:
    """How far noise moves a metric: points for shares, else in its unit."""
    return f"{100 * value:.1f} points" if unit == "share" else f"{value:.1f} {unit}"


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
