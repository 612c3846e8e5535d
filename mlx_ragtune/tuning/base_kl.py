"""``train.kl``: keeps the tuned model's next-token distributions near those of the base.

With p of the base and q of the tuned model, both over the whole vocabulary in float32, an answer token adds

    KL(p ‖ q) = Σ p (log p − log q)

and the loss of an update is the mean cross-entropy of its answer tokens plus ``weight`` times the mean KL of its chosen
tokens. The direction is that of distillation (arXiv 1503.02531, 1606.09282): it penalizes every token that the base
could say and the tuned model no longer would, and it is the quantity that predicts forgetting (arXiv 2509.04259).
Along an answer of the base's own, the sum estimates the KL between the distributions of whole answers. With
``mask_target`` p and q are those of all tokens but the trained one (arXiv 2605.29498): where the base did not write the
answer, cross-entropy and the full KL would pull that token's probability in opposite directions.

The base is the same model with its adapters set aside, without dropout: no second model is in memory. Only rows with
chosen tokens go through it, shared prefixes once, and what it computed is freed before the tuned model's pass starts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from mlx_ragtune.clients.runtime_mlx import mx, nn
from mlx_ragtune.errors import InputError
from mlx_ragtune.recipe import KLSettings
from mlx_ragtune.tuning.adapters import without_adapter
from mlx_ragtune.tuning.groups import Group, answer_tokens
from mlx_ragtune.tuning.head import answer_loss, answer_loss_and_kl
from mlx_ragtune.tuning.loss import answer_states, make_batch
from mlx_ragtune.tuning.ranks import Ranks
from mlx_ragtune.tuning.schedule import micro_batches
from mlx_ragtune.tuning.token_rows import TokenRow, Tokens
from mlx_ragtune.tuning.work import work_of_batch

States = Callable[[Any, Sequence[Group]], mx.array]
"""Hidden states [N, D] that predict the answer tokens of groups, in the order of ``make_batch``."""
Losses = tuple[mx.array, mx.array]
"""(what is differentiated, [summed cross-entropy, summed KL])."""


BatchLosses = Callable[[Any, Sequence[Group], mx.array | None], Losses]
"""The losses of a micro-batch, from model, groups and the base's hidden states."""


class Term(Protocol):
    """What adds to the cross-entropy of an update."""

    def objective(self, rows: Sequence[TokenRow]) -> BatchLosses:
        """The function whose gradients, summed over an update of these rows, are divided by its answer tokens."""

    def base_states(self, model: Any, groups: Sequence[Group]) -> mx.array | None:
        """The base's hidden states that the function needs for a micro-batch, computed; None if it needs none."""


def value_and_grad(term: Term, model: Any, rows: Sequence[TokenRow]) -> Callable[[Any, Sequence[Group]], Any]:
    """A function of model and micro-batch in an update of these rows: (losses, gradient).

    The base is computed before the gradient's function: inside, MLX would keep every activation of the base.
    """
    function = nn.value_and_grad(model, term.objective(rows))
    return lambda model, groups: function(model, groups, term.base_states(model, groups))


def group_states(model: Any, groups: Sequence[Group]) -> mx.array:
    """The hidden states with all layers computed."""
    return answer_states(model, make_batch(groups))


