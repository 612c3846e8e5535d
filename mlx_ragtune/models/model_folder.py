"""Checks of a model folder that cost no more than reading its headers, so that nothing fails after training."""

import importlib.util
from pathlib import Path
from typing import Any

from mlx_ragtune.errors import InputError
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.architectures import GEMMA3_PATTERN, flat_config, tensor_shapes
from mlx_ragtune.models.prompts import check_template
from mlx_ragtune.models.stored_layout import ModelWeights
from mlx_ragtune.models.unsupported import check_architecture, check_dimensions
from mlx_ragtune.models.vocabulary import read_json
from mlx_ragtune.models.weights import shard_names

PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
_MLX_MODULES = {"mistral": "llama"}
"""Where mlx-lm implements an architecture under another name (``mlx_lm.utils.MODEL_REMAPPING``)."""


def missing_files(folder: Path) -> list[str]:
    """Names of the files that a model folder lacks: config, weights (all shards of the index), tokenizer."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        missing.append("tokenizer.json")
    shards = shard_names(folder)
    if shards:
        missing += [shard for shard in shards if not (folder / shard).is_file()]
    elif not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    return missing


def read_config(folder: Path) -> dict[str, Any]:
    """The flat ``config.json`` of a supported model.

    Raises InputError for an unsupported architecture or damaged values.
    """
    path = folder / "config.json"
    config = flat_config(read_json(path))
    check_architecture(config)
    check_dimensions(config, where=path)
    if config["model_type"] == "gemma3_text" and config["num_hidden_layers"] < GEMMA3_PATTERN:
        raise InputError(
            f"num_hidden_layers is {config['num_hidden_layers']}: Gemma needs at least {GEMMA3_PATTERN} layers",
            where=str(path),
            fix="choose another base",
        )
    module = _MLX_MODULES.get(config["model_type"], config["model_type"])
    if importlib.util.find_spec(f"mlx_lm.models.{module}") is None:
        raise InputError(
            f"mlx-lm does not support architecture '{config['model_type']}'",
            where=str(path),
            fix="choose another base, or install the mlx-lm version in constraints.txt",
        )
    return config


def check_weights(folder: Path, config: dict[str, Any]) -> ModelWeights:
    """The weights, whose names and shapes are those that ``config`` requires. Reads headers only.

    Raises InputError for a missing or truncated shard, a damaged header, and a missing or misshapen tensor.
    """
    weights = ModelWeights(folder, config)
    for name, shape in tensor_shapes(config).items():
        if name not in weights:
            raise InputError(f"tensor '{name}' is missing", where=str(folder), fix="fetch the model again")
        if weights[name].shape != shape:
            raise InputError(
                f"tensor '{name}' has shape {list(weights[name].shape)}, config.json requires {list(shape)}",
                where=str(weights[name].file),
                fix="fetch the model again: config.json and weights do not belong together",
            )
    return weights


def check_base(folder: Path, *, thinking: bool = False) -> dict[str, Any]:
    """The config of a base that can be trained, exported and served.

    ``thinking`` is the recipe's ``dataset.thinking``. Raises InputError for an unsupported architecture, damaged
    config, weights or tokenizer, a chat template that this project cannot use (``check_template``), and thinking with
    Gemma 4.
    """
    config = read_config(folder)
    if thinking and config["model_type"] == gemma4.MODEL_TYPE:
        raise InputError(
            "thinking is not supported for Gemma 4: its thoughts are not told apart from answers",
            where=str(folder),
            fix="set dataset.thinking: off",
        )
    if (folder / "generation_config.json").exists():
        read_json(folder / "generation_config.json")
    check_weights(folder, config)
    check_template(folder, thinking=thinking)
    return config
