"""Stock mlx-lm against shared-prefix training: the same rows, one process per side, alternating.

    python benchmarks/training.py                    # SmolLM2-135M's shape, random weights, float32
    python benchmarks/training.py --base FOLDER      # a real model folder
    python benchmarks/training.py --count-only       # the work of the 1,897-row shape, without running it
    python benchmarks/training.py --memory           # peaks that are the same on every machine, without times
    python benchmarks/training.py --rows-from FILE --tokenizer FOLDER   # chat rows (JSONL, as in 2-dataset)
    python benchmarks/training.py --peer PYTHON      # TRL + PEFT too, in an environment that has torch
    python benchmarks/training.py --json

Every time is shown with the counted work, which does not depend on the load of the machine: tokens through the
layers, rows of logits, FLOPs of the matrix products, masks that are arrays, shapes that are compiled. Rows are random
tokens with the lengths of the source experiment (257 to 841 tokens, mean 377, answers of 77); K questions share a
context. Times are those of a second epoch: kernels and traces are made in the first one (``first_seconds``).
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
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mlx_lm.models import base

from mlx_ragtune.clients.runtime_mlx import mx, nn, optimizers, tree_flatten
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.records import Example
from mlx_ragtune.tuning import prefix
from mlx_ragtune.tuning.adapters import apply_adapter
from mlx_ragtune.tuning.compiled_step import ON_CPU, ON_GPU, Sources, choose_shapes, from_tokens, key_of, policy_here
from mlx_ragtune.tuning.frozen import FrozenStore, only_layers
from mlx_ragtune.tuning.groups import Group, answer_tokens, shape_of
from mlx_ragtune.tuning.lean_kernels import lean_kernels
from mlx_ragtune.tuning.loop import Loop
from mlx_ragtune.tuning.schedule import contexts, make_plan, micro_batches, rows_per_update, updates_of_epoch
from mlx_ragtune.tuning.stock_trainer import stock_batches, stock_work
from mlx_ragtune.tuning.token_rows import TokenRow, tokenize
from mlx_ragtune.tuning.work import Work, total, work_of_batch

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
SIDES = ("stock", "stock-compiled", "shared-prefix", "uncompiled", "store", "trl")
BATCH, ACCUMULATION = 2, 8
EVERY_SHAPE = replace(policy_here(), ceiling=1000, least=1)
"""The measured epoch is repeated, so that all of its shapes come back; a run compiles only its most frequent ones."""


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


def read_token_rows(path: Path, tokenizer: Path) -> list[TokenRow]:
    """The chat rows of a file as token rows; rows of one context have the same prompt up to the question."""
    from mlx_lm.utils import load_tokenizer

    options: dict[str, Any] = {"thinking": False, "max_tokens": 2**20, "on_too_long": "fail"}
    return tokenize(list(read_rows(path, Example)), load_tokenizer(tokenizer), **options)[0]


def some_contexts(rows: list[TokenRow], count: int) -> list[TokenRow]:
    """The first ``count`` rows of contexts in a seeded order."""
    units = contexts(rows, count)
    order = np.random.default_rng(0).permutation(len(units))
    return [row for index in order for row in units[int(index)]][:count]


def rows_of(arguments: argparse.Namespace, vocabulary: int) -> list[TokenRow]:
    """The rows that are trained, of the vocabulary of the model."""
    if arguments.rows_from is None:
        return made_rows(arguments.rows, arguments.branches, vocabulary=vocabulary)
    return some_contexts(read_token_rows(arguments.rows_from, arguments.tokenizer or arguments.base), arguments.rows)


def our_batches(rows: list[TokenRow], layers: int, epochs: int = 1) -> list[list[Group]]:
    """The micro-batches of shared prefixes in so many epochs."""
    settings = train_settings(layers, "shared-prefix")
    return [
        groups
        for epoch in range(epochs)
        for update in updates_of_epoch(rows, rows_per_update(settings), seed=0, epoch=epoch)
        for groups in micro_batches(update, settings.step_tokens)
    ]


def counted(rows: list[TokenRow], side: str, layers: int) -> Work:
    """The work of one epoch on a side; the caller's config counts the layers of the store."""
    if side == "stock":
        return stock_work(rows, BATCH)
    return total(work_of_batch(groups) for groups in our_batches(rows, layers))


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


