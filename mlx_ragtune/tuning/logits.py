"""Next-token logits of a model folder in float32, for comparing two forms of a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_ragtune.artifact import Draft, digest_json
from mlx_ragtune.clients.file_digests import base_digest
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.tuning.layerwise import Layerwise
from mlx_ragtune.tuning.lean_kernels import lean_kernels
from mlx_ragtune.tuning.load import load_stored

LOGITS_VERSION = 3
"""Raised when the same model and prompts would give other logits."""
CHUNK_TOKENS = 512
"""Tokens that go through the layers at once. Attention over a long prompt at once makes arrays of more than 2^31 values
on a CPU (heads × tokens²), which ends in a crash or in the machine's memory."""


def logits_after(model: Any, prompts: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """Logits of the token after each prompt (token ids), computed in float32: shape [prompts, V].

    ``model`` was loaded lazily. Its layers are read one after the other and released: it cannot be used again.
    """
    with lean_kernels(model):
        logits = Layerwise(model).logits(prompts, chunk_tokens=CHUNK_TOKENS)
    mx.clear_cache()  # long prompts leave large freed buffers behind
    return logits


def next_token_logits(folder: Path, prompts: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """``logits_after`` for the model of a folder, of which one layer is in memory at a time."""
    return logits_after(load_stored(folder, lazy=True), prompts)


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
