"""Our GGUF export against llama.cpp's converter and quantizer, on random Qwen3 models of real shapes.

    python benchmarks/export.py                                    # ours alone, 0.6 B, every type
    python benchmarks/export.py --size 4b --types BF16 Q8_0
    python benchmarks/export.py --types Q8_0 Q4_K_M --quantize ~/llama.cpp/build/bin/llama-quantize
    python benchmarks/export.py --converter ~/llama.cpp/convert_hf_to_gguf.py \
        --quantize ~/llama.cpp/build/bin/llama-quantize --tokenizer ~/models/Qwen3-0.6B

One process per side, alternating; medians of wall time and CPU time (user and system), peak memory of the process and
its children. CPU time says more than wall time on a machine that does other work. The third side copies a file of the
same size and waits until it is on the disk, as ragtune does and llama.cpp does not: no export takes less. The fourth,
``start``, only loads the packages that ragtune's side loads.

The converter supports real tokenizers only: ``--tokenizer`` is a folder with one. ``--python`` is an interpreter that
has the converter's requirements (torch, transformers). With ``--quantize`` alone, llama.cpp starts from an existing
BF16 GGUF, and ragtune from the model folder. ``llama-quantize`` is built from the source in llama-cpp-python's sdist:

    pip install scikit-build-core ninja
    pip download --no-deps --no-binary :all: --no-build-isolation llama-cpp-python==0.3.36
    tar xzf llama_cpp_python-0.3.36.tar.gz
    cmake -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
        llama_cpp_python-0.3.36/vendor/llama.cpp
    cmake --build build --target llama-quantize          # build/bin/llama-quantize
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.architectures import tensor_shapes
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.models.weights import write_safetensors

SHAPES = {
    "0.6b": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "4b": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
}
VOCABULARY, HEAD, KV_HEADS = 151936, 128, 8
TYPES = ("F16", "BF16", "Q8_0", "Q4_K_M")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "generation_config.json")


def write_model(folder: Path, size: str, tokenizer: Path | None) -> int:
    """Size in bytes of a random Qwen3 folder in bfloat16, which is written."""
    write_toy_model(folder, architecture="qwen3")
    config = json.loads((folder / "config.json").read_text())
    config |= {**SHAPES[size], "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "vocab_size": VOCABULARY}
    config |= {"torch_dtype": "bfloat16", "rope_theta": 1_000_000.0}
    for name in TOKENIZER_FILES if tokenizer else ():
        if tokenizer and (tokenizer / name).exists():
            (folder / name).write_bytes((tokenizer / name).read_bytes())
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    shapes = sorted(tensor_shapes(config).items())
    write_safetensors(folder / "model.safetensors", shapes, "BF16", pieces([shape for _, shape in shapes]))
    return (folder / "model.safetensors").stat().st_size


def pieces(shapes: list[tuple[int, ...]]) -> Iterator[npt.NDArray[np.uint16]]:
    """Normal values of deviation 0.02 as bfloat16, some rows at a time: one drawn block again and again."""
    drawn = np.random.default_rng(0).standard_normal(2**24, dtype=np.float32) * np.float32(0.02)
    block = (drawn.view(np.uint32) >> 16).astype(np.uint16)
    for shape in shapes:
        left = int(np.prod(shape))
        while left:
            count = min(left, block.size)
            yield block[:count]
            left -= count


@dataclass(frozen=True)
class Cost:
    """What a side took: seconds on the clock, CPU seconds, and the peak of its largest process."""

    seconds: float
    cpu_seconds: float
    peak_gib: float


def run(commands: list[list[str]]) -> Cost:
    """The cost of the commands one after the other."""
    code = (
        "import json, resource, subprocess, sys, time\n"
        "started = time.perf_counter()\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)\n"
        "seconds = time.perf_counter() - started\n"
        "sys.stderr.write(done.stderr[-2000:] if done.returncode else '')\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss]))\n"
        "sys.exit(done.returncode)\n"
    )
    scale = 2**30 if platform.system() == "Darwin" else 2**20
    costs = []
    for command in commands:
        done = subprocess.run([sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True, check=True)
        costs.append(json.loads(done.stdout.splitlines()[-1]))
    return Cost(sum(cost[0] for cost in costs), sum(cost[1] for cost in costs), max(cost[2] for cost in costs) / scale)


COPY = (
    "import os, shutil, sys\n"
    "with open(sys.argv[1], 'rb') as source, open(sys.argv[2], 'wb') as target:\n"
    "    shutil.copyfileobj(source, target, 2**23)\n"
    "    target.flush()\n"
    "    os.fsync(target.fileno())\n"
)
"""A plain copy that is on the disk at its end."""


START = "import transformers, mlx_ragtune.gguf.writer; transformers.PreTrainedTokenizerFast"
"""What our side loads before it writes; a run of the pipeline loads it once."""


def ours(model: Path, target: Path, kind: str) -> list[list[str]]:
    """The command of our side."""
    return [[sys.executable, __file__, "--write", str(model), str(target), kind]]


def theirs(model: Path, target: Path, kind: str, arguments: argparse.Namespace) -> list[list[str]]:
    """The commands of llama.cpp's side; K-quants take two."""
    if not arguments.converter:
        given = target.with_name("given.gguf")
        if not given.exists():
            write_gguf(model, given, type="BF16", name="benchmark")
        return [[str(arguments.quantize), str(given), str(target), kind, str(os.cpu_count())]]
    convert = [arguments.python, str(arguments.converter), str(model), "--outfile"]
    if kind in ("F16", "BF16", "Q8_0", "F32"):
        return [[*convert, str(target), "--outtype", kind.lower()]]
    middle = target.with_suffix(".bf16.gguf")
    return [
        [*convert, str(middle), "--outtype", "bf16"],
        [str(arguments.quantize), str(middle), str(target), kind, str(os.cpu_count())],
    ]


