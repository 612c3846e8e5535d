"""Preference training: mlx-lm-lora against the shared-prefix engine, ORPO on the same pairs.

    python benchmarks/preference.py --count-only          # the work, without running it
    python -m venv /tmp/peer && /tmp/peer/bin/pip install mlx-lm-lora scipy  # Linux: "mlx[cpu]" too
    python benchmarks/preference.py --peer /tmp/peer/bin/python [--quick] [--json]

Both sides start from the same random weights in SmolLM2-135M's shape, in float32, one process per side, alternating.
A pair is a prompt with its answer and a rejected answer; mlx-lm-lora computes the prompt for each of the two. Rows have
the lengths of the source experiment (``training.py``); rejected answers have 12 to 40 tokens, as refusals do. Both
sides must give the same margin before the first update, else nothing is reported.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from training import ACCUMULATION, BATCH, SMOLLM2, TOKENS_PER_STEP, machine, made_rows

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.recipe import PreferenceSettings, TrainSettings
from mlx_ragtune.tuning.adapters import adapter_config, apply_adapter
from mlx_ragtune.tuning.loop import Loop
from mlx_ragtune.tuning.preference import Preference
from mlx_ragtune.tuning.ranks import Ranks
from mlx_ragtune.tuning.schedule import make_plan, micro_batches, rows_per_update, updates_of_epoch
from mlx_ragtune.tuning.token_rows import TokenRow
from mlx_ragtune.tuning.work import Work, total, work_of_batch

BETA = 0.1
VOCABULARY = int(str(SMOLLM2["vocab_size"]))
LAYERS = int(str(SMOLLM2["num_hidden_layers"]))
SIDES = ("mlx-lm-lora", "shared-prefix")
PADDED_TO = 8
"""mlx-lm-lora pads a batch of pairs to a multiple of this."""


def pairs(count: int, branches: int, *, seed: int = 0) -> list[TokenRow]:
    """Rows with a rejected answer; ``branches`` questions share a context."""
    draw = np.random.default_rng([seed, 1])
    rows = []
    for row in made_rows(count, branches, vocabulary=VOCABULARY, seed=seed):
        answer = draw.integers(0, VOCABULARY, int(draw.integers(12, 41)))
        rejected = np.concatenate([row.tokens[: row.prompt_length], answer]).astype(np.int32)
        rows.append(replace(row, rejected=rejected))
    return rows


def settings_of() -> TrainSettings:
    return TrainSettings(
        rank=16,
        alpha=32,
        epochs=1,
        batch_size=BATCH,
        accumulation=ACCUMULATION,
        tokens_per_step=TOKENS_PER_STEP,
        preference=PreferenceSettings(method="orpo", beta=BETA),
    )


def counted(rows: list[TokenRow], side: str) -> Work:
    """The work of one epoch. mlx-lm-lora: two passes of whole padded rows, sorted by length, logits everywhere."""
    if side == "shared-prefix":
        updates = updates_of_epoch(rows, rows_per_update(settings_of()), seed=0, epoch=0)
        return total(work_of_batch(groups) for update in updates for groups in micro_batches(update, TOKENS_PER_STEP))
    ordered = sorted(rows, key=lambda row: len(row.tokens))
    works = []
    for place in range(0, len(ordered) - BATCH + 1, BATCH):
        longest = max(len(tokens) for row in ordered[place : place + BATCH] for tokens in row.branches)
        length = -(-longest // PADDED_TO) * PADDED_TO - 1
        works.append(Work(2 * BATCH * length, 2 * BATCH * length**2, 2 * BATCH * length))
    return total(works)


def work_table(rows: list[TokenRow], config: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Counted work of an epoch on both sides. Prompts that rows share among each other are counted for each row."""
    prompts = sum(row.prompt_length for row in rows)
    table: dict[str, dict[str, float]] = {}
    for side in SIDES:
        work = counted(rows, side)
        table[side] = {
            "prompt tokens per pair": prompts * (2 if side == "mlx-lm-lora" else 1) / len(rows),
            "tokens through layers": work.layer_tokens,
            "rows of logits": work.logit_rows,
            "tflops": work.flops(config) / 1e12,
        }
    return table


def ours(rows: list[TokenRow], config: dict[str, Any]) -> dict[str, float]:
    """One epoch of our loop, without checkpoints; the second epoch is timed."""
    from mlx_lm.models import llama

    mx.random.seed(0)
    model = llama.Model(llama.ModelArgs.from_dict(config))
    model.freeze()
    settings = settings_of()
    apply_adapter(model, settings, seed=0)
    assert settings.preference is not None
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(model, settings, make_plan(rows, settings, seed=0), folder=Path(folder), seed=0, work={})
        loop.preference = Preference(settings.preference)
        found = loop.preference.measure(model, rows, tokens_per_step=TOKENS_PER_STEP, ranks=Ranks(0, 1))
        for _ in range(2):
            mx.reset_peak_memory()
            loop.progress.update = 0
            started, worked = time.perf_counter(), time.process_time()
            for _, done, update_rows in loop._updates(rows):
                loop._one_update(update_rows, done)
            seconds, busy = time.perf_counter() - started, time.process_time() - worked
    return {
        "margin": found["preference_margin"],
        "accuracy": found["preference_accuracy"],
        "seconds": seconds,
        "cpu_seconds": busy,
        "peak_gib": mx.get_peak_memory() / 2**30,
    }


