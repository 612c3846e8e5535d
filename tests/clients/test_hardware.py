"""What a measurement says about its machine."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_ragtune.clients import hardware
from mlx_ragtune.clients.hardware import Hardware, this_machine


def test_the_processor_is_named_as_linux_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: AMD EPYC 9R14 \nmodel name\t: another\n")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(hardware, "_CPU_INFO", info)
    assert this_machine().chip == "AMD EPYC 9R14"
    monkeypatch.setattr(hardware, "_CPU_INFO", tmp_path / "absent")
    assert this_machine().chip == platform.machine()


def test_a_mac_is_named_with_its_chip_and_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def sysctl(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        assert command[1:] == ["-n", "machdep.cpu.brand_string"]
        return subprocess.CompletedProcess(command, 0, stdout="Apple M3 Max\n")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("26.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(subprocess, "run", sysctl)
    found = this_machine()
    assert (found.chip, found.system) == ("Apple M3 Max", "macOS 26.1")


def test_a_machine_under_load_is_busy() -> None:
    quiet = Hardware("x", 8, 16.0, "macOS 26.1", "gpu", 1.5)
    assert not quiet.busy
    assert Hardware("x", 2, 16.0, "macOS 26.1", "gpu", 1.5).busy
