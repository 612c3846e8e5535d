"""The line of strengths: what is drawn is what was measured."""

import xml.etree.ElementTree as ET

from mlx_ragtune.pages.strength_plot import StrengthRow, best_trades, strength_line

LINE = [
    StrengthRow(0.0, 0.10, 0.50, 0.0),
    StrengthRow(0.25, 0.20, 0.51, 0.01),
    StrengthRow(0.5, 0.45, 0.56, 0.06),
    StrengthRow(0.8, 0.40, 0.62, 0.12),
    StrengthRow(1.0, 0.50, 0.70, 0.20),
]


def dots(points: list[StrengthRow], **options: float | None) -> list[tuple[str, float, float]]:
    svg = strength_line(points, **({"limit": 0.1, "kept": 0.5} | options))  # type: ignore[arg-type]
    found = ET.fromstring(str(svg)).iter("circle")
    return [(dot.attrib["class"], float(dot.attrib["cx"].rstrip("%")), float(dot.attrib["cy"])) for dot in found]


def test_more_loss_is_farther_right_and_a_better_score_is_higher() -> None:
    drawn = dots(LINE)
    assert [x for _, x, _ in drawn] == sorted(x for _, x, _ in drawn)
    assert (drawn[0][1], drawn[4][1]) == (10.0, 94.0)
    by_height = sorted(zip(LINE, drawn, strict=True), key=lambda pair: pair[1][2])
    assert [point.scale for point, _ in by_height] == [1.0, 0.5, 0.8, 0.25, 0.0]
    half = drawn[2][1]
    assert abs(half - (10 + 84 * 0.06 / 0.20)) < 0.01


def test_the_kept_strength_is_green_and_one_that_another_beats_is_gray() -> None:
    assert [kind for kind, _, _ in dots(LINE)] == ["dot plain", "dot plain", "dot better", "dot same", "dot plain"]
    assert best_trades(LINE) == {0.0, 0.25, 0.5, 1.0}
    twins = [StrengthRow(0.5, 0.3, 1, 0.1), StrengthRow(1.0, 0.3, 1, 0.1)]
    assert best_trades(twins) == {0.5, 1.0}


def test_the_limit_is_a_line_where_it_lies_within_the_plot() -> None:
    def limits(limit: float | None) -> list[float]:
        svg = ET.fromstring(str(strength_line(LINE, limit=limit, kept=0.5)))
        return [float(line.attrib["x1"].rstrip("%")) for line in svg.iter("line") if line.attrib["class"] == "zero"]

    assert limits(0.1) == [10 + 84 * 0.5]
    assert limits(5.0) == limits(None) == []


def test_the_plot_says_what_it_shows_and_draws_what_is_flat_or_negative() -> None:
    label = ET.fromstring(str(strength_line(LINE, limit=0.1, kept=0.5))).attrib["aria-label"]
    assert "base 0.100 at +0.000; 0.25 0.200 at +0.010" in label
    odd = [StrengthRow(0.0, 0.0, 1.0, 0.0), StrengthRow(1.0, 0.0, 0.9, -0.1)]
    assert len(dots(odd, kept=1.0)) == 2
    assert dots([StrengthRow(0.0, 0.0, 1.0, 0.0)])
    assert strength_line([], limit=0.1, kept=1.0) == ""
    assert strength_line([StrengthRow(1.0, 0.5, float("nan"), float("nan"))], limit=0.1, kept=1.0) == ""
