"""Builds the wheel: the recipes and the data of the project become ``mlx_ragtune/bundled``.

Everything else is in pyproject.toml. An editable install copies nothing: there, the project's own folders are used.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BUNDLED = ("recipes", "data/probes", "data/rag_notes", "data/rehearsal")


class BuildWithData(build_py):
    """``build_py``, then the folders that ``ragtune demo`` and ``ragtune init`` need."""

    def run(self) -> None:
        """Copy the package, then the folders, into the build folder."""
        super().run()
        if self.editable_mode:
            return
        for name in BUNDLED:
            target = Path(self.build_lib) / "mlx_ragtune" / "bundled" / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(Path(__file__).parent / name, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))


setup(cmdclass={"build_py": BuildWithData})
