"""Workers on a real PostgreSQL server: they share one study, and the password of its address appears nowhere."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mlx_ragtune.errors import ToolError
from mlx_ragtune.sweeping.storage import Address, open_storage
from tests.sweeping.made import opened, run_out

pytestmark = pytest.mark.skipif(
    not (shutil.which("initdb") and shutil.which("postgres")), reason="PostgreSQL is not installed"
)
PASSWORD = "s3cret/with+signs"
ENCODED = "s3cret%2Fwith%2Bsigns"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    """A server on this machine, with a password, as an unprivileged user."""
    folder = Path(tempfile.mkdtemp(prefix="ragtune-pg-"))
    user = "nobody" if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    command = ["initdb", "-D", str(folder / "data"), "-U", "kim", "-A", "scram-sha-256", "--pwfile", str(secret)]
    subprocess.run(command, check=True, user=user, cwd=folder, capture_output=True)
    port = free_port()
    options = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-k", str(folder)]
    server = subprocess.Popen(
        ["postgres", "-D", str(folder / "data"), "-p", str(port), *options],
        user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(200):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield Address(f"postgresql://kim:{ENCODED}@127.0.0.1:{port}/postgres", "RAGTUNE_SWEEP_STORAGE")
    finally:
        server.send_signal(signal.SIGINT)  # a fast shutdown: it does not wait for clients
        server.wait()
        shutil.rmtree(folder)


WORKER = """\
import os, sys
from mlx_ragtune.sweeping.storage import Address
from tests.sweeping.made import asked, opened, run_out
sweep = opened(Address(os.environ["ADDRESS"], "test"), trials=6, name=sys.argv[1])
if sys.argv[2] == "killed":
    asked(sweep)
    os.kill(os.getpid(), 9)
print(len(run_out(sweep)))
"""


def worker(address: Address, name: str, kind: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, name, kind],
        env={**os.environ, "ADDRESS": address.value}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_workers_share_a_study_and_take_up_the_trial_of_a_killed_one(address: Address) -> None:
    killed = worker(address, "shared", "killed")
    killed.communicate()
    assert killed.returncode == -9
    with closing(opened(address, trials=6, name="shared")) as sweep:
        assert len(sweep.take_over()) == 1
    counts = []
    for process in [worker(address, "shared", "ordinary") for _ in range(2)]:
        out, error = process.communicate()
        assert process.returncode == 0, error
        counts.append(int(out))
    assert sum(counts) == 6
    with closing(opened(address, trials=6, name="shared")) as sweep:
        rows = sweep.rows()
    assert [row.state for row in rows].count("finished") == 6
    assert len({str(row.settings) for row in rows if row.state == "finished"}) == 6, "no settings twice"
    assert [row.number for row in rows] == list(range(6))


def test_a_new_worker_reads_what_another_wrote(address: Address) -> None:
    with (
        closing(opened(address, trials=2, name="read")) as sweep,
        closing(opened(address, trials=2, name="read")) as other,
    ):
        tried = run_out(sweep)
        assert [row.settings for row in other.rows()] == tried
        assert other.spent() == "2 trials"


def test_a_wrong_password_is_an_error_without_any_password(address: Address) -> None:
    wrong = Address(address.value.replace(ENCODED, "wr0ng%2Fpassword"), address.where)
    with pytest.raises(ToolError, match="password authentication failed") as failed:
        open_storage(wrong)
    text = str(failed.value)
    assert "wr0ng" not in text
    assert "127.0.0.1" in text
    assert PASSWORD not in address.shown
    assert ENCODED not in address.shown
