"""Does a GGUF file in llama.cpp say what the model says in MLX? Compared on the next token after real prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.gguf.quantize import QuantType
from mlx_ragtune.models.prompts import Prompt

Floats = npt.NDArray[np.float64]
Listed = Sequence[Sequence[tuple[int, float]]]
"""For each prompt the engine's most probable next tokens with their log probabilities."""
TOP = 64
"""Next tokens that are compared for each prompt."""


@dataclass(frozen=True)
class Limit:
    """What a type may cost: mean KL divergence in nats, and the least share of equal first choices."""

    mean_kl: float
    top1_agreement: float


LIMITS: Mapping[QuantType, Limit] = {
    "F32": Limit(1e-4, 0.99),
    "F16": Limit(1e-3, 0.95),
    "BF16": Limit(0.02, 0.90),
    "Q8_0": Limit(0.05, 0.85),
    "Q6_K": Limit(0.2, 0.75),
    "Q5_K_M": Limit(0.3, 0.70),
    "Q4_K_M": Limit(0.6, 0.60),
    "Q4_K_S": Limit(0.7, 0.55),
}
"""Loose multiples of what ``ragtune parity recipes/demo.yaml --type all`` prints (``benchmarks/README.md``)."""
CLOSE = 0.05
"""First choices whose log probabilities differ by less are a toss-up: either counts as agreement."""


@dataclass(frozen=True)
class Parity:
    """How far the engine's next-token distributions are from MLX's, over the prompts.

    ``mean_kl`` is KL(MLX ‖ engine) over the engine's listed tokens and all others as one, in nats: a lower
    bound of the whole divergence, never negative.
    """

    type: QuantType
    prompts: int
    tokens_equal: bool
    max_logprob_difference: float
    top1_agreement: float
    mean_kl: float


def log_softmax(logits: npt.ArrayLike) -> Floats:
    """Natural log probabilities along the last axis, float64."""
    values = np.asarray(logits, dtype=np.float64)
    shifted = values - values.max(-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def _divergence(ours: Floats, theirs: Floats) -> float:
    """KL of two distributions given by log probabilities of the same listed tokens, the others as one token."""
    rest = [max(1e-12, 1.0 - float(np.exp(one).sum())) for one in (ours, theirs)]
    return float(np.sum(np.exp(ours) * (ours - theirs))) + rest[0] * float(np.log(rest[0] / rest[1]))


def compare_next_tokens(
    kind: QuantType,
    logits: npt.ArrayLike,
    engine: Sequence[Sequence[tuple[int, float]]],
    *,
    tokens_equal: bool,
) -> Parity:
    """``logits`` [P, V] from MLX against the engine's (id, log probability) lists for the same P prompts."""
    ours = log_softmax(logits)
    differences, kls, agree = [], [], 0
    for row, listed in zip(ours, engine, strict=True):
        ids = np.array([one for one, _ in listed])
        theirs = np.array([logprob for _, logprob in listed])
        differences.append(float(np.abs(row[ids] - theirs).max()))
        kls.append(_divergence(row[ids], theirs))
        best = int(ids[theirs.argmax()])
        agree += bool(row.max() - row[best] <= CLOSE)
    return Parity(
        type=kind,
        prompts=len(engine),
        tokens_equal=tokens_equal,
        max_logprob_difference=max(differences),
        top1_agreement=agree / len(engine),
        mean_kl=float(np.mean(kls)),
    )


def check_parity(parity: Parity, *, what: str) -> None:
    """Raise ArtifactError when the file does not say what the model says."""
    limit = LIMITS[parity.type]
    if not parity.tokens_equal:
        raise ArtifactError(
            f"{what}: the engine splits the prompts into other tokens than training did",
            fix="check that text is NFC and the base's tokenizer is whole; then ragtune export RECIPE --redo",
        )
    if not parity.mean_kl <= limit.mean_kl or parity.top1_agreement < limit.top1_agreement:
        raise ArtifactError(
            f"{what}: the GGUF file is not the model: mean KL {parity.mean_kl:.3g} (limit {limit.mean_kl:g}), "
            f"same first token {parity.top1_agreement:.0%} (limit {limit.top1_agreement:.0%})",
            fix="ragtune export RECIPE --redo, or a larger export.type",
        )


def effect_size(base: Sequence[Sequence[tuple[int, float]]], tuned: Sequence[Sequence[tuple[int, float]]]) -> float:
    """Mean KL(tuned ‖ base) in the engine over tokens that both list, in nats: what tuning changed as served."""
    kls = []
    for before, after in zip(base, tuned, strict=True):
        known = dict(before)
        floor = min(known.values())
        kls.append(sum(float(np.exp(p)) * (p - known.get(token, floor)) for token, p in after))
    return float(np.mean(kls))


def check_effect(effect: float, noise: float) -> None:
    """Raise ArtifactError when the tuned file differs from the base by no more than quantization moves it."""
    if not effect > 2 * noise:
        raise ArtifactError(
            f"the adapter's effect was lost: tuned and base differ by {effect:.3g} nats, quantizing moves {noise:.3g}",
            fix="choose a larger export.type, or train longer",
        )


def in_engine(
    gguf: Path, prompts: Sequence[Prompt], *, thinking: bool, adapter: Path | None = None
) -> tuple[bool, Listed]:
    """Whether llama.cpp renders and splits every prompt as training did, and its most probable next tokens."""
    context = max(len(one.tokens) for one in prompts) + 16
    with LlamaCppServer(gguf, context_tokens=context, adapter=adapter) as server:
        equal = all(server.tokenize(server.render(one.messages, think=thinking)) == list(one.tokens) for one in prompts)
        return equal, [server.next_tokens(one.tokens, TOP) for one in prompts]


def compare_with_model(
    kind: QuantType, logits: npt.ArrayLike, gguf: Path, prompts: Sequence[Prompt], *, thinking: bool
) -> tuple[Parity, Listed]:
    """A GGUF file against the logits [P, V] of the folder it was written from, and what the engine listed."""
    equal, listed = in_engine(gguf, prompts, thinking=thinking)
    return compare_next_tokens(kind, logits, listed, tokens_equal=equal), listed
