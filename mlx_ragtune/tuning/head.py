"""The output head: cross-entropy of chosen positions with one pass of exponentials and bounded memory.

The head is frozen, so the gradient of the loss is needed for the hidden states only. It is computed together
with the loss (as in Liger-Kernel, arXiv 2410.10989), and a chunk of logits is freed before the next is made.
"""

from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import InputError
from mlx_ragtune.tuning.lean_kernels import softmax

CHUNK_LOGITS = 2**22
"""Logits in memory at a time: 16 MiB in float32, of which some copies exist."""
_NEVER = -1e9
"""What is added to a logit whose token must have no probability; finite, so that differences of it are."""


def hidden_states(model: Any, tokens: mx.array, cache: list[Any] | None = None, **options: Any) -> mx.array:
    """Last hidden states, shape [B, T, D], without the head."""
    states: mx.array = model.model(tokens, cache=cache, **options)
    return states


def text_model(model: Any) -> Any:
    """The module with the head: mlx-lm's Qwen3.5 and Gemma 4 keep it below the model."""
    return getattr(model, "language_model", model)


def logits_of(model: Any, states: mx.array) -> mx.array:
    """Logits of hidden states: [..., D] → [..., V], by the model's head or its tied embedding."""
    owner = text_model(model)
    if hasattr(owner, "lm_head"):
        logits: mx.array = owner.lm_head(states)
    else:
        logits = model.model.embed_tokens.as_linear(states)
    return capped(model, logits)


def capped(model: Any, logits: mx.array) -> mx.array:
    """The logits as the model bounds them: Gemma 4's by c · tanh(x / c), those of all others not at all."""
    bound = getattr(text_model(model), "final_logit_softcapping", None)
    return logits if bound is None else mx.tanh(logits / bound) * bound