TOKENS_PER_STEP = 1024
"""What a run chooses without ``train.tokens_per_step`` for these models (``tuning.step_size``)."""


def load(folder: Path | None) -> tuple[Any, dict[str, Any]]:
    if folder is not None:
        from mlx_ragtune.tuning.load import load_base

        loaded = load_base(folder, "fp32")
        return loaded.model, loaded.config
    from mlx_lm.models import llama

    mx.random.seed(0)
    model = llama.Model(llama.ModelArgs.from_dict(SMOLLM2))
    model.freeze()
    mx.eval(model.parameters())
    return model, dict(SMOLLM2)


def compiled_stock(model: Any) -> Callable[..., Any]:
    """mlx-lm's loss and gradient in ``mx.compile``, as in its trainer."""
    from mlx_lm.tuner.trainer import default_loss

    value_and_grad = nn.value_and_grad(model, default_loss)

    @partial(mx.compile, inputs=mx.random.state, outputs=mx.random.state)
    def step(parameters: Any, *batch: Any) -> Any:
        model.update(parameters)
        return value_and_grad(model, *batch)

    def call(model: Any, *batch: Any) -> Any:
        parameters = model.trainable_parameters()
        try:
            return step(parameters, *batch)
        finally:
            model.update(parameters)

    return call


def stock_step(model: Any, rows: list[TokenRow], *, compiled: bool = False) -> Callable[[], float]:
    """One epoch with mlx-lm's own loss and padding; gradients are accumulated as in its trainer."""
    from mlx_lm.tuner.trainer import default_loss, iterate_batches

    dataset = [(row.tokens.tolist(), row.prompt_length) for row in rows]
    optimizer = optimizers.AdamW(learning_rate=1e-4)
    value_and_grad = compiled_stock(model) if compiled else nn.value_and_grad(model, default_loss)

    def unsorted() -> Iterator[Any]:
        for batch in stock_batches(rows, BATCH):
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


def our_loop(model: Any, rows: list[TokenRow], settings: TrainSettings, folder: Path, *, compiled: bool) -> Loop:
    """Our loop on these rows, with the store that the settings ask for."""
    loop = Loop(model, settings, make_plan(rows, settings, seed=0), folder=folder, seed=0, work={})
    sources: Sources = from_tokens
    if settings.frozen_store:
        store = FrozenStore(folder, len(model.layers) - int(settings.layers))
        store.build(model, rows, tokens_per_step=settings.step_tokens, work="benchmark")
        loop.objective, sources = store.objective, store.embedded
    loop.compile_steps(rows, EVERY_SHAPE if compiled else replace(EVERY_SHAPE, ceiling=0), sources)
    return loop


def our_step(loop: Loop, rows: list[TokenRow]) -> Callable[[], float]:
    """One epoch of our loop, without checkpoints."""

    def epoch() -> float:
        loop.progress.update = 0
        loss = 0.0
        for _, done, update_rows in loop._updates(rows):
            loop._one_update(update_rows, done)
            loss += loop.progress.losses[-1]["train_loss"] * answer_tokens(update_rows)
        return loss

    return epoch


@contextmanager
def counting_masks() -> Iterator[list[int]]:
    """The numbers of queries of all masks that are made as arrays inside the block."""
    made: list[int] = []
    ours, theirs = prefix.causal_mask, base.create_causal_mask

    def count_ours(count: int, before: int, window: int | None) -> Any:
        made.append(count)
        return ours(count, before, window)

    def count_theirs(count: int, *rest: Any, **options: Any) -> Any:
        made.append(count)
        return theirs(count, *rest, **options)

    prefix.causal_mask, base.create_causal_mask = count_ours, count_theirs
    try:
        yield made
    finally:
        prefix.causal_mask, base.create_causal_mask = ours, theirs


