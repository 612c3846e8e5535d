"""``ragtune sweep``: trials of other settings on one base, then the best of them to the report.

Trials are ranked by their answers to validation questions, never by the training loss and never by the benchmark. The
best ones go through export and the paired verdict, whose error rate is divided by the number of trials: of many
trials, one looks better by chance.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlx_ragtune.artifact import STAGE_FOLDERS, OpenRun, digest_file
from mlx_ragtune.commands.compare import compare_contestants, read_run
from mlx_ragtune.commands.sweep_scoring import Development
from mlx_ragtune.commands.sweep_trials import OpenVariant, Trials, shown_row
from mlx_ragtune.errors import ArtifactError, InputError, RagtuneError, RecipeError
from mlx_ragtune.evaluation.quick_score import SCORE
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.pages.sweep_table import SweepTable
from mlx_ragtune.recipe import Recipe, SweepSettings
from mlx_ragtune.recipe_train import NEWER_KEYS
from mlx_ragtune.records import Example
from mlx_ragtune.scoring.answers.probes import read_probes
from mlx_ragtune.sweeping.space import REHEARSAL_SHARE, Space, default_dimensions, written_space
from mlx_ragtune.sweeping.storage import close_storage, open_storage, study_address
from mlx_ragtune.sweeping.study import SweepStudy, open_study
from mlx_ragtune.sweeping.trials import TrialRow, counts, finite, ranked
from mlx_ragtune.synthesis.rehearsal_prompts import prompts_file
from mlx_ragtune.tuning.select import development_slice

FOLDER = "sweep"
"""The folder of a run that holds its study and the results of its sweep."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Verdict:
    """The verdict on a finalist, with the error rate that it was tested at."""

    trial: int
    run: str
    verdict: str
    headline: str
    alpha: float
    report: str


@dataclass(frozen=True)
class SweepResult:
    """A sweep as it stands. ``ranking`` holds trial numbers, best first; trials count from 1 in both."""

    study: str
    storage: str
    space: dict[str, Any]
    stopped: str
    by_loss: bool
    trials: tuple[TrialRow, ...]
    ranking: tuple[int, ...]
    trial_count: int
    alpha: float | None
    finalists: tuple[Verdict, ...]
    failed: tuple[str, ...] = ()
    """Finalists without a verdict, each with its error."""
    places: tuple[int, ...] = ()
    """How many trials continue from each rung, where that is known beforehand."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON for scripts and for ``sweep.json``."""
        rows = []
        for row in self.trials:
            kept = asdict(row)
            kept["looks"] = [{**look, "valid_loss": finite(look["valid_loss"])} for look in kept["looks"]]
            rows.append({"trial": kept.pop("number") + 1, **kept})
        return json.loads(json.dumps({**asdict(self), "trials": rows}, allow_nan=False))  # type: ignore[no-any-return]


def sweep_settings(recipe: Recipe) -> SweepSettings:
    """The section ``sweep``, or its defaults."""
    return recipe.sweep or SweepSettings()


def space_of(recipe: Recipe, open_variant: OpenVariant, say: Say) -> Space:
    """The recipe's space, or the default one without what this recipe cannot be varied by; that is said."""
    space = written_space(recipe)
    if space is not None:
        return space
    dimensions = {}
    for key, dimension in default_dimensions(recipe):
        try:
            for value in dimension.samples:
                open_variant({key: value})
        except RecipeError as error:
            say(f"the default space leaves out {key}: {' '.join(error.what.split())[:200]}")
        else:
            dimensions[key] = dimension
    return Space(dimensions)


