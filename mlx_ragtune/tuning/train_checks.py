"""Checks of the training settings against a base, from its config alone, before anything is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import RecipeError
from mlx_ragtune.models.architectures import ARCHITECTURES, projection_names, window
from mlx_ragtune.models.model_folder import read_config
from mlx_ragtune.recipe import DatasetSettings, SamplingSettings, TrainSettings
from mlx_ragtune.tuning.groups import Group
from mlx_ragtune.tuning.ranks import find_ranks
from mlx_ragtune.tuning.work import work_of_batch

_MAX_CPU_VALUES = 2**31


def check_engine(settings: TrainSettings) -> None:
    """Raise RecipeError for settings that the chosen engine does not support."""
    if settings.engine != "mlx-lm":
        return
    if settings.grad_checkpoint:
        raise RecipeError(
            "engine mlx-lm does not support gradient checkpointing: it would patch the model permanently",
            where="train.grad_checkpoint",
            fix="set train.engine: shared-prefix, or train.grad_checkpoint: false",
        )
    if settings.frozen_store:
        raise RecipeError(
            "engine mlx-lm does not support the frozen store",
            where="train.frozen_store",
            fix="set train.engine: shared-prefix, or train.frozen_store: false",
        )
    for name, term in (("kl", "KL term"), ("preference", "preference term")):
        if getattr(settings, name) is not None:
            raise RecipeError(
                f"engine mlx-lm does not support the {term}",
                where=f"train.{name}",
                fix=f"set train.engine: shared-prefix, or train.{name}: null",
            )
    if find_ranks().size > 1:
        raise RecipeError(
            "engine mlx-lm does not support several machines",
            where="train.engine",
            fix="set train.engine: shared-prefix",
        )


def check_train(settings: TrainSettings, base: Path) -> None:
    """Raise RecipeError for settings that do not fit the base, and InputError for an unsupported base.

    Reads ``config.json`` only: number of layers, projections, frozen store, and the engine's limits.
    """
    check_engine(settings)
    config = read_config(base)
    layers, model_type = config["num_hidden_layers"], config["model_type"]
    if settings.layers != "all" and settings.layers > layers:
        raise RecipeError(
            f"{settings.layers} layers, but the model has only {layers}",
            where="train.layers",
            fix=f"set train.layers to all, or to at most {layers}",
        )
    names = projection_names(model_type)
    if unknown := [name for name in settings.target_modules if name not in names]:
        raise RecipeError(
            f"architecture '{model_type}' has no {', '.join(unknown)} that can be adapted",
            where="train.target_modules",
            fix=f"set train.target_modules: [{', '.join(names)}], or some of them",
        )
    if settings.frozen_store:
        _check_frozen_store(settings, config)


def _check_frozen_store(settings: TrainSettings, config: dict[str, Any]) -> None:
    fix = "set train.frozen_store: false"
    if settings.layers in ("all", config["num_hidden_layers"]):
        raise RecipeError("all layers are trained, so none can be stored", where="train.frozen_store", fix=fix)
    if ARCHITECTURES[config["model_type"]].hybrid:
        raise RecipeError(
            f"the frozen store does not support hybrid models ({config['model_type']})",
            where="train.frozen_store",
            fix=fix,
        )
    if config["model_type"] in ("gemma3_text", "gemma4_text"):
        raise RecipeError(
            "Gemma scales its embeddings before the first layer, which the frozen store does not support",
            where="train.frozen_store",
            fix=fix,
        )


def check_attention(groups: Sequence[Group], heads: int) -> None:
    """Raise RecipeError when the attention scores of a micro-batch exceed MLX's index range on a CPU (2^31)."""
    pairs = work_of_batch(groups).attention_pairs
    if mx.default_device() == mx.Device(mx.cpu) and heads * pairs >= _MAX_CPU_VALUES:
        longest = max(len(tokens) for group in groups for row in group.rows for tokens in row.branches)
        raise RecipeError(
            f"rows of up to {longest} tokens are too long for attention on a CPU",
            where="dataset.max_tokens",
            fix="lower dataset.max_tokens or train.tokens_per_step, or train on a Mac",
        )


def check_window(
    base: Path, *, dataset: DatasetSettings | None = None, sampling: SamplingSettings | None = None
) -> None:
    """Raise RecipeError when training rows or served prompts may exceed the base's window.

    The window is that of ``architectures.window``. ``dataset.max_tokens`` and ``evaluate.sampling.context_tokens``
    must not exceed it, and an answer of ``evaluate.sampling.max_tokens`` must fit into ``context_tokens``.
    """
    most = window(read_config(base))
    limits = []
    if dataset is not None:
        limits.append(("dataset.max_tokens", dataset.max_tokens, most, f"the base model reads at most {most}"))
    if sampling is not None:
        key, context = "evaluate.sampling", sampling.context_tokens
        limits.append((f"{key}.context_tokens", context, most, f"the base model reads at most {most}"))
        limits.append((f"{key}.max_tokens", sampling.max_tokens, context - 1, f"{key}.context_tokens is {context}"))
    for key, tokens, limit, why in limits:
        if tokens > limit:
            raise RecipeError(f"{tokens} tokens, but {why}", where=key, fix=f"set {key} to at most {limit}")
