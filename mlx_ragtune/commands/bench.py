"""``ragtune bench``: stock mlx-lm and this package train the same rows of a recipe, in turn, on this machine.

Each side runs in processes of its own (``tuning.side_by_side``); the medians of all repeats are compared, and the
counted work beside them does not depend on the machine. The Markdown row belongs in ``docs/measurements.md``.
"""

import importlib.metadata
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mlx_ragtune import __version__, errors
from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.clients.hardware import this_machine
from mlx_ragtune.errors import InputError, OutOfMemoryError, ToolError
from mlx_ragtune.pages.tables import fill, render_table
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.example_files import read_examples
from mlx_ragtune.tuning.schedule import rows_per_update
from mlx_ragtune.tuning.seeds import seed64
from mlx_ragtune.tuning.side_by_side import SIDES, Job, comparable
from mlx_ragtune.tuning.train_checks import check_train

PACKAGES = ("mlx", "mlx-lm")
LABELS = {"stock": "stock mlx-lm", "ours": "ragtune"}
HEADERS = (
    "date", "machine", "system", "versions", "recipe", "base", "rows", "stock tokens/s", "tokens/s", "faster",
    "stock GiB", "GiB", "memory", "tokens computed",
)  # fmt: skip
"""The columns of docs/measurements.md."""
_BUSY = "other programs were running (load {load} on {cores} cores): the times of this row say little"
OnStep = Callable[[int, int], None]


def choose_rows(examples: Sequence[Example], count: int, *, seed: int) -> list[Example]:
    """About ``count`` rows in their order: all rows of contexts that are drawn, so that contexts stay shared."""
    members: dict[str, int] = {}
    for example in examples:
        members[example.group] = members.get(example.group, 0) + 1
    names, chosen, rows = list(members), set(), 0
    for index in np.random.default_rng(seed64(seed)).permutation(len(names)):
        if rows >= count:
            break
        chosen.add(names[int(index)])
        rows += members[names[int(index)]]
    return [example for example in examples if example.group in chosen]


