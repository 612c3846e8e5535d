"""Next-token logits of a model folder in float32, for comparing one form of a model with another."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_ragtune.clients.runtime_mlx import mx, tree_map
from mlx_ragtune.tuning.head import hidden_states, logits_of


def load_float32(folder: Path) -> Any:
    """The model of a folder with every weight in float32."""
    from mlx_lm.utils import load_model

    model, _ = load_model(folder)
    model.update(tree_map(lambda one: one.astype(mx.float32), model.parameters()))
    model.eval()
    return model


def logits_after(model: Any, prompts: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """Logits of the token after each prompt: shape [prompts, V], float32."""
    rows = []
    for prompt in prompts:
        last = hidden_states(model, mx.array(list(prompt))[None])[:, -1]
        rows.append(np.array(logits_of(model, last).astype(mx.float32)))
    return np.concatenate(rows)


def next_token_logits(folder: Path, prompts: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """``logits_after`` for the model of a folder."""
    return logits_after(load_float32(folder), prompts)
