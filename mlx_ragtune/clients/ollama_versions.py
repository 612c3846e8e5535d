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


def parse_version(text: str, *, where: str) -> Version:
    """``0.33.0-rc2`` as (0, 33, 0). Raises ToolError for a version that is not a release, such as a local build."""
    match = re.match(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})", text)
    if match is None or text.startswith("0.0.0"):
        raise ToolError(
            f"Ollama's version '{text[:40]}' is an unsupported development build",
            where=where,
            fix="use a released version of Ollama, 0.30 or later",
        )
    major, minor, patch = (int(part) for part in match.groups())
    return major, minor, patch


def era_of(version: Version) -> Era:
    """The era that a version belongs to."""
    return [era for era in ERAS if version >= era.since][-1]
