"""What Ollama does with a GGUF file, by its version."""

import re
from dataclasses import dataclass

from mlx_ragtune.errors import ToolError

Version = tuple[int, int, int]

OLDEST: Version = (0, 9, 0)
"""The first version with ``think``, which switches thinking off."""
RENDERS_SINCE: Version = (0, 11, 5)
"""The first version that returns a rendered prompt (``_debug_render_only``)."""


@dataclass(frozen=True)
class Era:
    """What servers from version ``since`` on do with an uploaded GGUF file."""

    name: str
    since: Version
    reads_jinja: bool
    """The chat template inside the GGUF is used; in older versions a model without TEMPLATE gets the raw prompt."""
    imports_folders: bool
    """On a Mac, a safetensors folder becomes a model of Ollama's MLX engine."""


ERAS = (
    Era("in-process engine", (0, 0, 0), reads_jinja=False, imports_folders=False),
    Era("llama-server", (0, 30, 0), reads_jinja=True, imports_folders=False),
    Era("llama-server and MLX", (0, 34, 1), reads_jinja=True, imports_folders=True),
)


DEVELOPMENT = Era("development build", (0, 0, 0), reads_jinja=False, imports_folders=False)
"""A server of unknown features: it is sent a template, and what it renders is compared."""
DEVELOPMENT_VERSION: Version = (0, 0, 0)


def parse_version(text: str, *, where: str, development_build: bool = False) -> Version:
    """``0.33.0-rc2`` as (0, 33, 0).

    A version that is not a release, such as ``0.0.0`` of a local build, is (0, 0, 0) with ``development_build``.
    Raises ToolError for it otherwise.
    """
    match = re.match(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})", text)
    if match is not None and not text.startswith("0.0.0"):
        major, minor, patch = (int(part) for part in match.groups())
        return major, minor, patch
    if development_build:
        return DEVELOPMENT_VERSION
    raise ToolError(
        f"Ollama's version '{text[:40]}' is a development build, whose features are unknown",
        where=where,
        fix="use a released version of Ollama, 0.30 or later; for the server of both models you can set "
        "'register.development_build: true' instead",
    )


def era_of(version: Version) -> Era:
    """The era that a version belongs to."""
    if version == DEVELOPMENT_VERSION:
        return DEVELOPMENT
    return [era for era in ERAS if version >= era.since][-1]
