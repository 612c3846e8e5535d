"""Our GGUF export against llama.cpp's converter and quantizer, on random Qwen3 models of real shapes.

    python benchmarks/export.py                                    # ours alone, 0.6 B, every type
    python benchmarks/export.py --size 4b --types BF16 Q8_0
    python benchmarks/export.py --types Q8_0 Q4_K_M --quantize ~/llama.cpp/build/bin/llama-quantize
    python benchmarks/export.py --converter ~/llama.cpp/convert_hf_to_gguf.py \
        --quantize ~/llama.cpp/build/bin/llama-quantize --tokenizer ~/models/Qwen3-0.6B

One process per side, alternating; medians of wall time, peak memory of the process and its children. The converter
supports real tokenizers only: ``--tokenizer`` is a folder with one. ``--python`` is an interpreter that has the
converter's requirements (torch, transformers). With ``--quantize`` alone, llama.cpp starts from an existing BF16
GGUF, and ragtune from the model folder.
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


def run(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak GiB (of the largest process among the command and its children)."""
    before = time.perf_counter()
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)\n"
        "sys.stderr.write(done.stderr[-2000:] if done.returncode else '')\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(done.returncode)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True, check=True)
    scale = 2**30 if platform.system() == "Darwin" else 2**20
    return time.perf_counter() - before, int(done.stdout.split()[-1]) / scale


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
    if arguments.quantize or (arguments.converter and not kind.endswith(("_M", "_S", "_K"))):
        sides["llama.cpp"] = theirs(model, folder / "theirs.gguf", kind, arguments)
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for repeat in range(arguments.repeats):
        for side in list(sides) if repeat % 2 == 0 else list(sides)[::-1]:
            parts = [run(command) for command in sides[side]]
            times[side].append((sum(seconds for seconds, _ in parts), max(peak for _, peak in parts)))
            print(f"  {kind} {side}: {times[side][-1][0]:.1f} s", file=sys.stderr)
    row: dict[str, Any] = {"type": kind, "bytes": (folder / "ours.gguf").stat().st_size}
    for side, runs in times.items():
        row[side] = {
            "seconds": round(statistics.median(seconds for seconds, _ in runs), 2),
            "peak_gib": round(statistics.median(peak for _, peak in runs), 2),
        }
    if "llama.cpp" in row:
        row["ratio"] = round(row["llama.cpp"]["seconds"] / row["ours"]["seconds"], 2)
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
        sides = "   ".join(
            f"{side} {row[side]['seconds']:7.1f} s {row[side]['peak_gib']:5.2f} GiB"
            for side in ("ours", "llama.cpp")
            if side in row
        )
        ratio = f"   {row['ratio']:.2f} ×, same tensors: {row['same_tensors']}" if "ratio" in row else ""
        print(f"  {row['type']:<7} {sides}{ratio}")


if __name__ == "__main__":
    main()
