"""Merges an adapter into full-precision weights in float32, writes a complete folder, and compares logits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.models.model_folder import check_weights, read_config
from mlx_ragtune.models.prompts import check_prompt_lengths, load_tokenizer, prompt_tokens
from mlx_ragtune.records import Message
from mlx_ragtune.tuning.adapters import load_adapter
from mlx_ragtune.tuning.fused_folder import write_fused
from mlx_ragtune.tuning.load import load_stored
from mlx_ragtune.tuning.logits import logits_after, next_token_logits

Logits = Callable[[Path, Sequence[Sequence[int]]], npt.NDArray[np.float32]]
"""Next-token logits [prompts, V] of a model folder in float32."""
AGREEMENT = {"float32": 2e-3, "bfloat16": 1.0, "float16": 0.25}
"""Largest allowed |Δ logit| between base plus adapter and the fused model, by the stored type of the weights."""


@dataclass(frozen=True)
class FuseReport:
    """Number of fused layers, the saved type, and the difference between the fused model and base plus adapter.

    ``max_logit_difference`` is the largest |Δ logit| between the two; ``top1_agreement`` the share of prompts
    with the same most likely next token; ``adapter_effect`` the largest |Δ logit| between base and adapter.
    """

    fused_layers: int
    dtype: str
    prompts: int
    max_logit_difference: float
    top1_agreement: float
    adapter_effect: float


def adapted_logits(
    base: Path, adapter: Path, tokens: Sequence[Sequence[int]], *, strength: float | None = None
) -> npt.NDArray[np.float32]:
    """Next-token logits [prompts, V], float32, of base plus adapter without fusing; ``strength`` as in ``fuse``.

    One layer is in memory at a time. Raises ArtifactError for a damaged adapter.
    """
    model = load_stored(base, lazy=True)
    load_adapter(model, adapter, strength=strength)
    return logits_after(model, tokens)


def fuse(
    base: Path,
    adapter: Path,
    target: Path,
    *,
    prompts: Sequence[Sequence[Message]],
    thinking: bool,
    logits: Logits = next_token_logits,
    strength: float | None = None,
) -> FuseReport:
    """Write the fused model to ``target`` and compare it with base plus adapter on the prompts.

    ``logits`` computes those of a model folder. ``strength`` is a factor on the adapter as it was trained; None leaves
    it as the folder has it.

    Works in float32 on the full-precision base, even when training used a quantized one. The same base and
    adapter give the same files. Raises InputError for a prompt beyond the base's window, ArtifactError when the
    saved model's logits differ from those of base plus adapter or the adapter changes nothing, and ToolError
    when the folder cannot be written.
    """
    config = read_config(base)
    tokenizer = load_tokenizer(base)
    tokens = [prompt_tokens(messages, tokenizer, thinking=thinking) for messages in prompts]
    check_prompt_lengths(tokens, window=int(config["max_position_embeddings"]))
    check_weights(base, config)
    before = logits(base, tokens)
    adapted = adapted_logits(base, adapter, tokens, strength=strength)
    fused = write_fused(base, adapter, target, config=config, strength=strength)
    after = logits(target, tokens)
    load_tokenizer(target)
    report = FuseReport(
        fused_layers=fused.layers,
        dtype=fused.dtype,
        prompts=len(prompts),
        max_logit_difference=float(np.abs(after - adapted).max()),
        top1_agreement=float((after.argmax(-1) == adapted.argmax(-1)).mean()),
        adapter_effect=float(np.abs(adapted - before).max()),
    )
    _check(report, adapter)
    return report


def _check(report: FuseReport, adapter: Path) -> None:
    limit = AGREEMENT[report.dtype]
    if not report.max_logit_difference <= limit:
        raise ArtifactError(
            f"the fused model differs from base plus adapter: logits differ by {report.max_logit_difference:.3g}, "
            f"the limit for {report.dtype} is {limit}",
            where=str(adapter),
            fix="run `ragtune train RECIPE --redo`; if the error stays, report it as a bug",
        )
    if report.fused_layers == 0 or report.adapter_effect <= report.max_logit_difference:
        raise ArtifactError(
            f"the adapter changes nothing (logits differ by {report.adapter_effect:.3g} from those of the base)",
            where=str(adapter),
            fix="train longer, or raise train.learning_rate",
        )
