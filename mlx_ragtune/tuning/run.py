"""Trains one adapter, from rows to a finished adapter folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlx_ragtune.recipe import BaseModelSettings, DatasetSettings, TrainSettings
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.loop import SAVE_SECONDS, Report
from mlx_ragtune.tuning.rehearsal import share_in
from mlx_ragtune.tuning.train_checks import check_train
from mlx_ragtune.tuning.training import TrainResult
from mlx_ragtune.tuning.workbench import Workbench


def keeps_checkpoints(engine: str) -> bool:
    """Whether a stopped run of this ``train.engine`` resumes; otherwise it starts from the beginning."""
    return engine == "shared-prefix"


def train(
    settings: TrainSettings,
    model: BaseModelSettings,
    dataset: DatasetSettings,
    *,
    base: Path,
    rows: Mapping[str, Sequence[Example]],
    folder: Path,
    seed: int,
    progress: Report,
    save_seconds: float = SAVE_SECONDS,
) -> TrainResult:
    """Train on ``rows["train"]`` as ``Workbench.train`` does, on a workbench of its own; raises the same errors.

    With ``dataset.rehearsal``, ``rows["rehearsal"]`` are all usable answers of the base.
    """
    check_train(settings, base)  # before the base is loaded
    share = share_in(dataset)
    with Workbench(base, model, dataset=dataset, rows=rows, store=folder / "checkpoints" / "frozen") as workbench:
        return workbench.train(
            settings, folder=folder, seed=seed, progress=progress, save_seconds=save_seconds, rehearsal_share=share
        )
