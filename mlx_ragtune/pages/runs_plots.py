"""Plots of many runs as inline SVG: what belongs to a run has its number in ``data-run``, so that a page can mark it.

Positions are as in ``plots``: x in percent of the width, y in pixels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mlx_ragtune.pages.plots import LossPoint, nice_limit, smoothed, svg, svg_line, svg_text
from mlx_ragtune.pages.setting_words import value_text

LEFT, RIGHT = 9.0, 98.0
LOG_RATIO = 20
"""From this ratio of the largest to the smallest value on, an axis is logarithmic."""
FEW = 5
"""Up to so many different numbers stand side by side, as categories do."""
_TICK_LETTERS = 24
"""When the labels below an axis have more letters, only the first and the last are shown."""
_AXIS = 58
"""Pixels above a parallel axis, for its name on one of two lines."""


@dataclass(frozen=True)
class Scale:
    """Where values stand on an axis, from 0 to 1: numbers in proportion, others as categories side by side."""

    categories: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    logarithmic: bool = False

    def place(self, value: Any) -> float | None:
        """The place of a value; None for one that the axis does not have."""
        if self.categories:
            text = value_text(value)
            if text not in self.categories:
                return None
            return (self.categories.index(text) + 0.5) / len(self.categories)
        if not _is_number(value):
            return None
        low, high, at = (math.log(x) if self.logarithmic else x for x in (self.low, self.high, value))
        return 0.5 if high == low else (at - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Places with their labels."""
        if self.categories:
            return [((at + 0.5) / len(self.categories), text) for at, text in enumerate(self.categories)]
        middle = math.sqrt(self.low * self.high) if self.logarithmic else (self.low + self.high) / 2
        values = [self.low] if self.low == self.high else [self.low, middle, self.high]
        return [(place, _tick(value)) for value in values if (place := self.place(value)) is not None]


def _tick(value: float) -> str:
    return f"{value:.3g}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def scale_of(values: Sequence[Any]) -> Scale:
    """The axis for the values of one setting: few values and texts as categories, many numbers as numbers."""
    if all(map(_is_number, values)):
        ordered = sorted(set(values))
        if len(ordered) <= FEW:
            return Scale(tuple(dict.fromkeys(map(value_text, ordered))))
        logarithmic = ordered[0] > 0 and ordered[-1] / ordered[0] >= LOG_RATIO
        return Scale(low=ordered[0], high=ordered[-1], logarithmic=logarithmic)
    return Scale(tuple(sorted(dict.fromkeys(map(value_text, values)))))


@dataclass(frozen=True)
class Curve:
    """The losses of one run. ``tone`` is the class of its color."""

    run: int
    name: str
    losses: Sequence[LossPoint]
    tone: str


@dataclass(frozen=True)
class Mark:
    """One run in a plot of an objective against a setting; ``text`` is its tooltip. The interval may be missing."""

    run: int
    value: Any
    objective: float
    low: float | None
    high: float | None
    text: str
    tone: str


def _points(losses: Sequence[LossPoint]) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Smoothed training losses and validation losses, each with its update."""
    train = [(p.update, p.train_loss) for p in losses if p.train_loss is not None and math.isfinite(p.train_loss)]
    valid = [(p.update, p.valid_loss) for p in losses if p.valid_loss is not None and math.isfinite(p.valid_loss)]
    return list(zip([at for at, _ in train], smoothed([value for _, value in train]), strict=True)), valid


def _polyline(places: Sequence[tuple[float, float]], height: float, kind: str, run: int, title: str) -> Markup:
    """A line through points in 0 … 1 of the plot's inner width and height; its stroke is not scaled."""
    points = " ".join(f"{100 * x:.2f},{100 * y:.2f}" for x, y in places)
    return Markup(
        '<svg x="{}%" y="12" width="{}%" height="{:g}" viewBox="0 0 100 100" preserveAspectRatio="none">'
        '<polyline class="run {}" data-run="{}" points="{}" vector-effect="non-scaling-stroke"><title>{}</title>'
        "</polyline></svg>"
    ).format(LEFT, RIGHT - LEFT, height, kind, run, points, title)


