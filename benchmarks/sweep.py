"""A sweep of 8 trials against a shell loop of ``mlx_lm.lora``, and one more iteration of a recipe.

    python benchmarks/sweep.py                    # a random model of six layers, some papers
    python benchmarks/sweep.py --size demo        # recipes/demo.yaml, SmolLM2-135M: hours on two cores
    python benchmarks/sweep.py --size demo --count       # the work of each side, without training
    python benchmarks/sweep.py --part iteration   # only the second part; --part sweeps: only the first
    python benchmarks/sweep.py --json

Trials are learning rate × rank × adapted modules: 2 × 2 × 2, on the upper half of the layers: 16 of 30, which is what
mlx-lm adapts unless it is told otherwise, or 3 of 6. Every side gets the same rows, made beforehand, the same batch
size and the same number of updates, and decides: the shell loop by its validation loss, since it has nothing else; the
sweep by the score of answers, which it also has to generate. Each side is timed as a whole, from its first process to
its decision. The shell loop also gets OpenBLAS on Linux, which stock mlx-lm does not have.

Counted are tokens that go through the layers, in training, validation and answers, how often the base is loaded, and
FLOPs forward and backward (``tuning.work``); generated tokens are an upper bound. With halving the number of updates is
known beforehand, because the number of trials is.

The second part runs a recipe to the report, changes ``train.learning_rate`` with ``--set`` and runs it again: the time
outside training of the second run, as a share of that of the first.
"""

import argparse
import itertools
import json
import math
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
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from mlx_ragtune.evaluation.quick_score import answer_limit
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.records import Example
from mlx_ragtune.runner import Run, open_recipe
from mlx_ragtune.sweeping.halving import Halving, rung_shares
from mlx_ragtune.tuning.adapters import adapter_config
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.schedule import make_plan, micro_batches, rows_per_update, updates_of_epoch
from mlx_ragtune.tuning.select import MAX_TOKENS, development_slice
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
TOY: dict[str, dict[str, Any]] = {
    "base": {"model": "./base", "precision": "fp32"},
    "train": {
        "rank": 16,
        "alpha": 32,
        "epochs": 1,
        "batch_size": 4,
        "accumulation": 1,
        "learning_rate": 1e-3,
        "tokens_per_step": 8192,
    },
    "evaluate": {"sampling": {"max_tokens": 16}},
    "scoring": {},
}
TOY_ROWS = {
    "max_tokens": 8192,
    "valid_share": 0.12,
    "shares": {"grounded": 0.7, "synthesis": 0.0, "refusal": 0.3},
}
TOY_PAPERS = 16
"""Papers whose rows are used for the toy, which has one token for a byte, so that rows are long."""
LAYERS = {"toy": 3, "demo": 16}
STOCK = "import mlx_ragtune.clients.runtime_mlx; from mlx_lm.lora import main; main()"
QUESTIONS = {"toy": 8, "demo": 24}


def write_project(folder: Path, *, size: str, papers: int = TOY_PAPERS, halving: str = "off") -> Path:
    """A project of its own with the demo's papers and rows; returns its recipe."""
    shutil.copytree(ROOT / "data" / "rag_notes", folder, dirs_exist_ok=True)
    recipe: dict[str, Any] = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text())
    recipe["benchmark"], recipe["dataset"]["pairs"] = "benchmark.jsonl", "pairs.jsonl"
    recipe["corpus"]["folder"] = "papers"
    recipe["evaluate"].pop("probes")  # the shell loop has no constraint
    recipe["evaluate"]["budget"] = None  # a second run would ask more questions in the same time
    recipe["dataset"].pop("rehearsal", None)  # nor rows of the base's own answers
    if size == "toy":
        write_toy_model(folder / "base", hidden=256, layers=6)
        keep_papers(folder, papers)
        recipe = {**recipe, **TOY, "dataset": {**recipe["dataset"], **TOY_ROWS}}
    recipe["train"]["layers"] = LAYERS[size]
    recipe["train"]["evals_per_epoch"] = 1
    sweep = {"space": SPACE, "sampler": "grid", "halving": halving, "questions": QUESTIONS[size], "finalists": 0}
    recipe["sweep"] = sweep
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


