"""Run by the tests of several machines: runs on one workbench; the other ranks follow and save their weights."""

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten
from mlx_ragtune.errors import DivergedError
from mlx_ragtune.recipe import StrengthSettings
from mlx_ragtune.tuning import compiled_step, training
from mlx_ragtune.tuning.follow import follow, lead, release
from mlx_ragtune.tuning.ranks import find_ranks
from mlx_ragtune.tuning.workbench import Workbench
from tests.tuning.made import base_settings, dataset_settings, examples, own_answers, train_settings, with_worse

MANY = compiled_step.Policy(bucket=16, ceiling=3, least=1)
"""Some shapes are compiled, on each rank those of its own micro-batches, and some are not."""
ROWS = {"train": with_worse(examples(6, 3)), "valid": with_worse(examples(8, 1)[6:]), "rehearsal": own_answers(16)}
RUNS: dict[str, dict[str, Any]] = {
    "plain": {"accumulation": 3, "tokens_per_step": 512},
    "one micro-batch for two ranks": {"accumulation": 1, "tokens_per_step": 4096, "dropout": 0.1},
    "diverges": {"accumulation": 3, "optimizer": "sgd", "learning_rate": 1e30, "clip_norm": None},
    "stored layers": {"accumulation": 3, "layers": 1, "frozen_store": True, "method": "dora"},
    "pruned": {"accumulation": 3, "evals_per_epoch": 4},
    "preference": {"accumulation": 3, "tokens_per_step": 512, "preference": {"method": "dpo"}},
    "half of the rows": {"accumulation": 2},
    "near the base": {"accumulation": 3, "tokens_per_step": 512, "kl": {"weight": 0.5, "tokens": "all"}},
    "rehearsal": {"accumulation": 2, "strength": StrengthSettings(scales=(0.5,))},
}


def prune(name: str, update: int, _loss: float) -> bool:
    """Whether to stop a run."""
    return name == "pruned" and update >= 2


def run(base: Path, folder: Path, names: list[str]) -> None:
    """Train the named runs; each writes its folder, and rank 0 writes ``told.json`` with the results."""
    ranks, told = find_ranks(), {}
    policy, compiled_step.ON_CPU = compiled_step.ON_CPU, MANY
    lead(base_settings())
    with Workbench(
        base, base_settings(), dataset=dataset_settings(), rows=ROWS, store=folder / "store", say=lambda _text: None
    ) as bench:
        for name in names:
            changes = {"epochs": 1.0, "batch_size": 2, "learning_rate": 1e-3} | RUNS[name]
            try:
                result = bench.train(
                    train_settings(**changes), folder=folder / name, seed=3, progress=lambda *_: None,
                    on_validation=partial(prune, name),
                    save_seconds=0.0, share=0.5 if name.startswith("half") else 1.0,
                    rehearsal_share=0.2 if name == "rehearsal" else None,
                )  # fmt: skip
                told[name] = asdict(result)
            except DivergedError as error:
                told[name] = {"error": str(error)}
    compiled_step.ON_CPU = policy
    (folder / "told.json").write_text(json.dumps({"size": ranks.size, "runs": told}, allow_nan=False))


def follow_and_save(base: Path, folder: Path) -> None:
    """Follow rank 0, and save the weights that this rank has at the end of each run."""
    compiled_step.ON_CPU = MANY
    finish, count = training.Training.finish, iter(range(100))

    def saving(self: training.Training, *given: Any, **options: Any) -> Any:
        weights = dict(tree_flatten(self.base.model.trainable_parameters()))
        mx.save_safetensors(str(folder / f"rank-1-{next(count)}.safetensors"), weights)
        return finish(self, *given, **options)

    training.Training.finish = saving  # type: ignore[method-assign]
    follow(lambda _model: base)


if __name__ == "__main__":
    if find_ranks().first:
        run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
        release()
    else:
        follow_and_save(Path(sys.argv[1]), Path(sys.argv[2]))