@dataclass(frozen=True)
class BaseKL:
    """The KL term of a run. ``states`` computes hidden states, with ``frozen_store`` from the stored outputs."""

    settings: KLSettings
    states: States = group_states

    def counts(self, row: TokenRow) -> bool:
        """Whether the row's answer tokens are chosen."""
        return self.settings.tokens == "all" or row.is_rehearsal

    def tokens(self, rows: Iterable[TokenRow]) -> int:
        """Number of chosen tokens of the rows."""
        return answer_tokens(row for row in rows if self.counts(row))

    def groups(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with only the rows that go through the base, which may be none, without rejected answers."""
        kept = (
            replace(group, rows=tuple(replace(row, rejected=None) for row in group.rows if self.counts(row)))
            for group in groups
        )
        return [group for group in kept if group.rows]

    def flops(self, groups: Sequence[Group], config: Mapping[str, Any]) -> float:
        """FLOPs of the base's forward pass for a micro-batch."""
        kept = self.groups(groups)
        return work_of_batch(kept).forward_flops(config) if kept else 0.0

    def check(self, rows: Sequence[TokenRow]) -> None:
        """Raise InputError when no training row has a chosen token."""
        if not self.tokens(rows):
            raise InputError(
                "train.kl.tokens is 'rehearsal', but no training row is a rehearsal row",
                where="train.kl.tokens",
                fix="set dataset.rehearsal, or train.kl.tokens: all",
            )

    def objective(self, rows: Sequence[TokenRow]) -> BatchLosses:
        """The function of a micro-batch whose gradients, summed over an update of these rows, are divided by its
        answer tokens: summed cross-entropy + ``weight`` × answer tokens / chosen tokens × summed KL.
        """
        factor = self.factor(rows)
        return lambda model, groups, base: self._losses(model, groups, base, factor)

    def factor(self, rows: Sequence[TokenRow]) -> float:
        """Factor of the summed KL in an update of these rows, whose sum is divided by its answer tokens."""
        chosen = self.tokens(rows)
        return self.settings.weight * answer_tokens(rows) / chosen if chosen else 0.0

    def _losses(self, model: Any, groups: Sequence[Group], base: mx.array | None, factor: float) -> Losses:
        targets = make_batch(groups).targets
        return self.losses(model, groups, self.states(model, groups), targets=targets, base=base, factor=factor)

    def base_states(self, model: Any, groups: Sequence[Group]) -> mx.array | None:
        """Hidden states of the base that predict the chosen tokens of a micro-batch, computed; None without any."""
        kept = self.groups(groups)
        if not kept:
            return None
        with without_adapter(model):
            base = self.states(model, kept)
            mx.eval(base)
        return base

    def losses(
        self,
        model: Any,
        groups: Sequence[Group],
        states: mx.array,
        *,
        targets: Tokens,
        base: mx.array | None,
        factor: float,
    ) -> Losses:
        """(summed cross-entropy + factor × summed KL, both sums) from states [N, D] that predict the answers' targets.

        ``base`` is that of ``base_states``. Rejected answers are not among the states.
        """
        chosen = self._chosen(groups)
        if base is None:
            loss = answer_loss(model, states, mx.array(targets))
            return loss, mx.stack([loss, mx.array(0.0)])
        kept, rest = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        objective, loss, kl = answer_loss_and_kl(
            model,
            states[mx.array(kept)],
            base,
            targets=mx.array(targets[kept]),
            factor=factor,
            masked=self.settings.mask_target,
        )
        if len(rest):
            other = answer_loss(model, states[mx.array(rest)], mx.array(targets[rest]))
            objective, loss = objective + other, loss + other
        return objective, mx.stack([loss, kl])

    def _chosen(self, groups: Sequence[Group]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether each answer token is chosen: bool [N], in the order of ``make_batch``."""
        rows = [row for group in groups for row in group.rows]
        return np.repeat([self.counts(row) for row in rows], [answer_tokens([row]) for row in rows])

    @property
    def parts(self) -> int:
        """Number of sums in ``Losses``."""
        return 2

    def means_of(self, parts: Sequence[float], rows: Sequence[TokenRow]) -> dict[str, float]:
        """``loss`` per answer token, and ``kl`` per chosen token if there are any, of summed parts over these rows."""
        chosen = self.tokens(rows)
        return {"loss": parts[0] / answer_tokens(rows)} | ({"kl": parts[1] / chosen} if chosen else {})

    def measure(self, model: Any, rows: Sequence[TokenRow], *, tokens_per_step: int, ranks: Ranks) -> dict[str, float]:
        """``means_of`` over the rows, in nats, without dropout."""
        model.eval()
        total = mx.zeros(2)
        for groups in ranks.share(micro_batches(rows, tokens_per_step)):
            total = total + self._losses(model, groups, self.base_states(model, groups), 0.0)[1]
            mx.eval(total)
        model.train()
        return self.means_of(ranks.total(total).tolist(), rows)