def identity_of(run: OpenRun, space: Space) -> dict[str, Any]:
    """Everything that makes the trials of a study comparable, as plain JSON by key."""
    recipe, settings = run.recipe, sweep_settings(run.recipe)
    rules = ("sampler", "halving", "reduction", "rungs", "questions", "max_probe_loss")
    train = recipe.train.model_dump(mode="json", exclude={"report_to"})
    for name in NEWER_KEYS:
        if train[name] is None:
            del train[name]  # so that studies from before there was one continue
    return {
        "base": run.base_digest,
        "base.precision": recipe.base.precision,
        "data set": run.artifact("dataset").content(("examples-valid.jsonl", "examples-train.jsonl")),
        "seed": recipe.seed,
        "score": SCORE,
        "probes": digest_file(recipe.evaluate.probes) if recipe.evaluate.probes else None,
        **{f"train.{name}": value for name, value in train.items() if f"train.{name}" not in space.dimensions},
        **_rehearsal_identity(recipe, space),
        **{f"sweep.{name}": getattr(settings, name) for name in rules},
        "sweep.space": json.loads(json.dumps(space.describe())),
    }


def _rehearsal_identity(recipe: Recipe, space: Space) -> dict[str, Any]:
    """What makes trials comparable beside that where a recipe has rehearsal, or a strength of its own."""
    identity: dict[str, Any] = {}
    if (rehearsal := recipe.dataset.rehearsal) is not None:
        identity["rehearsal prompts"] = digest_file(prompts_file(rehearsal.prompts))
        identity |= {f"dataset.rehearsal.{name}": getattr(rehearsal, name) for name in ("count", "max_tokens")}
        if REHEARSAL_SHARE not in space.dimensions:
            identity[REHEARSAL_SHARE] = rehearsal.share
    if recipe.fuse.strength is not None:
        identity["fuse.strength"] = recipe.fuse.strength
    return identity


def open_sweep(run: OpenRun, path: Path, *, open_variant: OpenVariant, say: Say, only_read: bool = False) -> SweepStudy:
    """The study of a recipe, new or continued. Brings the data set up to date, which its identity needs.

    With ``only_read`` it runs nothing and makes no file. Raises ArtifactError for a study of another base, data set or
    space, or for none to read, and ToolError for a storage that fails.
    """
    recipe, settings = run.recipe, sweep_settings(run.recipe)
    address = study_address(settings.storage, home=run.home, folder=path.resolve().parent)
    if only_read and (address.is_sqlite or address.is_journal) and not address.path.exists():
        raise ArtifactError("no sweep of this recipe has run", where=address.shown, fix="ragtune sweep RECIPE")
    if not only_read:
        close_storage(open_storage(address))  # a storage that fails is refused before the data set is made
        run.bring("dataset")
        if recipe.dataset.rehearsal is not None:
            run.bring("rehearse")
    space = space_of(recipe, open_variant, say)
    return open_study(
        settings.study or run.home.name,
        address,
        space=space,
        settings=settings,
        seed=recipe.seed,
        identity=identity_of(run, space),
    )


def development_of(run: OpenRun) -> Development:
    """What all trials are asked. Raises InputError for probes that cannot be read."""
    recipe = run.recipe
    valid = list(read_rows(run.artifact("dataset").folder / "examples-valid.jsonl", Example))
    rows = development_slice(valid, seed=recipe.seed, most=sweep_settings(recipe).questions)
    if not rows:
        raise InputError(
            "the data set has no validation rows to compare trials on",
            where="dataset.split",
            fix="set dataset.split: row"
            if recipe.dataset.split == "none"
            else "raise dataset.valid_share, or add pairs about more papers",
        )
    return Development(
        rows,
        read_probes(recipe.evaluate.probes) if recipe.evaluate.probes else (),
        thinking=recipe.dataset.thinking == "on",
        probe_tokens=recipe.evaluate.sampling.max_tokens,
    )


