"""``train.strength``: the trained adapter at several strengths, and the choice of the best one within a limit.

A factor on B·A moves the model on a line from the base (0) to the tuned model (1). Each is scored on the development
slice, as ``select: task`` does, and by the loss on base answers that were held out of training, whose increase over
the base's own loss measures what is forgotten.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlx_ragtune.recipe import StrengthSettings
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.adapters import at_strength
from mlx_ragtune.tuning.load import Base
from mlx_ragtune.tuning.loop import mean_loss
from mlx_ragtune.tuning.ranks import Ranks
from mlx_ragtune.tuning.select import task_score
from mlx_ragtune.tuning.token_rows import TokenRow


@dataclass(frozen=True)
class StrengthPoint:
    """The adapter at one strength; 0 is the base.

    ``task_score`` is in [0, 1]; ``loss_increase`` is that of ``rehearsal_loss`` over the base's, in nats per token.
    """

    scale: float
    task_score: float
    rehearsal_loss: float
    loss_increase: float


@dataclass(frozen=True)
class StrengthTrial:
    """What every strength is tried on, with a model that has the adapter at strength 1."""

    loaded: Base
    rows: Sequence[Example]
    held: Sequence[TokenRow]
    thinking: bool
    tokens_per_step: int

    def points(self, settings: StrengthSettings, say: Callable[[str], None]) -> tuple[StrengthPoint, ...]:
        """The base and the model at every strength of the settings, weakest first."""
        points: list[StrengthPoint] = []
        for strength in (0.0, *sorted(settings.scales)):
            with at_strength(self.loaded.model, strength):
                loss, score = self._measured()
            increase = loss - points[0].rehearsal_loss if points else 0.0
            points.append(StrengthPoint(strength, score, loss, increase))
            say(f"strength {strength:g}: task score {score:.3f}, loss on the base's own answers {increase:+.3f}")
        return tuple(points)

    def _measured(self) -> tuple[float, float]:
        """(loss on the held-out answers, task score) of the model as it is."""
        model, tokenizer = self.loaded.model, self.loaded.tokenizer
        alone = Ranks(0, 1)  # one rank tries the strengths, so nothing may wait for the others
        loss = mean_loss(model, self.held, tokens_per_step=self.tokens_per_step, ranks=alone)
        return loss, task_score(model, tokenizer, self.rows, thinking=self.thinking)


def within(point: StrengthPoint, max_loss: float) -> bool:
    """Whether a strength may be chosen: it is not the base, and its loss does not increase beyond the limit."""
    return point.scale > 0 and point.loss_increase <= max_loss


def choose_strength(points: Sequence[StrengthPoint], max_loss: float) -> StrengthPoint:
    """The best task score among the strengths within the limit, of equal ones the lowest loss.

    Where none is within it, the strength with the lowest loss.
    """
    able = [point for point in points if within(point, max_loss)]
    if able:
        return min(able, key=lambda point: (-point.task_score, point.rehearsal_loss, point.scale))
    return min((point for point in points if point.scale > 0), key=lambda point: (point.rehearsal_loss, point.scale))
