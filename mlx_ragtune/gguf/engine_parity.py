"""Compares a GGUF file in llama.cpp with its model in MLX, by the next token after real prompts."""

import math
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
"""For each prompt, the engine's most probable next tokens (id, log probability in nats)."""
TOP = 64
"""How many next tokens are compared for each prompt."""


@dataclass(frozen=True)
class Limit:
    """Limits for a quantization type: largest mean KL divergence in nats, smallest share of equal top tokens."""

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
"""Two tokens whose log probabilities differ by less are tied: either one counts as agreement.

A divergence D stands for noise of about √(2D) in each log probability (its second-order expansion), so tokens that
differ by less than twice that are tied as well, up to ``MOST_CLOSE``: a model with a nearly flat distribution has no
top token to agree on.
"""
MOST_CLOSE = 0.5


@dataclass(frozen=True)
class Parity:
    """Difference between the next-token distributions of MLX and the engine, over the prompts.

    ``mean_kl`` is KL(MLX ‖ engine) in nats over the tokens that the engine lists, with all others merged into
    one: a lower bound of the full divergence, never negative.
    """

    type: QuantType
    prompts: int
    tokens_equal: bool
    max_logprob_difference: float
    top1_agreement: float
    mean_kl: float


def log_softmax(logits: npt.ArrayLike) -> Floats:
    """Natural log probabilities along the last axis, float64, same shape."""
    values = np.asarray(logits, dtype=np.float64)
    shifted = values - values.max(-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def _divergence(ours: Floats, theirs: Floats) -> float:
    """KL divergence of two distributions over the same listed tokens, with all other tokens merged into one."""
    rest = [max(1e-12, 1.0 - float(np.exp(logprobs).sum())) for logprobs in (ours, theirs)]
    return float(np.sum(np.exp(ours) * (ours - theirs))) + rest[0] * float(np.log(rest[0] / rest[1]))


def _tied_within(divergence: float) -> float:
    return max(CLOSE, min(MOST_CLOSE, 2 * math.sqrt(2 * max(0.0, divergence))))


def compare_next_tokens(
    kind: QuantType,
    logits: npt.ArrayLike,
    engine: Sequence[Sequence[tuple[int, float]]],
    *,
    tokens_equal: bool,
) -> Parity:
    """Compare ``logits`` [P, V] from MLX with the engine's (id, log probability) lists for the same P prompts."""
    ours = log_softmax(logits)
    differences, kls, agree = [], [], 0
    for row, listed in zip(ours, engine, strict=True):
        ids = np.array([token for token, _ in listed])
        theirs = np.array([logprob for _, logprob in listed])
        differences.append(float(np.abs(row[ids] - theirs).max()))
        kls.append(_divergence(row[ids], theirs))
        best = int(ids[theirs.argmax()])
        agree += bool(row.max() - row[best] <= _tied_within(kls[-1]))
    return Parity(
        type=kind,
        prompts=len(engine),
        tokens_equal=tokens_equal,
        max_logprob_difference=max(differences),
        top1_agreement=agree / len(engine),
        mean_kl=float(np.mean(kls)),
    )


def check_parity(parity: Parity, *, what: str) -> None:
    """Raise ArtifactError when the file differs from its model by more than its type allows."""
    limit = LIMITS[parity.type]
    if not parity.tokens_equal:
        raise ArtifactError(
            f"{what}: llama.cpp tokenizes the prompts differently than training did",
            fix="fetch the base again, then run `ragtune export RECIPE --redo`",
        )
    if not parity.mean_kl <= limit.mean_kl or parity.top1_agreement < limit.top1_agreement:
        raise ArtifactError(
            f"{what}: the GGUF file differs from the model: mean KL {parity.mean_kl:.3g} (limit {limit.mean_kl:g}), "
            f"same top token {parity.top1_agreement:.0%} (limit {limit.top1_agreement:.0%})",
            fix="choose a larger export.type, or run `ragtune export RECIPE --redo`",
        )


def effect_size(base: Sequence[Sequence[tuple[int, float]]], tuned: Sequence[Sequence[tuple[int, float]]]) -> float:
    """Mean KL(tuned ‖ base) in nats as served: a lower bound, at least 0, from the tokens that the engine lists."""
    return float(np.mean([_least_kl(dict(after), dict(before)) for before, after in zip(base, tuned, strict=True)]))


def _least_kl(p: Mapping[int, float], q: Mapping[int, float]) -> float:
    """The larger of two lower bounds on KL(p ‖ q) from listed log-probabilities, and 0.

    Both take all tokens that are not told apart as one outcome, which cannot raise a divergence (data processing
    inequality). The first tells apart the tokens that both list, the second all of p's: a token that q does not list
    is at most as probable as its last one.
    """
    shared = p.keys() & q.keys()
    bounds = [0.0]
    for told in (shared, p.keys()):
        apart = sum(float(np.exp(p[token])) * (p[token] - q.get(token, min(q.values()))) for token in told)
        left = max(1e-9, 1.0 - sum(float(np.exp(p[token])) for token in told))
        others = max(1e-9, 1.0 - sum(float(np.exp(q[token])) for token in shared))
        bounds.append(apart + left * float(np.log(left / others)))
    return max(bounds)


def check_effect(effect: float, noise: float) -> None:
    """Raise ArtifactError when quantization noise exceeds the fine-tuning effect (both in nats)."""
    if not effect > 2 * noise:
        raise ArtifactError(
            f"quantization noise exceeds the fine-tuning effect: tuned and base differ by {effect:.3g} nats, "
            f"quantization alone by {noise:.3g}",
            fix="choose a larger export.type, train longer, or raise train.learning_rate",
        )


def in_engine(
    gguf: Path, prompts: Sequence[Prompt], *, thinking: bool, adapter: Path | None = None
) -> tuple[bool, Listed]:
    """(whether llama.cpp renders and tokenizes every prompt as training did, its most probable next tokens)."""
    context = max(len(prompt.tokens) for prompt in prompts) + 16
    with LlamaCppServer(gguf, context_tokens=context, adapter=adapter) as server:
        equal = all(
            server.tokenize(server.render(prompt.messages, think=thinking), whole=True) == list(prompt.tokens)
            for prompt in prompts
        )
        return equal, [server.next_tokens(prompt.tokens, TOP) for prompt in prompts]


def compare_with_model(
    kind: QuantType, logits: npt.ArrayLike, gguf: Path, prompts: Sequence[Prompt], *, thinking: bool
) -> tuple[Parity, Listed]:
    """(parity of a GGUF file with the logits [P, V] of its model folder, the engine's next tokens)."""
    equal, listed = in_engine(gguf, prompts, thinking=thinking)
    return compare_next_tokens(kind, logits, listed, tokens_equal=equal), listed
