"""What of a recipe's model names may leave this machine."""

import re

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def public_model(model: str, package: str | None = None) -> str:
    """The name of a base model as others know it; empty for a folder, a file or a random model of this machine.

    A hub id or a name at Ollama is public; a package is named where the model is a path.
    """
    if model.startswith("ollama:"):
        return model.removeprefix("ollama:")
    if _HUB_ID.fullmatch(model):
        return model
    return package or ""


def hub_id(model: str) -> str:
    """The model if it is a hub id, else empty."""
    return model if _HUB_ID.fullmatch(model) and not model.startswith("ollama:") else ""
