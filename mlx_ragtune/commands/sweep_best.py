"""``ragtune sweep best``: the best trial of a sweep, and a recipe of its own for it."""

import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mlx_ragtune.commands.sweep import SweepResult
from mlx_ragtune.commands.sweep_trials import VariantRun
from mlx_ragtune.errors import ArtifactError, InputError, ToolError
from mlx_ragtune.recipe_layers import read_layers
from mlx_ragtune.recipe_load import path_keys
from mlx_ragtune.recipe_yaml import absolute_path, is_plain_text, name_problem
from mlx_ragtune.sweeping.trials import TrialRow


def best_row(result: SweepResult) -> TrialRow:
    """The best trial. Raises ArtifactError when none has finished within the constraints."""
    if not result.ranking:
        finished = sum(row.state == "finished" for row in result.trials)
        pruned = [row for row in result.trials if row.state == "pruned"]
        what = f"no trial of study '{result.study}' has finished"
        fix = "ragtune sweep RECIPE"
        if pruned and len(pruned) == len(result.trials):
            what = f"all {len(pruned)} trials of study '{result.study}' were pruned, the last one: {pruned[-1].why}"
            fix = "correct that, then set sweep.study to a new name, so that they run again"
        if finished:
            what = f"all {finished} finished trials of study '{result.study}' fail too many probes that the base passes"
            fix = "vary lower learning rates, or set sweep.max_probe_loss higher and sweep.study to a new name"
        raise ArtifactError(what, where=result.storage, fix=fix)
    return next(row for row in result.trials if row.number + 1 == result.ranking[0])


class _Dumper(yaml.SafeDumper):
    """YAML that the loader of recipes reads back as the same values."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Recipes have no aliases."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    plain = is_plain_text(text) and re.fullmatch(r"[\w./-][\w ./=:+@-]*", text) and ": " not in text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


def _sequence(dumper: yaml.SafeDumper, values: Any) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _sequence)
_Dumper.add_representer(tuple, _sequence)


def recipe_text(path: Path, settings: Mapping[str, Any], target: Path, *, head: str) -> str:
    """A whole recipe for ``target``: the one in ``path`` with the settings, without ``sweep`` and ``extends``.

    Relative paths are rewritten to start at the folder of ``target``.
    """
    written = read_layers(path, settings)
    value = json.loads(json.dumps(written.value))
    value.pop("sweep", None)
    for key in path_keys(written):
        at, place = value, key.split(".")
        for name in place[:-1]:
            at = at.get(name) or {}
        text = at.get(place[-1])
        if isinstance(text, str) and not text.startswith(("/", "~")):
            source = absolute_path(text, written.origin(key).source.parent)
            relative = os.path.relpath(source, target.resolve().parent)
            at[place[-1]] = relative if relative.startswith(".") or not key.endswith("model") else f"./{relative}"
    body = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    comment = "".join(f"# {line}".rstrip() + "\n" for line in head.splitlines())
    return f"{comment}{body}"


def require_new(target: Path) -> None:
    """Raise InputError for a recipe that exists already or cannot be named so."""
    if target.suffix not in (".yaml", ".yml"):
        raise InputError(f"'{target.name}' does not end in .yaml", where="--write", fix="--write recipes/best.yaml")
    if problem := name_problem(target):
        raise InputError(problem, where="--write", fix="--write recipes/best.yaml")
    if target.exists():
        raise InputError("the file exists already", where=str(target), fix=f"name another file, or rm {target}")


def write_best(path: Path, row: TrialRow, target: Path, *, reopen: Any) -> Path:
    """Write the recipe of a trial, and make sure that it trains to the same artifact as the trial.

    ``reopen`` opens the run of a recipe. Raises ToolError for a folder that cannot be written, and ArtifactError when
    the written recipe would train another adapter; nothing is left then.
    """
    command = f"ragtune run {shlex.quote(str(target))}"
    head = f"Trial {row.number + 1} of: ragtune sweep {shlex.quote(path.name)}\n\n  {command}"
    text = recipe_text(path, row.settings, target, head=head)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ToolError(
            f"cannot write the recipe: {error.strerror}", where=str(target), fix="name another file"
        ) from None
    try:
        run: VariantRun = reopen(target)
        step = run.plan(until="train")[-1]
    except BaseException:
        target.unlink()
        raise
    if row.key and step.key != row.key:
        target.unlink()
        raise ArtifactError(
            f"the recipe of trial {row.number + 1} would train another adapter than the trial: {step.why}",
            where=str(path),
            fix="undo the changes since the sweep, or run the sweep again",
        )
    return target
