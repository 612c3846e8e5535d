"""doctor: what it finds on this machine, and what it reports when something is missing."""

import importlib.metadata
import re
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from mlx_ragtune.commands import doctor
from mlx_ragtune.commands.doctor import Finding, examine, matmul_gflops
from mlx_ragtune.errors import ToolError

ROOT = Path(__file__).parents[2]
Usage = namedtuple("Usage", "total used free")


def finding(name: str) -> Finding:
    return doctor.CHECKS[name]()


def test_this_machine_can_run_the_pipeline_and_every_check_reports_under_its_name() -> None:
    findings = examine()
    assert [each.what for each in findings] == list(doctor.CHECKS)
    assert [each for each in findings if each.state == "missing"] == []


def test_a_bug_report_has_every_version_it_needs() -> None:
    text = finding("packages").found
    for package in ("mlx", "mlx-lm", "transformers", "numpy", "gguf"):
        assert f"{package} {importlib.metadata.version(package)}" in text
    assert text.startswith("mlx-ragtune ")


def test_the_supported_pythons_are_those_of_the_package_and_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = (".".join(map(str, version)) for version in doctor.SUPPORTED_PYTHON)
    (required,) = re.findall(r'requires-python = "([^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    major, minor = doctor.SUPPORTED_PYTHON[1]
    assert required == f">={first},<{major}.{minor + 1}"
    assert f"Python {first} to {last}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"(3, {minor + 1})" in (ROOT / "Makefile").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    assert (finding("Python").state, finding("Python").fix) == ("missing", "install Python 3.11 to 3.13")


@pytest.mark.skipif(sys.platform != "linux", reason="OpenBLAS is used on Linux only")
def test_openblas_is_in_use_on_linux() -> None:
    assert matmul_gflops() > doctor.SLOW_GFLOPS


@pytest.mark.skipif(sys.platform != "linux", reason="OpenBLAS is used on Linux only")
def test_a_slow_product_is_a_finding_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "matmul_gflops", lambda: 1.7)
    slow = finding("matrix product")
    assert (slow.state, slow.mark) == ("missing", "✗")
    assert "scipy" in slow.fix


def test_no_ollama_is_reported_without_its_password_and_is_not_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://user:secret@127.0.0.1:1")
    findings = [finding("Ollama"), finding("environment")]
    assert findings[0].state == "optional"
    assert findings[0].found == "no server at http://127.0.0.1:1"
    assert "OLLAMA_HOST=http://127.0.0.1:1" in findings[1].found
    assert "secret" not in str(findings)


def test_a_host_that_is_not_an_address_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://[::1")
    (found,) = [each for each in examine() if each.what == "Ollama"]
    assert found.state == "missing"
    assert "is not the address of a server" in found.found


def test_the_disk_of_the_runs_folder_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Path] = []

    def usage(folder: Path) -> Usage:
        measured.append(folder)
        return Usage(100, 99, 2**30)

    monkeypatch.setenv("RAGTUNE_RUNS", str(tmp_path / "other" / "runs"))
    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert finding("disk").state == "missing"
    assert "RAGTUNE_RUNS" in finding("disk").fix
    assert set(measured) == {tmp_path}


def test_a_runs_folder_that_is_a_file_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").touch()
    monkeypatch.setenv("RAGTUNE_RUNS", str(tmp_path / "runs"))
    assert finding("disk").found == f"cannot write to {tmp_path / 'runs'}"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ToolError("libmlx.so is not loaded", fix="pip install mlx"), "libmlx.so is not loaded"),
        (importlib.metadata.PackageNotFoundError("mlx"), "the package mlx is not installed"),
        (OSError("libgfortran.so.5: cannot open shared object file\nmore"), "libgfortran.so.5: cannot open"),
        (RuntimeError(), "the check failed: RuntimeError"),
    ],
)
def test_a_check_that_fails_is_itself_a_finding(error: Exception, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise error

    monkeypatch.setattr(doctor, "CHECKS", {"MLX device": broken})
    (found,) = examine()
    assert (found.what, found.state) == ("MLX device", "missing")
    assert shown in found.found
    assert found.fix


def test_threads_that_delay_each_other_are_a_finding_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr(sys, "platform", "darwin")
    speeds = {1: 90.0, 4: 4.5}
    monkeypatch.setattr(doctor, "tokens_per_second", lambda _model, threads: speeds[threads])
    slow = finding("threads")
    assert slow.state == "optional"
    assert "90 with 1, 4.5 with 4" in slow.found
    assert "'evaluate.threads: 1'" in slow.fix
    assert "20 times slower" in slow.fix
    speeds[4] = 250.0
    assert (finding("threads").state, finding("threads").fix) == ("ok", "")


def test_threads_are_measured_with_a_real_model() -> None:
    assert re.search(r"\d with 1\b", finding("threads").found) or finding("threads").found == "1 processor"
