"""Studies without models: a trial's score is a function of its settings."""

import time
from pathlib import Path
from typing import Any

from optuna.trial import Trial

from mlx_ragtune.recipe import SweepSettings
from mlx_ragtune.recipe_sweep import read_dimension
from mlx_ragtune.sweeping.space import Space
from mlx_ragtune.sweeping.storage import Address
from mlx_ragtune.sweeping.study import Judgment, SweepStudy, open_study

RANKS: dict[str, Any] = {"train.learning_rate": (1e-4, 1e-3, 1e-2), "train.rank": (4, 8)}


def made_space(**dimensions: Any) -> Space:
    """The space of ``RANKS``, or of other dimensions (``train__rank=(4, 8)``)."""
    written = {key.replace("__", "."): value for key, value in dimensions.items()} or RANKS
    return Space({key: read_dimension(value) for key, value in written.items()})


def sqlite(folder: Path) -> Address:
    """A study in a file."""
    return Address(f"sqlite:///{folder / 'study.sqlite'}", "test")


def journal(folder: Path) -> Address:
    """A study in Optuna's journal, which is quicker to open."""
    return Address(f"journal:{folder / 'study.log'}", "test")


def opened(
    address: Address, space: Space | None = None, *, seed: int = 0, name: str = "s", **settings: Any
) -> SweepStudy:
    """A study of the space, opened by one worker."""
    return open_study(
        name,
        address,
        space=space or made_space(),
        settings=SweepSettings(**settings),
        seed=seed,
        identity={"base": "b", "sweep.space": (space or made_space()).describe()},
    )


def judged(score: float, *, valid_loss: float = 1.0, probe_loss: float | None = None, updates: int = 10) -> Judgment:
    """A judgment of that score."""
    return Judgment(score, valid_loss, probe_loss, updates, 1.0, 100.0, "run", "key")


def asked(sweep: SweepStudy) -> Trial:
    """The next trial."""
    trial = sweep.ask()
    assert trial is not None
    return trial


def run_out(sweep: SweepStudy) -> list[dict[str, Any]]:
    """The settings of all trials until the budget is spent; the score grows with the rank and the learning rate."""
    tried = []
    while not sweep.spent():
        trial = sweep.ask()
        if trial is None:  # another worker has the last one
            time.sleep(0.01)
            continue
        settings = sweep.settings_of(trial)
        tried.append(settings)
        sweep.complete(trial, judged(settings.get("train.rank", 0) / 100 + settings.get("train.learning_rate", 0)))
    return tried
