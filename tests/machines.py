"""Several ranks on loopback, for tests."""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(folder: Path, command: list[str], *, size: int = 2, cwd: Path = ROOT) -> list["subprocess.Popen[str]"]:
    """The ranks of one command on loopback."""
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(size)]))
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MLX_HOSTFILE": str(hosts), "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen(command, cwd=cwd, env={**environment, "MLX_RANK": str(rank)}, **pipes) for rank in range(size)
    ]


def ended(processes: list["subprocess.Popen[str]"]) -> list[tuple[int, str]]:
    """(exit code, stderr) of each; none may outlive the test."""
    try:
        return [(process.wait(timeout=400), process.communicate()[1]) for process in processes]
    finally:
        for process in processes:
            process.kill()
