"""Checkpoints from which a killed run goes on exactly: adapter, optimizer, losses so far.

    checkpoints/update-000040/   weights.safetensors, optimizer.safetensors, state.json
    checkpoints/best-000040/     an adapter of low validation loss, and what it scored

A folder is written aside, synced and renamed, state.json with the digests last. The last two are kept, so
that a damaged one costs only a little.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import digest_file
from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten, tree_unflatten
from mlx_ragtune.errors import ArtifactError, ToolError

KEPT = 2
Arrays = dict[str, mx.array]


@dataclass
class Progress:
    """Where the run is: ``best`` holds (update, validation loss) of the kept adapters, lowest loss first.

    ``work`` says what is being trained, key by key; ``losses`` are the rows of ``losses.jsonl`` so far.
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
        """What survives if the run stops here, in words."""
        if not self.best:
            return "nothing validated yet"
        update, loss = self.best[0]
        return f"best so far kept: {loss:.4f} at update {update}"


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
    text = draft / "state.json"
    text.write_text(json.dumps({**state, "digests": digests}), encoding="utf-8")
    _sync(text)


def _write(folder: Path, arrays: Mapping[str, Arrays], state: Mapping[str, Any]) -> None:
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _fill(draft, arrays, state)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise ToolError(
            f"the checkpoint cannot be written: {error}",
            where=str(folder),
            fix="free some disk space; the same command goes on from the last checkpoint",
        ) from None
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    _sync(folder.parent)


def save(folder: Path, model: Any, optimizer: Any, progress: Progress) -> None:
    """Write the checkpoint of this update and remove all but the last two. Raises ToolError when the disk is full."""
    arrays: dict[str, Arrays] = {
        "weights": dict(tree_flatten(model.trainable_parameters())),
        "optimizer": {name: value for name, value in tree_flatten(optimizer.state) if isinstance(value, mx.array)},
    }
    _write(folder / f"update-{progress.update:06d}", arrays, asdict(progress))
    for old in sorted(folder.glob("update-*"))[:-KEPT]:
        shutil.rmtree(old)


def keep_if_best(folder: Path, model: Any, progress: Progress, loss: float, *, most: int = 1) -> bool:
    """Note a validation; keep the adapter if its loss is among the ``most`` lowest. True for a new lowest.

    A loss that is not a number is never kept.
    """
    lowest = loss == loss and (not progress.best or loss < progress.best[0][1])
    progress.worse_evals = 0 if lowest else progress.worse_evals + 1
    ranked = sorted([*progress.best, (progress.update, loss)], key=lambda one: (one[1], one[0]))[:most]
    if loss == loss and loss != float("inf") and (progress.update, loss) in ranked:
        weights = dict(tree_flatten(model.trainable_parameters()))
        state = {"update": progress.update, "loss": loss}
        _write(folder / f"best-{progress.update:06d}", {"weights": weights}, state)
        progress.best = ranked
        wanted = {f"best-{update:06d}" for update, _ in ranked}
        for old in folder.glob("best-*"):
            if old.name not in wanted:
                shutil.rmtree(old)
    return lowest


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Arrays]] | None:
    """State and arrays of a checkpoint whose files are all as they were written, else None."""
    try:
        state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        digests = state.pop("digests")
        if any(digest_file(path / f"{name}.safetensors") != digest for name, digest in digests.items()):
            return None
        arrays: Any = {name: mx.load(str(path / f"{name}.safetensors")) for name in digests}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        return None
    return state, arrays


def _refuse_other_work(there: Mapping[str, str], now: Mapping[str, str], folder: Path) -> None:
    keys = [key for key in sorted({*there, *now}) if there.get(key) != now.get(key)]
    if keys:
        listing = "\n".join(f"  {key}: {there.get(key)} there, {now.get(key)} now" for key in keys)
        raise ArtifactError(
            f"the checkpoints there are of other work:\n{listing}",
            where=str(folder),
            fix=f"rm -r {folder}, or undo the change",
        )


def load_last(folder: Path, model: Any, optimizer: Any, work: Mapping[str, str]) -> Progress | None:
    """Restore the newest whole checkpoint into model and optimizer; None when there is none.

    A damaged one is named on stderr and the one before it is used. Raises ArtifactError, with what
    differs, for a checkpoint of other work (another base, recipe or data set).
    """
    for path in sorted(folder.glob("update-*"), reverse=True):
        found = _read(path)
        if found is None:
            print(f"checkpoint {path.name} is damaged: going on from the one before", file=sys.stderr)
            continue
        state, arrays = found
        _refuse_other_work(state["work"], work, folder)
        model.update(tree_unflatten(list(arrays["weights"].items())))
        restored = {**dict(tree_flatten(optimizer.state)), **arrays["optimizer"]}
        optimizer.state = tree_unflatten(list(restored.items()))
        mx.eval(model.trainable_parameters(), optimizer.state)
        return Progress(**{**state, "best": [tuple(one) for one in state["best"]]})
    return None


def load_kept(folder: Path, update: int) -> Arrays:
    """The adapter kept of an update. Raises ArtifactError when it is damaged or gone."""
    path = folder / f"best-{update:06d}"
    found = _read(path)
    if found is None:
        raise ArtifactError("the kept adapter is damaged", where=str(path), fix=f"rm -r {folder}, then train again")
    return found[1]["weights"]
