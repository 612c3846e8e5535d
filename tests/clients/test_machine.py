"""Writes that fail end in a message with the path and the space, and leave nothing half written."""

import errno
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import ToolError


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file of this process may grow beyond ``limit`` bytes: what a full disk looks like to a program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_names_path_and_space(tmp_path: Path, number: int) -> None:
    partial = tmp_path / "part"
    partial.write_text("half")
    with pytest.raises(ToolError) as caught, disk_writes(tmp_path / "a", 5 * 2**20, partial=partial):
        raise OSError(number, "full")
    assert "5 MiB needed" in caught.value.what
    assert caught.value.where == str(tmp_path / "a")
    assert "free disk space" in caught.value.fix
    assert not partial.exists()


def test_a_folder_that_is_not_writable_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="Permission denied") as caught, disk_writes(tmp_path / "a", 0):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert "writable" in caught.value.fix


def test_a_failed_write_of_mlx_is_a_failed_write(tmp_path: Path) -> None:
    array = mx.ones((1000, 100))
    mx.eval(array)
    with small_files(2000), pytest.raises(ToolError, match="Unable to write"), disk_writes(tmp_path / "a", 400_000):
        mx.save_safetensors(str(tmp_path / "a.safetensors"), {"a": array})
    with pytest.raises(ToolError, match="Failed to open"), disk_writes(tmp_path / "a", 400_000):
        mx.save_safetensors(str(tmp_path / "none" / "a.safetensors"), {"a": array})


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="malloc"), disk_writes(tmp_path / "a", 0):
        raise RuntimeError("[malloc] Unable to allocate 99 bytes.")
    with pytest.raises(ValueError, match="bug"), disk_writes(tmp_path / "a", 0):
        raise ValueError("bug")
