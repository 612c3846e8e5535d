"""What a model folder must hold before anything else is done with it."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.architectures import check_architecture
from mlx_ragtune.models.vocabulary import chat_template

PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")


def missing_files(folder: Path) -> list[str]:
    """What a model folder lacks of configuration, weights (all shards of its index) and tokenizer."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        missing.append("tokenizer.json")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing += [shard for shard in shards if not (folder / shard).is_file()]
    elif not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    return missing


def check_base(folder: Path) -> dict[str, Any]:
    """Its config. Raises InputError for an architecture that cannot be trained and exported, or no template."""
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError("no readable config.json", where=str(folder), fix="name a complete model folder") from None
    check_architecture(config)
    if importlib.util.find_spec(f"mlx_lm.models.{config['model_type']}") is None:
        raise InputError(f"mlx-lm does not know architecture '{config['model_type']}'", where=str(path))
    chat_template(folder)
    return config
