"""The wheel and the sdist hold everything, and the installed command works in an empty folder: ``make test-wheel``."""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUNDLED = ("recipes", "data/probes", "data/rag_notes", "data/rehearsal")


def run(*command: str | Path, folder: Path, installed: Path | None = None) -> str:
    """What a command printed; a failure shows its stderr. ``installed`` precedes every other package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if installed is not None:
        environment["PYTHONPATH"] = str(installed)
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files, so that no build folder is left in the project."""
    folder = tmp_path_factory.mktemp("checkout")
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", folder=ROOT).splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="session")
def wheels(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``direct``: built from the checkout; ``sdist``: built from the sdist, as an index would serve it."""
    found = {}
    for name, arguments in {"direct": ["--wheel"], "sdist": []}.items():
        folder = tmp_path_factory.mktemp(name)
        run(sys.executable, "-m", "build", *arguments, "--outdir", folder, checkout, folder=folder)
        (found[name],) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed in a folder of its own; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check")
    run(*pip, "--target", folder, wheels["sdist"], folder=folder)
    return folder


def ragtune(installed: Path, folder: Path, *arguments: str | Path) -> str:
    """What the installed command printed in ``folder``."""
    return run(sys.executable, "-m", "mlx_ragtune", *arguments, folder=folder, installed=installed)


def digests(wheel: Path) -> dict[str, str]:
    """SHA-256 of each packaged file; the metadata folder differs in its dates only and is left out."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("mlx_ragtune/")]
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}


def package_files(checkout: Path) -> Iterator[tuple[str, Path]]:
    """(name in the wheel, file) of everything that a wheel has to hold."""
    for file in (checkout / "mlx_ragtune").rglob("*"):
        if file.is_file():
            yield file.relative_to(checkout).as_posix(), file
    for name in BUNDLED:
        for file in (checkout / name).rglob("*"):
            if file.is_file():
                yield f"mlx_ragtune/bundled/{file.relative_to(checkout).as_posix()}", file


def test_the_wheel_holds_the_package_with_its_recipes_and_data(checkout: Path, wheels: dict[str, Path]) -> None:
    expected = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in package_files(checkout)}
    assert "mlx_ragtune/py.typed" in expected
    assert digests(wheels["direct"]) == expected
    with zipfile.ZipFile(wheels["direct"]) as archive:
        folders = {name.split("/")[0].rpartition(".")[2] for name in archive.namelist()}
    assert folders == {"mlx_ragtune", "dist-info"}


def test_the_sdist_builds_the_same_wheel(wheels: dict[str, Path]) -> None:
    assert digests(wheels["sdist"]) == digests(wheels["direct"])


def test_the_installed_package_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    code = "import mlx_ragtune; print(mlx_ragtune.__file__)"
    assert Path(run(sys.executable, "-c", code, folder=tmp_path, installed=installed).strip()).is_relative_to(installed)
    script = installed / "bin" / "ragtune"
    assert run(sys.executable, script, "--version", folder=tmp_path, installed=installed).startswith("ragtune")


def test_demo_is_a_command_of_the_installed_package(installed: Path, tmp_path: Path) -> None:
    assert "ragtune demo" in ragtune(installed, tmp_path, "demo", "--help")


def test_the_demo_is_a_valid_project_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    code = "import pathlib; from mlx_ragtune.commands.demo import prepare_demo; prepare_demo(pathlib.Path('demo'))"
    run(sys.executable, "-c", code, folder=tmp_path, installed=installed)
    assert ragtune(installed, tmp_path, "validate", "demo/recipes/demo.yaml").strip().endswith("ok")
    papers = [file.name for file in (tmp_path / "demo" / "data" / "rag_notes" / "papers").iterdir()]
    assert len(papers) == len(list((ROOT / "data" / "rag_notes" / "papers").iterdir()))


def test_a_stage_runs_from_the_installed_package_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    code = "import pathlib; from mlx_ragtune.commands.demo import prepare_demo; prepare_demo(pathlib.Path('demo'))"
    run(sys.executable, "-c", code, folder=tmp_path, installed=installed)
    smoke = installed / "mlx_ragtune" / "bundled" / "recipes" / "smoke.yaml"
    (tmp_path / "demo" / "recipes" / "smoke.yaml").write_bytes(smoke.read_bytes())
    ragtune(installed, tmp_path, "corpus", "demo/recipes/smoke.yaml")
    assert (tmp_path / "demo" / "runs" / "smoke" / "1-corpus" / "chunks.jsonl").is_file()
