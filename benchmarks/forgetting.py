"""What training costs and gains, cell by cell: the demo with rehearsal, KL, strength, contrast pairs and preference.

    python benchmarks/forgetting.py                           # every cell, seeds 7 and 8, answered in MLX
    python benchmarks/forgetting.py --cells plain "kl 0.1"    # some cells
    python benchmarks/forgetting.py --engine served --jobs 1  # answered by the exported models
    python benchmarks/forgetting.py --table                   # what is finished, without running anything

A cell is a variant of the recipe, an ordinary run below RAGTUNE_RUNS that shares every artifact it can. The same
command resumes: finished stages are not repeated. A seed changes the splits, the order of rows and the adapters'
start; the base's answers are the same. Figures are means over the seeds, shares in percent; probes are counted.
``gain`` is the mean change of correct facts and right citations against the base, as a share of that of the first cell.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlx_ragtune.artifact import read_artifact
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Score
from mlx_ragtune.runner import Run, open_recipe

ROOT = Path(__file__).resolve().parent.parent
TASK = ("correctness", "citation_recall")
SHOWN = (*TASK, "refusal_off_corpus", "refusal_near_miss", "false_refusal")
REHEARSAL, KL, CONTRAST, PREFERENCE = "dataset.rehearsal", "train.kl", "dataset.contrast", "train.preference"


def own(share: float) -> dict[str, Any]:
    """Rehearsal with so large a share; every cell draws from the same answers of the base."""
    return {REHEARSAL: {"share": share, "count": 96, "max_tokens": 96}}


ALL_ROWS = {"dataset.balance": "keep"}
HALF_RATE = {"train.learning_rate": 4e-4}
CELLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rehearsal 5%": own(0.05),
    "rehearsal 10%": own(0.1),
    "rehearsal 20%": own(0.2),
    "KL on rehearsal 1": {**own(0.1), KL: {"weight": 1.0}},
    "strength": {**own(0.1), "train.strength": {}},
    "contrast 0.1": {CONTRAST: 0.1},
    "ORPO": {CONTRAST: 0.1, PREFERENCE: {"method": "orpo"}},
    "rehearsal 20% + rate / 2": {**own(0.2), **HALF_RATE, "train.epochs": 2.0},
    "rehearsal 20% + ORPO": {**own(0.2), CONTRAST: 0.1, PREFERENCE: {"method": "orpo"}},
    "rehearsal 20% + q, v": {**own(0.2), "train.target_modules": ["q_proj", "v_proj"]},
    "rehearsal 30%": own(0.3),
    "KL on rehearsal 3": {**own(0.2), KL: {"weight": 3.0}},
    "KL on all 0.1": {KL: {"weight": 0.1, "tokens": "all"}},
    "KL on all 0.5": {KL: {"weight": 0.5, "tokens": "all"}},
    "KL mask": {KL: {"weight": 0.5, "tokens": "all", "mask_target": True}},
    "contrast 0.2": {CONTRAST: 0.2},
    "DPO": {CONTRAST: 0.1, PREFERENCE: {"method": "dpo"}},
    "learning rate / 2": HALF_RATE,
    "q, v only": {"train.target_modules": ["q_proj", "v_proj"]},
    "all rows": ALL_ROWS,
    "all + rehearsal 20%": {**ALL_ROWS, **own(0.2)},
    "all + reh. 20% + KL 1": {**ALL_ROWS, **own(0.2), KL: {"weight": 1.0}},
    "all + reh. 20% + contrast": {**ALL_ROWS, **own(0.2), CONTRAST: 0.1},
    "all + reh. 20% + ORPO": {**ALL_ROWS, **own(0.2), CONTRAST: 0.1, PREFERENCE: {"method": "orpo"}},
    "all + reh. 20% + rate / 2": {**ALL_ROWS, **own(0.2), **HALF_RATE},
}


@dataclass(frozen=True)
class Cell:
    """One finished run: means of the tuned model's metrics and of the base's, probes, seconds of training."""

    seed: int
    tuned: dict[str, float]
    base: dict[str, float]
    probes: int
    probes_base: int
    probes_kept: int
    train_seconds: float

    def gain(self) -> float:
        """Mean change of the task metrics against the base."""
        return statistics.mean(self.tuned[name] - self.base[name] for name in TASK)


def overrides(cell: str, seed: int, engine: str) -> dict[str, Any]:
    """The settings of one run: two arms, every question, and no rehearsal unless the cell says so."""
    fixed = {"seed": seed, "evaluate.engine": engine, "evaluate.prompted": None, "evaluate.budget": None}
    return {**fixed, REHEARSAL: None, **CELLS[cell]}


def means(run: Run) -> dict[str, dict[str, float]]:
    """Mean of each metric by arm; unusable answers as a metric of their own."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in read_rows(run.home / "7-evaluate" / "scores.jsonl", Score):
        values[score.model]["unusable"].append(float(score.validity != "ok"))
        for name, value in score.metrics.items():
            values[score.model][name].append(value)
    return {arm: {name: statistics.mean(given) for name, given in by.items()} for arm, by in values.items()}


