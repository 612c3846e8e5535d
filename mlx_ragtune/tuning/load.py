"""Loading a base model: its folder is checked first, and its weights are held in the recipe's precision."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from mlx_ragtune.clients.runtime_mlx import mx, nn, tree_unflatten
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.model_folder import read_config
from mlx_ragtune.models.prompts import as_served
from mlx_ragtune.models.template_dates import freeze_tokenizer
from mlx_ragtune.models.vocabulary import read_json
from mlx_ragtune.tuning.memory import is_out_of_memory

Precision = Literal["fp32", "bf16", "8bit", "4bit"]
GROUP_SIZE = 64
CHECKED_VALUES = 2**24
"""Values of a weight that are checked at a time: a mask of 2 billion values for Gemma 4's embeddings would be large."""


@dataclass(frozen=True)
class Base:
    """A loaded model with its tokenizer (mlx-lm's wrapper) and config."""

    model: Any
    tokenizer: Any
    config: dict[str, Any]


def load_stored(folder: Path, *, lazy: bool = False) -> Any:
    """The model of a folder, with weights in their stored types. Raises InputError for a damaged or odd folder.

    With ``lazy`` only headers are read; a weight is read from its file when it is evaluated.
    """
    from mlx_lm.utils import load_model

    try:
        model, _ = load_model(folder, lazy=lazy, **_loading(folder))
    except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if is_out_of_memory(error):
            raise ToolError(
                f"out of memory while loading the model: {reason}", where=str(folder), fix="choose a smaller base"
            ) from None
        raise InputError(f"cannot load the model: {reason}", where=str(folder), fix="fetch the model again") from None
    return model


def _loading(folder: Path) -> dict[str, Any]:
    """Options for mlx-lm's ``load_model``; none but for Gemma 4.

    mlx-lm and transformers have other defaults for some keys of its config, so they are named. And its model lacks a
    property that the models of all other families have.
    """
    config = read_json(folder / "config.json")
    if config.get("model_type") not in ("gemma4", gemma4.MODEL_TYPE):
        return {}
    flat = gemma4.flat_gemma4(config)
    if config["model_type"] == gemma4.MODEL_TYPE:
        return {"model_config": flat}
    nested = {"text_config": flat, "vocab_size": flat["vocab_size"]}
    return {"model_config": nested, "get_model_classes": _nested_gemma4}


def _nested_gemma4(config: object) -> tuple[type, type]:
    """mlx-lm's classes of Gemma 4 in the hub's layout: (model with the property ``model``, its arguments).

    ``config`` is what mlx-lm passes to choose them by; here there is nothing to choose.
    """
    del config
    from mlx_lm.models import gemma4 as theirs

    class Gemma4(theirs.Model):
        """``model`` is the text model without its head, as in other families."""

        @property
        def model(self) -> Any:
            return self.language_model.model

    return Gemma4, theirs.ModelArgs


def load_base(folder: Path, precision: Precision) -> Base:
    """Model and tokenizer with every weight cast to ``precision``; 8bit and 4bit quantize in groups of 64.

    Layers whose row length is not a multiple of 64 are not quantized. bfloat16 is slow on a CPU: use fp32 there.
    Raises InputError for an unsupported or damaged folder, and for weights that are not finite.
    """
    from mlx_lm.utils import load_tokenizer

    config = read_config(folder)
    model = load_stored(folder, lazy=True)
    _convert(model, precision, folder)
    model.freeze()
    mx.eval(model.parameters())
    try:
        tokenizer = load_tokenizer(folder)
        as_served(freeze_tokenizer(tokenizer._tokenizer), folder)  # mlx-lm's wrapper reads through to it
    except Exception as error:
        raise InputError(
            f"cannot load the tokenizer: {type(error).__name__}: {error!s:.200}",
            where=str(folder),
            fix="fetch the model again",
        ) from None
    return Base(model, tokenizer, config)


def slow_precision(precision: Precision) -> str:
    """A line that says so where this machine computes a precision slowly, or an empty one."""
    if precision != "bf16" or mx.default_device() != mx.Device(mx.cpu):
        return ""
    return "base.precision: bf16 is many times slower than fp32 on a CPU; change it unless the memory is too small"


def _convert(model: Any, precision: Precision, folder: Path) -> None:
    """Read, check, cast and quantize one module after the other, the largest first: the least memory at a time."""
    dtype = mx.float32 if precision == "fp32" else mx.bfloat16
    waiting = sorted(model.named_modules(), key=lambda named: sum(named[1][name].nbytes for name in _own(named[1])))
    while waiting:
        path, module = waiting.pop()
        for name in _own(module):
            if mx.issubdtype(module[name].dtype, mx.floating):
                _check_finite(f"{path}.{name}", module[name], folder)
                module[name] = module[name].astype(dtype)
            mx.eval(module[name])
        quantizable = isinstance(module, nn.Linear) and module.weight.shape[-1] % GROUP_SIZE == 0
        if quantizable and precision in ("8bit", "4bit"):
            quantized = module.to_quantized(group_size=GROUP_SIZE, bits=int(precision[0]))
            mx.eval(quantized.parameters())
            model.update_modules(tree_unflatten([(path, quantized)]))
        mx.clear_cache()


def _own(module: Any) -> list[str]:
    """Names of the weights that a module has itself; constants such as rotary frequencies begin with ``_``."""
    return [name for name, value in module.items() if isinstance(value, mx.array) and not name.startswith("_")]


def _check_finite(name: str, weight: mx.array, folder: Path) -> None:
    """Raise InputError for a weight that is not finite, looking at ``CHECKED_VALUES`` at a time."""
    rows = max(1, CHECKED_VALUES // max(1, prod(weight.shape[1:])))
    if not all(mx.isfinite(weight[at : at + rows]).all().item() for at in range(0, weight.shape[0], rows)):
        raise InputError(f"'{name}' contains NaN or infinite values", where=str(folder), fix="fetch the model again")
