"""Which models at an Ollama are ours, and whether a server still has them.

Every digest that was registered from a runs folder is a row of ``runs/.store/registered.jsonl``, written before the
model gets its name. ``ragtune prune`` keeps the file, so that a model stays ours when its run is gone.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlx_ragtune.clients.ollama_address import ollama_command, start_command
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.errors import ToolError
from mlx_ragtune.jsonl import RowLog

Presence = Literal["present", "removed", "replaced", "unreachable", "file"]
QUICK_SECONDS = 3.0
"""How long a look at a server may take; nothing depends on its answer but what is shown."""


def full_name(name: str) -> str:
    """The name with its tag, as the server lists it."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


@dataclass(frozen=True)
class RegisteredRow:
    """One model that was registered."""

    host: str
    name: str
    digest: str


class Registered:
    """The record of a runs folder; ``store`` is its ``.store``. Receipts in it count too."""

    def __init__(self, store: Path) -> None:
        self._path = store / "registered.jsonl"
        self._receipts = store / "register"

    def add(self, host: str, name: str, digest: str) -> None:
        """Remember a model as ours."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with RowLog(self._path) as log:
            log.append(RegisteredRow(host, full_name(name), digest))

    def has(self, name: str, digest: str) -> bool:
        """Whether this very model was registered under this name from here, at whatever address."""
        return (full_name(name), digest) in {(row.name, row.digest) for row in self._rows()}

    def _rows(self) -> Iterable[RegisteredRow]:
        if self._path.exists():
            with RowLog(self._path) as log:
                yield from log.rows(RegisteredRow)
        for path in self._receipts.glob("*/receipt.json"):
            try:
                receipts = json.loads(path.read_text(encoding="utf-8")).values()
                yield from (RegisteredRow(row["host"], full_name(row["name"]), row["digest"]) for row in receipts)
            except (OSError, ValueError, AttributeError, TypeError, LookupError):
                continue  # damaged: read_artifact reports it


@dataclass(frozen=True)
class Served:
    """Where a registered model is now. ``what`` and ``fix`` are empty for one that is there."""

    name: str
    presence: Presence
    what: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Standing:
    """Whether registered models are where they were put. ``lost`` says why they have to be registered again.

    ``note`` is what else has to be known: a server that does not answer, or that is another version by now.
    """

    lost: str = ""
    note: str = ""
    fix: str = ""


def look(receipts: Iterable[Mapping[str, Any]]) -> list[Served]:
    """For each receipt whether its server still has that very model. Raises nothing; asks each server once."""
    servers: dict[str, _Server | ToolError] = {}
    return [_look(receipt, servers) for receipt in receipts]


def standing(receipts: Iterable[Mapping[str, Any]]) -> Standing:
    """What ``look`` sees of several models, as one."""
    seen = [served for served in look(receipts) if served.what]
    gone = [served for served in seen if served.presence in ("removed", "replaced")]
    fixes = dict.fromkeys(served.fix for served in gone or seen)
    notes = dict.fromkeys(served.what for served in seen if served not in gone)
    return Standing("; ".join(served.what for served in gone), "; ".join(notes), next(iter(fixes), ""))


@dataclass(frozen=True)
class _Server:
    version: str
    digests: Mapping[str, str]


def _ask(host: str) -> "_Server | ToolError":
    try:
        with Ollama(host, attempts=1, timeout_seconds=QUICK_SECONDS) as server:
            return _Server(server.version, server.digests())
    except ToolError as error:
        return error


def _look(receipt: Mapping[str, Any], servers: dict[str, _Server | ToolError]) -> Served:
    name, host = str(receipt["name"]), str(receipt.get("host", ""))
    if receipt.get("server") != "ollama":
        return Served(name, "file")
    if host not in servers:
        servers[host] = _ask(host)
    server = servers[host]
    if isinstance(server, ToolError):
        return Served(name, "unreachable", f"not checked: {host}: {server.what}", server.fix or start_command(host))
    digest = server.digests.get(full_name(name))
    if digest is None:
        return Served(name, "removed", f"Ollama at {host} no longer has '{name}'", "ragtune register RECIPE")
    if digest != receipt["digest"]:
        shown = ollama_command(host, f"show {name}")
        what = f"Ollama at {host} has another model named '{name}' ({digest[:12]})"
        return Served(name, "replaced", what, f"ragtune register RECIPE   # to see what it is: {shown}")
    if server.version != receipt["version"]:
        what = f"Ollama at {host} is {server.version} now, and was {receipt['version']}"
        return Served(name, "present", what, "ragtune register RECIPE --redo   # before anything is asked again")
    return Served(name, "present")