def measure(kind: str, model: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of both sides for one type."""
    sides = {"ours": ours(model, folder / "ours.gguf", kind)}
    sides["start"] = [[sys.executable, "-c", START]]
    sides["copy"] = [[sys.executable, "-c", COPY, str(folder / "ours.gguf"), str(folder / "copy.gguf")]]
    if arguments.quantize or (arguments.converter and not kind.endswith(("_M", "_S", "_K"))):
        sides["llama.cpp"] = theirs(model, folder / "theirs.gguf", kind, arguments)
    costs: dict[str, list[Cost]] = {side: [] for side in sides}
    run(sides["ours"])  # warms the page cache, and writes the file that is copied
    for repeat in range(arguments.repeats):
        for side in list(sides) if repeat % 2 == 0 else list(sides)[::-1]:
            costs[side].append(run(sides[side]))
            print(f"  {kind} {side}: {costs[side][-1].seconds:.1f} s", file=sys.stderr)
    row: dict[str, Any] = {"type": kind, "bytes": (folder / "ours.gguf").stat().st_size}
    for side, measured in costs.items():
        row[side] = {
            name: round(statistics.median(getattr(cost, name) for cost in measured), 2)
            for name in ("seconds", "cpu_seconds", "peak_gib")
        }
    row["writing"] = round(row["ours"]["seconds"] - row["start"]["seconds"], 2)
    row["times_a_copy"] = round(row["ours"]["seconds"] / row["copy"]["seconds"], 2)
    if "llama.cpp" in row:
        row["ratio"] = round(row["llama.cpp"]["seconds"] / row["ours"]["seconds"], 2)
        row["ratio_of_writing"] = round(row["llama.cpp"]["seconds"] / row["writing"], 2)
        row["cpu_ratio"] = round(row["llama.cpp"]["cpu_seconds"] / row["ours"]["cpu_seconds"], 2)
        row["same_tensors"] = same_tensors(folder / "ours.gguf", folder / "theirs.gguf")
    return row


def same_tensors(first: Path, second: Path) -> bool:
    """Whether both files hold the same tensors, byte for byte."""
    from gguf import GGUFReader

    left, right = ({t.name: t for t in GGUFReader(path).tensors} for path in (first, second))
    return left.keys() == right.keys() and all(np.array_equal(left[name].data, right[name].data) for name in left)


def main() -> None:
    """A line for each type."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SHAPES), default="0.6b")
    parser.add_argument("--types", nargs="+", default=list(TYPES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--converter", type=Path, help="llama.cpp's convert_hf_to_gguf.py")
    parser.add_argument("--quantize", type=Path, help="llama.cpp's llama-quantize")
    parser.add_argument("--python", default=sys.executable, help="Python interpreter for the converter")
    parser.add_argument("--tokenizer", type=Path, help="folder of a real tokenizer")
    parser.add_argument(
        "--folder", type=Path, help="working folder on a fast disk with three times the size of the model"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        model, target, kind = arguments.write
        write_gguf(Path(model), Path(target), type=kind, name="benchmark")
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        size = write_model(folder / "model", arguments.size, arguments.tokenizer)
        rows = [measure(kind, folder / "model", folder, arguments) for kind in arguments.types]
    about = {
        "size": arguments.size,
        "model_gib": round(size / 2**30, 2),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "date": time.strftime("%Y-%m-%d"),
    }
    if arguments.json:
        print(json.dumps({**about, "rows": rows}, indent=2))
        return
    print(f"random Qwen3 {arguments.size}, {about['model_gib']} GiB of bfloat16 ({about['machine']}, {about['date']})")
    for row in rows:
        for side in ("ours", "start", "llama.cpp", "copy"):
            if side in row:
                cost = row[side]
                print(
                    f"  {row['type']:<7} {side:<10} {cost['seconds']:7.1f} s   cpu {cost['cpu_seconds']:7.1f} s   "
                    f"{cost['peak_gib']:5.2f} GiB"
                )
        if "ratio" in row:
            print(
                f"    {row['ratio']:.2f} × ({row['ratio_of_writing']:.2f} × without our start), "
                f"by CPU time {row['cpu_ratio']:.2f} ×, same tensors: {row['same_tensors']}"
            )
        print(f"    {row['times_a_copy']:.2f} × the time of a plain copy")


if __name__ == "__main__":
    main()