def peer_job(rows: list[TokenRow], config: dict[str, Any]) -> dict[str, Any]:
    """What mlx-lm-lora's side needs. Its learning rate is 0, so that its margins are those before the first update."""
    settings = settings_of()
    return {
        "config": config,
        "lora": adapter_config(settings, config["num_hidden_layers"])["lora_parameters"],
        "rows": [
            {
                "chosen": row.tokens.tolist(),
                "rejected": [] if row.rejected is None else row.rejected.tolist(),
                "chosen_prompt_length": row.prompt_length,
                "rejected_prompt_length": row.prompt_length,
            }
            for row in rows
        ],
        "batch": BATCH,
        "accumulation": ACCUMULATION,
        "beta": BETA,
        "learning_rate": 0.0,
    }


def run_side(side: str, arguments: argparse.Namespace, config: dict[str, Any], folder: Path) -> dict[str, float]:
    """A side in a process of its own."""
    if side == "shared-prefix":
        command = [sys.executable, __file__, "--side", side, "--pairs", str(arguments.pairs)]
        command += ["--layers", str(config["num_hidden_layers"]), "--branches", str(arguments.branches)]
    else:
        job = folder / "rows.json"
        job.write_text(json.dumps(peer_job(pairs(arguments.pairs, arguments.branches), config)), encoding="utf-8")
        command = [str(arguments.peer), str(Path(__file__).with_name("preference_peer.py")), str(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {side}: {figures['seconds']:.1f} s", file=sys.stderr)
    return figures


def side_by_side(arguments: argparse.Namespace, config: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Alternating processes; medians of all repeats. Stops when the sides do not compute the same margin."""
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(arguments.repeats):
            for side in SIDES if repeat % 2 == 0 else SIDES[::-1]:
                runs[side].append(run_side(side, arguments, config, Path(folder)))
    medians = {
        side: {key: statistics.median(run[key] for run in many) for key in many[0]} for side, many in runs.items()
    }
    theirs, own = (medians[side]["margin"] for side in SIDES)
    if abs(theirs - own) > 1e-3 * max(1.0, abs(theirs)):
        raise SystemExit(f"the sides do not compute the same: margins {theirs:.6f} and {own:.6f}")
    tokens = sum(len(tokens) for row in pairs(arguments.pairs, arguments.branches) for tokens in row.branches)
    for values in medians.values():
        values["tokens_per_second"] = tokens / values["seconds"]
    return medians


def print_table(result: dict[str, Any]) -> None:
    print(f"{result['what']} ({result['machine']}, {result['date']})")
    for side, values in result["work"].items():
        print(f"  counted {side:<14}" + "  ".join(f"{key} {value:,.5g}" for key, value in values.items()))
    theirs, own = (result["work"][side] for side in SIDES)
    ratios = "  ".join(f"{key} {theirs[key] / own[key]:.2f} ×" for key in own)
    print(f"  counted ratio         {ratios}")
    for side, values in result.get("measured", {}).items():
        stock = result["measured"]["mlx-lm-lora"]
        print(
            f"  {side:<14} {values['seconds']:8.1f} s  {stock['seconds'] / values['seconds']:5.2f} ×   "
            f"{values['tokens_per_second']:,.0f} tokens/s   cpu {values['cpu_seconds']:8.1f} s "
            f"{stock['cpu_seconds'] / values['cpu_seconds']:5.2f} ×   {values['peak_gib']:.2f} GiB "
            f"{values['peak_gib'] / stock['peak_gib']:.2f} ×   margin {values['margin']:.5f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="Python of an environment with mlx-lm-lora")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--branches", type=int, default=1, help="questions per context")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="8 pairs, 4 layers, one repeat")
    parser.add_argument("--count-only", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.pairs, arguments.layers, arguments.repeats = 8, 4, 1
    config = {**SMOLLM2, "num_hidden_layers": arguments.layers}
    rows = pairs(arguments.pairs, arguments.branches)
    if arguments.side:
        print(json.dumps(ours(rows, config)))
        return
    result = {
        "what": f"ORPO, {arguments.pairs} pairs, K = {arguments.branches}, {arguments.layers} layers",
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "work": work_table(rows, config),
    }
    if not arguments.count_only:
        if arguments.peer is None:
            parser.error("--peer PYTHON is needed, or --count-only")
        result["measured"] = side_by_side(arguments, config)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print_table(result)


if __name__ == "__main__":
    main()
