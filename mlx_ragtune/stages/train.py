"""train: LoRA on the frozen base; the artifact is the checkpoint with the lowest validation loss."""

from pathlib import Path

from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.clients.machine import PROCESS_BYTES, MemoryNeed, memory_bytes, require_memory, usable_bytes
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.models.model_folder import check_base
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.example_files import read_examples
from mlx_ragtune.tuning.resources import fitting_changes, train_disk, train_memory
from mlx_ragtune.tuning.run import train as tune
from mlx_ragtune.tuning.start_adapter import check_start
from mlx_ragtune.tuning.train_checks import check_train
from mlx_ragtune.tuning.training import keep_result


def check(recipe: Recipe, base: Path) -> None:
    """Raise an error for an unsupported base, settings that do not fit it, or too little memory."""
    check_base(base, thinking=recipe.dataset.thinking == "on")
    check_train(recipe.train, base)
    check_start(recipe.train, base, model=recipe.base.model)
    need = memory(recipe, base)
    require_memory("train", need.bytes, fix=need.fix)


def memory(recipe: Recipe, base: Path) -> MemoryNeed:
    """The frozen weights, the adapter with its optimizer, and the activations of a micro-batch."""
    needed = train_memory(base, recipe.train, recipe.base.precision) + PROCESS_BYTES
    limit = usable_bytes(memory_bytes())
    changes = (
        None
        if needed <= limit
        else fitting_changes(base, recipe.train, recipe.base.precision, limit=limit - PROCESS_BYTES)
    )
    if changes is None:
        return MemoryNeed(needed)
    return MemoryNeed(needed, " ".join(["ragtune plan RECIPE", *(f"--set {key}={value}" for key, value in changes)]))


def disk_bytes(recipe: Recipe, base: Path) -> int:
    """Bytes of the checkpoints and the adapter."""
    return train_disk(base, recipe.train)


def train(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write ``adapters.safetensors``, ``adapter_config.json`` (mlx-lm reads both) and ``losses.jsonl``."""
    rows = read_examples(inputs["dataset"], rejected=recipe.train.preference is not None)
    if recipe.dataset.rehearsal is not None:
        rows["rehearsal"] = list(read_rows(inputs["rehearse"] / "rehearsal.jsonl", Example))
    with draft.track("training", 0) as track:
        result = tune(
            recipe.train,
            recipe.base,
            recipe.dataset,
            base=inputs["base"],
            rows=rows,
            folder=draft.folder,
            seed=recipe.seed,
            progress=track.reach,
        )
    keep_result(draft, result)
