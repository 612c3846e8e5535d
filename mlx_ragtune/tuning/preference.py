"""``train.preference``: an answer should be more likely than the rejected answer to the same prompt.

With c and r the log-likelihoods of a row's answer and of its rejected answer, end-of-turn tokens included, a pair adds

    orpo   −log σ(o(c / |c|) − o(r / |r|)),  o(x) = x − log(1 − eˣ)      (arXiv 2403.07691, equations 4 and 7)
    dpo    −log σ(β (c − c₀ − r + r₀))                                   (arXiv 2305.18290, equation 7)

where |c| is the length in tokens, and c₀ and r₀ are those of the base: the same model with its adapters set aside,
computed once before the first update. The loss of an update of N rows and T answer tokens is

    cross-entropy of the answers / T  +  factor × Σ pairs / N

with the factor ``beta`` (orpo: λ) or ``weight`` (dpo). The term is a mean over all rows of the update: a row without a
rejected answer adds nothing to it, and a pair weighs the same in whatever micro-batch or update it is. So dpo is here
DPO with the cross-entropy of the answer (arXiv 2404.19733), because training starts from the base, which has not yet
learned the answers. Cross-entropy alone chooses the checkpoint.

An answer and its rejected answer are two branches of one prefix: the prompt is computed once for both.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import InputError
from mlx_ragtune.recipe import PreferenceSettings
from mlx_ragtune.tuning.adapters import without_adapter
from mlx_ragtune.tuning.base_kl import BaseKL, BatchLosses, Losses, States, group_states
from mlx_ragtune.tuning.groups import Group, answer_tokens
from mlx_ragtune.tuning.head import answer_loss, token_losses
from mlx_ragtune.tuning.loss import Batch, make_batch
from mlx_ragtune.tuning.ranks import Ranks
from mlx_ragtune.tuning.schedule import micro_batches
from mlx_ragtune.tuning.token_rows import TokenRow
from mlx_ragtune.tuning.work import total, work_of_batch

SURE = -1e-6
"""Mean log-likelihoods above this count as this: the log odds of a certain answer are infinite."""
PARTS = 5
"""Sums over a micro-batch: cross-entropy, KL, preference loss, pairs in the right order, margins."""


def log_odds(mean: mx.array) -> mx.array:
    """log(p / (1 − p)) of p = exp(mean), for mean log-likelihoods below 0."""
    x = mx.minimum(mean, SURE)
    small, large = mx.minimum(x, -0.5), mx.maximum(x, -1.0)  # each side stays finite where it is not chosen
    return x - mx.where(x < -math.log(2), mx.log1p(-mx.exp(small)), mx.log(-mx.expm1(large)))


def _softplus(x: mx.array) -> mx.array:
    """log(1 + eˣ), which is −log σ(−x)."""
    return mx.logaddexp(x, mx.zeros_like(x))


@dataclass(frozen=True)
class Preference:
    """The preference term of a run, with its KL term if it has one.

    ``states`` computes hidden states, with ``frozen_store`` from the stored outputs. ``base`` holds, for dpo, the
    log-likelihoods (answer, rejected answer) of the base by row id, set by ``prepare``.
    """

    settings: PreferenceSettings
    states: States = group_states
    kl: BaseKL | None = None
    base: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def parts(self) -> int:
        """Number of sums in ``Losses``."""
        return PARTS

    @property
    def weight(self) -> float:
        """Factor of the term's mean over the rows."""
        return self.settings.beta if self.settings.method == "orpo" else self.settings.weight

    @staticmethod
    def pairs(rows: Iterable[TokenRow]) -> int:
        """Number of rows with a rejected answer."""
        return sum(row.rejected is not None for row in rows)

    def check(self, rows: Sequence[TokenRow]) -> None:
        """Raise InputError when no training row has a rejected answer."""
        if not self.pairs(rows):
            raise InputError(
                "train.preference is set, but no training row has a rejected answer",
                where="train.preference",
                fix="add answerable pairs, set dataset.contrast, or remove train.preference",
            )

    def describe(self, rows: Sequence[TokenRow]) -> str:
        """One line that is printed before training starts: which rows prefer what."""
        refusals = sum(row.kind == "refusal" and row.rejected is not None for row in rows)
        answers = self.pairs(rows) - refusals
        line = f"preference ({self.settings.method}): {answers} answers and {refusals} refusals have a rejected answer"
        return line if refusals else f"{line}; set dataset.contrast, or the model only learns not to refuse"

    def prepare(self, model: Any, rows: Sequence[TokenRow], *, tokens_per_step: int, ranks: Ranks) -> None:
        """For dpo, compute the base's log-likelihoods of all pairs; the micro-batches depend on the rows alone.

        A resumed run computes the same bits again.
        """
        if self.settings.method != "dpo":
            return
        paired = [row for row in rows if row.rejected is not None]
        places = {row.id: place for place, row in enumerate(paired)}
        sums = mx.zeros((len(paired), 2))
        with without_adapter(model):
            for groups in ranks.share(micro_batches(paired, tokens_per_step)):
                batch = make_batch(groups)
                losses = token_losses(model, self.states(model, groups), mx.array(batch.targets))
                chosen, rejected = _pair_sums(batch, losses, range(len(batch.lengths)))
                own = mx.array([places[name] for name, _, _ in batch.pairs])
                sums[own] = mx.stack([chosen, rejected], axis=1)
                mx.eval(sums)
        told = ranks.total(sums).tolist()
        self.base.update({row.id: (pair[0], pair[1]) for row, pair in zip(paired, told, strict=True)})

    def objective(self, rows: Sequence[TokenRow]) -> BatchLosses:
        """The function of a micro-batch whose gradients, summed over an update of these rows, are divided by its
        answer tokens T: summed cross-entropy + factor × T / N × summed preference loss (+ the KL term).
        """
        factor, kl_factor = self.weight * answer_tokens(rows) / len(rows), self.kl.factor(rows) if self.kl else 0.0
        return lambda model, groups, base: self._losses(model, groups, (base, kl_factor), factor)

    def base_states(self, model: Any, groups: Sequence[Group]) -> mx.array | None:
        """Hidden states of the base that the KL term needs for a micro-batch, computed; None without any."""
        return self.kl.base_states(model, groups) if self.kl else None

    def _losses(self, model: Any, groups: Sequence[Group], kl: tuple[mx.array | None, float], factor: float) -> Losses:
        batch, states = make_batch(groups), self.states(model, groups)
        objective, parts, losses = self._cross_entropy(model, groups, batch, states, kl)
        if losses is None:
            return objective, mx.concatenate([parts, mx.zeros(PARTS - 2)])
        term, figures = self.term(batch, losses)
        return objective + factor * term, mx.concatenate([parts, mx.stack([term, *figures])])

    def _cross_entropy(
        self,
        model: Any,
        groups: Sequence[Group],
        batch: Batch,
        states: mx.array,
        kl: tuple[mx.array | None, float],
    ) -> tuple[mx.array, mx.array, mx.array | None]:
        """(cross-entropy with its KL term, [cross-entropy, KL], losses of the pairs' tokens or None without pairs)."""
        paired = [branch for _, *two in batch.pairs for branch in two]
        losses = None
        if paired:
            places = batch.places(paired)
            losses = token_losses(model, states[mx.array(places)], mx.array(batch.targets[places]))
        if self.kl is not None and kl[0] is not None:
            counted = batch.places(range(len(batch.lengths))) if batch.counted is None else batch.counted
            objective, parts = self.kl.losses(
                model, groups, states[mx.array(counted)], targets=batch.targets[counted], base=kl[0], factor=kl[1]
            )
            return objective, parts, losses
        rest = batch.places(branch for branch in range(len(batch.lengths)) if branch not in set(paired))
        loss = mx.array(0.0)
        if len(rest):
            loss = loss + answer_loss(model, states[mx.array(rest)], mx.array(batch.targets[rest]))
        if losses is not None:
            loss = loss - _pair_sums(batch, losses, paired)[0].sum()
        return loss, mx.stack([loss, mx.array(0.0)]), losses

    def term(self, batch: Batch, losses: mx.array) -> tuple[mx.array, tuple[mx.array, mx.array]]:
        """(summed preference loss, (pairs in the right order, summed margins)) of a batch's pairs.

        ``losses`` are those of the pairs' tokens, pair by pair. A margin is c / |c| − r / |r| in nats per token with
        orpo, and β (c − c₀ − r + r₀) with dpo; the order is right where it is above 0.
        """
        chosen, rejected = _pair_sums(batch, losses, [branch for _, *two in batch.pairs for branch in two])
        if self.settings.method == "orpo":
            sizes = mx.array([[batch.lengths[branch] for branch in two] for _, *two in batch.pairs])
            chosen, rejected = chosen / sizes[:, 0], rejected / sizes[:, 1]
            margins, inside = chosen - rejected, log_odds(chosen) - log_odds(rejected)
        else:
            base = mx.array([self.base[name] for name, _, _ in batch.pairs])
            margins = inside = self.settings.beta * (chosen - base[:, 0] - rejected + base[:, 1])
        return _softplus(-inside).sum(), ((margins > 0).sum().astype(mx.float32), margins.sum())

    def means_of(self, parts: Sequence[float], rows: Sequence[TokenRow]) -> dict[str, float]:
        """The figures of summed parts over these rows, by name: ``loss``, and others that some rows define.

        ``preference_loss`` and ``preference_margin`` are means over pairs, ``preference_accuracy`` is a share of them.
        """
        loss, kl, term, right, margin = parts
        figures = {"loss": loss / answer_tokens(rows)}
        if self.kl is not None and (chosen := self.kl.tokens(rows)):
            figures["kl"] = kl / chosen
        if pairs := self.pairs(rows):
            figures |= {"preference_loss": term / pairs, "preference_accuracy": right / pairs}
            figures["preference_margin"] = margin / pairs
        return figures

    def measure(self, model: Any, rows: Sequence[TokenRow], *, tokens_per_step: int, ranks: Ranks) -> dict[str, float]:
        """``means_of`` over the rows, without dropout."""
        model.eval()
        sums = mx.zeros(PARTS)
        for groups in ranks.share(micro_batches(rows, tokens_per_step)):
            sums = sums + self._losses(model, groups, (self.base_states(model, groups), 0.0), 0.0)[1]
            mx.eval(sums)
        model.train()
        return self.means_of(ranks.total(sums).tolist(), rows)

    def flops(self, rows: Sequence[TokenRow], config: Mapping[str, Any], tokens_per_step: int) -> float:
        """FLOPs of ``prepare``: the base's forward pass over all pairs, once in a run."""
        paired = [row for row in rows if row.rejected is not None]
        if self.settings.method != "dpo" or not paired:
            return 0.0
        return total(map(work_of_batch, micro_batches(paired, tokens_per_step))).forward_flops(config)


def _pair_sums(batch: Batch, losses: mx.array, branches: Sequence[int]) -> tuple[mx.array, mx.array]:
    """Log-likelihoods (answers [P], rejected answers [P]) of a batch's pairs.

    ``losses`` are the losses of the tokens of ``branches``, in their order.
    """
    sizes = [batch.lengths[branch] for branch in branches]
    parts = mx.split(losses, np.cumsum(sizes)[:-1].tolist())
    sums = -mx.stack([part.sum() for part in parts])
    place = {branch: index for index, branch in enumerate(branches)}
    return tuple(sums[mx.array([place[two[side]] for _, *two in batch.pairs])] for side in (0, 1))  # type: ignore[return-value]
