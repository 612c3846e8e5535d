"""fuse: the adapter's delta, computed in float32, onto full-precision weights; a complete model folder."""

import json
from dataclasses import asdict
from itertools import islice

from mlx_ragtune.artifact import Draft
from mlx_ragtune.pipeline import Inputs
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Example, read_rows
from mlx_ragtune.tuning.fuse import fuse as merge

PROBES = 8
"""Rows whose prompts are run through adapter and fused model to compare their logits."""


def fuse(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write ``model/`` and ``parity.json``. Raises ArtifactError when the fused model is not the adapted one."""
    rows = list(islice(read_rows(inputs["dataset"] / "examples-valid.jsonl", Example), PROBES))
    report = merge(
        inputs["base"],
        inputs["train"],
        draft / "model",
        rows=rows,
        thinking=recipe.dataset.thinking == "on",
    )
    (draft / "parity.json").write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    draft.record(**asdict(report))
