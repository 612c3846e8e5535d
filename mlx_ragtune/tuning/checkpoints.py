"""Checkpoints from which a killed run goes on exactly: adapter, optimiser, random state, losses so far.

    checkpoints/update-000040/   weights.safetensors, optimizer.safetensors, state.json (written last)
    checkpoints/best/            the adapter with the lowest validation loss, and what it scored

A folder is written aside and renamed. The last two are kept, so that a damaged one costs only a little.
"""

import json
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import fingerprint
from mlx_ragtune.backends.runtime_mlx import mx, tree_flatten, tree_unflatten
from mlx_ragtune.errors import ArtifactError, ToolError

KEPT = 2


@dataclass
class Progress:
    """Where the run is. ``best_loss`` is None before the first validation; losses are the rows so far."""

    work: str
    update: int = 0
    best_update: int = 0
    best_loss: float | None = None
    worse_evals: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[dict[str, float]] = field(default_factory=list)


def _write(folder: Path, arrays: dict[str, dict[str, mx.array]], state: dict[str, Any]) -> None:
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        for name, values in arrays.items():
            mx.save_safetensors(str(draft / f"{name}.safetensors"), values)
        digest = {name: (draft / f"{name}.safetensors").stat().st_size for name in arrays}
        (draft / "state.json").write_text(json.dumps({**state, "bytes": digest}), encoding="utf-8")
    except (OSError, RuntimeError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise ToolError(
            f"the checkpoint cannot be written: {error}",
            where=str(folder),
            fix="free some disk space; the same command goes on from the last checkpoint",
        ) from None
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def save(folder: Path, model: Any, optimizer: Any, progress: Progress) -> None:
    """Write the checkpoint of this update and remove all but the last two."""
    arrays = {
        "weights": dict(tree_flatten(model.trainable_parameters())),
        "optimizer": {name: value for name, value in tree_flatten(optimizer.state) if isinstance(value, mx.array)},
        "random": {"key": mx.random.state[0]},
    }
    _write(folder / f"update-{progress.update:06d}", arrays, asdict(progress))
    for old in sorted(folder.glob("update-*"))[:-KEPT]:
        shutil.rmtree(old)


def save_best(folder: Path, model: Any, progress: Progress) -> None:
    """Keep this update's adapter as the best so far."""
    weights = dict(tree_flatten(model.trainable_parameters()))
    _write(folder / "best", {"weights": weights}, {"update": progress.update, "loss": progress.best_loss})


def _whole(folder: Path) -> dict[str, Any] | None:
    """The state of a checkpoint whose files are all there, else None."""
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        for name, size in state.pop("bytes").items():
            if (folder / f"{name}.safetensors").stat().st_size != size:
                return None
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return state


def load_last(folder: Path, model: Any, optimizer: Any, work: str) -> Progress | None:
    """Restore the newest whole checkpoint into model, optimiser and random state; None when there is none.

    A damaged one is named on stderr and the one before it is used. Raises ArtifactError for a checkpoint
    of other work (another base, recipe or data set).
    """
    for path in sorted(folder.glob("update-*"), reverse=True):
        state = _whole(path)
        try:
            arrays = {} if state is None else {
                name: mx.load(str(path / f"{name}.safetensors")) for name in ("weights", "optimizer", "random")
            }  # fmt: skip
        except (RuntimeError, ValueError):
            state = None
        if state is None:
            print(f"checkpoint {path.name} is damaged; going on from the one before", file=sys.stderr)
            continue
        if state["work"] != work:
            raise ArtifactError(
                "the checkpoints there are of another base, recipe or data set",
                where=str(folder),
                fix=f"rm -r {folder}, or undo the change",
            )
        model.update(tree_unflatten(list(arrays["weights"].items())))
        optimizer.init(model.trainable_parameters())
        optimizer.state = tree_unflatten(list({**dict(tree_flatten(optimizer.state)), **arrays["optimizer"]}.items()))
        mx.random.state[0] = arrays["random"]["key"]
        mx.eval(model.parameters(), optimizer.state, mx.random.state)
        return Progress(**state)
    return None


def load_best(folder: Path) -> dict[str, mx.array]:
    """The best adapter's arrays. Raises ArtifactError when none was kept."""
    path = folder / "best"
    if _whole(path) is None:
        raise ArtifactError("no checkpoint was validated", where=str(folder), fix="train again with --redo")
    return dict(mx.load(str(path / "weights.safetensors")))


def describe_work(**parts: Any) -> str:
    """A fingerprint of all that training depends on."""
    return fingerprint(parts)
