"""``ragtune plan``: the memory of every stage, and what training will take on this machine, before it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.clients.machine import MemoryNeed, memory_bytes, usable_bytes
from mlx_ragtune.errors import OutOfMemoryError
from mlx_ragtune.jsonl import read_json, read_rows
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.example_files import read_examples
from mlx_ragtune.tuning.preflight import Preflight, plan_run
from mlx_ragtune.tuning.start_adapter import check_start
from mlx_ragtune.tuning.train_checks import check_engine


@dataclass(frozen=True)
class StageMemory:
    """The predicted peak of one stage and what it may use, in bytes; ``fix`` lowers the peak."""

    stage: str
    bytes: int
    usable: int
    fix: str

    @property
    def fits(self) -> bool:
        """Whether the stage may use what it needs."""
        return self.bytes <= self.usable


def memory_of_stages(needs: Mapping[str, MemoryNeed]) -> list[StageMemory]:
    """A row for each stage, from ``Run.memory``, beside what this machine has."""
    usable = usable_bytes(memory_bytes())
    return [StageMemory(name, need.bytes, usable, need.fix) for name, need in needs.items()]


def memory_text(rows: Sequence[StageMemory]) -> str:
    """The rows as a table, below what they may use."""
    from mlx_ragtune.pages.tables import render_table

    total, usable = memory_bytes() / 2**30, usable_bytes(memory_bytes()) / 2**30
    part = f"; {usable:.1f} GiB of it can be used" if usable < total else ""
    cells = [[row.stage, f"{row.bytes / 2**30:.1f}", "yes" if row.fits else "NO"] for row in rows]
    return "\n".join(
        [
            f"memory of each stage at most; this machine has {total:.1f} GiB{part}",
            render_table(["stage", "GiB", "fits"], cells),
        ]
    )


def require_memory_of_stages(rows: Sequence[StageMemory]) -> None:
    """Raise OutOfMemoryError when a stage does not fit, with what to try for the first that does not."""
    if short := [row for row in rows if not row.fits]:
        needs = ", ".join(f"{row.stage} about {row.bytes / 2**30:.1f} GiB" for row in short)
        raise OutOfMemoryError(
            f"too little memory: {needs}; {short[0].usable / 2**30:.1f} GiB can be used",
            where=short[0].stage,
            fix=short[0].fix,
        )


def plan(run: OpenRun) -> Preflight:
    """The preflight of a recipe. Brings what training reads up to date first. Raises as those stages do."""
    recipe = run.recipe
    check_engine(recipe.train)
    check_start(recipe.train, run.base, model=recipe.base.model)
    run.bring("dataset")
    folder = run.artifact("dataset").folder
    rows = read_examples(folder, rejected=recipe.train.preference is not None)
    if recipe.dataset.rehearsal is not None:
        run.bring("rehearse")
        rows["rehearsal"] = list(read_rows(run.artifact("rehearse").folder / "rehearsal.jsonl", Example))
    return plan_run(recipe.train, recipe.base, recipe.dataset, base=run.base, rows=rows, seed=recipe.seed)


def account(run: OpenRun) -> dict[str, Any]:
    """How many rows the data set read, left out for each reason, and kept; it is up to date after ``plan``."""
    found: dict[str, Any] = read_json(run.artifact("dataset").folder / "statistics.json")["account"]
    return found


def memory_json(rows: Sequence[StageMemory]) -> list[dict[str, Any]]:
    """The memory of the stages for scripts, in bytes."""
    return [{**asdict(row), "fits": row.fits} for row in rows]


def as_json(preflight: Preflight, read: dict[str, Any]) -> dict[str, Any]:
    """The plan for scripts: bytes, seconds, tokens, and the account of the data set."""
    return {**asdict(preflight), "dataset": read, "saving": preflight.saving, "fits": preflight.fits}
