"""Plots: valid SVG, positions to scale, escaped texts, nothing from outside."""

import re
from xml.etree import ElementTree as ET

import pytest
from markupsafe import Markup

from mlx_ragtune.pages.plots import Bar, LossPoint, Whisker, delta_bars, dot_whisker, loss_curve, nice_limit


def tree(svg: Markup) -> ET.Element:
    return ET.fromstring(str(svg))


def places(svg: Markup, tag: str, key: str) -> list[float]:
    return [float(one.attrib[key].rstrip("%")) for one in tree(svg).iter(tag)]


@pytest.mark.parametrize(
    ("values", "limit"), [([], 1), ([0.0], 1), ([-3, 2], 5), ([0.2], 0.2), ([100], 100), ([101], 200), ([-0.23], 0.25)]
)
def test_the_limit_of_a_scale_is_a_round_number_that_holds_every_value(values: list[float], limit: float) -> None:
    assert nice_limit(values) == pytest.approx(limit)


def test_dots_and_whiskers_stand_to_scale_around_zero() -> None:
    svg = dot_whisker([Whisker("a", 50, 25, 100, "+50"), Whisker("b", -100, None, None, "−100")])
    assert places(svg, "circle", "cx") == [50 + 48 / 2, 2.0]
    whiskers = [one for one in tree(svg).iter("line") if one.attrib["class"].startswith("whisker")]
    assert [(one.attrib["x1"], one.attrib["x2"]) for one in whiskers] == [("62.00%", "98.00%")]


def test_what_is_drawn_is_also_said() -> None:
    said = tree(dot_whisker([Whisker("Citing", 85, 67, 94.9, "+85.0")])).attrib
    assert said["role"] == "img"
    assert "Citing +85.0 (+67.0 to +94.9)" in said["aria-label"]


def test_bars_go_from_the_largest_loss_to_the_largest_gain() -> None:
    svg = delta_bars([Bar("up", 1.0), Bar("same", 0.0), Bar("down", -0.5)])
    bars = list(tree(svg).iter("rect"))
    assert [one.attrib["class"] for one in bars] == ["bar worse", "bar same", "bar better"]
    heights = [float(one.attrib["height"]) for one in bars]
    assert heights[2] == pytest.approx(2 * heights[0], abs=0.01)
    assert [title.text for title in tree(svg).iter("title")] == ["down", "same", "up"]
    assert "1 worse, 1 the same, 1 better" in tree(svg).attrib["aria-label"]


def test_texts_cannot_become_markup() -> None:
    evil = '"><script>alert(1)</script>&'
    for svg in (dot_whisker([Whisker(evil, 1, 0, 2, evil)]), delta_bars([Bar(evil, 0.5)])):
        assert "<script" not in svg
        assert any(evil in (one.text or "") for one in tree(svg).iter())


def test_the_loss_curve_falls_and_marks_the_checkpoint_that_was_kept() -> None:
    losses = [LossPoint(at, 2 - at / 100, 1.9 - at / 100 if at % 50 == 0 else None) for at in range(1, 101)]
    svg = loss_curve(losses, best_update=100)
    (line,) = tree(svg).iter("polyline")
    heights = [float(pair.split(",")[1]) for pair in line.attrib["points"].split()]
    assert heights == sorted(heights)
    assert [one.attrib["class"] for one in tree(svg).iter("circle")] == ["dot plain", "dot better"]
    assert "lowest validation loss 0.9000 at update 100" in tree(svg).attrib["aria-label"]


def test_losses_on_the_bases_own_answers_are_gray_dots_on_the_same_scale() -> None:
    losses = [LossPoint(1, 2.0, 1.5, 0.5), LossPoint(2, 1.0, 1.25, 0.75)]
    svg = loss_curve(losses, best_update=2)
    dots = [(one.attrib["class"], float(one.attrib["cy"])) for one in tree(svg).iter("circle")]
    assert [kind for kind, _ in dots] == ["dot same", "dot same", "dot plain", "dot better"]
    assert dots[0][1] > dots[1][1] > dots[3][1] > dots[2][1]  # the lower the loss, the lower the dot
    assert "update 1: loss on the base's own answers 0.5000" in list(tree(svg).itertext())


def test_losses_that_are_not_numbers_are_left_out_and_no_loss_is_no_plot() -> None:
    svg = loss_curve([LossPoint(1, 1.0, None), LossPoint(2, float("nan"), float("inf"))])
    assert "nan" not in svg
    assert "inf" not in svg
    assert loss_curve([]) == loss_curve([LossPoint(1, None, None)]) == ""


def test_a_flat_curve_and_a_single_point_are_drawn() -> None:
    for losses in ([LossPoint(1, 1.0, 1.0)], [LossPoint(at, 0.5, None) for at in range(5)]):
        assert tree(loss_curve(losses)).tag == "svg"


def test_letters_keep_their_size_whatever_the_width() -> None:
    svg = str(dot_whisker([Whisker("a", 1, 0, 2, "+1")]))
    assert 'width="100%"' in svg
    assert "viewBox" not in svg
    assert not re.search(r"https?:", svg)
