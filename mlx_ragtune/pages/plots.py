"""Plots as inline SVG: x positions in percent of the width, fixed text sizes, colors from the page's CSS.

One drawing is thus readable on a phone, on a wide screen, in dark mode and in print. Every text is escaped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mlx_ragtune.scoring.verdict.headline import signed

ROW = 46
"""Height of a dot-and-whisker row in pixels: the label above, the whisker below."""


@dataclass(frozen=True)
class Whisker:
    """One difference with its interval; ``note`` is printed at the right. Without an interval only the dot."""

    label: str
    value: float
    low: float | None
    high: float | None
    note: str
    tone: str = "plain"


@dataclass(frozen=True)
class Bar:
    """One question's difference; ``label`` is its tooltip."""

    label: str
    value: float


@dataclass(frozen=True)
class LossPoint:
    """Losses after an update, in nats per answer token; a validation loss only where one was taken.

    ``rehearsal_loss`` is that on the base's own answers that are held out.
    """

    update: int
    train_loss: float | None
    valid_loss: float | None
    rehearsal_loss: float | None = None


def nice_limit(values: Sequence[float]) -> float:
    """The smallest of 1, 2, 2.5 or 5 × 10ⁿ that no value exceeds; 1 when all values are 0."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if largest <= step * power * (1 + 1e-9))


def svg(height: int, label: str, parts: Sequence[Markup]) -> Markup:
    """A plot of the page's width and of ``height`` pixels, with what it shows in words."""
    opening = Markup('<svg class="plot" role="img" aria-label="{}" width="100%" height="{}">').format(label, height)
    return opening + Markup("").join(parts) + Markup("</svg>")