def overlaid_losses(curves: Sequence[Curve], *, height: int = 320) -> tuple[Markup, int]:
    """All runs' losses over updates, training thin and validation thick, and how many runs leave the plot at the top.

    The plot ends at three times the median of all losses, so that one run that diverged does not flatten the others.
    """
    points = {curve.run: _points(curve.losses) for curve in curves}
    values = sorted(value for pair in points.values() for part in pair for _, value in part)
    if not values:
        return Markup(""), 0
    last = max(at for pair in points.values() for part in pair for at, _ in part)
    limit = min(values[-1], 3 * values[len(values) // 2])
    shown = [value for value in values if value <= limit]
    step = nice_limit([max(shown) - shown[0]]) / 4
    low, high = math.floor(shown[0] / step) * step, math.ceil(max(shown) / step) * step
    high = high if high > low else low + step
    inner = height - 44

    def place(update: float, value: float) -> tuple[float, float]:
        return update / max(1, last), (high - min(value, high)) / (high - low)

    parts = []
    for index in range(round((high - low) / step) + 1):
        y = 12 + inner * (1 - index * step / (high - low))
        parts += [svg_line(LEFT, y, RIGHT, y, "grid"), svg_text(0, y + 4, _tick(low + step * index), kind="dim")]
    for curve in curves:
        train, valid = points[curve.run]
        parts.append(_polyline([place(*at) for at in train], inner, f"train {curve.tone}", curve.run, curve.name))
        parts.append(_polyline([place(*at) for at in valid], inner, f"valid {curve.tone}", curve.run, curve.name))
        for update, value in valid:
            x, y = place(update, value)
            title = f"{curve.name}, update {update}: validation loss {value:.4f}"
            parts.append(_dot(LEFT + (RIGHT - LEFT) * x, 12 + inner * y, curve.run, curve.tone, title))
    parts += [
        svg_text(LEFT, height - 6, "update 0", kind="dim"),
        svg_text(RIGHT, height - 6, f"{last:g}", anchor="end", kind="dim"),
    ]
    above = sum(any(value > high for part in points[curve.run] for _, value in part) for curve in curves)
    return svg(height, f"Losses of {len(curves)} runs over up to {last:g} updates", parts), above


def _dot(x: float, y: float, run: int, tone: str, title: str) -> Markup:
    return Markup(
        '<circle class="run dot {}" data-run="{}" cx="{:.2f}%" cy="{:g}" r="5"><title>{}</title></circle>'
    ).format(tone, run, x, round(y, 2), title)


def against_setting(marks: Sequence[Mark], *, label: str, setting: str, height: int = 200) -> Markup:
    """The objective of each run over one setting, with its interval where there is one."""
    scale = scale_of([mark.value for mark in marks])
    ends = [end for mark in marks for end in (mark.objective, mark.low, mark.high) if end is not None]
    low, high = min(ends), max(ends)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low - margin, high + margin
    left, inner = 16.0, height - 44

    def y_of(value: float) -> float:
        return 12 + inner * (high - value) / (high - low)

    parts = []
    for value in (low + margin, (low + high) / 2, high - margin):
        parts += [
            svg_line(left, y_of(value), RIGHT, y_of(value), "grid"),
            svg_text(0, y_of(value) + 4, _tick(value), kind="dim"),
        ]
    ticks = scale.ticks()
    for at, text in ticks if sum(len(text) for _, text in ticks) <= _TICK_LETTERS else [ticks[0], ticks[-1]]:
        x = left + (RIGHT - left) * at
        anchor = "middle" if 0.15 < at < 0.85 else "start" if at <= 0.15 else "end"
        parts.append(svg_text(x, height - 8, _cut(text, 14), anchor=anchor, kind="dim"))
    for mark in marks:
        place = scale.place(mark.value)
        if place is None:
            continue
        x = left + 2 + (RIGHT - left - 4) * place
        if mark.low is not None and mark.high is not None:
            parts.append(
                Markup(
                    '<line class="run whisker {}" data-run="{}" x1="{:.2f}%" y1="{:.2f}" x2="{:.2f}%" y2="{:.2f}"/>'
                ).format(mark.tone, mark.run, x, y_of(mark.low), x, y_of(mark.high))
            )
        parts.append(_dot(x, y_of(mark.objective), mark.run, mark.tone, mark.text))
    return svg(height, f"{label} against {setting}, {len(marks)} runs", parts)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


@dataclass(frozen=True)
class Axis:
    """One axis of parallel coordinates: the value of each run by its number, None where it is not known."""

    label: str
    values: Mapping[int, Any]


def parallel_coordinates(
    axes: Sequence[Axis], tones: Mapping[int, str], names: Mapping[int, str], *, height: int = 340
) -> Markup:
    """One line for each run through its values on all axes; it is broken where a value is not known."""
    scales = [scale_of([value for value in axis.values.values() if value is not None]) for axis in axes]
    inner = height - _AXIS - 16
    xs = [4 + 84 * at / max(1, len(axes) - 1) for at in range(len(axes))]
    parts = []
    for at, axis in enumerate(axes):
        parts.append(svg_line(xs[at], _AXIS, xs[at], _AXIS + inner, "zero"))
        anchor = "start" if at == 0 else "middle" if at < len(axes) - 1 else "end"
        x = xs[at] + 12 if at == len(axes) - 1 else max(0.0, xs[at] - 4 * (at == 0))
        parts.append(svg_text(x, 14 if at % 2 == 0 else 32, _cut(axis.label, 27), anchor=anchor))
    for run, name in names.items():
        for line in _unbroken([scale.place(axis.values.get(run)) for axis, scale in zip(axes, scales, strict=True)]):
            points = " ".join(f"{xs[at]:.2f},{100 * (1 - place):.2f}" for at, place in line)
            parts.append(
                Markup(
                    '<svg x="0" y="{:g}" width="100%" height="{:g}" viewBox="0 0 100 100" preserveAspectRatio="none">'
                    '<polyline class="run valid {}" data-run="{}" points="{}" vector-effect="non-scaling-stroke">'
                    "<title>{}</title></polyline></svg>"
                ).format(_AXIS, inner, tones[run], run, points, name)
            )
    for x, scale in zip(xs, scales, strict=True):
        for place, text in scale.ticks():
            parts.append(svg_text(x + 0.6, _AXIS + inner * (1 - place) - 5, _cut(text, 14), kind="dim tick"))
    return svg(height, f"{len(names)} runs on {len(axes)} axes: {', '.join(axis.label for axis in axes)}", parts)


def _unbroken(places: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The parts of a line between places that are not known; a single place becomes a short line."""
    lines: list[list[tuple[int, float]]] = [[]]
    for at, place in enumerate(places):
        if place is None:
            lines.append([])
        else:
            lines[-1].append((at, place))
    return [line for line in lines if len(line) > 1]
