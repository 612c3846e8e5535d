"""Checkpoints from which a killed run resumes exactly: adapter, optimizer state, losses so far.

    checkpoints/update-000040/   weights.safetensors, optimizer.safetensors, state.json
    checkpoints/best-000040/     an adapter with a low validation loss, and that loss

A folder is written under a temporary name, synced and renamed; state.json with the digests is written last.
The last two checkpoints are kept, so a damaged one costs little work.
"""

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import digest_file
from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten, tree_unflatten
from mlx_ragtune.errors import ArtifactError, ToolError

KEPT = 2
Arrays = dict[str, mx.array]


@dataclass
class Progress:
    """State of a run: ``best`` holds (update, validation loss) of the kept adapters, lowest loss first.

    ``work`` describes the run, key by key (``describe_work``); ``losses`` are the rows of ``losses.jsonl`` so far.
    """

    work: dict[str, str]
    update: int = 0
    best: list[tuple[int, float]] = field(default_factory=list)
    worse_evals: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[dict[str, float]] = field(default_factory=list)

    @property
    def kept(self) -> str:
        """For messages: the adapter that is kept if the run stops now."""
        if not self.best:
            return "no validation yet"
        update, loss = self.best[0]
        return f"best adapter so far: validation loss {loss:.4f} at update {update}"


_STATE = {field.name for field in fields(Progress)}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fill(draft: Path, arrays: Mapping[str, Arrays], state: Mapping[str, Any]) -> None:
    draft.mkdir(parents=True)
    digests = {}
    for name, values in arrays.items():
        file = draft / f"{name}.safetensors"
        mx.save_safetensors(str(file), values)
        if file.stat().st_size < sum(value.nbytes for value in values.values()):
            raise OSError(f"{file.name} is shorter than what was written")
        digests[name] = digest_file(file)
        _sync(file)
    file = draft / "state.json"
    file.write_text(json.dumps({**state, "digests": digests}, allow_nan=False), encoding="utf-8")
    _sync(file)


def _write(folder: Path, arrays: Mapping[str, Arrays], state: Mapping[str, Any]) -> None:
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _fill(draft, arrays, state)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise ToolError(
            f"cannot write the checkpoint: {error}",
            where=str(folder),
            fix="free disk space, then run the same command again: it resumes from the last checkpoint",
        ) from None
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    _sync(folder.parent)


def save(folder: Path, model: Any, optimizer: Any, progress: Progress) -> None:
    """Write the checkpoint of this update and remove all but the last two. Raises ToolError when a write fails."""
    arrays: dict[str, Arrays] = {
        "weights": dict(tree_flatten(model.trainable_parameters())),
        "optimizer": {name: value for name, value in tree_flatten(optimizer.state) if isinstance(value, mx.array)},
    }
    _write(folder / f"update-{progress.update:06d}", arrays, asdict(progress))
    for old in sorted(folder.glob("update-*"))[:-KEPT]:
        shutil.rmtree(old)


def keep_if_best(folder: Path, model: Any, progress: Progress, loss: float, *, most: int = 1) -> bool:
    """Whether ``loss`` is the lowest so far. The adapter is kept if its loss is among the ``most`` lowest.

    A loss that is not finite is never kept.
    """
    lowest = math.isfinite(loss) and (not progress.best or loss < progress.best[0][1])
    progress.worse_evals = 0 if lowest else progress.worse_evals + 1
    ranked = sorted([*progress.best, (progress.update, loss)], key=lambda kept: (kept[1], kept[0]))[:most]
    if math.isfinite(loss) and (progress.update, loss) in ranked:
        weights = dict(tree_flatten(model.trainable_parameters()))
        state = {"update": progress.update, "loss": loss}
        _write(folder / f"best-{progress.update:06d}", {"weights": weights}, state)
        progress.best = ranked
        names = {f"best-{update:06d}" for update, _ in ranked}
        for old in folder.glob("best-*"):
            if old.name not in names:
                shutil.rmtree(old)
    return lowest


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Arrays]] | None:
    """State and arrays of a checkpoint; None when a file is missing or differs from what was written."""
    try:
        state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        digests = state.pop("digests")
        if any(digest_file(path / f"{name}.safetensors") != digest for name, digest in digests.items()):
            return None
        arrays: Any = {name: mx.load(str(path / f"{name}.safetensors")) for name in digests}
        if set(state) not in (_STATE, {"update", "loss"}):
            return None  # written by another version
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        return None
    return state, arrays


def _refuse_other_run(saved: Mapping[str, str], work: Mapping[str, str], folder: Path) -> None:
    keys = [key for key in sorted({*saved, *work}) if saved.get(key) != work.get(key)]
    if keys:
        listing = "\n".join(
            f"  {key}: {saved.get(key, 'not set')} in the checkpoint, {work.get(key, 'not set')} now" for key in keys
        )
        raise ArtifactError(
            f"the checkpoints belong to a different run:\n{listing}",
            where=str(folder),
            fix=f"rm -r {folder}, or undo the change",
        )


def load_last(folder: Path, model: Any, optimizer: Any, work: Mapping[str, str]) -> Progress | None:
    """The progress of the newest intact checkpoint, restored into model and optimizer; None without one.

    A damaged checkpoint is reported on stderr, and the one before it is used. Raises ArtifactError, with the
    differences, for a checkpoint of a different run (another base, recipe or data set).
    """
    for path in sorted(folder.glob("update-*"), reverse=True):
        content = _read(path)
        if content is None:
            print(f"checkpoint {path.name} is damaged: resuming from the one before it", file=sys.stderr)
            continue
        state, arrays = content
        _refuse_other_run(state["work"], work, folder)
        model.update(tree_unflatten(list(arrays["weights"].items())))
        restored = {**dict(tree_flatten(optimizer.state)), **arrays["optimizer"]}
        optimizer.state = tree_unflatten(list(restored.items()))
        mx.eval(model.trainable_parameters(), optimizer.state)
        return Progress(**{**state, "best": [(update, loss) for update, loss in state["best"]]})
    return None


def load_kept(folder: Path, update: int) -> Arrays:
    """The adapter that was kept at an update, by name. Raises ArtifactError when it is damaged or missing."""
    path = folder / f"best-{update:06d}"
    content = _read(path)
    if content is None:
        raise ArtifactError(
            "the best adapter is damaged", where=str(path), fix=f"rm -r {folder}, then run the same command again"
        )
    return content[1]["weights"]
