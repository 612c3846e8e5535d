"""Numbers of a report in words that are the same in HTML, Markdown and on the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from mlx_ragtune.pages.plots import signed
from mlx_ragtune.pages.report_data import MetricPart

STATE_LABELS = {
    "ok": "valid",
    "empty": "empty",
    "too_short": "too short",
    "truncated": "cut off at the token limit",
    "think_leak": "thinking leaked",
    "prompt_overflow": "prompt did not fit",
    "repetition_loop": "repeating itself",
    "transport_error": "server failed",
}
ROLE_LABELS = {
    "decides": "Decides",
    "guard": "Guards (may only veto)",
    "supporting": "Supporting (decides nothing)",
    "secondary": "Secondary (decides nothing, can be fooled)",
}


def amount(metric: MetricPart, value: float) -> str:
    """A mean in its unit: shares in per cent."""
    if metric["unit"] == "share":
        return f"{100 * value:.1f} %"
    return f"{value:.2f} s" if metric["unit"] == "seconds" else f"{value:.1f} {metric['unit']}"


def change(metric: MetricPart) -> str:
    """The difference with its sign; shares in points."""
    if metric["unit"] == "share":
        return signed(100 * metric["difference"], 1)
    return signed(metric["difference"], 2)


def interval(metric: MetricPart) -> str:
    """``−3.1 to +12.0``; empty without an interval."""
    if metric["low"] is None or metric["high"] is None:
        return ""
    scale, digits = (100, 1) if metric["unit"] == "share" else (1, 2)
    return f"{signed(scale * metric['low'], digits)} to {signed(scale * metric['high'], digits)}"


def p_value(value: float) -> str:
    """Three decimals, ``< .001`` below."""
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0") if value < 1 else "1"


def tone(metric: MetricPart) -> str:
    """Colour of a difference: better or worse only where that is the verdict."""
    return {"IMPROVED": "better", "REGRESSED": "worse"}.get(metric["verdict"] or "", "plain")


def flat(settings: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """Settings as ``train.rank`` → ``16``; what is None is left out."""
    for key, value in settings.items():
        name = f"{at}.{key}" if at else str(key)
        if isinstance(value, Mapping):
            yield from flat(value, name)
        elif isinstance(value, list | tuple):
            yield name, ", ".join(str(one) for one in value)
        elif value is not None:
            yield name, _text(value)


def _text(value: Any) -> str:
    """A setting as it is written in a recipe; a measured number at four digits, like 0.9848 or 1.2e−06."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
