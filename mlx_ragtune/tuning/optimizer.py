"""MLX optimizers by name, with LoRA+, and a learning rate that is set before each update."""

from collections.abc import Callable
from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx, optimizers
from mlx_ragtune.recipe import TrainSettings

_DECAYS = {"adamw", "lion", "sgd", "adafactor"}

Rate = float | Callable[[mx.array], mx.array]


def _single(settings: TrainSettings, rate: Rate) -> Any:
    kinds = {
        "adamw": optimizers.AdamW,
        "adam": optimizers.Adam,
        "sgd": optimizers.SGD,
        "lion": optimizers.Lion,
        "adafactor": optimizers.Adafactor,
    }
    options: dict[str, Any] = {"weight_decay": settings.weight_decay} if settings.optimizer in _DECAYS else {}
    if settings.optimizer in ("adam", "adamw"):
        options["bias_correction"] = True
    if settings.optimizer == "adafactor":
        options |= {"relative_step": False, "scale_parameter": False}
    return kinds[settings.optimizer](learning_rate=rate, **options)


def make_optimizer(settings: TrainSettings, rate: Rate | None = None) -> Any:
    """The recipe's optimizer; with LoRA+ one for the B matrices and one for the others (arXiv 2402.12354).

    ``rate`` may be a function of the optimizer's step, for a trainer that does not set the rate itself.
    """
    chosen = settings.learning_rate if rate is None else rate
    ratio = settings.lora_plus_ratio
    if ratio == 1:
        return _single(settings, chosen)
    raised: Rate = (lambda step: chosen(step) * ratio) if callable(chosen) else chosen * ratio
    return optimizers.MultiOptimizer(
        [_single(settings, raised), _single(settings, chosen)], [lambda path, _value: path.endswith("lora_b")]
    )


def set_learning_rate(optimizer: Any, rate: float, settings: TrainSettings) -> None:
    """Set the learning rate of the next update; B gets ``lora_plus_ratio`` times as much."""
    if settings.lora_plus_ratio == 1:
        optimizer.learning_rate = mx.array(rate)
        return
    for part, factor in zip(optimizer.optimizers, (settings.lora_plus_ratio, 1.0), strict=True):
        part.learning_rate = mx.array(rate * factor)