def run_side(folder: Path, side: str, report: OnStep) -> dict[str, Any]:
    """The result of a side, measured by a new process. Raises the error that the process names."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-m", "mlx_ragtune.tuning.side_by_side", str(folder), side]
    log = folder / "stderr.txt"
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment)
    with process:  # waits for its end
        assert process.stdout  # noqa: S101 (a pipe)
        try:
            for line in process.stdout:
                message = json.loads(line)
                if "result" in message:
                    result: dict[str, Any] = message["result"]
                    return result
                if "failed" in message:
                    failed = message["failed"]
                    raise getattr(errors, failed.pop("kind"))(failed.pop("what"), **failed)
                report(message["done"], message["steps"])
        except BaseException:
            process.kill()
            raise
    status = process.returncode
    if status == -signal.SIGKILL:
        raise OutOfMemoryError("the process was killed, probably because memory ran out", where=side)
    said = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(said) if line.strip() and not line[0].isspace()), "no message")
    what = f"the process that trains ended with exit status {status}: {last:.200}"
    raise ToolError(what, where=LABELS[side], fix="ragtune doctor")


def bench(run: OpenRun, *, updates: int, repeats: int) -> dict[str, Any]:
    """Medians of both sides, their ratios, and every single measurement, as JSON.

    Corpus and data set are brought up to date first. A side that runs out of memory is a result (``failed``). Raises
    InputError for a data set with fewer rows than a batch, and the errors of loading and training.
    """
    recipe = run.recipe
    check_train(recipe.train, run.base)
    run.bring("dataset")
    settings = comparable(recipe.train)
    examples = read_examples(run.artifact("dataset").folder, rejected=False)["train"]
    examples = choose_rows(examples, updates * rows_per_update(settings), seed=recipe.seed)
    if len(examples) < settings.batch_size:
        raise InputError(
            f"the data set has {len(examples)} training rows, fewer than a batch of {settings.batch_size}",
            where="dataset",
            fix="add pairs, or lower train.batch_size",
        )
    job = Job(run.base, recipe.base, settings, recipe.dataset.thinking, recipe.dataset.max_tokens, examples)
    machine = this_machine()
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        track = stack.enter_context(run.track("training both sides", 0))
        parts, done = 2 * repeats, 0
        for repeat in range(repeats):
            for side in SIDES if repeat % 2 == 0 else SIDES[::-1]:
                if side not in failed:
                    folder = Path(stack.enter_context(TemporaryDirectory(prefix="ragtune-bench-")))
                    job.write(folder)
                    show = _shown(track.reach, done, parts, f"{LABELS[side]}, repeat {repeat + 1} of {repeats}")
                    try:
                        runs[side].append(run_side(folder, side, show))
                    except OutOfMemoryError as error:
                        failed[side] = error.what
                done += 1
    return {**_about(recipe, settings.model_dump(mode="json"), len(examples)), **_summary(runs, failed)} | {
        "machine": {**asdict(machine), "busy": machine.busy},
        "repeats": repeats,
    }


def _shown(reach: Callable[[int, int, str], None], part: int, parts: int, note: str) -> OnStep:
    """Progress over all parts, each of 100 steps, so that the bar can tell the time left."""

    def show(done: int, steps: int) -> None:
        reach(100 * part + 100 * done // steps, 100 * parts, note)

    return show


def _about(recipe: Recipe, train: Mapping[str, Any], examples: int) -> dict[str, Any]:
    left_out = [name for name in ("kl", "preference") if getattr(recipe.train, name) is not None]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "versions": {"mlx-ragtune": __version__, **{name: importlib.metadata.version(name) for name in PACKAGES}},
        "recipe": recipe.name,
        "base": recipe.base.model,
        "precision": recipe.base.precision,
        "train": dict(train),
        "left_out": left_out,
        "examples": examples,
    }


def _summary(runs: Mapping[str, Sequence[Mapping[str, Any]]], failed: Mapping[str, str]) -> dict[str, Any]:
    """Medians by side, and ratios where both sides were measured: ours to stock, ``faster`` above 1 is better."""
    sides: dict[str, dict[str, Any]] = {}
    for side, results in runs.items():
        if side in failed or not results:
            sides[side] = {"failed": failed.get(side, "not measured")}
            continue
        sides[side] = {key: statistics.median(result[key] for result in results) for key in results[0]}
        sides[side]["tokens_per_second"] = statistics.median(
            result["row_tokens"] / max(result["seconds"], 1e-9) for result in results
        )
    ratios = {}
    if not failed:
        stock, ours = sides["stock"], sides["ours"]
        shares = {side: values["computed_tokens"] / values["row_tokens"] for side, values in sides.items()}
        ratios = {
            "faster": ours["tokens_per_second"] / stock["tokens_per_second"],
            "faster_cpu": (stock["cpu_seconds"] / stock["row_tokens"]) / (ours["cpu_seconds"] / ours["row_tokens"]),
            "memory": ours["peak_bytes"] / stock["peak_bytes"],
            "computed": shares["ours"] / shares["stock"],
        }
    return {"sides": sides, "ratios": ratios, "runs": {side: list(results) for side, results in runs.items()}}


def markdown_row(found: Mapping[str, Any]) -> str:
    """The measurement as a row of the table in docs/measurements.md, whose columns are ``HEADERS``."""
    machine, versions, ratios = found["machine"], found["versions"], found["ratios"]
    stock, ours = found["sides"]["stock"], found["sides"]["ours"]
    rows = next((side["rows"] for side in (ours, stock) if "rows" in side), found["examples"])
    cells = (
        found["date"],
        f"{machine['chip']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB{' (busy)' * machine['busy']}",
        f"{machine['system']}, {machine['device']}",
        f"mlx {versions['mlx']}, mlx-lm {versions['mlx-lm']}, ragtune {versions['mlx-ragtune']}",
        found["recipe"],
        f"{found['base']}, {found['precision']}",
        f"{rows:.0f}",
        *(_figure(side, "tokens_per_second", 1, ".4g") for side in (stock, ours)),
        _ratio(ratios, "faster"),
        *(_figure(side, "peak_bytes", 2**30, ".2f") for side in (stock, ours)),
        _ratio(ratios, "memory"),
        _ratio(ratios, "computed"),
    )
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def _figure(side: Mapping[str, Any], key: str, unit: float, form: str) -> str:
    return format(side[key] / unit, form) if key in side else "out of memory"


def _ratio(ratios: Mapping[str, float], key: str) -> str:
    return f"{ratios[key]:.2f} ×" if key in ratios else "–"


def show(found: Mapping[str, Any]) -> str:
    """The measurement as text: a table of both sides, what was left out, and the row to paste."""
    lines = [
        ("tokens/s of the rows", "tokens_per_second", 1, ".4g"),
        ("peak memory, GiB", "peak_bytes", 2**30, ".2f"),
        ("seconds of a pass", "seconds", 1, ".2f"),
        ("CPU seconds of a pass", "cpu_seconds", 1, ".2f"),
        ("rows", "rows", 1, ".0f"),
        ("tokens of the rows", "row_tokens", 1, ",.0f"),
        ("tokens computed", "computed_tokens", 1, ",.0f"),
        ("rows of logits", "logit_rows", 1, ",.0f"),
    ]
    table = [
        [label, *(_figure(found["sides"][side], key, unit, form) for side in SIDES)] for label, key, unit, form in lines
    ]
    text = [render_table(["median", *(LABELS[side] for side in SIDES)], table)]
    if ratios := found["ratios"]:
        text.append(
            f"ragtune: {ratios['faster']:.2f} × as fast ({ratios['faster_cpu']:.2f} × by CPU time), "
            f"{ratios['memory']:.2f} × the memory, {ratios['computed']:.2f} × the tokens computed"
        )
    if found["left_out"]:
        text.append(fill(f"measured without train.{' and train.'.join(found['left_out'])}, which mlx-lm does not have"))
    if found["machine"]["busy"]:
        text.append(fill(_BUSY.format(**found["machine"])))
    return "\n".join([*text, "", "Row for docs/measurements.md:", markdown_row(found)])
