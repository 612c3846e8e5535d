"""Run by the kill tests: one training run on a toy, with a checkpoint after every update."""

import json
import sys
from pathlib import Path

from mlx_ragtune.tuning.run import train
from tests.tuning.made import base_settings, dataset_settings, examples, train_settings, with_worse

if __name__ == "__main__":
    base, folder, changes = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    train(
        train_settings(**{"epochs": 3.0, "batch_size": 3, "accumulation": 1, "dropout": 0.1} | changes),
        base_settings(),
        dataset_settings(),
        base=base,
        rows={"train": with_worse(examples(6, 3)), "valid": with_worse(examples(8, 1)[6:])},
        folder=folder,
        seed=3,
        progress=lambda done, total, _note: print(done, total, flush=True),
        save_seconds=0.0,
    )
    print("finished", flush=True)
