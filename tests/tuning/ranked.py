"""Run by the test of several machines: one training run; every rank is told the losses."""

import json
import sys
from pathlib import Path

from mlx_ragtune.tuning.ranks import find_ranks
from mlx_ragtune.tuning.run import train
from tests.tuning.made import base_settings, dataset_settings, examples, train_settings


def run(base: Path, folder: Path) -> None:
    """Train on this rank; the first one writes ``told.json``."""
    ranks = find_ranks()
    result = train(
        train_settings(epochs=1.0, batch_size=2, accumulation=3, tokens_per_step=512, learning_rate=1e-3),
        base_settings(),
        dataset_settings(),
        base=base,
        rows={"train": examples(6, 3), "valid": examples(8, 1)[6:]},
        folder=folder,
        seed=3,
        progress=lambda *_: None,
    )
    if ranks.first:
        told = {"size": ranks.size, "best": result.best_valid_loss, "update": result.best_update}
        (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
