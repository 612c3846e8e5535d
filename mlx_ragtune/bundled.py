"""The recipes and the data that come with the package, in a wheel as in a source checkout."""

from pathlib import Path

from mlx_ragtune.errors import ToolError

_PACKAGE = Path(__file__).parent


def bundled(name: str) -> Path:
    """The path of a bundled file or folder, such as ``data/probes/general.jsonl`` or ``recipes``.

    A wheel holds them in ``mlx_ragtune/bundled``; a checkout has them beside the package.
    Raises ToolError if the installation is incomplete.
    """
    for folder in (_PACKAGE / "bundled", _PACKAGE.parent):
        if (folder / name).exists():
            return folder / name
    raise ToolError(
        f"the installation of mlx-ragtune is incomplete: {name} is missing",
        where=str(_PACKAGE),
        fix="pip install --force-reinstall --no-deps mlx-ragtune",
    )
