"""``ragtune models --fit``: which base models can be tuned on a Mac with so much memory, from counted bytes.

For each stage the peak is that of ``ragtune plan``, for rows of ``ROW_TOKENS`` tokens. Training gets the highest
precision with which it fits, recomputed activations and smaller steps where they are needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from mlx_ragtune.clients.machine import PROCESS_BYTES, usable_bytes
from mlx_ragtune.gguf.quantize import QuantType
from mlx_ragtune.gguf.sizes import convert_memory, gguf_bytes, window_memory
from mlx_ragtune.models.known_bases import KNOWN_BASES, KnownBase
from mlx_ragtune.pages.tables import fill, render_table
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning.load import Precision
from mlx_ragtune.tuning.resources import (
    SizedModel,
    fitting_changes,
    fuse_memory,
    logits_memory,
    sized_config,
    train_memory,
)

ROW_TOKENS, TOKENS_PER_STEP, CONTEXT_TOKENS = 1024, 4096, 4096
MAC_CORES = 10
SERVED: tuple[QuantType, ...] = ("Q8_0", "Q4_K_M")
_GIB = 2**30


@dataclass(frozen=True)
class Training:
    """How a base is trained, and the peak in bytes."""

    precision: Precision
    grad_checkpoint: bool
    tokens_per_step: int
    bytes: int

    def __str__(self) -> str:
        """As in a table: ``4bit* 1024``, where * stands for recomputed activations and 1024 for smaller steps."""
        smaller = f" {self.tokens_per_step}" if self.tokens_per_step < TOKENS_PER_STEP else ""
        return f"{self.precision}{'*' if self.grad_checkpoint else ''}{smaller}"


@dataclass(frozen=True)
class Fit:
    """A base on a Mac: bytes of each stage at most. ``train`` is None where no setting fits.

    ``type`` is the larger GGUF type that is served within the limit, and the smallest one where none is.
    """

    base: str
    parameters: int
    train: Training | None
    fuse: int
    export: int
    type: QuantType
    serve: int
    short: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether every stage fits."""
        return not self.short


def settings() -> TrainSettings:
    """The training that is counted: rank 16 on all layers."""
    return TrainSettings(rank=16, alpha=32.0, tokens_per_step=TOKENS_PER_STEP)


def limit_of(memory_gb: float) -> int:
    """Bytes that a stage may use on a Mac that is sold with so many GB."""
    return usable_bytes(int(memory_gb * _GIB), platform="darwin")


def fits(memory_gb: float) -> list[Fit]:
    """A row for each known base, the smallest first."""
    return [_fit(base, limit_of(memory_gb)) for base in KNOWN_BASES]


def _training(model: SizedModel, limit: int) -> Training | None:
    highest: Precision = "bf16"
    changes = fitting_changes(
        model, settings(), highest, limit=limit - PROCESS_BYTES, row_tokens=ROW_TOKENS, platform="darwin"
    )
    if changes is None:
        return None
    values = dict(changes)
    precision = next(name for name in get_args(Precision) if name == values.get("base.precision", highest))
    recompute = "train.grad_checkpoint" in values
    tokens = int(values.get("train.tokens_per_step", TOKENS_PER_STEP))
    chosen = settings().model_copy(update={"grad_checkpoint": recompute, "tokens_per_step": tokens})
    needed = train_memory(model, chosen, precision, row_tokens=ROW_TOKENS, platform="darwin") + PROCESS_BYTES
    return Training(precision, recompute, tokens, needed)


def _fit(base: KnownBase, limit: int) -> Fit:
    model = sized_config(base.config)
    window = window_memory(base.config, context_tokens=CONTEXT_TOKENS) + PROCESS_BYTES
    served = {kind: gguf_bytes(base.config, kind) + window for kind in SERVED}
    kind = next((kind for kind in SERVED if served[kind] <= limit), SERVED[-1])
    train = _training(model, limit)
    fuse = fuse_memory(model) + PROCESS_BYTES
    compared = logits_memory(model) + PROCESS_BYTES
    export = max(convert_memory(cores=MAC_CORES) + PROCESS_BYTES, compared, served[kind])
    stages = {"fuse": fuse, "export": export, "serve": served[kind]}
    short = [] if train else ["train"]
    short += [name for name, needed in stages.items() if needed > limit]
    return Fit(base.name, base.parameters, train, fuse, export, kind, served[kind], tuple(short))


def as_json(found: Mapping[float, Sequence[Fit]]) -> list[dict[str, Any]]:
    """For each memory size in GB its limit and rows, in bytes."""
    return [
        {
            "memory_gb": size,
            "usable_bytes": limit_of(size),
            "bases": [{**asdict(row), "fits": row.fits} for row in rows],
        }
        for size, rows in found.items()
    ]


def fits_text(found: Mapping[float, Sequence[Fit]]) -> str:
    """The rows of one size with all stages, or of several sizes side by side."""
    table = _one_size(*next(iter(found.items()))) if len(found) == 1 else _side_by_side(found)
    notes = (
        "* with train.grad_checkpoint: true. A number after the precision is train.tokens_per_step, where "
        f"{TOKENS_PER_STEP} does not fit. Counted from the sizes of the models: rank 16 on all layers, rows of "
        f"{ROW_TOKENS} tokens, a window of {CONTEXT_TOKENS}. `ragtune plan RECIPE` counts a recipe, with any base of "
        "these architectures."
    )
    return f"{table}\n{fill(notes)}"


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f}"


def _short(name: str) -> str:
    return name.rpartition("/")[2].removesuffix("-Instruct")


def _one_size(memory_gb: float, rows: Sequence[Fit]) -> str:
    limit = limit_of(memory_gb)
    cells = [
        [
            _short(row.base), f"{row.parameters / 1e9:.1f}", str(row.train), _gib(row.train.bytes),
            _gib(row.fuse), _gib(row.export), _gib(row.serve), row.type,
        ]
        for row in rows
        if row.train and row.fits
    ]  # fmt: skip
    headers = ["base", "10⁹", "precision", "train", "fuse", "export", "serve", "as"]
    head = f"a Mac with {memory_gb:g} GB: {_gib(limit)} GiB can be used; GiB of each stage at most"
    left = [f"{_short(row.base)} ({', '.join(row.short)})" for row in rows if not row.fits]
    return "\n".join([head, render_table(headers, cells), *([fill(f"too large: {'; '.join(left)}")] if left else [])])


def _side_by_side(found: Mapping[float, Sequence[Fit]]) -> str:
    names = [row.base for row in next(iter(found.values()))]
    rows = {size: {row.base: row for row in rows} for size, rows in found.items()}
    cells = [[_short(name), *(_cell(rows[size][name]) for size in found)] for name in names]
    return render_table(["base", *(f"{size:g} GB" for size in found)], cells)


def _cell(row: Fit) -> str:
    """``4bit* 1024, Q8_0``: how it is trained and served; a dash where a stage does not fit."""
    return f"{row.train}, {row.type}" if row.fits else "–"
