"""Next-token logits of a model folder in float32, for comparing two forms of a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_ragtune.artifact import Draft, digest_json
from mlx_ragtune.clients.file_digests import base_digest
from mlx_ragtune.clients.runtime_mlx import mx, tree_map
from mlx_ragtune.tuning.head import hidden_states, logits_of
from mlx_ragtune.tuning.load import load_stored

LOGITS_VERSION = 1
"""Raised when the same model and prompts would give other logits."""
CHUNK_TOKENS = 2048
"""Tokens that go through the layers at once. Attention over a longer prompt at once makes arrays of more than
2^31 values on a CPU (heads × tokens²), which ends in a crash or in the machine's memory."""


def load_float32(folder: Path) -> Any:
    """The model of a folder with every weight in float32, in evaluation mode. Raises InputError if damaged."""
    model = load_stored(folder)
    model.update(tree_map(lambda weight: weight.astype(mx.float32), model.parameters()))
    model.eval()
    return model


def _last_state(model: Any, prompt: Sequence[int]) -> mx.array:
    """Hidden state of the last token, shape [1, D]; long prompts go through a cache in chunks."""
    tokens = mx.array(list(prompt))[None]
    if len(prompt) <= CHUNK_TOKENS:
        return hidden_states(model, tokens)[:, -1]
    from mlx_lm.models.cache import make_prompt_cache

    cache = make_prompt_cache(model)
    for start in range(0, len(prompt), CHUNK_TOKENS):
        states = hidden_states(model, tokens[:, start : start + CHUNK_TOKENS], cache)
        mx.eval(states, [layer.state for layer in cache])
    return states[:, -1]


def logits_after(model: Any, prompts: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """Logits of the token after each prompt (token ids): shape [prompts, V], float32."""
    rows = [np.array(logits_of(model, _last_state(model, prompt)).astype(mx.float32)) for prompt in prompts]
    mx.clear_cache()  # long prompts leave large freed buffers behind
    return np.concatenate(rows)


def next_token_logits(folder: Path, prompts: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """``logits_after`` for the model of a folder. Its memory is released before returning."""
    logits = logits_after(load_float32(folder), prompts)
    mx.clear_cache()
    return logits


def shared_logits(draft: Draft, folder: Path, prompts: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """As ``next_token_logits``, computed once for equal models and prompts: fuse and export need the same."""
    described = {
        "version": LOGITS_VERSION,
        "model": base_digest(folder),
        "prompts": digest_json(list(map(list, prompts))),
    }

    def compute(aside: Path) -> None:
        np.save(aside / "logits.npy", next_token_logits(folder, prompts))

    logits: npt.NDArray[np.float32] = np.load(draft.part("logits", described, compute) / "logits.npy")
    return logits
