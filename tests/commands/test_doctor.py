"""doctor: what it finds on this machine, and what it says when something is amiss."""

import sys

import pytest

from mlx_ragtune.commands import doctor
from mlx_ragtune.commands.doctor import Finding, examine, matmul_gflops


def test_this_machine_can_run_the_pipeline() -> None:
    findings = {one.what: one for one in examine()}
    assert {"Python", "MLX", "matrix product", "memory", "disk", "embedded server", "Ollama"} <= set(findings)
    assert [one for one in findings.values() if one.state == "missing"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="OpenBLAS is loaded on Linux only")
def test_openblas_took_on_linux() -> None:
    assert matmul_gflops() > doctor.SLOW_GFLOPS


@pytest.mark.skipif(sys.platform != "linux", reason="OpenBLAS is loaded on Linux only")
def test_a_slow_product_is_a_finding_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "matmul_gflops", lambda: 1.7)
    finding = doctor._blas()
    assert (finding.state, finding.mark) == ("missing", "✗")
    assert "scipy" in finding.fix


def test_no_ollama_is_said_and_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:1")
    finding = doctor._ollama()
    assert finding.state == "optional"
    assert "no server at http://127.0.0.1:1" in finding.found


def test_a_check_that_fails_is_itself_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise ImportError("libgfortran.so.5: cannot open shared object file")

    monkeypatch.setattr(doctor, "CHECKS", (broken,))
    assert [(one.state, one.found) for one in examine()] == [
        ("missing", "libgfortran.so.5: cannot open shared object file")
    ]
