"""One finished run for all tests of this folder, and copies of it to change."""

import shutil
from pathlib import Path

import pytest

from tests.stages.project import make_project, ragtune


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose recipe has run through all eight stages."""
    home = tmp_path_factory.mktemp("finished")
    recipe = make_project(home)
    done = ragtune("run", recipe, cwd=home)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    return home


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project that a test may change."""
    home = tmp_path / "copy"
    shutil.copytree(finished, home, symlinks=True)
    return home
