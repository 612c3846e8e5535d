"""Stock mlx-lm against shared-prefix training: the same rows, one process per side, alternating.

    python benchmarks/training.py                    # SmolLM2-135M's shape, random weights, float32
    python benchmarks/training.py --base FOLDER      # a real model folder
    python benchmarks/training.py --count-only       # the work of the 1,897-row shape, without running it
    python benchmarks/training.py --json

Every time is shown with the counted work, which does not depend on the load of the machine: tokens through the
layers, rows of logits, FLOPs of the matrix products. Rows are random tokens with the lengths of the source
experiment (257 to 841 tokens, mean 377, answers of 77); K questions share a context.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mlx_ragtune.clients.runtime_mlx import mx, nn, optimizers, tree_flatten
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning.adapters import apply_adapter
from mlx_ragtune.tuning.frozen import FrozenStore, only_layers
from mlx_ragtune.tuning.groups import answer_tokens
from mlx_ragtune.tuning.loop import Loop
from mlx_ragtune.tuning.schedule import make_plan, micro_batches, rows_per_update, updates_of_epoch
from mlx_ragtune.tuning.token_rows import TokenRow
from mlx_ragtune.tuning.work import Work, total, work_of_batch, work_of_whole_rows

SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
QWEN3_4B = {
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "intermediate_size": 9728,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
}
SIDES = ("stock", "shared-prefix", "store")
BATCH, ACCUMULATION = 2, 8


def made_rows(count: int, branches: int, *, vocabulary: int, seed: int = 0) -> list[TokenRow]:
    """Rows of 257 to 841 tokens, mean about 377, answers about 77; ``branches`` questions per context."""
    draw = np.random.default_rng([seed, branches])
    rows: list[TokenRow] = []
    while len(rows) < count:
        size = int(np.clip(draw.gamma(3.0, 46.0) + 130, 150, 700))
        context = draw.integers(0, vocabulary, size)
        for index in range(min(branches, count - len(rows))):
            question = draw.integers(0, vocabulary, draw.integers(18, 45))
            answer = draw.integers(0, vocabulary, draw.integers(45, 110))
            tokens = np.concatenate([context, question, answer]).astype(np.int32)
            rows.append(
                TokenRow(f"{len(rows)}-{index}", f"g{len(rows) - index}", "grounded", tokens, size + len(question))
            )
    return rows


def stock_batches(rows: list[TokenRow], seed: int = 0) -> list[list[TokenRow]]:
    """The batches of mlx-lm 0.32: its sort by length has no effect (mlx-lm#1029), so file order, then shuffled."""
    order = np.random.default_rng(seed).permutation(len(rows) // BATCH)
    return [rows[int(index) * BATCH : int(index) * BATCH + BATCH] for index in order]


def counted(rows: list[TokenRow], side: str, layers: int) -> Work:
    """The work of one epoch on a side; the caller's config counts the layers of the store."""
    if side == "stock":
        return total(work_of_whole_rows(batch, 32) for batch in stock_batches(rows))
    settings = train_settings(layers, side)
    updates = updates_of_epoch(rows, rows_per_update(settings), seed=0, epoch=0)
    return total(
        work_of_batch(groups) for update in updates for groups in micro_batches(update, settings.tokens_per_step)
    )


def train_settings(layers: int, side: str) -> TrainSettings:
    return TrainSettings(
        rank=16,
        alpha=32,
        layers=layers,
        epochs=1,
        batch_size=BATCH,
        accumulation=ACCUMULATION,
        frozen_store=side == "store",
        tokens_per_step=TOKENS_PER_STEP,
    )


TOKENS_PER_STEP = 2048


def load(base: Path | None) -> tuple[Any, dict[str, Any]]:
    if base is not None:
        from mlx_ragtune.tuning.load import load_base

        loaded = load_base(base, "fp32")
        return loaded.model, loaded.config
    from mlx_lm.models import llama

    mx.random.seed(0)
    model = llama.Model(llama.ModelArgs.from_dict(SMOLLM2))
    model.freeze()
    mx.eval(model.parameters())
    return model, dict(SMOLLM2)


def stock_step(model: Any, rows: list[TokenRow]) -> Callable[[], float]:
    """One epoch with mlx-lm's own loss and padding; gradients are accumulated as in its trainer."""
    from mlx_lm.tuner.trainer import default_loss, iterate_batches

    dataset = [(row.tokens.tolist(), row.prompt_length) for row in rows]
    optimizer = optimizers.AdamW(learning_rate=1e-4)
    value_and_grad = nn.value_and_grad(model, default_loss)

    def unsorted() -> Iterator[Any]:
        for batch in stock_batches(rows):
            places = [next(place for place, other in enumerate(rows) if other is row) for row in batch]
            yield from iterate_batches([dataset[place] for place in places], BATCH, 2048)

    def epoch() -> float:
        loss, summed = 0.0, None
        for number, batch in enumerate(unsorted(), start=1):
            (value, tokens), gradient = value_and_grad(model, *batch)
            summed = gradient if summed is None else nn.utils.tree_map(mx.add, summed, gradient)
            loss += value * tokens
            mx.eval(loss, summed)
            if number % ACCUMULATION == 0:
                optimizer.update(model, nn.utils.tree_map(lambda gradient: gradient / ACCUMULATION, summed))
                mx.eval(model.trainable_parameters(), optimizer.state)
                summed = None
        return float(loss.item()) if isinstance(loss, mx.array) else loss

    return epoch


def our_step(model: Any, rows: list[TokenRow], settings: TrainSettings, folder: Path) -> Callable[[], float]:
    """One epoch of our loop, without checkpoints."""
    plan = make_plan(rows, settings, seed=0)
    loop = Loop(model, settings, plan, folder=folder, seed=0, work={})
    if settings.frozen_store:
        store = FrozenStore(folder, len(model.layers) - int(settings.layers))
        store.build(model, rows, tokens_per_step=settings.tokens_per_step, work="benchmark")
        loop.objective = store.objective

    def epoch() -> float:
        loop.progress.update = 0
        loss = 0.0
        for _, done, update_rows in loop._updates(rows):
            loop._one_update(update_rows, done)
            loss += loop.progress.losses[-1]["train_loss"] * answer_tokens(update_rows)
        return loss

    return epoch


def measure(side: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Times of the second epoch of a side; runs in its own process."""
    model, config = load(arguments.base)
    layers = len(model.layers) // 3 if arguments.thirds else len(model.layers)
    settings = train_settings(layers, side)
    apply_adapter(model, settings, seed=0)
    model.train()
    rows = made_rows(arguments.rows, arguments.branches, vocabulary=config["vocab_size"])
    with tempfile.TemporaryDirectory() as folder:
        epoch = stock_step(model, rows) if side == "stock" else our_step(model, rows, settings, Path(folder))
        context = only_layers(model, len(model.layers) - layers, len(model.layers), normed=True)
        with context if side == "store" else only_layers(model, 0, len(model.layers), normed=True):
            epoch()
            mx.clear_cache()
            mx.reset_peak_memory()
            started, worked = time.perf_counter(), time.process_time()
            loss = epoch()
            seconds, busy = time.perf_counter() - started, time.process_time() - worked
    return {
        "seconds": seconds,
        "cpu_seconds": busy,
        "peak_gib": mx.get_peak_memory() / 2**30,
        "loss": loss / answer_tokens(rows),
        "trainable": float(sum(value.size for _, value in tree_flatten(model.trainable_parameters()))),
    }


def side_by_side(arguments: argparse.Namespace, sides: tuple[str, ...]) -> dict[str, Any]:
    """Alternating processes; medians of all repeats."""
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for repeat in range(arguments.repeats):
        for side in sides if repeat % 2 == 0 else sides[::-1]:
            command = [sys.executable, __file__, "--side", side, "--rows", str(arguments.rows)]
            command += ["--branches", str(arguments.branches), *(["--thirds"] if arguments.thirds else [])]
            command += ["--base", str(arguments.base)] if arguments.base else []
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
            runs[side].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"  {side}: {runs[side][-1]['seconds']:.1f} s", file=sys.stderr)
    return {side: {key: statistics.median(run[key] for run in many) for key in many[0]} for side, many in runs.items()}


def work_table(rows: list[TokenRow], config: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Counted work of an epoch, stock and ours, all layers adapted."""
    table: dict[str, dict[str, float]] = {}
    for side in ("stock", "shared-prefix"):
        work = counted(rows, side, config["num_hidden_layers"])
        table[side] = {
            "layer_tokens": work.layer_tokens,
            "attention_pairs": work.attention_pairs,
            "logit_rows": work.logit_rows,
            "tflops": work.flops(config) / 1e12,
        }
    table["row tokens"] = {"layer_tokens": sum(len(row.tokens) for row in rows)}
    return table


def machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def print_table(result: dict[str, Any]) -> None:
    print(f"{result['what']} ({result['machine']}, {result['date']})")
    for side, values in result["work"].items():
        print(f"  counted {side:<14}" + "  ".join(f"{key} {value:,.6g}" for key, value in values.items()))
    if "tflops" in result["work"].get("stock", {}):
        ratio = result["work"]["stock"]["tflops"] / result["work"]["shared-prefix"]["tflops"]
        print(f"  counted ratio {ratio:.2f} ×")
    for side, values in result.get("measured", {}).items():
        stock = result["measured"]["stock"]
        print(
            f"  {side:<14} {values['seconds']:8.1f} s  {stock['seconds'] / values['seconds']:5.2f} ×   "
            f"cpu {values['cpu_seconds']:8.1f} s {stock['cpu_seconds'] / values['cpu_seconds']:5.2f} ×   "
            f"{values['peak_gib']:.2f} GiB {values['peak_gib'] / stock['peak_gib']:.2f} ×   loss {values['loss']:.5f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="a model folder; default: random weights in SmolLM2-135M's shape")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--branches", type=int, help="questions per context; default: 4, then 1")
    parser.add_argument("--thirds", action="store_true", help="adapt the last third of the layers")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--count-only", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments)))
        return
    results = []
    shapes = [arguments.branches] if arguments.branches else [4, 1]
    for branches in shapes:
        for name, config in (("SmolLM2-135M", SMOLLM2), ("Qwen3-4B", QWEN3_4B)):
            rows = made_rows(1897, branches, vocabulary=1000)
            what = f"an epoch of 1,897 rows, K = {branches}, {name}, counted"
            results.append({"what": what, "work": work_table(rows, config)})
    if not arguments.count_only:
        for branches, thirds in [(shape, False) for shape in shapes] + [(shapes[0], True)]:
            arguments.branches, arguments.thirds = branches, thirds
            rows = made_rows(arguments.rows, branches, vocabulary=1000)
            sides = SIDES if thirds else SIDES[:2]
            what = f"{arguments.rows} rows, K = {branches}" + (", last third of the layers adapted" if thirds else "")
            work = {} if thirds else work_table(rows, SMOLLM2)
            results.append({"what": what, "work": work, "measured": side_by_side(arguments, sides)})
    for result in results:
        result |= {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
        if not arguments.json:
            print_table(result)
    if arguments.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
