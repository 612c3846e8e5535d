"""The one door to MLX: on Linux it loads OpenBLAS first, without which a matrix product is 80 × slower.

Every other module writes ``from mlx_ragtune.backends.runtime_mlx import mx, nn`` (a test looks).
"""

import ctypes
import importlib.metadata
import os
import sys
import tempfile
from pathlib import Path

from mlx_ragtune.errors import ToolError


def wheel_library(package: str, prefix: str) -> Path:
    """Where pip put the shared library of ``package`` whose name starts so. Raises ToolError if absent."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.startswith(prefix):
            return Path(str(file.locate())).resolve()
    raise ToolError(
        f"{prefix}… of the package {package} is missing, and MLX on Linux needs it",
        fix=f"pip install {package}",
    )


def _load(library: Path) -> None:
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _load_gfortran() -> None:
    """Load mlx-cpu's own Fortran runtime under the name that OpenBLAS asks for.

    OpenBLAS needs ``libgfortran.so.5``, which a bare machine lacks; mlx-cpu ships it with a hash in
    its SONAME. The loader matches by SONAME, so a private copy with the plain one (shorter, hence
    patched in place) serves.
    """
    _load(wheel_library("mlx-cpu", "libquadmath-"))
    shipped = wheel_library("mlx-cpu", "libgfortran-")
    soname, plain = shipped.name.encode() + b"\0", b"libgfortran.so.5\0"
    image = shipped.read_bytes()
    if image.count(soname) != 1:
        raise ToolError(f"{shipped.name} does not hold its own name once", fix="install libgfortran5 by hand")
    with tempfile.TemporaryDirectory(prefix="ragtune-") as folder:  # mapped when loaded: the file may go
        alias = Path(folder) / "libgfortran.so.5"
        alias.write_bytes(image.replace(soname, plain.ljust(len(soname), b"\0")))
        _load(alias)


def _prepare_linux() -> None:
    if "mlx.core" in sys.modules:
        raise ImportError("mlx was imported before mlx_ragtune.backends.runtime_mlx: OpenBLAS cannot take")
    openblas = wheel_library("cmeel-openblas", "libopenblas.so")
    try:
        _load(openblas)
    except OSError:
        _load_gfortran()
        _load(openblas)


if sys.platform == "linux":
    _prepare_linux()
else:
    # Metal's watchdog kills long steps while the display is on (mlx#3267); MLX reads this when it starts.
    os.environ.setdefault("AGX_RELAX_CDM_CTXSTORE_TIMEOUT", "1")

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optimizers  # noqa: E402
from mlx.utils import tree_flatten, tree_map, tree_unflatten  # noqa: E402

__all__ = ["mx", "nn", "optimizers", "tree_flatten", "tree_map", "tree_unflatten"]
