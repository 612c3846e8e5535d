"""Peak memory of every step from a base to its GGUF file, on a random model of a real shape, beside what is predicted.

    python benchmarks/memory.py                               # 0.6 B: fuse, check, export, and mlx_lm.fuse
    python benchmarks/memory.py --size 4b --limit-gib 16      # each step under a limit of its address space
    python benchmarks/memory.py --size 4b --layers 4 --steps train load

Each step is a process of its own: its peak is ``ru_maxrss``, beside that of MLX's allocator. The steps: ``fuse``
writes the fused folder; ``check`` computes logits of base plus adapter, the largest of the three that are compared;
``export`` writes Q8_0; ``load`` loads the base in 4 bits; ``train`` computes the gradient of one row of ``--tokens``
tokens in 4 bits; ``mlx_lm.fuse`` is the peer.
``--limit-gib`` limits the address space of each process of ours (RLIMIT_AS), which is more than its memory.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from export import SHAPES, write_model

from mlx_ragtune.models.architectures import tensor_shapes
from mlx_ragtune.recipe import TrainSettings

STEPS = ("fuse", "check", "export", "load", "train", "mlx_lm.fuse")
USUAL = ("fuse", "check", "export", "mlx_lm.fuse")
SCALE = 1 if platform.system() == "Darwin" else 1024
SETTINGS = {"rank": 16, "alpha": 32.0, "grad_checkpoint": True, "batch_size": 1, "accumulation": 1}


def settings() -> TrainSettings:
    """The adapter of the recipe for 16 GB."""
    return TrainSettings.model_validate(SETTINGS)


def write_adapter(base: Path, folder: Path) -> None:
    """A random adapter on all layers; only shapes of the base are needed."""
    from mlx_ragtune.clients.runtime_mlx import mx
    from mlx_ragtune.tuning.adapters import save_adapter

    folder.mkdir()
    config, arrays = json.loads((base / "config.json").read_text()), {}
    mx.random.seed(0)
    for name, shape in tensor_shapes(config).items():
        if name.endswith("_proj.weight") and name.rsplit(".", 2)[-2] in settings().target_modules:
            layer = name.removesuffix(".weight")
            arrays[f"{layer}.lora_a"] = mx.random.normal((shape[1], settings().rank)) * 0.02
            arrays[f"{layer}.lora_b"] = mx.random.normal((settings().rank, shape[0])) * 0.02
    save_adapter(folder, arrays, settings(), int(config["num_hidden_layers"]))


def step(name: str, folder: Path, tokens: int) -> None:
    """One step; its result is left in the folder for the next one."""
    base, adapter, fused = folder / "model", folder / "adapter", folder / "fused"
    if name == "fuse":
        from mlx_ragtune.models.model_folder import read_config
        from mlx_ragtune.tuning.fused_folder import write_fused

        write_fused(base, adapter, fused, config=read_config(base))
    elif name == "check":
        from mlx_ragtune.tuning.merge import adapted_logits

        adapted_logits(base, adapter, [[7 + number % 200 for number in range(tokens)]])
    elif name == "export":
        from mlx_ragtune.gguf.writer import write_gguf

        write_gguf(fused, folder / "tuned.gguf", type="Q8_0", name="tuned")
    else:
        _training(base, tokens, update=name == "train")


def _training(base: Path, tokens: int, *, update: bool) -> None:
    import numpy as np

    from mlx_ragtune.clients.runtime_mlx import mx, nn
    from mlx_ragtune.tuning.adapters import apply_adapter
    from mlx_ragtune.tuning.load import load_base
    from mlx_ragtune.tuning.loop import group_objective
    from mlx_ragtune.tuning.recompute import recomputing
    from mlx_ragtune.tuning.schedule import micro_batches
    from mlx_ragtune.tuning.token_rows import TokenRow

    model = load_base(base, "4bit").model
    if update:
        apply_adapter(model, settings(), seed=0)
        row = TokenRow("row", "group", "grounded", np.arange(1, tokens + 1, dtype=np.int32), tokens - 16)
        (groups,) = micro_batches([row], tokens)
        model.train()
        with recomputing(model, True):
            mx.eval(nn.value_and_grad(model, group_objective)(model, groups))


def run_here(arguments: argparse.Namespace) -> None:
    """The step of a child process, and its peaks on stdout."""
    if arguments.limit_gib:
        limit = int(arguments.limit_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    started = time.perf_counter()
    step(arguments.step, Path(arguments.folder), arguments.tokens)
    peak = 0
    if arguments.step != "export":
        from mlx_ragtune.clients.runtime_mlx import mx

        peak = mx.get_peak_memory()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * SCALE
    print(json.dumps({"resident": resident, "mlx": peak, "seconds": time.perf_counter() - started}))


def measured(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The peaks of one step in a process of its own."""
    if name == "mlx_lm.fuse":
        return _peer(folder)
    command = [sys.executable, __file__, "--step", name, "--folder", str(folder), "--tokens", str(arguments.tokens)]
    command += ["--limit-gib", str(arguments.limit_gib)] if arguments.limit_gib else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"step": name, "failed": done.returncode}
    return {"step": name, **json.loads(done.stdout.splitlines()[-1])}


