"""One side of ``ragtune bench`` in a process of its own: ``python -m mlx_ragtune.tuning.side_by_side FOLDER SIDE``.

The folder holds ``job.json`` and ``examples.jsonl``. Lines on stdout are JSON: progress, then the result or the
failure. A process of its own gives each side a peak of its own, and mlx-lm's changes to its layer classes end with it.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mlx_ragtune.errors import OutOfMemoryError, RagtuneError
from mlx_ragtune.jsonl import read_json, read_rows, write_rows
from mlx_ragtune.models.model_folder import read_config
from mlx_ragtune.recipe import BaseModelSettings, DatasetSettings, TrainSettings
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.adapters import apply_adapter
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.memory import is_out_of_memory
from mlx_ragtune.tuning.schedule import micro_batches, rows_per_update, updates_of_epoch
from mlx_ragtune.tuning.step_size import with_step
from mlx_ragtune.tuning.stock_trainer import PASSES, MeasuredPass, OnStep, stock_batches, stock_pass, stock_work
from mlx_ragtune.tuning.token_rows import TokenRow
from mlx_ragtune.tuning.work import Work, total, work_of_batch
from mlx_ragtune.tuning.workbench import Workbench, prepare_rows

SIDES = ("stock", "ours")
_SEED = 0


@dataclass(frozen=True)
class Job:
    """What both sides train: the rows are a pass over ``examples``, whose work is counted too."""

    base: Path
    model: BaseModelSettings
    train: TrainSettings
    thinking: Literal["off", "on"]
    max_tokens: int
    examples: Sequence[Example]

    @property
    def dataset(self) -> DatasetSettings:
        """The settings that make token rows of examples, without validation."""
        return DatasetSettings(thinking=self.thinking, max_tokens=self.max_tokens, on_too_long="fail", split="none")

    def write(self, folder: Path) -> None:
        """Write the job where ``read_job`` finds it."""
        write_rows(folder / "examples.jsonl", [asdict(example) for example in self.examples])
        about = {
            "base": str(self.base),
            "model": self.model.model_dump_json(),
            "train": self.train.model_dump_json(),
            "thinking": self.thinking,
            "max_tokens": self.max_tokens,
        }
        (folder / "job.json").write_text(json.dumps(about), encoding="utf-8")


def read_job(folder: Path) -> Job:
    """The job that was written into the folder."""
    about = read_json(folder / "job.json")
    return Job(
        Path(about["base"]),
        BaseModelSettings.model_validate_json(about["model"]),
        TrainSettings.model_validate_json(about["train"]),
        about["thinking"],
        about["max_tokens"],
        list(read_rows(folder / "examples.jsonl", Example)),
    )


def comparable(settings: TrainSettings) -> TrainSettings:
    """The settings without what mlx-lm's trainer does not have: plain cross-entropy, an adapter from its start."""
    alone = {"engine": "shared-prefix", "epochs": 1.0, "kl": None, "preference": None, "strength": None}
    return settings.model_copy(
        update=alone | {"from_adapter": None, "select": "loss", "report_to": (), "patience": None}
    )


def our_work(rows: Sequence[TokenRow], settings: TrainSettings) -> Work:
    """The counted work of an epoch of the shared-prefix engine, all layers computed."""
    return total(
        work_of_batch(groups)
        for update in updates_of_epoch(rows, rows_per_update(settings), seed=_SEED, epoch=0)
        for groups in micro_batches(update, settings.step_tokens)
    )


def _stock(job: Job, folder: Path, report: OnStep) -> tuple[MeasuredPass, list[TokenRow], Work]:
    base = load_base(job.base, job.model.precision)
    rows = prepare_rows(job.examples, base.tokenizer, job.dataset)
    apply_adapter(base.model, job.train, seed=_SEED)
    done = stock_pass(base.model, rows, job.train, max_tokens=job.max_tokens, folder=folder, report=report)
    trained = [row for batch in stock_batches(rows, job.train.batch_size) for row in batch]
    return done, trained, stock_work(rows, job.train.batch_size)


def _ours(job: Job, folder: Path, report: OnStep) -> tuple[MeasuredPass, list[TokenRow], Work]:
    """Two whole runs on one loaded base; the second is measured, without validation and checkpoints in between."""
    split = {"train": job.examples, "valid": ()}
    with Workbench(
        job.base, job.model, dataset=job.dataset, rows=split, store=folder / "frozen", say=lambda _text: None
    ) as workbench:
        rows = prepare_rows(job.examples, workbench.loaded.tokenizer, job.dataset)
        for number in range(PASSES):

            def progress(done: int, updates: int, _note: str, before: int = number) -> None:
                report(before * updates + done, PASSES * updates)

            worked = time.process_time()
            run = folder / f"pass-{number}"
            result = workbench.train(job.train, folder=run, seed=_SEED, progress=progress, save_seconds=math.inf)
            busy = time.process_time() - worked
    losses = [json.loads(line) for line in (run / "losses.jsonl").read_text(encoding="utf-8").splitlines()]
    answers = sum(row["answer_tokens"] for row in losses)
    done = MeasuredPass(
        seconds=sum(row["seconds"] for row in losses),
        cpu_seconds=busy,
        peak_bytes=result.peak_memory_bytes,
        row_tokens=sum(len(row.tokens) for row in rows),
        loss=sum(row["train_loss"] * row["answer_tokens"] for row in losses) / answers,
    )
    return done, rows, our_work(rows, with_step(job.train, read_config(job.base), rows))


def measure(job: Job, side: str, folder: Path, report: OnStep) -> dict[str, Any]:
    """The measured pass of a side with its counted work, as JSON. Raises OutOfMemoryError when memory runs out."""
    try:
        done, rows, work = (_stock if side == "stock" else _ours)(job, folder, report)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) and not isinstance(error, MemoryError):
            raise
        raise OutOfMemoryError(f"out of memory: {(str(error).splitlines() or [''])[0]}", where=side) from error
    return {
        **asdict(done),
        "rows": len(rows),
        "answer_tokens": sum(len(row.tokens) - row.prompt_length for row in rows),
        "computed_tokens": work.layer_tokens,
        "attention_pairs": work.attention_pairs,
        "logit_rows": work.logit_rows,
    }


def main(folder: Path, side: str, write: Callable[[str], object]) -> None:
    """Measure one side and write the lines."""

    def say(**message: Any) -> None:
        write(json.dumps(message) + "\n")

    try:
        result = measure(read_job(folder), side, folder, lambda done, steps: say(done=done, steps=steps))
    except RagtuneError as error:
        kind = type(error).__name__
        say(failed={"kind": kind, "what": error.what, "where": error.where, "fix": error.fix})
        return
    say(result=result)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], lambda line: print(line, end="", flush=True))