def shell_loop(recipe: Path, updates: int, trials: int) -> dict[str, Any]:
    """One process of mlx-lm's trainer for each of the settings; the lowest validation loss decides.

    With fewer ``trials`` than settings only the first ones run, and their time is scaled up.
    """
    run = opened(recipe)
    data, losses = recipe.parent / "chats", []
    write_chats(run, data)
    started, worked = time.perf_counter(), cpu_seconds()
    for number, settings in enumerate(settings_of_trials()[:trials]):
        began = time.perf_counter()
        train = opened(recipe, settings).recipe.train
        config = {
            "model": str(run.base), "train": True, "data": str(data), "iters": updates * train.accumulation,
            "batch_size": train.batch_size, "grad_accumulation_steps": train.accumulation, "mask_prompt": True,
            "num_layers": adapted_layers(run, train), "val_batches": -1,
            "learning_rate": train.learning_rate, "optimizer": train.optimizer,
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
        print(f"  shell loop, trial {number + 1}: {time.perf_counter() - began:.0f} s, {settings}", file=sys.stderr)
    best = min(range(len(losses)), key=losses.__getitem__)
    scale = len(settings_of_trials()) / trials
    seconds, cpu = scale * (time.perf_counter() - started), scale * (cpu_seconds() - worked)
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


def adapted_layers(run: Run, train: TrainSettings) -> int:
    """How many layers have adapters."""
    layers = int(json.loads((run.base / "config.json").read_text())["num_hidden_layers"])
    return layers if train.layers == "all" else min(layers, int(train.layers))


@dataclass(frozen=True)
class Counted:
    """The work of a whole side: token passes through layers of the base as a whole model, and FLOPs."""

    updates: int
    loads: int
    train_tokens: int
    valid_tokens: int
    answer_tokens: int
    flops: float


def forward(work: Work, config: dict[str, Any], layers: int, *, head: bool = True) -> float:
    """FLOPs of a forward pass through so many layers."""
    own = work if head else Work(work.layer_tokens, work.attention_pairs, 0)
    return own.forward_flops({**config, "num_hidden_layers": layers})


def backward(work: Work, config: dict[str, Any], layers: int) -> float:
    """FLOPs of a backward pass through so many layers and the head."""
    own = {**config, "num_hidden_layers": layers}
    return work.flops(own) - work.forward_flops(own)


class Counting:
    """Counts the work of each side from the rows as tokens."""

    def __init__(self, recipe: Path) -> None:
        self.run = opened(recipe)
        self.rows = token_rows(self.run)
        self.config = json.loads((self.run.base / "config.json").read_text())
        self.train = with_step(self.run.recipe.train, self.config, chain(*self.rows.values()))
        self.all_layers = int(self.config["num_hidden_layers"])
        self.adapted = adapted_layers(self.run, self.train)
        seed, per_update = self.run.recipe.seed, rows_per_update(self.train)
        plan = make_plan(self.rows["train"], self.train, seed=seed)
        epoch = updates_of_epoch(self.rows["train"], per_update, seed=seed, epoch=0)
        self.updates = [epoch[number % len(epoch)] for number in range(plan.updates)]

    def shell_loop(self) -> Counted:
        """The stock trainer: whole padded rows, logits at every position, two validations a trial."""
        size = self.train.batch_size

        def whole(rows: list[TokenRow]) -> Work:
            return total(work_of_whole_rows(rows[at : at + size], 32) for at in range(0, len(rows), size))

        work, valid = total(whole(update) for update in self.updates), whole(self.rows["valid"])
        flops = forward(work, self.config, self.all_layers) + backward(work, self.config, self.adapted)
        flops += 2 * forward(valid, self.config, self.all_layers)
        count = len(settings_of_trials())
        return Counted(
            count * len(self.updates),
            count,
            count * work.layer_tokens,
            2 * count * valid.layer_tokens,
            0,
            count * flops,
        )

    def sweep(self, *, halving: bool) -> Counted:
        """The sweep: shared prefixes, outputs of frozen layers computed once, answers to the development questions."""
        parts = self._trials(halving=halving)
        shared = [self._shared(update) for update in self.updates]
        work = total(shared[number] for number, count in enumerate(parts) for _ in range(count))
        flops = forward(work, self.config, self.adapted) + backward(work, self.config, self.adapted)
        frozen = self.all_layers - self.adapted
        if frozen:
            flops += forward(self._shared([*self.rows["train"], *self.rows["valid"]]), self.config, frozen, head=False)
        finished, looks = parts[-1], self._looks() if halving else 0
        valid, asked = self._shared(self.rows["valid"]), self._asked()
        flops += finished * forward(valid, self.config, self.adapted)
        flops += (finished + looks) * forward(asked, self.config, self.all_layers)
        return Counted(
            sum(parts), 1, work.layer_tokens, finished * valid.layer_tokens,
            (finished + looks) * asked.layer_tokens, flops,
        )  # fmt: skip

    def _shared(self, rows: list[TokenRow]) -> Work:
        return total(work_of_batch(groups) for groups in micro_batches(rows, self.train.step_tokens))

    def _trials(self, *, halving: bool) -> list[int]:
        """How many trials make each of the updates."""
        count = len(settings_of_trials())
        ends = self._rungs() if halving else []
        rule = Halving(3, count, 1)
        return [
            next((rule.places(rung, 0) for rung in (1, 0) if halving and update >= ends[rung]), count)
            for update in range(len(self.updates))
        ]

    def _rungs(self) -> list[int]:
        return [math.ceil(share * len(self.updates)) for share in rung_shares(3, 2)]

    def _looks(self) -> int:
        count = len(settings_of_trials())
        return count + Halving(3, count, 1).places(0, 0)

    def _asked(self) -> Work:
        """One round of answers: the prompts with what they share computed once, and all tokens that may follow."""
        recipe = self.run.recipe
        folder, settings = self.run.artifact("dataset").folder, recipe.sweep
        assert settings is not None
        rows = list(read_rows(folder / "examples-valid.jsonl", Example))
        chosen = development_slice(rows, seed=recipe.seed, most=settings.questions)
        known = {row.id: row for row in self.rows["valid"]}
        wanted = [known[row.id] for row in chosen]
        short = [replace(row, tokens=row.tokens[: row.prompt_length + 1]) for row in wanted]
        most = min(MAX_TOKENS, answer_limit(load_base(self.run.base, "fp32").tokenizer, chosen))
        read = self._shared(short)
        return Work(read.layer_tokens + most * len(chosen), read.attention_pairs, most * len(chosen))


def count_sides(size: str, papers: int) -> dict[str, Counted]:
    """The work of each side."""
    with tempfile.TemporaryDirectory() as temporary:
        recipe = write_project(Path(temporary) / "counted", size=size, papers=papers)
        ragtune("dataset", recipe, cwd=recipe.parent)
        counting = Counting(recipe)
        return {
            "shell loop": counting.shell_loop(),
            "sweep": counting.sweep(halving=False),
            "sweep with halving": counting.sweep(halving=True),
        }


def measure_sweeps(*, size: str, papers: int, repeats: int, loop_trials: int) -> dict[str, Any]:
    """Medians of the three sides, alternating."""
    seconds: dict[str, list[float]] = {"shell loop": [], "sweep": [], "sweep with halving": []}
    cpu: dict[str, list[float]] = {side: [] for side in seconds}
    last: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for repeat in range(repeats):
            projects = {}
            for side, halving in (("shell loop", "off"), ("sweep", "off"), ("sweep with halving", "updates")):
                folder = Path(temporary) / f"{repeat}-{side.replace(' ', '-')}"
                projects[side] = write_project(folder, size=size, papers=papers, halving=halving)
                ragtune("dataset", projects[side], cwd=folder)
            run = opened(projects["shell loop"])
            updates = make_plan(token_rows(run)["train"], run.recipe.train, seed=run.recipe.seed).updates
            order = list(projects) if repeat % 2 == 0 else list(projects)[::-1]
            for side in order:
                loop = side == "shell loop"
                last[side] = shell_loop(projects[side], updates, loop_trials) if loop else one_sweep(projects[side])
                seconds[side].append(last[side]["seconds"])
                cpu[side].append(last[side]["cpu_seconds"])
                print(f"  {side}: {seconds[side][-1]:.0f} s, CPU {cpu[side][-1]:.0f} s", file=sys.stderr)
    return {
        "loop_trials": loop_trials,
        "seconds": {side: statistics.median(values) for side, values in seconds.items()},
        "cpu_seconds": {side: statistics.median(values) for side, values in cpu.items()},
        "best": {side: last[side]["best"] for side in last},
        "updates": {side: last[side].get("updates", 8 * updates) for side in last},
        "pruned": last["sweep with halving"]["pruned"],
        "losses": {side: last[side]["losses"] for side in last},
        "scores": {side: last[side].get("scores") for side in last},
    }


def measure_iteration(*, size: str, repeats: int) -> dict[str, Any]:
    """Seconds outside training, of a first run and of one more with another learning rate."""
    times: dict[str, list[float]] = {"first": [], "again": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as temporary:
            recipe = write_project(Path(temporary) / "demo", size=size)
            for name, options in (("first", ()), ("again", ("--set", "train.learning_rate=0.0005"))):
                started = time.perf_counter()
                stages = json.loads(ragtune("run", recipe, *options, "--json", cwd=recipe.parent))["stages"]
                training = sum(stage["seconds"] for stage in stages if stage["stage"] == "train")
                times[name].append(time.perf_counter() - started - training)
                print(f"  {name} run outside training: {times[name][-1]:.0f} s", file=sys.stderr)
    return {name: statistics.median(values) for name, values in times.items()}


def show_counted(counted: dict[str, Counted]) -> None:
    print("  counted work; tokens through the layers in training, validation and answers (at most):")
    stock = counted["shell loop"]
    for side, own in counted.items():
        print(
            f"  {side:<19}{own.updates:5d} updates, base loaded {own.loads} ×, {own.train_tokens:,} + "
            f"{own.valid_tokens:,} + {own.answer_tokens:,} tokens, {own.flops / 1e12:.2f} TFLOP, "
            f"{stock.flops / own.flops:.2f} × fewer"
        )


def show_sweeps(sweeps: dict[str, Any]) -> None:
    stock, stock_cpu = sweeps["seconds"]["shell loop"], sweeps["cpu_seconds"]["shell loop"]
    for side, seconds in sweeps["seconds"].items():
        best = ", ".join(f"{key.partition('.')[2]} {value}" for key, value in sweeps["best"][side].items())
        cpu, count = sweeps["cpu_seconds"][side], sweeps["updates"][side]
        print(
            f"  {side:<19}{seconds:9.1f} s {stock / seconds:6.2f} ×   CPU {cpu:9.1f} s {stock_cpu / cpu:6.2f} ×   "
            f"{count:5d} updates   best: {best}"
        )
    print(f"  pruned by halving: {sweeps['pruned']} of 8")
    if (ran := sweeps["loop_trials"]) < (count := len(settings_of_trials())):
        print(f"  the shell loop ran its first {ran} of {count} trials: its time is theirs × {count / ran:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("toy", "demo"), default="toy")
    parser.add_argument("--part", choices=("sweeps", "iteration"), help="default: both")
    parser.add_argument("--papers", type=int, default=TOY_PAPERS, help=f"papers for the toy (default: {TOY_PAPERS})")
    parser.add_argument("--count", action="store_true", help="count the work, and train nothing")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--loop-trials", type=int, choices=range(1, 9), default=8, metavar="N",
        help="run the first N trials of the shell loop only, and scale their time to 8; 2 differ in their modules",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    size, repeats = arguments.size, arguments.repeats
    models = {"toy": "a random model of six layers", "demo": "SmolLM2-135M"}
    result: dict[str, Any] = {
        "what": f"8 trials, {models[size]}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "date": time.strftime("%Y-%m-%d"),
        "repeats": repeats,
    }
    print(f"{result['what']} ({result['machine']}, {result['date']})", file=sys.stderr)
    if arguments.part != "iteration":
        counted = count_sides(size, arguments.papers)
        result["counted"] = {side: asdict(own) for side, own in counted.items()}
        if not arguments.json:
            show_counted(counted)
        if not arguments.count:
            result["sweeps"] = measure_sweeps(
                size=size, papers=arguments.papers, repeats=repeats, loop_trials=arguments.loop_trials
            )
            if not arguments.json:
                show_sweeps(result["sweeps"])
    if arguments.part != "sweeps" and not arguments.count:
        result["iteration"] = measure_iteration(size=size, repeats=repeats)
        first, again = result["iteration"]["first"], result["iteration"]["again"]
        if not arguments.json:
            print(f"  outside training: first run {first:.1f} s, one more {again:.1f} s: {again / first:.0%}")
    if arguments.json:
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
