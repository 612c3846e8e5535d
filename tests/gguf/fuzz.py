"""Mutated GGUF files through the importer: a model, or an error a user can read; never a crash or a hang.

python -m tests.gguf.fuzz 20000
"""

import random
import sys
import tempfile
import time
from pathlib import Path

from mlx_ragtune.errors import RagtuneError
from mlx_ragtune.gguf.reader import import_gguf
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.toy import write_toy_model

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)


def mutated(whole: bytes, draw: random.Random) -> bytes:
    """The file with one to four faults: flipped bytes, extreme numbers, cuts, swaps; mostly in its description."""
    data = bytearray(whole)
    for _ in range(draw.randint(1, 4)):
        end = len(data) if draw.random() < 0.1 else min(len(data), draw.choice((64, 2048, 16384)))
        at = draw.randrange(max(1, end))
        kind = draw.randrange(5)
        if kind == 0:
            data[at : at + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            width = draw.choice((1, 2, 4, 8))
            data[at : at + width] = (draw.choice(_EXTREMES) % 2 ** (8 * width)).to_bytes(width, "little")
        elif kind == 2:
            del data[at : at + draw.choice((1, 7, 500, 10**6))]
        elif kind == 3:
            data[at:at] = draw.randbytes(draw.choice((1, 8, 300)))
        else:
            other = draw.randrange(max(1, end))
            data[at : at + 8] = data[other : other + 8]
    return bytes(data)


def survives(data: bytes, folder: Path) -> bool:
    """Whether the file is imported; False for a clear error. Anything else is raised: it is a bug."""
    file = folder / "mutated.gguf"
    file.write_bytes(data)
    try:
        import_gguf(file, folder / "model")
    except RagtuneError as error:
        if not error.what:
            raise AssertionError("an error without a text") from error
        return False
    return True


def main(count: int) -> None:
    """Try ``count`` mutations of a toy model; prints how many of them were models, and the slowest."""
    with tempfile.TemporaryDirectory(prefix="ragtune-fuzz-") as name:
        folder = Path(name)
        write_toy_model(folder / "toy")
        write_gguf(folder / "toy", folder / "toy.gguf", type="Q4_K_M", name="toy")
        whole = (folder / "toy.gguf").read_bytes()
        models, slowest = 0, (0.0, -1)
        for seed in range(count):
            started = time.perf_counter()
            try:
                models += survives(mutated(whole, random.Random(seed)), folder)
            except BaseException:
                print(f"seed {seed}", file=sys.stderr)
                raise
            slowest = max(slowest, (time.perf_counter() - started, seed))
    print(f"{count} mutated files: {models} models, {count - models} clear errors, no crash; ", end="")
    print(f"slowest {slowest[0]:.2f} s (seed {slowest[1]})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
