"""What the other machines of ``mlx.launch`` do: their share of every training run of rank 0.

Rank 0 runs the command as always. It tells the others the base, the rows and the settings of each run, so they need
neither the recipe nor the run's folder, only the base model; they hold no lock and write no artifact.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlx_ragtune.errors import DivergedError, InputError
from mlx_ragtune.jsonl import parse_row
from mlx_ragtune.recipe import BaseModelSettings, DatasetSettings, TrainSettings
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.ranks import MachinesLostError, find_ranks, left
from mlx_ragtune.tuning.workbench import Workbench, base_digest

FindBase = Callable[[BaseModelSettings], Path]


def lead(model: BaseModelSettings) -> None:
    """Tell the other ranks which base model the command trains."""
    ranks = find_ranks()
    if ranks.size > 1 and ranks.first:
        ranks.told({"do": "base", "model": model.model_dump_json()})


def release() -> None:
    """Tell the other ranks that nothing is left to do, unless they are gone."""
    ranks = find_ranks()
    if ranks.size > 1 and ranks.first and not left():
        with suppress(MachinesLostError):  # nothing is lost: all runs are finished
            ranks.told({"do": "end"})


def follow(find_base: FindBase) -> None:
    """Take part in every training run of rank 0 until it says that there are no more.

    ``find_base`` gives the folder of the same base model on this machine. Raises InputError when it is another one,
    MachinesLostError when rank 0 is gone, and what ``Workbench.train`` raises.
    """
    ranks = find_ranks()
    bench: Workbench | None = None
    model: BaseModelSettings | None = None
    with TemporaryDirectory(prefix="ragtune-rank-") as aside:
        try:
            while (job := ranks.told({}))["do"] != "end":
                if job["do"] == "base":
                    model = BaseModelSettings.model_validate_json(job["model"])
                elif job["do"] == "open" and model is not None:
                    _close(bench)
                    bench = _open(job, model, find_base, Path(aside))
                elif bench is not None:
                    _train(bench, job, Path(aside))
        finally:
            _close(bench)


def _silent(_text: str) -> None:
    pass


def _close(bench: Workbench | None) -> None:
    if bench is not None and bench.is_open:
        bench.__exit__(None, None, None)


def _open(job: dict[str, Any], model: BaseModelSettings, find_base: FindBase, aside: Path) -> Workbench:
    """The workbench with the base and the rows of rank 0."""
    model = model.model_copy(update={"precision": job["precision"]})
    base = find_base(model)
    if base_digest(base) != job["base"]:
        raise InputError(
            f"the base model on this machine differs from that of rank 0: '{model.model}'",
            where=str(base),
            fix="remove it here and fetch it again, or copy it from the machine of rank 0",
        )
    rows = {name: [parse_row(Example, row, where="rank 0") for row in part] for name, part in job["rows"].items()}
    dataset = DatasetSettings(**job["dataset"])
    bench = Workbench(base, model, dataset=dataset, rows=rows, store=aside / "store", say=_silent, following=True)
    return bench.__enter__()


def _train(bench: Workbench, job: dict[str, Any], aside: Path) -> None:
    settings = TrainSettings.model_validate_json(job["settings"])
    run, seed, shares = aside / "run", job["seed"], job["shares"]
    with suppress(DivergedError):  # on every rank alike: rank 0 reports it
        bench.train(settings, folder=run, seed=seed, progress=lambda *_: None, **shares)
