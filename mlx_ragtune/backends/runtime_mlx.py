"""The one door to MLX: on Linux it loads OpenBLAS first, without which a matrix product is 80 × slower.

Every other module writes ``from mlx_ragtune.backends.runtime_mlx import mx, nn`` (a test looks).
"""

import ctypes
import importlib.metadata
import os
import sys
from pathlib import Path

from mlx_ragtune.errors import ToolError


def openblas_library() -> Path:
    """Where pip put ``libopenblas.so``. Raises ToolError when the wheel is missing."""
    try:
        files = importlib.metadata.files("cmeel-openblas") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.startswith("libopenblas.so"):
            return Path(str(file.locate())).resolve()
    raise ToolError("OpenBLAS is not installed, and MLX on Linux needs it", fix="pip install cmeel-openblas")


def _prepare() -> None:
    if sys.platform == "linux":
        if "mlx.core" in sys.modules:
            raise ImportError("mlx was imported before mlx_ragtune.backends.runtime_mlx: OpenBLAS cannot take")
        ctypes.CDLL(str(openblas_library()), mode=ctypes.RTLD_GLOBAL)
    else:
        # Metal's watchdog kills long steps while the display is on (mlx#3267); read when MLX starts.
        os.environ.setdefault("AGX_RELAX_CDM_CTXSTORE_TIMEOUT", "1")


_prepare()

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optimizers  # noqa: E402
from mlx.utils import tree_flatten, tree_map, tree_unflatten  # noqa: E402

__all__ = ["mx", "nn", "openblas_library", "optimizers", "tree_flatten", "tree_map", "tree_unflatten"]
