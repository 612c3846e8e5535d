"""What of a recipe's model names may leave this machine."""

import re

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_PUBLISHED = re.compile(
    r"(?:qwen(?:2|2\.5|3|3\.5)|llama3(?:\.[123])?|mistral(?:-nemo|-small)?|ministral-3|gemma3|smollm2?|lfm2(?:\.5)?)"
    r"(?::(?:latest|\d+(?:\.\d+)?[bm](?:-a\d+b)?(?:-(?:instruct|chat|text|base|it|qat|thinking|2\d{3}|v\d\.\d|fp16|bf16|"
    r"q\d(?:_[01kK](?:_[smlSML])?)?))*))?"
)
"""Models that Ollama's library publishes in an architecture that can be trained: a family, a size, fixed words."""


def public_model(model: str, package: str | None = None) -> str:
    """The name of a base model as others know it; empty for what only this machine knows by its name.

    A hub id is public, and so is a name of Ollama's library; any other model at Ollama may have been made here, as
    may a folder or a file. A package is named where the model is a path.
    """
    if model.startswith("ollama:"):
        name = model.removeprefix("ollama:")
        return name if _PUBLISHED.fullmatch(name) else ""
    if _HUB_ID.fullmatch(model):
        return model
    return package or ""


def hub_id(model: str) -> str:
    """The model if it is a hub id, else empty."""
    return model if _HUB_ID.fullmatch(model) and not model.startswith("ollama:") else ""