def svg_line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A line; x in percent of the width, y in pixels."""
    return Markup('<line class="{}" x1="{:.2f}%" y1="{:g}" x2="{:.2f}%" y2="{:g}"/>').format(kind, x1, y1, x2, y2)


def svg_text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "label") -> Markup:
    """A text; x in percent of the width, y in pixels."""
    return Markup('<text class="{}" x="{:.2f}%" y="{:g}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def svg_dot(x: float, y: float, tone: str, title: str = "") -> Markup:
    """A dot in the color of its tone; x in percent of the width, y in pixels."""
    return Markup('<circle class="dot {}" cx="{:.2f}%" cy="{:g}" r="5"><title>{}</title></circle>').format(
        tone, x, round(y, 2), title
    )


def _between(row: Whisker) -> str:
    if row.low is None or row.high is None:
        return ""
    return f" ({signed(row.low, 1)} to {signed(row.high, 1)})"


def dot_whisker(rows: Sequence[Whisker], *, unit: str = "points", against: str = "base") -> Markup:
    """Differences (tuned − ``against``) as dots with their intervals on one scale, with 0 in the middle."""
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    limit = nice_limit(ends)

    def place(value: float) -> float:
        return 50 + 48 * max(-1.0, min(1.0, value / limit))

    height = ROW * len(rows) + 24
    parts = [svg_line(place(at), 0, place(at), height - 20, "grid") for at in (-limit, -limit / 2, limit / 2, limit)]
    parts.append(svg_line(50, 0, 50, height - 20, "zero"))
    for index, row in enumerate(rows):
        top = ROW * index
        parts += [svg_text(0, top + 15, row.label), svg_text(100, top + 15, row.note, anchor="end", kind="dim")]
        if row.low is not None and row.high is not None:
            parts.append(svg_line(place(row.low), top + 29, place(row.high), top + 29, f"whisker {row.tone}"))
        parts.append(svg_dot(place(row.value), top + 29, row.tone, f"{row.label}: {row.note}{_between(row)}"))
    for at, anchor in ((-limit, "start"), (0.0, "middle"), (limit, "end")):
        text = "0" if at == 0 else f"{signed(at, 0 if limit >= 1 else 2)} {unit}"
        parts.append(svg_text(place(at), height - 5, text, anchor=anchor, kind="dim"))
    listed = "; ".join(f"{row.label} {row.note}{_between(row)}" for row in rows)
    return svg(height, f"Change, tuned minus {against}: {listed}", parts)


def delta_bars(bars: Sequence[Bar], *, height: int = 150) -> Markup:
    """One bar per question, from the largest loss to the largest gain; without a change the bar is flat."""
    ordered = sorted(bars, key=lambda bar: (bar.value, bar.label))
    limit = nice_limit([bar.value for bar in ordered])
    middle, reach = height / 2, height / 2 - 14
    step = 100 / max(1, len(ordered))
    parts = [svg_line(0, middle, 100, middle, "zero")]
    for index, bar in enumerate(ordered):
        size = abs(bar.value) / limit * reach
        tone = "better" if bar.value > 0 else "worse" if bar.value < 0 else "same"
        top = middle - size if bar.value > 0 else middle
        if bar.value == 0:
            top, size = middle - 1.5, 3.0
        parts.append(
            Markup(
                '<rect class="bar {}" x="{:.3f}%" y="{:.2f}" width="{:.3f}%" height="{:.2f}"><title>{}</title></rect>'
            ).format(tone, step * index + step * 0.1, top, step * 0.8, size, bar.label)
        )
    counts = [
        sum(bar.value < 0 for bar in bars),
        sum(bar.value == 0 for bar in bars),
        sum(bar.value > 0 for bar in bars),
    ]
    summary = f"{counts[0]} worse, {counts[1]} the same, {counts[2]} better"
    parts += [svg_text(0, 10, f"+{limit:g}", kind="dim"), svg_text(0, height - 2, f"−{limit:g}", kind="dim")]
    return svg(height, f"Change per question: {summary}", parts)


def _polyline(places: Sequence[tuple[float, float]], height: int) -> Markup:
    """A curve through points in 0 … 1, scaled to the plot; the width of its stroke is not scaled."""
    points = " ".join(f"{100 * x:.2f},{height * y:.2f}" for x, y in places)
    return Markup(
        '<svg x="8%" y="12" width="90%" height="{0}" viewBox="0 0 100 {0}" preserveAspectRatio="none">'
        '<polyline class="curve" points="{1}" vector-effect="non-scaling-stroke"/></svg>'
    ).format(height, points)


def smoothed(values: Sequence[float]) -> list[float]:
    """Running means over a fortieth of the curve: single losses vary too much to be read."""
    width = max(1, len(values) // 40)
    return [
        sum(values[max(0, at - width) : at + width + 1]) / len(values[max(0, at - width) : at + width + 1])
        for at in range(len(values))
    ]


def loss_curve(losses: Sequence[LossPoint], *, best_update: int | None = None, height: int = 220) -> Markup:
    """Training loss as a smoothed line, validation losses as dots, the kept checkpoint in green.

    Losses on the base's own answers, where they were taken, are gray dots.
    """
    train = [
        (point.update, point.train_loss)
        for point in losses
        if point.train_loss is not None and math.isfinite(point.train_loss)
    ]
    valid = [
        (point.update, point.valid_loss)
        for point in losses
        if point.valid_loss is not None and math.isfinite(point.valid_loss)
    ]
    own = [
        (point.update, point.rehearsal_loss)
        for point in losses
        if point.rehearsal_loss is not None and math.isfinite(point.rehearsal_loss)
    ]
    line = list(zip([at for at, _ in train], smoothed([value for _, value in train]), strict=True))
    values = [value for _, value in [*line, *valid, *own]]
    if not values:
        return Markup("")
    last = max(at for at, _ in [*line, *valid])
    step = nice_limit([max(values) - min(values)]) / 4
    low, high = math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step
    high = high if high > low else low + step

    def x_of(update: float) -> float:
        return 8 + 90 * update / max(1, last)

    def y_of(value: float) -> float:
        return 12 + (height - 44) * (high - value) / (high - low)

    ticks = [low + step * index for index in range(round((high - low) / step) + 1)]
    parts = [
        part
        for tick in ticks
        for part in (
            svg_line(8, y_of(tick), 98, y_of(tick), "grid"),
            svg_text(0, y_of(tick) + 4, f"{tick:.3g}", kind="dim"),
        )
    ]
    parts.append(_polyline([(at / max(1, last), (high - value) / (high - low)) for at, value in line], height - 44))
    for update, value in own:
        title = f"update {update}: loss on the base's own answers {value:.4f}"
        parts.append(svg_dot(x_of(update), y_of(value), "same", title))
    for update, value in valid:
        tone = "better" if update == best_update else "plain"
        parts.append(svg_dot(x_of(update), y_of(value), tone, f"update {update}: validation loss {value:.4f}"))
    parts += [
        svg_text(8, height - 6, "update 0", kind="dim"),
        svg_text(98, height - 6, f"{last:g}", anchor="end", kind="dim"),
    ]
    best = min(valid, key=lambda pair: pair[1], default=None)
    lowest = f", lowest validation loss {best[1]:.4f} at update {best[0]}" if best else ""
    return svg(height, f"Loss in nats per answer token over {last:g} updates{lowest}", parts)
