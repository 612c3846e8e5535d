"""The other side of ``preference.py``: ORPO with mlx-lm-lora's own loss and batches, run by the Python that has it.

    PYTHON benchmarks/preference_peer.py ROWS.json       # written by preference.py

Gradients are accumulated as in its trainer. ``mx.compile`` is left out: on a CPU it calls the C++ compiler for minutes.
On Linux it gets the same BLAS as our side, SciPy's OpenBLAS.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def main(job: dict[str, Any]) -> dict[str, float]:
    sys.path.append(str(Path(__file__).parents[1]))
    from mlx_lm.models import llama
    from mlx_lm.tuner.utils import linear_to_lora_layers

    from mlx_ragtune.clients.runtime_mlx import mx, nn, optimizers, tree_map

    orpo = import_module("mlx_lm_lora.trainer.orpo_trainer")
    mx.random.seed(0)
    model = llama.Model(llama.ModelArgs.from_dict(job["config"]))
    model.freeze()
    linear_to_lora_layers(model, job["config"]["num_hidden_layers"], job["lora"])
    mx.eval(model.parameters())
    model.train()
    value_and_grad = nn.value_and_grad(model, orpo.orpo_loss_from_model)
    optimizer = optimizers.AdamW(learning_rate=job["learning_rate"])

    def epoch() -> dict[str, float]:
        summed, right, margin, pairs = None, 0.0, 0.0, 0
        batches = orpo.iterate_orpo_batches(job["rows"], job["batch"], 4096)
        for number, batch in zip(range(1, len(job["rows"]) // job["batch"] + 1), batches, strict=False):
            (_, _, _, metrics), gradient = value_and_grad(model, *map(mx.array, batch), beta=job["beta"])
            summed = gradient if summed is None else tree_map(mx.add, summed, gradient)
            mx.eval(summed, metrics)
            count = batch[0].shape[0]
            pairs, right = pairs + count, right + metrics["accuracies"].item() * count
            margin += metrics["margins"].item() * count / job["beta"]
            if number % job["accumulation"] == 0:
                optimizer.update(model, tree_map(lambda gradient: gradient / job["accumulation"], summed))
                mx.eval(model.trainable_parameters(), optimizer.state)
                summed = None
        return {"margin": margin / pairs, "accuracy": right / pairs}

    figures = epoch()
    mx.reset_peak_memory()
    started, worked = time.perf_counter(), time.process_time()
    epoch()
    return {
        **figures,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - worked,
        "peak_gib": mx.get_peak_memory() / 2**30,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