def measure(side: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Times of the second epoch of a side; runs in its own process. With ``--memory`` the peak of the first one."""
    model, config = load(arguments.base)
    layers = len(model.layers) // 3 if arguments.thirds else len(model.layers)
    settings = train_settings(layers, side)
    apply_adapter(model, settings, seed=0)
    model.train()
    rows = rows_of(arguments, config["vocab_size"])
    loop = None
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if side.startswith("stock"):
            epoch = stock_step(model, rows, compiled=side == "stock-compiled")
        else:
            loop = our_loop(model, rows, settings, Path(folder), compiled=side != "uncompiled")
            epoch = our_step(loop, rows)
            stack.enter_context(lean_kernels(model))
        first = len(model.layers) - layers if side == "store" else 0
        stack.enter_context(only_layers(model, first, len(model.layers), normed=True))
        masks = stack.enter_context(counting_masks())
        if arguments.memory:
            mx.set_memory_limit(1)  # MLX waits for each operation: the peak does not depend on the load
        mx.reset_peak_memory()
        started = time.perf_counter()
        loss = epoch()
        seconds = first_seconds = time.perf_counter() - started
        busy = 0.0
        if not arguments.memory:
            mx.clear_cache()
            mx.reset_peak_memory()
            masks.clear()
            started, worked = time.perf_counter(), time.process_time()
            loss = epoch()
            seconds, busy = time.perf_counter() - started, time.process_time() - worked
    compiled = loop.compiled if loop is not None else None
    return {
        "seconds": seconds,
        "cpu_seconds": busy,
        "first_seconds": first_seconds,
        "peak_gib": mx.get_peak_memory() / 2**30,
        "loss": loss / answer_tokens(rows),
        "array_masks": float(len(masks)),
        "compilations": float(compiled.traces) if compiled is not None else 0.0,
        "trainable": float(sum(value.size for _, value in tree_flatten(model.trainable_parameters()))),
    }


def peer_seconds(arguments: argparse.Namespace) -> dict[str, float] | None:
    """An epoch of TRL + PEFT on the same rows and shape, in the Python of ``--peer``; None where it cannot run."""
    rows = rows_of(arguments, int(str(SMOLLM2["vocab_size"])))
    job = {"config": SMOLLM2, "batch": BATCH, "accumulation": ACCUMULATION, "rank": 16, "alpha": 32}
    job |= {"rows": [[row.tokens.tolist(), row.prompt_length] for row in rows]}
    command = [str(arguments.peer), str(Path(__file__).with_name("training_peer.py"))]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"  trl: left out: {last}", file=sys.stderr)
        return None
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def side_by_side(arguments: argparse.Namespace, sides: tuple[str, ...]) -> dict[str, Any]:
    """Alternating processes; medians of all repeats."""
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for repeat in range(arguments.repeats):
        for side in sides if repeat % 2 == 0 else sides[::-1]:
            if side == "trl":
                if (run := peer_seconds(arguments)) is not None:
                    runs[side].append(run)
                continue
            command = [sys.executable, __file__, "--side", side, "--rows", str(arguments.rows)]
            command += ["--branches", str(arguments.branches), *(["--thirds"] if arguments.thirds else [])]
            command += ["--memory"] if arguments.memory else []
            for name in ("base", "rows_from", "tokenizer"):
                if (value := getattr(arguments, name)) is not None:
                    command += [f"--{name.replace('_', '-')}", str(value)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
            runs[side].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"  {side}: {runs[side][-1]['seconds']:.1f} s", file=sys.stderr)
    measured = {side: many for side, many in runs.items() if many}
    return {
        side: {key: statistics.median(run[key] for run in many) for key in many[0]} for side, many in measured.items()
    }


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
    batches = our_batches(rows, config["num_hidden_layers"], epochs=3)
    for device, policy in (("CPU", ON_CPU), ("GPU", ON_GPU)):
        choice = choose_shapes(batches, policy)
        members = [groups for groups in batches if key_of(groups, policy.bucket) in choice.keys]
        padded = sum(shape_of(groups, policy.bucket).tokens for groups in members)
        plain = sum(shape_of(groups).tokens for groups in members)
        table[f"compiled, {device}"] = {
            "micro_batches": choice.micro_batches,
            "shapes": choice.shapes,
            "compiled_shapes": len(choice.keys),
            "compiled_micro_batches": choice.compiled,
            "more_tokens": (padded - plain) / max(1, plain),
        }
    table["row tokens"] = {"layer_tokens": sum(len(row.tokens) for row in rows)}
    return table


def machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def _ratio(stock: float, own: float) -> str:
    return f"{stock / own:5.2f} ×" if own else ""


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
            f"  {side:<14} {values['seconds']:8.1f} s {_ratio(stock['seconds'], values['seconds'])}   "
            f"cpu {values['cpu_seconds']:8.1f} s {_ratio(stock['cpu_seconds'], values['cpu_seconds'])}   "
            f"{values['peak_gib']:.2f} GiB {values['peak_gib'] / stock['peak_gib']:.2f} ×   "
            f"loss {values['loss']:.5f}   "
            f"first epoch {values['first_seconds']:.1f} s   array masks {values['array_masks']:.0f}   "
            f"compilations {values['compilations']:.0f}"
        )


def measured_sides(arguments: argparse.Namespace, *, thirds: bool) -> tuple[str, ...]:
    """The sides that are measured: the store only where layers are frozen, TRL only where it was asked for."""
    sides: tuple[str, ...] = ("stock", "shared-prefix", "store") if thirds else ("stock", "shared-prefix", "uncompiled")
    sides += ("stock-compiled",) if arguments.compile_stock else ()
    return (*sides, "trl") if arguments.peer and not thirds and not arguments.memory else sides


def from_file(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a file: counted work of all, measured epochs of some."""
    rows = read_token_rows(arguments.rows_from, arguments.tokenizer or arguments.base)
    results = [
        {"what": f"an epoch of {len(rows):,} rows of {arguments.rows_from.name}, {name}, counted",
         "work": work_table(rows, config)}
        for name, config in (("SmolLM2-135M", SMOLLM2), ("Qwen3-4B", QWEN3_4B))
    ]  # fmt: skip
    if not arguments.count_only:
        arguments.branches = 1
        measured = side_by_side(arguments, measured_sides(arguments, thirds=arguments.thirds))
        results.append({"what": f"{arguments.rows} of these rows", "work": {}, "measured": measured})
    return results


def made_shapes(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Made rows with four questions and with one question to a context."""
    results = []
    shapes = [arguments.branches] if arguments.branches else [4, 1]
    for branches in shapes:
        for name, config in (("SmolLM2-135M", SMOLLM2), ("Qwen3-4B", QWEN3_4B)):
            rows = made_rows(1897, branches, vocabulary=1000)
            what = f"an epoch of 1,897 rows, K = {branches}, {name}, counted"
            results.append({"what": what, "work": work_table(rows, config)})
    if arguments.count_only:
        return results
    for branches, thirds in [(shape, False) for shape in shapes] + [(shapes[0], True)]:
        arguments.branches, arguments.thirds = branches, thirds
        rows = made_rows(arguments.rows, branches, vocabulary=1000)
        what = f"{arguments.rows} rows, K = {branches}" + (", last third of the layers adapted" if thirds else "")
        work = {} if thirds else work_table(rows, SMOLLM2)
        measured = side_by_side(arguments, measured_sides(arguments, thirds=thirds))
        results.append({"what": what, "work": work, "measured": measured})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="a model folder; default: random weights in SmolLM2-135M's shape")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--rows-from", type=Path, help="chat rows (JSONL); all are counted, --rows of them measured")
    parser.add_argument("--tokenizer", type=Path, help="folder of the tokenizer of --rows-from; default: --base")
    parser.add_argument("--branches", type=int, help="questions per context; default: 4, then 1")
    parser.add_argument("--thirds", action="store_true", help="adapt the last third of the layers")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--count-only", action="store_true")
    parser.add_argument("--memory", action="store_true", help="one epoch a side, computed operation by operation")
    parser.add_argument("--compile-stock", action="store_true", help="stock in mx.compile too")
    parser.add_argument("--peer", type=Path, help="a Python with torch, transformers, TRL and PEFT")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows_from and not (arguments.tokenizer or arguments.base):
        parser.error("--rows-from needs --tokenizer or --base")
    if arguments.memory:
        arguments.repeats = 1
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments)))
        return
    results = from_file(arguments) if arguments.rows_from else made_shapes(arguments)
    for result in results:
        result |= {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
        if not arguments.json:
            print_table(result)
    if arguments.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
