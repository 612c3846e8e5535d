"""``ragtune bench`` measures both sides on the recipe's rows, and prints a row that fits the table in the docs."""

import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlx_ragtune.cli import main
from mlx_ragtune.commands import bench
from mlx_ragtune.errors import InputError, OutOfMemoryError, ToolError
from mlx_ragtune.recipe import BaseModelSettings, KLSettings, TrainSettings
from mlx_ragtune.records import Example, Message
from mlx_ragtune.tuning.side_by_side import Job, comparable, read_job
from tests.stages.project import ROOT, make_project

TABLE = ROOT / "docs" / "measurements.md"


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("bench") / "project")


def example(number: int, group: str) -> Example:
    return Example(str(number), "grounded", group, (Message("user", "a question"), Message("assistant", "an answer")))


def job(base: Path) -> Job:
    train = TrainSettings(rank=2, alpha=4, batch_size=1, accumulation=1, learning_rate=1e-4)
    model = BaseModelSettings(model="toy:qwen3", precision="fp32")
    return Job(base, model, train, "off", 512, [example(0, "a"), example(1, "b")])


def test_both_sides_are_measured_on_the_same_rows(recipe: Path) -> None:
    command = ["bench", str(recipe), "--updates", "1", "--repeats", "1", "--json"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    stock, ours = found["sides"]["stock"], found["sides"]["ours"]
    assert found["examples"] == ours["rows"] >= stock["rows"] > 0
    assert stock["rows"] == ours["rows"] // 4 * 4, "mlx-lm leaves the rest of a batch out"
    for side in (stock, ours):
        assert min(side["tokens_per_second"], side["seconds"], side["cpu_seconds"], side["peak_bytes"]) > 0
    assert stock["computed_tokens"] == stock["logit_rows"] >= stock["row_tokens"]
    assert ours["computed_tokens"] < ours["row_tokens"], "rows of a context share it"
    assert ours["logit_rows"] == ours["answer_tokens"]
    assert found["ratios"]["computed"] < 1
    kept = json.loads(next(recipe.parents[1].glob("runs/*/bench.json")).read_text(encoding="utf-8"))
    assert kept == found
    text = bench.show(found)
    row = cells(text.splitlines()[-1])
    assert len(row) == len(bench.HEADERS)
    assert row[4:6] == ["small", "toy:qwen3, fp32"]
    assert f"mlx-lm {found['versions']['mlx-lm']}" in row[3]


def side(**values: float) -> dict[str, Any]:
    """What a side measures: 100 tokens in one second, unless told otherwise."""
    return {
        "seconds": 1.0, "cpu_seconds": 2.0, "peak_bytes": 2**30, "row_tokens": 100, "loss": 1.0, "rows": 4,
        "answer_tokens": 10, "computed_tokens": 100, "attention_pairs": 1, "logit_rows": 10,
    } | values  # fmt: skip


def test_sides_alternate_and_medians_are_compared(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"stock": iter([9.0, 4.0, 5.0]), "ours": iter([2.0, 1.0, 8.0])}
    order = []

    def run_side(_folder: Path, name: str, report: bench.OnStep) -> dict[str, Any]:
        order.append(name)
        report(1, 2)
        return side(seconds=next(seconds[name]), computed_tokens=50 if name == "ours" else 125)

    monkeypatch.setattr(bench, "run_side", run_side)
    result = CliRunner().invoke(main, ["bench", str(recipe), "--json"])
    assert result.exit_code == 0, result.output
    ratios = json.loads(result.stdout)["ratios"]
    assert order == ["stock", "ours", "ours", "stock", "stock", "ours"]
    assert ratios["faster"] == pytest.approx(5 / 2)
    assert (ratios["memory"], ratios["computed"]) == (1, pytest.approx(50 / 125))


def test_a_side_that_runs_out_of_memory_is_a_result(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run_side(_folder: Path, name: str, _report: bench.OnStep) -> dict[str, Any]:
        asked.append(name)
        if name == "stock":
            raise OutOfMemoryError("out of memory")
        return side()

    monkeypatch.setattr(bench, "run_side", run_side)
    result = CliRunner().invoke(main, ["bench", str(recipe)])
    assert result.exit_code == 0, result.output
    row = cells(result.stdout.splitlines()[-1])
    assert [row[7], row[8], row[9], row[10]] == ["out of memory", "100", "–", "out of memory"]
    assert asked == ["stock", "ours", "ours", "ours"], "it is not tried again"


def test_contexts_stay_whole_and_rows_stay_in_order() -> None:
    given = [example(number, f"g{number // 3}") for number in range(30)]
    chosen = bench.choose_rows(given, 7, seed=1)
    assert len(chosen) == 9
    assert [row.id for row in chosen] == sorted((row.id for row in chosen), key=int)
    assert all(sum(row.group == other.group for row in chosen) == 3 for other in chosen)
    assert chosen != bench.choose_rows(given, 7, seed=2)
    assert bench.choose_rows(given, 99, seed=1) == given


def test_what_mlx_lm_does_not_have_is_left_out_of_both_sides() -> None:
    given = TrainSettings(rank=4, alpha=8, kl=KLSettings(), patience=2, select="task", grad_checkpoint=True, epochs=3)
    plain = comparable(given)
    assert (plain.kl, plain.patience, plain.select, plain.epochs) == (None, None, "loss", 1)
    assert (plain.rank, plain.alpha, plain.grad_checkpoint) == (4, 8, True)


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    given = job(tmp_path / "base")
    given.write(tmp_path)
    assert read_job(tmp_path) == given


def test_an_error_of_the_process_is_the_error_of_the_command(tmp_path: Path) -> None:
    job(tmp_path / "absent").write(tmp_path)
    with pytest.raises(InputError) as caught:
        bench.run_side(tmp_path, "stock", lambda *_: None)
    assert "absent" in caught.value.where
    assert caught.value.fix


def test_a_process_that_crashes_is_reported_with_its_last_line(tmp_path: Path) -> None:
    job(tmp_path / "absent").write(tmp_path)
    (tmp_path / "job.json").write_text("{}")
    with pytest.raises(ToolError, match="exit status 1: KeyError: 'base'"):
        bench.run_side(tmp_path, "ours", lambda *_: None)


def test_a_process_that_the_system_killed_ran_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = tmp_path / "python"
    killed.write_text(f"#!/bin/sh\nkill -{int(signal.SIGKILL)} $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(OutOfMemoryError, match="was killed"):
        bench.run_side(tmp_path, "ours", lambda *_: None)


def test_the_tables_in_the_docs_have_the_columns_of_the_command() -> None:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("| date")]
    assert len(heads) == 2
    for head in heads:
        assert tuple(cells(lines[head])) == bench.HEADERS
        for line in lines[head + 2 :]:
            if not line.startswith("|"):
                break
            row = cells(line)
            assert len(row) == len(bench.HEADERS), line
            assert re.fullmatch(r"20\d\d-\d\d-\d\d", row[0]), line
            assert re.fullmatch(r"mlx [\d.]+, mlx-lm [\d.]+, ragtune [\d.]+", row[3]), line
