"""``ragtune runs``: every run in the runs folder, also those that are damaged or were not finished."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from mlx_ragtune.artifact import STAGE_FOLDERS, Artifact, digest_json, read_artifact, running
from mlx_ragtune.errors import ArtifactError, RagtuneError
from mlx_ragtune.jsonl import read_dicts, read_json
from mlx_ragtune.pages.plots import LossPoint
from mlx_ragtune.pages.redact import redact_text
from mlx_ragtune.pages.run_rows import RunMetric, RunRow, RunState
from mlx_ragtune.pages.setting_words import value_text
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.run_folders import END_MARK, RECIPE_MARK, end_of, owner_of, trial_of
from mlx_ragtune.scoring.answers.metrics import METRICS

Needs = Mapping[str, Mapping[str, tuple[str, ...]]]
"""For each stage, the files of earlier stages that it reads: ``pipeline.Stage.needs``."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, RagtuneError)
Read = TypeVar("Read")


@dataclass
class _Found:
    """The artifacts of one run folder that fit together, and what is wrong with the others."""

    home: Path
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    damaged: str = ""
    problems: list[str] = field(default_factory=list)

    def read(self, what: str, compute: Callable[[], Read]) -> Read | None:
        """What can be computed from the run's files; None, and a problem, when they cannot be read."""
        try:
            return compute()
        except UNREADABLE as error:
            said = getattr(error, "what", None) or (str(error) if isinstance(error, OSError) else type(error).__name__)
            self.problems.append(f"{what}: {redact_text(str(said))}")
            return None


def read_runs(runs: Path, needs: Needs) -> list[RunRow]:
    """Every run in a runs folder, the one that changed last first."""
    try:
        folders = sorted(path for path in runs.iterdir() if not path.name.startswith(".") and _is_run(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ArtifactError(
            f"cannot read the runs folder: {error.strerror}",
            where=str(runs),
            fix="set RAGTUNE_RUNS to a folder that you can read",
        ) from None
    rows = [read_run_row(folder, needs) for folder in folders]
    return sorted(rows, key=lambda row: row.changed_at, reverse=True)


def _is_run(path: Path) -> bool:
    try:
        marked = (path / RECIPE_MARK).exists() or (path / ".running").exists()
        return path.is_dir() and (marked or any(os.path.lexists(path / name) for name in STAGE_FOLDERS.values()))
    except OSError:
        return True  # a folder that cannot be read is listed as such


def read_run_row(home: Path, needs: Needs) -> RunRow:
    """One run folder. Never raises for what is in it."""
    found = _Found(home)
    _collect(found, needs)
    owner = owner_of(home)
    if owner is None and (home / RECIPE_MARK).exists():
        found.problems.append("its recipe: the marks in the run folder cannot be read")
    state, stage, why = _state(found)
    train, evaluate = found.artifacts.get("train"), found.artifacts.get("evaluate")
    results = {**_training(found, train), **_result(found, evaluate)}
    results |= found.read("its trial", lambda: _trial(trial_of(home), results)) or {}
    row = RunRow(
        name=home.name,
        recipe=_relative(owner.recipe) if owner else "",
        settings=_settings(found),
        variant=dict(owner.settings) if owner else {},
        state=state,
        stage=stage,
        why=redact_text(why),
        changed_at=_changed_at(home),
        seconds=found.read("manifests", lambda: _seconds(found)) if found.artifacts else None,
        data=found.read("3-train", lambda: _data(train)) or "",
        questions=found.read("7-evaluate", lambda: _questions(evaluate)) or "",
        report=_report(home) if "report" in found.artifacts else "",
        **results,
    )
    return replace(row, problems=tuple(found.problems))


def _collect(found: _Found, needs: Needs) -> None:
    """Read the manifests in pipeline order; a stage that read other results than the run has now is left out."""
    for stage, folder in STAGE_FOLDERS.items():
        link = found.home / folder
        try:
            artifact = read_artifact(link)
        except (ArtifactError, OSError) as error:
            found.damaged = found.damaged or stage
            found.problems.append(f"{folder}: {getattr(error, 'what', None) or getattr(error, 'strerror', error)}")
            continue
        if artifact is None:
            if os.path.lexists(link):
                found.damaged = found.damaged or stage
                found.problems.append(f"{folder}: its artifact was removed")
            continue
        stale = found.read(folder, partial(_stale, artifact, found.artifacts, needs[stage]))
        if stale:
            found.problems.append(f"{folder}: made from an earlier result of {stale}")
        elif stale is not None:
            found.artifacts[stage] = artifact


def _stale(artifact: Artifact, artifacts: Mapping[str, Artifact], needs: Mapping[str, tuple[str, ...]]) -> str:
    """The earlier stage whose result is no longer the one that the artifact was made from, or ""."""
    inputs = artifact.manifest["described"]["inputs"]
    for name, files in needs.items():
        if name in artifacts and name in inputs and inputs[name] != artifacts[name].content(files):
            return name
    return next((name for name in inputs if name in STAGE_FOLDERS and name not in artifacts), "")


def _state(found: _Found) -> tuple[RunState, str, str]:
    """Where the run is: its state, the stage, and why."""
    stages = list(STAGE_FOLDERS)
    if process := running(found.home):
        return "running", process[1], f"process {process[0]}"
    reached = [stage for stage in stages if stage in found.artifacts]  # a recipe need not have all stages
    if killed := _killed_at(found.home):
        return "interrupted", killed, "the process was killed"
    end = end_of(found.home)
    if end and end.state != "finished":
        return end.state, end.stage, end.what
    if found.damaged:
        return "damaged", found.damaged, "; ".join(found.problems)
    if stages[-1] in reached:
        return "finished", stages[-1], ""
    return "partial", reached[-1] if reached else "", ""


def _killed_at(home: Path) -> str:
    """The stage of a process that ended without removing its mark, or ""."""
    try:
        return (home / ".running").read_text(encoding="utf-8").partition("\n")[2].strip() or "corpus"
    except (OSError, ValueError):
        return ""


def _changed_at(home: Path) -> str:
    """When the run folder last changed, as UTC in ISO 8601."""
    times = []
    for name in ("", END_MARK, RECIPE_MARK, *STAGE_FOLDERS.values()):
        try:
            times.append((home / name).lstat().st_mtime)
        except OSError:
            continue
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(times, default=0)))


