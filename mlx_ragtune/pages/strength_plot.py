"""The line from the base to the tuned model: what each strength of the adapter gains, and what it forgets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from mlx_ragtune.pages.plots import nice_limit, svg, svg_dot, svg_line, svg_text

LEFT, RIGHT, TOP, BOTTOM = 10.0, 94.0, 30.0, 44.0
"""Margins of the plotted area: percent of the width, then pixels."""


@dataclass(frozen=True)
class StrengthRow:
    """The adapter at one strength, 0 the base: task score in [0, 1], losses in nats per token."""

    scale: float
    task_score: float
    rehearsal_loss: float
    loss_increase: float


def _signed(value: float) -> str:
    return f"{value:+.2g}" if value else "0"


def best_trades(points: Sequence[StrengthRow]) -> set[float]:
    """The strengths that no other beats in both: a better score at no higher loss, or the same at a lower one."""
    return {
        point.scale
        for point in points
        if not any(
            other.task_score >= point.task_score
            and other.loss_increase <= point.loss_increase
            and (other.task_score, other.loss_increase) != (point.task_score, point.loss_increase)
            for other in points
        )
    }


def strength_line(points: Sequence[StrengthRow], *, limit: float | None, kept: float, height: int = 294) -> Markup:
    """Task score over the increase of the loss on the base's own answers; ``limit`` is a line, ``kept`` is green.

    The strengths are connected in their order; those that another one beats in both are gray. An empty text without
    finite points.
    """
    known = [point for point in points if math.isfinite(point.task_score) and math.isfinite(point.loss_increase)]
    if not known:
        return Markup("")
    trades = best_trades(known)
    ordered = sorted(known, key=lambda point: point.scale)
    shown = [point.loss_increase for point in ordered]
    most = nice_limit([max(shown)]) if max(shown) > 0 else nice_limit(shown)
    low, high = min(0.0, *shown), max(most if max(shown) > 0 else 0.0, *shown)
    high = high if high > low else low + 1.0
    top = nice_limit([point.task_score for point in ordered])

    def x_of(increase: float) -> float:
        return LEFT + (RIGHT - LEFT) * (increase - low) / (high - low)

    def y_of(score: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (1 - score / top)

    floor = height - BOTTOM
    parts = [svg_text(LEFT, TOP - 6, "task score", kind="dim")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = y_of(top * share)
        parts += [svg_line(LEFT, y, RIGHT, y, "grid"), svg_text(0, y + 4, f"{100 * top * share:.3g}%", kind="dim")]
    if limit is not None and limit <= high:
        anchor = "end" if x_of(limit) > 70 else "start"
        note = f"limit {limit:g} " if anchor == "end" else f" limit {limit:g}"
        parts += [svg_line(x_of(limit), TOP, x_of(limit), floor, "zero")]
        parts.append(svg_text(x_of(limit), floor - 4, note, anchor=anchor, kind="dim"))
    places = [(x_of(point.loss_increase), y_of(point.task_score)) for point in ordered]
    for (x1, y1), (x2, y2) in pairwise(places):
        parts.append(svg_line(x1, y1, x2, y2, "curve"))
    for point, (x, y) in zip(ordered, places, strict=True):
        name = "base" if point.scale == 0 else f"strength {point.scale:g}"
        title = f"{name}: task score {point.task_score:.3f}, loss {point.loss_increase:+.3f}"
        tone = "better" if point.scale == kept else "plain" if point.scale in trades else "same"
        parts.append(svg_dot(x, y, tone, title))
        label = "base" if point.scale == 0 else f"{point.scale:g}"
        parts.append(svg_text(x, y - 9, label, anchor="middle"))
    parts += [
        svg_text(LEFT, height - 24, _signed(low), kind="dim"),
        svg_text(RIGHT, height - 24, _signed(high), anchor="end", kind="dim"),
        svg_text(RIGHT, height - 6, "increase of the loss on the base's own answers, nats per token",
                 anchor="end", kind="dim"),
    ]  # fmt: skip
    listed = "; ".join(
        f"{'base' if point.scale == 0 else f'{point.scale:g}'} {point.task_score:.3f} at {point.loss_increase:+.3f}"
        for point in ordered
    )
    return svg(
        height, f"Task score over the increase of the loss on the base's own answers, by strength: {listed}", parts
    )
