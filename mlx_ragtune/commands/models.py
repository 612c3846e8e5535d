"""``ragtune models``: the models that were registered from here, and removing them. Never touches any other."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import STAGE_FOLDERS, running
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.recipe_load import runs_folder
from mlx_ragtune.run_folders import owner_of

_STATES = {
    "present": "at the server", "removed": "removed there", "replaced": "replaced there",
    "unreachable": "no answer", "file": "file",
}  # fmt: skip
_FIELDS = ("name", "server", "type", "host", "digest")


def runs_here() -> Path:
    """The runs folder of the project that the shell is in."""
    return runs_folder(Path.cwd() / "recipe")


def registered(*, ask_servers: bool = False) -> tuple[list[dict[str, Any]], list[ArtifactError]]:
    """One row for each registered model, from the receipts of all runs, and an error for each damaged receipt.

    With ``ask_servers`` a row also has ``presence`` (whether the server still has that very model), and ``problem``
    and ``fix``, which are empty for one that is there.
    """
    rows: list[dict[str, Any]] = []
    damaged = []
    for path in sorted(runs_here().glob(f"*/{STAGE_FOLDERS['register']}/receipt.json")):
        try:
            receipts = json.loads(path.read_text(encoding="utf-8"))
            rows += [{"run": path.parts[-3], "model": model, **_whole(receipt)} for model, receipt in receipts.items()]
        except (OSError, ValueError, AttributeError, TypeError, LookupError):
            error = ArtifactError(
                "cannot read the receipt of the registered models",
                where=str(path),
                fix=f"rm -r {path.parent.resolve()}, then register again",
            )
            damaged.append(error)
    if ask_servers:
        from mlx_ragtune.clients.registered import look

        for row, served in zip(rows, look(rows), strict=True):
            fix = served.fix.replace("RECIPE", _recipe_of(str(row["run"])))
            row.update(presence=served.presence, problem=served.what, fix=fix)
    return rows, damaged


def _whole(receipt: dict[str, Any]) -> dict[str, Any]:
    """The receipt, if it has everything that is listed. Raises TypeError or LookupError."""
    if not all(isinstance(receipt[name], str) for name in _FIELDS):
        raise TypeError
    return receipt


def _recipe_of(run_name: str) -> str:
    """A run's recipe as it is typed in a command, or ``RECIPE`` where the run does not know it."""
    owner = owner_of(runs_here() / run_name)
    return owner.arguments if owner else "RECIPE"


def listing(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table, and below it what is wrong and the command for it."""
    from mlx_ragtune.pages.tables import fill, render_table

    if not rows:
        return "no registered models; next: ragtune register RECIPE"
    runs = [str(row["run"]).replace("+", "\n+") for row in rows]
    cells = [
        [run, row["name"], row["server"], row["type"], _STATES[row["presence"]]]
        for run, row in zip(runs, rows, strict=True)
    ]
    lines = [render_table(["run", "name", "server", "type", "state"], cells)]
    problems = {(row["problem"], row["fix"]): None for row in rows if row["problem"]}
    for problem, fix in problems:
        lines += [fill(problem), f"  try: {fix}"]
    return "\n".join(lines)


def remove(run_name: str) -> list[str]:
    """Remove a run's registered models and its receipt; returns a line for each model.

    Another model that has the name by now is left alone, and the line says so. Raises InputError when the run has
    none, ArtifactError while it is in progress, ToolError when a server does not answer.
    """
    listed, _ = registered()
    rows = [row for row in listed if row["run"] == run_name]
    if not rows:
        known = ", ".join(sorted({row["run"] for row in listed})) or "none"
        raise InputError(f"run '{run_name}' has no registered models (known: {known})", fix="ragtune models list")
    if process := running(runs_here() / run_name):
        raise ArtifactError(
            f"run '{run_name}' is in progress (process {process[0]})",
            where=str(runs_here() / run_name),
            fix="wait for it to finish, or stop it with Ctrl-C",
        )
    lines = [_remove(row, [other for other in listed if other["run"] != run_name]) for row in rows]
    link = runs_here() / run_name / STAGE_FOLDERS["register"]
    shutil.rmtree(link.resolve())
    link.unlink(missing_ok=True)
    return lines


def _remove(row: dict[str, Any], others: Sequence[dict[str, Any]]) -> str:
    """Remove one model; what became of it."""
    name, host = str(row["name"]), str(row["host"])
    if row["server"] != "ollama":
        return f"removed {name}"
    from mlx_ragtune.clients.ollama_address import ollama_command
    from mlx_ragtune.clients.ollama_registry import remove_model

    presence = remove_model(host, name, digest=row["digest"])
    if presence == "removed":
        return f"{name} was gone already at {host}"
    if presence == "replaced":
        command = ollama_command(host, f"rm {name}")
        return f"kept {name} at {host}: it is not the model that was registered; to remove it: {command}"
    same = sorted({other["run"] for other in others if (other["name"], other["host"]) == (name, host)})
    return f"removed {name}" + (f", which run '{same[0]}' had registered too" if same else "")