def _chunk(model: Any, states: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    """(losses, gradient of each by its own state) of one chunk: [n, D], [n] → [n], [n, D]."""
    logits = logits_of(model, states)
    scores = logits.astype(mx.float32)
    shares, normalizer = softmax(scores)
    rows = mx.arange(targets.shape[0])
    losses = normalizer - scores[rows, targets]
    cotangent = shares.at[rows, targets].add(-1.0).astype(logits.dtype)
    _, (gradient,) = mx.vjp(lambda states: logits_of(model, states), [states], [cotangent])
    return losses, gradient


def _chunks(model: Any, states: mx.array, targets: mx.array) -> list[tuple[mx.array, mx.array]]:
    """What ``_chunk`` gives for each chunk of the positions, in order."""
    parts: list[tuple[mx.array, mx.array]] = []
    cuts = _cuts(model, targets.shape[0], CHUNK_LOGITS)
    for chunk, chunk_targets in zip(mx.split(states, cuts), mx.split(targets, cuts), strict=True):
        if parts:
            (chunk,) = mx.depends([chunk], list(parts[-1]))
        parts.append(_chunk(model, chunk, chunk_targets))
    return parts


def _cuts(model: Any, positions: int, logits: int) -> list[int]:
    """Where positions are cut into chunks of at most so many logits, but of 32 positions or more.

    Each chunk must depend on the one before it: MLX would otherwise make the logits of all chunks at once.
    """
    owner = text_model(model)
    vocabulary = owner.args.vocab_size if hasattr(owner, "args") else 2**17
    rows = max(32, logits // vocabulary)
    return list(range(rows, positions, rows))


def answer_loss(model: Any, states: mx.array, targets: mx.array, weights: mx.array | None = None) -> mx.array:
    """Summed cross-entropy in nats, float32, of states [N, D] that predict targets [N]. Differentiable in states.

    ``weights`` [N] are factors of the positions.
    """

    @mx.custom_function
    def loss_and_gradient(states: mx.array) -> tuple[mx.array, mx.array]:
        parts = _chunks(model, states, targets)
        gradient = mx.concatenate([part[1] for part in parts])
        if weights is not None:
            losses = mx.concatenate([part[0] for part in parts])
            return (losses * weights).sum(), gradient * weights[:, None].astype(gradient.dtype)
        return mx.stack([part[0].sum() for part in parts]).sum(), gradient

    @loss_and_gradient.vjp
    def _backward(_primal: Any, cotangents: Any, outputs: Any) -> mx.array:
        gradient: mx.array = cotangents[0].astype(outputs[1].dtype) * outputs[1]
        return gradient

    outputs: Any = loss_and_gradient(states)
    loss: mx.array = outputs[0]
    return loss


def token_losses(model: Any, states: mx.array, targets: mx.array) -> mx.array:
    """Cross-entropy in nats of each state [N, D] that predicts a target [N]: [N], float32. Differentiable in states.

    The logits of a position depend on its own state alone, so one gradient row for each is all that the backward pass
    of any function of these losses needs.
    """

    @mx.custom_function
    def losses_and_gradient(states: mx.array) -> tuple[mx.array, mx.array]:
        parts = _chunks(model, states, targets)
        return mx.concatenate([part[0] for part in parts]), mx.concatenate([part[1] for part in parts])

    @losses_and_gradient.vjp
    def _backward(_primal: Any, cotangents: Any, outputs: Any) -> mx.array:
        gradient: mx.array = cotangents[0][:, None].astype(outputs[1].dtype) * outputs[1]
        return gradient

    outputs: Any = losses_and_gradient(states)
    losses: mx.array = outputs[0]
    return losses


def _log_shares(scores: mx.array, without: tuple[mx.array, mx.array] | None = None) -> mx.array:
    """Log-probabilities of logits [n, V]; those at ``without`` get a probability of 0."""
    scores = scores if without is None else scores.at[without].add(_NEVER)
    return scores - mx.logsumexp(scores, axis=-1, keepdims=True)


def _kl_chunk(
    model: Any, states: mx.array, base: mx.array, targets: mx.array, *, factor: float, masked: bool
) -> tuple[mx.array, ...]:
    """(cross-entropy, KL, gradient of cross-entropy + factor × KL) of one chunk: [], [], [n, D]."""
    logits = logits_of(model, states)
    scores, at = logits.astype(mx.float32), (mx.arange(targets.shape[0]), targets)
    log_shares = _log_shares(scores)
    log_q = _log_shares(scores, at) if masked else log_shares
    log_p = _log_shares(logits_of(model, base).astype(mx.float32), at if masked else None)
    p, q = mx.exp(log_p), mx.exp(log_q)
    shares = mx.exp(log_shares) if masked else q
    cotangent = (shares + factor * (q - p)).at[at].add(-1.0).astype(logits.dtype)
    _, (gradient,) = mx.vjp(lambda states: logits_of(model, states), [states], [cotangent])
    return -log_shares[at].sum(), (p * (log_p - log_q)).sum(axis=-1).sum(), gradient


def answer_loss_and_kl(
    model: Any, states: mx.array, base: mx.array, *, targets: mx.array, factor: float, masked: bool = False
) -> tuple[mx.array, mx.array, mx.array]:
    """(cross-entropy + factor × KL, cross-entropy, KL), each summed over N positions, in nats, float32.

    The KL is Σ p (log p − log q) over the whole vocabulary: p of the base's states ``base`` [N, D], q of ``states``
    [N, D]. Its gradient with respect to the logits of q is q − p. With ``masked`` both distributions are without the
    position's target, and sum to 1 over the rest. The first result is differentiable in ``states``. A chunk holds an
    eighth of the positions of one in ``answer_loss``, so that it needs about as much memory.
    """
    cuts = _cuts(model, targets.shape[0], CHUNK_LOGITS // 8)

    @mx.custom_function
    def losses_and_gradient(states: mx.array) -> tuple[mx.array, ...]:
        parts: list[tuple[mx.array, ...]] = []
        for own, theirs, answers in zip(*(mx.split(one, cuts) for one in (states, base, targets)), strict=True):
            if parts:
                own, theirs = mx.depends([own, theirs], list(parts[-1]))
            parts.append(_kl_chunk(model, own, theirs, answers, factor=factor, masked=masked))
        loss, kl = (mx.stack([part[place] for part in parts]).sum() for place in (0, 1))
        return loss + factor * kl, loss, kl, mx.concatenate([part[2] for part in parts])

    @losses_and_gradient.vjp
    def _backward(_primal: Any, cotangents: Any, outputs: Any) -> mx.array:
        gradient: mx.array = cotangents[0].astype(outputs[3].dtype) * outputs[3]
        return gradient

    outputs: Any = losses_and_gradient(states)
    return outputs[0], outputs[1], outputs[2]


def check_head(model: Any) -> None:
    """Raise InputError when ``logits_of`` differs from the model (some architectures cap or scale logits)."""
    tokens = mx.array([[1, 2, 3, 4]])
    expected = model(tokens).astype(mx.float32)
    ours = logits_of(model, hidden_states(model, tokens)).astype(mx.float32)
    if not mx.allclose(ours, expected, rtol=1e-3, atol=1e-3).item():
        raise InputError(
            f"the output head of architecture '{getattr(model, 'model_type', '?')}' is not a plain matrix product",
            where="train.engine",
            fix="use train.engine: mlx-lm",
        )
