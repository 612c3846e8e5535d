"""A sweep of 8 trials against a shell loop of ``mlx_lm.lora``, and one more iteration of a recipe.

    python benchmarks/sweep.py            # recipes/demo.yaml: SmolLM2-135M, hours on two cores
    python benchmarks/sweep.py --quick    # a random model of two layers on some of the papers: minutes
    python benchmarks/sweep.py --json

Trials are learning rate × rank × adapted modules: 2 × 2 × 2. Every side gets the same rows, made beforehand, the same
batch size and the same number of updates, and decides: the shell loop by its validation loss, since it has nothing
else; the sweep by the score of answers, which it also has to generate. Each side is timed as a whole, from its first
process to its decision. The shell loop also gets OpenBLAS on Linux, which stock mlx-lm does not have.

The second part runs a recipe to the report, changes ``train.learning_rate`` with ``--set`` and runs it again: the time
outside training of the second run, as a share of that of the first.
"""

import argparse
import itertools
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.models.model_folder import read_config
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.records import Example
from mlx_ragtune.runner import Run, open_recipe
from mlx_ragtune.tuning.adapters import adapter_config
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.schedule import make_plan, micro_batches, rows_per_update, updates_of_epoch
from mlx_ragtune.tuning.step_size import with_step
from mlx_ragtune.tuning.token_rows import TokenRow
from mlx_ragtune.tuning.work import Work, total, work_of_batch, work_of_whole_rows
from mlx_ragtune.tuning.workbench import prepare_rows

ROOT = Path(__file__).resolve().parents[1]
SPACE: dict[str, list[Any]] = {
    "train.learning_rate": [2e-4, 1e-3],
    "train.rank": [8, 16],
    "train.target_modules": [
        ["q_proj", "v_proj"],
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    ],
}
QUICK: dict[str, dict[str, Any]] = {
    "base": {"model": "./base", "precision": "fp32"},
    "corpus": {"folder": "papers", "chunk_tokens": 100},
    "retrieval": {"top_k": 1},
    "train": {"rank": 16, "alpha": 32, "epochs": 2, "batch_size": 4, "accumulation": 1, "learning_rate": 1e-3},
    "evaluate": {"sampling": {"max_tokens": 16}},
    "scoring": {},
}
QUICK_ROWS = {
    "max_loss": 1.0,  # quotes that no short chunk holds
    "max_tokens": 8192,
    "valid_share": 0.25,
    "shares": {"grounded": 0.7, "synthesis": 0.0, "refusal": 0.3},
}
QUICK_PAPERS = 8
"""Papers whose rows are used with ``--quick``: the random model has one token for a byte, so rows are long."""
STOCK = "import mlx_ragtune.clients.runtime_mlx; from mlx_lm.lora import main; main()"