def run_trials(run: OpenRun, sweep: SweepStudy, open_variant: OpenVariant, *, say: Say, wait: bool) -> str:
    """Run trials until the budget is spent, and say what spent it. Every trial is recorded as soon as it ends."""
    development = development_of(run)
    limit = ""
    if development.probes:
        share = f"{sweep.settings.max_probe_loss:.0%}"
        limit = f", and may fail at most {share} more of the {len(development.probes)} probes than the base"
    say(
        f"study '{sweep.study.study_name}' in {sweep.address.shown}; trials are ranked by {len(development.rows)} "
        f"validation questions{limit}"
    )
    with SweepTable(sweep.settings.trials) as table:
        for row in sweep.rows():
            if row.state not in ("running", "waiting", "interrupted"):
                table.update(shown_row(row))
        frozen = run.home / FOLDER / "frozen"
        spent = Trials(sweep, open_variant, development, table, frozen).run_all(say, wait=wait)
    if not sweep.others():  # a worker of the same run may be writing it
        shutil.rmtree(frozen, ignore_errors=True)
    return spent


def corrected_alpha(recipe: Recipe, trial_count: int) -> float:
    """The error rate for the verdict on a finalist: ``scoring.alpha`` divided by the number of trials (Bonferroni).

    Every trial could have become a finalist, so all of them share the error rate; Holm's correction over the metrics
    of one verdict comes on top (``scoring.verdict.decision``).
    """
    return recipe.scoring.alpha / max(1, trial_count)


def run_finalists(
    sweep: SweepStudy, recipe: Recipe, open_variant: OpenVariant, *, until_report: Callable[[Any], None], say: Say
) -> tuple[list[Verdict], dict[int, RagtuneError]]:
    """The verdicts on the best trials, each of which is an ordinary run to the report, and why others have none.

    The errors are by trial number, from 1. A finalist that fails does not keep the others from theirs.
    """
    alpha = corrected_alpha(recipe, sum(map(counts, sweep.trials())))
    verdicts: list[Verdict] = []
    errors: dict[int, RagtuneError] = {}
    for row in ranked(sweep.rows(), by_loss=sweep.by_loss)[: sweep.settings.finalists]:
        run = open_variant(row.settings)
        try:
            until_report(run)
            verdicts.append(_verdict(row.number + 1, run.home, recipe, alpha))
        except RagtuneError as error:
            say(f"trial {row.number + 1} gets no verdict: {error.what}")
            errors[row.number + 1] = error
    return verdicts, errors


def _verdict(trial: int, home: Path, recipe: Recipe, alpha: float) -> Verdict:
    base, tuned = (read_run(f"{home}:{arm}") for arm in ("base", "tuned"))
    data = compare_contestants([base, tuned], allow=recipe.evaluate.allow, margin=recipe.scoring.margin, alpha=alpha)[0]
    outcome, report = data.outcome, str(home / STAGE_FOLDERS["report"] / "report.html")
    return Verdict(trial, home.name, outcome.verdict, outcome.headline, alpha, report)


def result_of(
    sweep: SweepStudy,
    recipe: Recipe,
    *,
    stopped: str,
    finalists: Sequence[Verdict] = (),
    errors: Mapping[int, RagtuneError] = MappingProxyType({}),
) -> SweepResult:
    """The sweep as it stands."""
    rows, count = sweep.rows(), sum(map(counts, sweep.trials()))
    halving, settings = sweep.halving, sweep.settings
    known = settings.halving != "off" and halving.planned is not None
    return SweepResult(
        study=sweep.study.study_name,
        storage=sweep.address.shown,
        space=sweep.space.describe(),
        stopped=stopped,
        by_loss=sweep.by_loss,
        trials=tuple(rows),
        ranking=tuple(row.number + 1 for row in ranked(rows, by_loss=sweep.by_loss)),
        trial_count=count,
        alpha=corrected_alpha(recipe, count) if finalists else None,
        finalists=tuple(finalists),
        failed=tuple(f"trial {trial}: {error.what}" for trial, error in errors.items()),
        places=tuple(halving.places(rung, 0) for rung in range(settings.rungs)) if known else (),
    )


def keep(result: SweepResult, home: Path) -> Path:
    """Write ``sweep.json`` into the run's folder, in one step."""
    path = home / FOLDER / "sweep.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(result.as_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
    return path