def _peer(folder: Path) -> dict[str, Any]:
    """mlx-lm's own fuse of the same base and adapter."""
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(done.returncode)\n"
    )
    command = [sys.executable, "-m", "mlx_lm", "fuse", "--model", str(folder / "model")]
    command += ["--adapter-path", str(folder / "adapter"), "--save-path", str(folder / "theirs")]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"step": "mlx_lm.fuse", "failed": done.returncode}
    resident = int(done.stdout.split()[-1]) * SCALE
    return {"step": "mlx_lm.fuse", "resident": resident, "mlx": 0, "seconds": time.perf_counter() - started}


def predicted(name: str, base: Path, tokens: int) -> int | None:
    """Bytes that ``ragtune plan`` expects of a step, without Python and its libraries; None for the peer."""
    from mlx_ragtune.gguf.sizes import convert_memory
    from mlx_ragtune.tuning import resources

    if name == "export":
        return convert_memory()
    if name == "fuse":
        return resources.merge_memory(base)
    if name == "check":
        return resources.logits_memory(base, prompt_tokens=tokens)
    if name == "load":
        return resources.load_memory(base, "4bit")
    return resources.train_memory(base, settings(), "4bit", row_tokens=tokens) if name == "train" else None


def main() -> None:
    """A line for each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SHAPES), default="0.6b")
    parser.add_argument("--layers", type=int, help="so many layers in place of all")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(USUAL))
    parser.add_argument("--tokens", type=int, default=64, help="tokens of a prompt, and of the update")
    parser.add_argument("--limit-gib", type=float, help="address space of each process")
    parser.add_argument("--folder", type=Path, help="working folder with four times the size of the model")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        run_here(arguments)
        return
    if arguments.layers:
        SHAPES[arguments.size]["num_hidden_layers"] = arguments.layers
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        size = write_model(folder / "model", arguments.size, None)
        write_adapter(folder / "model", folder / "adapter")
        rows = []
        for chosen in arguments.steps:
            print(f"  {chosen} …", file=sys.stderr)
            expected = predicted(chosen, folder / "model", arguments.tokens)
            rows.append({**measured(chosen, folder, arguments), "predicted": expected})
    shapes = tensor_shapes({**SHAPES[arguments.size], "model_type": "qwen3", "vocab_size": 151936,
                            "num_key_value_heads": 8, "head_dim": 128})  # fmt: skip
    largest = 2 * max(int(shape[0]) * (shape[1] if len(shape) > 1 else 1) for shape in shapes.values())
    report(rows, {"size": arguments.size, "weights": size, "largest_tensor": largest}, as_json=arguments.json)


def report(rows: list[dict[str, Any]], about: dict[str, Any], *, as_json: bool) -> None:
    """Print the rows as JSON or as lines, in GiB."""
    about["machine"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if as_json:
        print(json.dumps({**about, "rows": rows}, indent=2))
        return
    gib = 2**30
    print(f"random Qwen3 {about['size']}: {about['weights'] / gib:.2f} GiB of bfloat16, largest tensor "
          f"{about['largest_tensor'] / gib:.2f} GiB ({about['machine']})")  # fmt: skip
    for row in rows:
        if "failed" in row:
            print(f"  {row['step']:<12} failed with {row['failed']}")
            continue
        expected = f"predicted {row['predicted'] / gib:5.2f}" if row["predicted"] else ""
        print(f"  {row['step']:<12} resident {row['resident'] / gib:5.2f} GiB   MLX {row['mlx'] / gib:5.2f}   "
              f"{expected:<16} {row['seconds']:6.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