def read_cell(recipe: Path, cell: str, seed: int, engine: str) -> Cell | None:
    """The figures of a finished run, or None."""
    run = open_recipe(recipe, overrides(cell, seed, engine))
    train, evaluate = read_artifact(run.home / "3-train"), read_artifact(run.home / "7-evaluate")
    if train is None or evaluate is None:
        return None
    by_arm = means(run)
    probes = [json.loads(line) for line in (run.home / "7-evaluate" / "probes.jsonl").read_text().splitlines()]
    return Cell(
        seed,
        by_arm["tuned"],
        by_arm["base"],
        sum(row["tuned"] for row in probes),
        sum(row["base"] for row in probes),
        sum(row["tuned"] and row["base"] for row in probes),
        float(train.manifest["seconds"]),
    )


def run_cell(recipe: Path, cell: str, seed: int, engine: str) -> str:
    """Run one cell in a process of its own; returns its last lines if it failed."""
    command = [sys.executable, "-m", "mlx_ragtune", "evaluate", str(recipe)]
    for key, value in overrides(cell, seed, engine).items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    print(f"{cell}, seed {seed}: {'done' if done.returncode == 0 else 'failed'}", file=sys.stderr)
    return "" if done.returncode == 0 else done.stderr[-2000:]


def table(cells: Mapping[str, Sequence[Cell]]) -> list[list[str]]:
    """Rows of text: each cell's means, its gain against the first cell's, and its probes."""
    reference = statistics.mean(cell.gain() for cell in next(iter(cells.values())))
    heads = ["correct", "citing", "off-corpus", "near-miss", "false ref."]
    rows = [["cell", *heads, "unusable", "gain", "probes", "kept", "train s", "n"]]
    for name, runs in cells.items():
        told = [key for key in (*SHOWN, "unusable") if all(key in run.tuned for run in runs)]
        mean = {key: f"{100 * statistics.mean(run.tuned[key] for run in runs):.1f}" for key in told}
        gain = statistics.mean(run.gain() for run in runs) / reference if reference else float("nan")
        kept = statistics.mean(run.probes_kept / max(1, run.probes_base) for run in runs)
        rows.append(
            [name]
            + [mean.get(key, "–") for key in (*SHOWN, "unusable")]
            + [f"{100 * gain:.0f}%", f"{statistics.mean(run.probes for run in runs):.1f}", f"{100 * kept:.0f}%"]
            + [f"{statistics.mean(run.train_seconds for run in runs):.0f}", str(len(runs))]
        )
    return rows


def main() -> None:
    """Run the cells that are not finished, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?", default=ROOT / "recipes" / "demo.yaml")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), metavar="CELL")
    parser.add_argument("--seeds", nargs="+", type=int, default=[7, 8])
    parser.add_argument("--engine", choices=("mlx", "served"), default="mlx")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--table", action="store_true", help="print what is finished, run nothing")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    wanted = [(cell, seed) for cell in given.cells for seed in given.seeds]
    problems = {}
    if not given.table:
        first, *others = wanted  # alone: the rest shares its artifacts and the base's answers
        problems[first] = run_cell(given.recipe, first[0], first[1], given.engine)
        with ThreadPoolExecutor(given.jobs) as pool:
            ends = pool.map(lambda one: run_cell(given.recipe, one[0], one[1], given.engine), others)
            problems |= dict(zip(others, ends, strict=True))
    cells: dict[str, list[Cell]] = {}
    for cell, seed in wanted:
        if found := read_cell(given.recipe, cell, seed, given.engine):
            cells.setdefault(cell, []).append(found)
    if given.json:
        print(json.dumps({name: [asdict(run) for run in runs] for name, runs in cells.items()}))
    elif cells:
        base = next(iter(cells.values()))[0]
        print(f"base: {base.probes_base} probes, " + ", ".join(f"{key} {100 * base.base[key]:.1f}" for key in TASK))
        for row in table(cells):
            print("{:24} {:>8} {:>7} {:>11} {:>10} {:>11} {:>9} {:>6} {:>7} {:>6} {:>8} {:>3}".format(*row))
    for (cell, seed), problem in problems.items():
        if problem:
            print(f"{cell}, seed {seed}:\n{problem}", file=sys.stderr)


if __name__ == "__main__":
    main()