def write_project(folder: Path, *, quick: bool, halving: str = "off") -> Path:
    """A project of its own with the demo's papers and rows; returns its recipe."""
    shutil.copytree(ROOT / "data" / "rag_notes", folder, dirs_exist_ok=True)
    recipe: dict[str, Any] = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text())
    recipe["benchmark"], recipe["dataset"]["pairs"] = "benchmark.jsonl", "pairs.jsonl"
    recipe["corpus"]["folder"] = "papers"
    recipe["evaluate"].pop("probes")  # the shell loop has no constraint
    if quick:
        write_toy_model(folder / "base", hidden=128)
        keep_papers(folder, QUICK_PAPERS)
        recipe = {**recipe, **QUICK, "dataset": {**recipe["dataset"], **QUICK_ROWS}}
    recipe["train"]["evals_per_epoch"] = 12 if halving == "updates" else 1
    questions = 8 if quick else 24
    recipe["sweep"] = {"space": SPACE, "sampler": "grid", "halving": halving, "questions": questions, "finalists": 0}
    (folder / "pyproject.toml").touch()
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def keep_papers(folder: Path, count: int) -> None:
    """Leave only the rows of the first papers, and one refusal for every three of them."""
    pairs = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    grounded = [pair for pair in pairs if pair["kind"] == "grounded"]
    papers = list(dict.fromkeys(pair["papers"][0] for pair in grounded))[:count]
    chosen = [pair for pair in grounded if pair["papers"][0] in papers]
    refusals = [pair for pair in pairs if pair["kind"] == "refusal" and pair["refusal_kind"] == "off_corpus"]
    synthesis = [pair for pair in pairs if pair["kind"] == "synthesis" and set(pair["papers"]) <= set(papers)]
    rows = [*chosen, *synthesis, *refusals[: len(chosen) // 3]]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def ragtune(*arguments: str | Path, cwd: Path) -> str:
    """The output of a command, run as a user runs it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAGTUNE_RUNS": str(cwd / "runs")}
    environment.pop("RAGTUNE_SWEEP_STORAGE", None)
    done = subprocess.run(
        [sys.executable, "-m", "mlx_ragtune", *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"ragtune {arguments[0]} failed:\n{done.stderr}")
    return done.stdout


def cpu_seconds() -> float:
    """CPU time of all ended child processes: on a busy machine it is steadier than the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def opened(recipe: Path, settings: dict[str, Any] | None = None) -> Run:
    os.environ["RAGTUNE_RUNS"] = str(recipe.parent / "runs")
    return open_recipe(recipe, settings or {})


def settings_of_trials() -> list[dict[str, Any]]:
    return [dict(zip(SPACE, values, strict=True)) for values in itertools.product(*SPACE.values())]


def token_rows(run: Run) -> dict[str, list[TokenRow]]:
    """The rows of both splits as tokens."""
    loaded, folder = load_base(run.base, "fp32"), run.artifact("dataset").folder
    return {
        split: prepare_rows(
            list(read_rows(folder / f"examples-{split}.jsonl", Example)), loaded.tokenizer, run.recipe.dataset
        )
        for split in ("train", "valid")
    }


def write_chats(run: Run, folder: Path) -> None:
    """The same rows as mlx-lm reads them."""
    folder.mkdir()
    for split in ("train", "valid"):
        rows = read_rows(run.artifact("dataset").folder / f"examples-{split}.jsonl", Example)
        messages = [[{"role": part.role, "content": part.content} for part in row.messages] for row in rows]
        text = "".join(json.dumps({"messages": chat}) + "\n" for chat in messages)
        (folder / f"{split}.jsonl").write_text(text)


def shell_loop(recipe: Path, updates: int) -> dict[str, Any]:
    """One process of mlx-lm's trainer for each of the settings; the lowest validation loss decides."""
    run = opened(recipe)
    data, losses = recipe.parent / "chats", []
    write_chats(run, data)
    started, worked = time.perf_counter(), cpu_seconds()
    for number, settings in enumerate(settings_of_trials()):
        train = opened(recipe, settings).recipe.train
        config = {
            "model": str(run.base), "train": True, "data": str(data), "iters": updates * train.accumulation,
            "batch_size": train.batch_size, "grad_accumulation_steps": train.accumulation, "mask_prompt": True,
            "num_layers": -1, "learning_rate": train.learning_rate, "optimizer": train.optimizer, "val_batches": -1,
            "steps_per_eval": 10**6, "steps_per_report": 10**6, "save_every": 10**6, "max_seq_length": 8192,
            "lora_parameters": adapter_config(train, 1)["lora_parameters"],
            "adapter_path": str(recipe.parent / f"adapter-{number}"),
        }  # fmt: skip
        path = recipe.parent / f"trial-{number}.yaml"
        path.write_text(yaml.safe_dump(config))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", STOCK, "--config", str(path)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        found = re.findall(r"\bval +([\d.]+)", re.sub(r"\x1b\[[0-9;]*m", "", done.stdout))
        if done.returncode or not found:
            raise SystemExit(f"mlx_lm.lora failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        losses.append(float(found[-1]))
    best = min(range(len(losses)), key=losses.__getitem__)
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - worked
    return {"seconds": seconds, "cpu_seconds": cpu, "best": settings_of_trials()[best], "losses": losses}


def one_sweep(recipe: Path) -> dict[str, Any]:
    """The same trials by one command, from a data set that is there already."""
    started, worked = time.perf_counter(), cpu_seconds()
    result = json.loads(ragtune("sweep", recipe, "--json", cwd=recipe.parent))
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - worked
    trials = {row["trial"]: row for row in result["trials"]}
    best = trials[result["ranking"][0]]
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "best": best["settings"],
        "losses": [row["valid_loss"] for row in result["trials"]],
        "scores": [row["score"] for row in result["trials"]],
        "updates": sum(row["updates"] for row in result["trials"]),
        "pruned": sum(row["state"] == "pruned" for row in result["trials"]),
    }


def counted(run: Run, rows: dict[str, list[TokenRow]]) -> tuple[int, Work, Work]:
    """(updates of a trial, work of its training in the stock trainer, and in ours)."""
    train = run.recipe.train
    plan, per_update = make_plan(rows["train"], train, seed=run.recipe.seed), rows_per_update(train)
    updates = updates_of_epoch(rows["train"], per_update, seed=run.recipe.seed, epoch=0)
    done = [updates[number % len(updates)] for number in range(plan.updates)]
    size = train.batch_size
    stock = total(
        work_of_whole_rows(update[start : start + size], 32) for update in done for start in range(0, len(update), size)
    )
    step = with_step(train, read_config(run.base), rows["train"]).step_tokens
    ours = total(work_of_batch(groups) for update in done for groups in micro_batches(update, step))
    return plan.updates, stock, ours


def measure_sweeps(*, quick: bool, repeats: int) -> dict[str, Any]:
    """Medians of the three sides, alternating, with the counted work."""
    seconds: dict[str, list[float]] = {"shell loop": [], "sweep": [], "sweep with halving": []}
    cpu: dict[str, list[float]] = {side: [] for side in seconds}
    last: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for repeat in range(repeats):
            projects = {}
            for side, halving in (("shell loop", "off"), ("sweep", "off"), ("sweep with halving", "updates")):
                folder = Path(temporary) / f"{repeat}-{side.replace(' ', '-')}"
                projects[side] = write_project(folder, quick=quick, halving=halving)
                ragtune("dataset", projects[side], cwd=folder)
            run = opened(projects["shell loop"])
            rows = token_rows(run)
            updates, stock, ours = counted(run, rows)
            order = list(projects) if repeat % 2 == 0 else list(projects)[::-1]
            for side in order:
                last[side] = shell_loop(projects[side], updates) if side == "shell loop" else one_sweep(projects[side])
                seconds[side].append(last[side]["seconds"])
                cpu[side].append(last[side]["cpu_seconds"])
                print(f"  {side}: {seconds[side][-1]:.0f} s, CPU {cpu[side][-1]:.0f} s", file=sys.stderr)
        config = json.loads((run.base / "config.json").read_text())
    whole = len(settings_of_trials()) * updates
    flops = {
        "shell loop": 8 * stock.flops(config),
        "sweep": 8 * ours.flops(config),
        "sweep with halving": 8 * ours.flops(config) * last["sweep with halving"]["updates"] / whole,
    }
    return {
        "seconds": {side: statistics.median(values) for side, values in seconds.items()},
        "cpu_seconds": {side: statistics.median(values) for side, values in cpu.items()},
        "best": {side: last[side]["best"] for side in last},
        "tflops": {side: value / 1e12 for side, value in flops.items()},
        "updates": {"shell loop": whole, **{side: last[side]["updates"] for side in ("sweep", "sweep with halving")}},
        "pruned": last["sweep with halving"]["pruned"],
        "losses": {side: last[side]["losses"] for side in last},
        "scores": {side: last[side].get("scores") for side in last},
    }


def measure_iteration(*, quick: bool, repeats: int) -> dict[str, Any]:
    """Seconds outside training, of a first run and of one more with another learning rate."""
    times: dict[str, list[float]] = {"first": [], "again": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as temporary:
            recipe = write_project(Path(temporary) / "demo", quick=quick)
            for name, options in (("first", ()), ("again", ("--set", "train.learning_rate=0.0005"))):
                started = time.perf_counter()
                stages = json.loads(ragtune("run", recipe, *options, "--json", cwd=recipe.parent))["stages"]
                training = sum(stage["seconds"] for stage in stages if stage["stage"] == "train")
                times[name].append(time.perf_counter() - started - training)
                print(f"  {name} run outside training: {times[name][-1]:.0f} s", file=sys.stderr)
    return {name: statistics.median(values) for name, values in times.items()}


def show(result: dict[str, Any]) -> None:
    print(f"{result['what']} ({result['machine']}, {result['date']})")
    sweeps = result["sweeps"]
    stock, stock_cpu, stock_flops = (sweeps[name]["shell loop"] for name in ("seconds", "cpu_seconds", "tflops"))
    for side, seconds in sweeps["seconds"].items():
        best = ", ".join(f"{key.partition('.')[2]} {value}" for key, value in sweeps["best"][side].items())
        cpu, flops, count = sweeps["cpu_seconds"][side], sweeps["tflops"][side], sweeps["updates"][side]
        print(
            f"  {side:<19}{seconds:9.1f} s {stock / seconds:6.2f} ×   CPU {cpu:9.1f} s {stock_cpu / cpu:6.2f} ×   "
            f"{count:5d} updates, counted {flops:.3f} TFLOP {stock_flops / flops:6.2f} ×   best: {best}"
        )
    print(f"  pruned by halving: {sweeps['pruned']} of 8")
    first, again = result["iteration"]["first"], result["iteration"]["again"]
    print(f"  outside training: first run {first:.1f} s, one more {again:.1f} s: {again / first:.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small random model and few updates")
    parser.add_argument("--repeats", type=int, help="default: 3; with --quick: 1")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    repeats = arguments.repeats or (1 if arguments.quick else 3)
    result = {
        "what": "8 trials, " + ("a random model of two layers" if arguments.quick else "SmolLM2-135M"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "date": time.strftime("%Y-%m-%d"),
        "repeats": repeats,
        "sweeps": measure_sweeps(quick=arguments.quick, repeats=repeats),
        "iteration": measure_iteration(quick=arguments.quick, repeats=repeats),
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
