"""The page of all runs: self-contained, escaped, readable with few, many, broken and no runs, and in a browser."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mlx_ragtune.pages.plots import LossPoint
from mlx_ragtune.pages.run_rows import RunRow, list_runs
from mlx_ragtune.pages.runs_html import objectives, render_runs_html
from mlx_ragtune.pages.runs_importance import comparable
from mlx_ragtune.pages.runs_plots import scale_of
from tests.pages.browser import chromium
from tests.pages.made_runs import HOSTILE, SETTINGS, made_run, made_runs, metric, partial_run, swept_runs

BINARY = shutil.which("chromium") or shutil.which("google-chrome") or ""
browser = pytest.mark.skipif(
    not BINARY or not os.environ.get("RAGTUNE_BROWSER"), reason="set RAGTUNE_BROWSER=1 and install chromium"
)


class Outline(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(rows: Sequence[RunRow]) -> str:
    return render_runs_html(list_runs(rows), links=["runs/x/report.html" if row.report else "" for row in rows])


MIXED = [
    *made_runs(4),
    replace(
        made_run(5), data="d2", questions="q2", settings=SETTINGS | {"base.model": "other/" + "x" * 80}, variant={}
    ),
    partial_run(made_run(6), name=HOSTILE, state="damaged", problems=(HOSTILE,)),
    partial_run(made_run(7), state="failed", why=HOSTILE, settings={HOSTILE: HOSTILE}),
    replace(made_run(8), metrics=(metric("prose_style", 0.5, 0.1),), losses=(LossPoint(1, None, None),)),
]


@pytest.mark.parametrize(
    "rows",
    [[], made_runs(1), made_runs(2), MIXED, made_runs(40), swept_runs(12)],
    ids=["0", "1", "2", "mixed", "40", "swept"],
)
def test_the_page_is_self_contained_and_every_text_is_escaped(rows: list[RunRow]) -> None:
    text = page(rows)
    outline = Outline(text)
    assert len(outline.of("script")) == 1
    assert HOSTILE not in text
    assert {tag for tag, _ in outline.tags}.isdisjoint({"img", "link", "iframe", "object"})
    assert not re.search(r"(?:https?:)?//[a-z]|url\(", text.replace("Content-Security-Policy", ""))
    for _, attributes in outline.tags:
        assert not [name for name in attributes if name.startswith("on")]
    numbers = {row["data-run"] for row in outline.of("tr") if "data-run" in row}
    assert numbers == {str(at) for at in range(len(rows))}
    assert "nan" not in re.sub(r"<script>.*</script>", "", text, flags=re.DOTALL).lower().replace("finance", "")


def test_pruned_trials_have_a_row_a_curve_and_a_place_in_the_figures_of_the_first_rung() -> None:
    rows = swept_runs(12)
    text = page(rows)
    assert text.count("pruned") >= 9
    assert "12 runs: 3 finished, 9 pruned" in text
    assert "trial 2: pruned" in text
    assert "not among the best 4 of 12 at update 7 of 60" in text
    assert f"({rows[1].rung_score:.3f})" in text
    assert f">{rows[0].score:.3f}<" in text.replace("\n", "").replace(" ", "")
    outline = Outline(text)
    curves = [tag for tag in outline.of("polyline") if "valid" in (tag["class"] or "") and tag["data-run"] == "1"]
    assert curves
    figures = {tag["data-objective"] for name, tag in outline.tags if "data-objective" in tag}
    assert {"valid_loss", "score", "rung_score"} <= figures
    assert "Score at the first rung against" in text
    assert "12 runs" in text[text.index("Score at the first rung against") :]


def cells_of(text: str) -> list[dict[str, tuple[str, str]]]:
    """For each run of the table its cells by header: the text, and the value that sorts it."""
    table = text[text.index("<thead>") : text.index("</tbody>")]
    headers = [unescape(head) for head in re.findall(r"<button disabled>(.*?)</button>", table)]
    rows = []
    for part in table.split("<tr data-run=")[1:]:
        found = re.findall(r'<td[^>]*? data-value="(.*?)">(.*?)</td>', part, flags=re.DOTALL)
        rows.append({head: (unescape(shown), value) for head, (value, shown) in zip(headers, found, strict=True)})
    return rows


def cell(value: float | None, text: str, factor: float = 1) -> tuple[str, str]:
    """A cell as it must be: the value in a format, divided by a factor, and what sorts it."""
    return ("", "") if value is None else (text.format(value / factor), repr(value))


def test_every_figure_stands_under_its_header_and_is_sorted_by_its_value() -> None:
    rows = swept_runs(8)
    shown = cells_of(page(rows))
    assert len(shown) == 8
    for row, cells in zip(rows, shown, strict=True):
        assert cells["learning_rate"] == cell(row.settings["train.learning_rate"], "{:.4g}")
        assert cells["validation loss"] == cell(row.valid_loss, "{:.4f}")
        assert cells["minutes"] == cell(row.train_seconds, "{:.1f}", 60)
        assert cells["peak GiB"] == cell(row.peak_memory_bytes, "{:.1f}", 2**30)
        metric = row.metric("correctness")
        if metric is None or metric.low is None or metric.high is None:
            assert cells["Correct facts"] == ("", "")
            assert cells["score"] == (f"({row.rung_score:.3f})", repr((row.rung_score or 0) - 1))
            continue
        assert cells["score"] == cell(row.score, "{:.3f}")
        text, value = cells["Correct facts"]
        assert text.startswith(f"{100 * metric.mean:.1f}% (")
        assert f"{100 * metric.low:+.1f} to {100 * metric.high:+.1f}".replace("-", "−") in text
        assert value == repr(metric.change)
    assert page(rows).count('href="runs/x/report.html"') == sum(row.report != "" for row in rows) > 0


def test_of_many_runs_the_one_with_the_lowest_loss_is_green() -> None:
    rows = made_runs(12)
    text = page(rows)
    best = min(range(12), key=lambda at: rows[at].valid_loss or 9)
    green = [part.split('"')[1] for part in text.split("<tr data-run=")[1:] if 'class="pin better"' in part]
    assert green == [str(best)]
    assert "The run with the best validation loss is green." in text


def test_scores_at_the_first_rung_of_different_sweeps_are_not_compared() -> None:
    rows = [replace(row, study="other") if at < 4 else row for at, row in enumerate(swept_runs(12))]
    (rung,) = [goal for goal in objectives(list_runs(rows)) if goal.key == "rung_score"]
    assert [row.study for row in comparable(rows, rung)] == ["s"] * 8


def test_intervals_are_drawn_in_the_figures_of_metrics() -> None:
    text = page(made_runs(6))
    start = text.index('data-objective="correctness"')
    assert text[start:].count('class="run whisker') >= 6
    assert 'class="run whisker' not in text[:start]


def test_the_same_runs_give_the_same_bytes() -> None:
    assert page(MIXED) == page(MIXED)


def test_runs_that_cannot_be_compared_are_said_and_left_out_of_the_figures() -> None:
    text = page(MIXED)
    assert "Validation losses of runs with different data sets or base models cannot be compared" in text
    assert "5 runs; 1 more cannot be compared with them" in text


def test_of_few_runs_the_importance_is_unsure_or_not_given() -> None:
    assert "2 comparable runs are too few to say which setting matters" in page(made_runs(2))
    assert "With 5 runs every importance is unsure" in page(made_runs(5))
    assert "every importance is unsure" not in page(made_runs(40))


def test_a_run_that_diverged_leaves_the_plot_at_the_top_and_does_not_flatten_the_others() -> None:
    wild = replace(made_run(9), losses=tuple(LossPoint(at, 1e6, 1e6) for at in range(1, 5)))
    text = page([*made_runs(4), wild])
    assert "1 run leaves the plot at the top" in text
    assert ">1e+06<" not in text


@pytest.mark.parametrize(
    ("values", "categories", "logarithmic"),
    [
        ([1, 2], True, False),
        ([1e-5, 1e-4, 1e-3, 2e-3, 3e-3, 4e-3], False, True),
        ([1, 2, 3, 4, 5, 6], False, False),
        ([0, 1, 2, 3, 4, 5, 1000], False, False),
        ([True, None], True, False),
        (["a", 1], True, False),
    ],
)
def test_an_axis_fits_its_values(values: list[object], categories: bool, logarithmic: bool) -> None:
    scale = scale_of(values)
    assert (bool(scale.categories), scale.logarithmic) == (categories, logarithmic)
    places = [scale.place(value) for value in values]
    assert all(place is not None and 0 <= place <= 1 for place in places)
    assert len(set(places)) == len(values)


@browser
def test_marking_filtering_sorting_and_choosing_work_by_keyboard_and_without_errors(tmp_path: Path) -> None:
    rows = [*made_runs(38), *MIXED[5:7]]
    (tmp_path / "runs.html").write_text(page(rows), encoding="utf-8")
    shown = "document.querySelectorAll('tr[data-run]:not(.off)').length"
    with chromium(BINARY, tmp_path / "profile") as tab:
        tab.go(f"file://{tmp_path}/runs.html", "h1")
        assert tab.says("document.getElementById('controls').hidden") is False, "the policy let the script run"
        tab.says("document.querySelectorAll('button.pin')[3].focus()")
        assert tab.says("document.querySelectorAll('svg .on').length") > 4
        assert tab.says("[...document.querySelectorAll('.on')].every(part => part.dataset.run === '3')")
        tab.says("document.activeElement.click()")
        assert tab.says("document.activeElement.getAttribute('aria-pressed')") == "true"
        tab.press("Escape")
        assert tab.says("document.querySelectorAll('.on').length") == 0
        tab.says("filter.value = 'damaged'; filter.dispatchEvent(new Event('input'))")
        assert tab.says(shown) == 1
        assert tab.says("document.getElementById('shown').textContent") == "1 of 40 runs are shown"
        tab.says("filter.value = ''; filter.dispatchEvent(new Event('input'))")
        assert tab.says(shown) == 40
        column = "[...document.querySelectorAll('th')].findIndex(head => head.textContent === 'validation loss')"
        tab.says(f"document.querySelectorAll('th button')[{column}].click()")
        first = f"Number(document.querySelector('tbody tr').cells[{column}].dataset.value)"
        assert tab.says(first) == pytest.approx(min(row.valid_loss or 9 for row in rows))
        assert tab.says("document.querySelector('tbody tr:last-child').textContent.includes('failed')"), "empty last"
        assert tab.says("document.querySelectorAll('[data-objective]:not([hidden])').length") == 1
        for width in (1200, 390):
            tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            assert tab.says("document.documentElement.scrollWidth") <= width, "only tables scroll sideways"
