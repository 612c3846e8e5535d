"""train: LoRA on the frozen base; the artifact is the checkpoint with the lowest validation loss."""

from pathlib import Path

from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.clients.machine import require_memory
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.models.model_folder import check_base
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.example_files import read_examples
from mlx_ragtune.tuning.resources import train_disk, train_memory
from mlx_ragtune.tuning.run import train as tune
from mlx_ragtune.tuning.start_adapter import check_start
from mlx_ragtune.tuning.train_checks import check_train
from mlx_ragtune.tuning.training import keep_result


def check(recipe: Recipe, base: Path) -> None:
    """Raise an error for an unsupported base, settings that do not fit it, or too little memory."""
    check_base(base, thinking=recipe.dataset.thinking == "on")
    check_train(recipe.train, base)
    check_start(recipe.train, base, model=recipe.base.model)
    require_memory(
        "train",
        train_memory(base, recipe.train, recipe.base.precision),
        fix="lower train.tokens_per_step, set train.grad_checkpoint: true, or set base.precision: 4bit",
    )


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