def _relative(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else redact_text(str(path)))


def _settings(found: _Found) -> dict[str, Any]:
    """The settings that the artifacts were made with; for the others those of the recipe as it is now."""
    owner = owner_of(found.home)
    settings: dict[str, Any] = {}
    if owner is not None:
        recipe = found.read("its recipe", lambda: load_recipe(owner.recipe, owner.settings, missing_ok=("benchmark",)))
        if recipe is not None:
            settings = dict(flat_settings(recipe_settings(recipe)))
    now = dict(settings)
    for stage, artifact in found.artifacts.items():
        settings |= found.read(STAGE_FOLDERS[stage], partial(_made_with, artifact)) or {}
    changed = [
        f"{key} {value_text(value)} → {value_text(now[key])}"
        for key, value in settings.items()
        if key in now and now[key] != value
    ]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        found.problems.append(f"its recipe has changed since: {', '.join(changed[:3])}{more}")
    return {key: value for key, value in settings.items() if key != "name"}


def _made_with(artifact: Artifact) -> dict[str, Any]:
    return dict(flat_settings(artifact.manifest["described"]["settings"]))


def recipe_settings(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data, without what no artifact depends on."""
    return recipe.model_dump(exclude={"name", "extends", "sweep"})


def flat_settings(settings: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted key as they are compared: 2.0 as 2, paths by their last part."""
    for key, value in settings.items():
        place = f"{at}.{key}" if at else str(key)
        if isinstance(value, Mapping) and value:
            yield from flat_settings(value, place)
        else:
            yield place, _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Path) or (isinstance(value, str) and value.startswith("/")):
        return Path(value).name
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return redact_text(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _seconds(found: _Found) -> float:
    return float(sum(float(artifact.manifest["seconds"]) for artifact in found.artifacts.values()))


def _data(train: Artifact | None) -> str:
    """What a validation loss depends on besides the settings: a digest of the data set and the base model."""
    return digest_json(train.manifest["described"]["inputs"])[:12] if train else ""


def _questions(evaluate: Artifact | None) -> str:
    return str(evaluate.manifest["described"]["files"].get("benchmark", ""))[:12] if evaluate else ""


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _count(value: Any) -> int | None:
    """A finite number as an integer, or None."""
    number = _number(value)
    return None if number is None else int(number)


def _training(found: _Found, train: Artifact | None) -> dict[str, Any]:
    """The fields of ``RunRow`` that come from training."""
    if train is None:
        return {}
    facts = train.facts
    losses = found.read("losses.jsonl", lambda: tuple(_losses(train.folder / "losses.jsonl")))
    best = _count(facts.get("best_update"))
    candidates = found.read("result.json", lambda: {row["update"]: row["task_score"] for row in facts["candidates"]})
    return {
        "valid_loss": _number(facts.get("best_valid_loss")),
        "score": _number((candidates or {}).get(best)),
        "updates": _count(facts.get("updates")),
        "best_update": best,
        "tokens_per_second": _number(facts.get("tokens_per_second")),
        "train_seconds": _number(facts.get("seconds")),
        "peak_memory_bytes": _count(facts.get("peak_memory_bytes")),
        "losses": losses or (),
    }


def _trial(trial: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``RunRow`` of a trial of a sweep: its score, and what it was at each rung.

    One that was not trained to its end has no score and no loss that could be compared with those of the others; its
    looks are the points of its curve.
    """
    if not trial:
        return {}
    looks = list(trial["looks"])
    fields: dict[str, Any] = {"study": str(trial["study"]), "trial": _count(trial["trial"])}
    if looks:
        fields["rung_score"] = _number(looks[0]["score"])
    if "updates" in known:
        return fields | ({"score": _number(trial["score"])} if trial["state"] == "finished" else {})
    fields["losses"] = tuple(LossPoint(int(look["updates"]), None, _number(look["valid_loss"])) for look in looks)
    return fields | {"updates": _count(trial["updates"]), "train_seconds": _number(trial["seconds"])}


def _losses(path: Path) -> Iterator[LossPoint]:
    for row in read_dicts(path):
        yield LossPoint(int(row["update"]), _number(row.get("train_loss")), _number(row.get("valid_loss")))


def _result(found: _Found, evaluate: Artifact | None) -> dict[str, Any]:
    """The fields of ``RunRow`` that come from the evaluation."""
    if evaluate is None:
        return {}
    result = found.read("verdict.json", lambda: _verdict(read_json(evaluate.folder / "verdict.json")))
    return result or {}


def _verdict(outcome: Mapping[str, Any]) -> dict[str, Any]:
    against = outcome["against_base"]
    shown = [row for row in against["rows"] if METRICS[row["name"]].role in ("decides", "guard")]
    metrics = tuple(
        RunMetric(
            name=row["name"],
            unit=row["unit"],
            higher_is_better=row["higher_is_better"],
            mean=float(row["all"]["tuned_mean"]),
            change=float(row["all"]["difference"]),
            low=_number(row["all"]["low"]),
            high=_number(row["all"]["high"]),
            verdict=row["verdict"],
        )
        for row in shown
    )
    return {
        "verdict": str(outcome["verdict"]),
        "headline": str(outcome["headline"]),
        "primary": str(against["primary"]),
        "metrics": metrics,
    }


def _report(home: Path) -> str:
    return str((home / STAGE_FOLDERS["report"] / "report.html").absolute())


def link_from(page: Path, target: str) -> str:
    """The address of a file relative to a page, escaped for a URL; "" without a target."""
    if not target:
        return ""
    relative = os.path.relpath(target, Path(os.path.realpath(page)).parent)
    return quote(relative, safe="/+=,;@~$!&'()*", errors="surrogateescape")


def as_json(rows: list[RunRow]) -> list[dict[str, Any]]:
    """The runs for scripts: everything but the loss of every update."""
    listed = []
    for row in rows:
        fields = asdict(row)
        fields.pop("losses")
        listed.append({**fields, "settings": dict(row.settings), "state_text": row.state_text})
    return [json.loads(json.dumps(fields, allow_nan=False, default=str)) for fields in listed]
