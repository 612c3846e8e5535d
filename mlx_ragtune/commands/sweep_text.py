"""The result of a sweep for a terminal: its rules, every trial, the best one, and the verdicts on the finalists."""

from mlx_ragtune.commands.sweep import SweepResult
from mlx_ragtune.pages.setting_words import settings_text
from mlx_ragtune.pages.tables import clock, fill, render_table
from mlx_ragtune.recipe import SweepSettings
from mlx_ragtune.sweeping.halving import rung_shares
from mlx_ragtune.sweeping.trials import TrialRow


def _rules(result: SweepResult, settings: SweepSettings) -> list[str]:
    """How trials were compared, in words."""
    lines = [
        f"{result.trial_count} trials; {f'stopped after {result.stopped}' if result.stopped else 'not finished'}. "
        "Ranked by the score of answers to validation questions"
        + (", then by validation loss." if result.by_loss else "; validation losses are of different rows.")
    ]
    if settings.halving != "off":
        lines.append(_halving(result, settings))
    scores = [row.score for row in result.trials if row.score is not None]
    if len(scores) > 1 and len(set(scores)) == 1:
        order = "by the validation loss alone" if result.by_loss else "arbitrary"
        lines.append(
            f"Every trial scores {scores[0]:.3f}: the questions do not tell them apart, and the order is {order}."
        )
    if settings.halving == "updates" and not any(row.looks for row in result.trials):
        lines.append(
            "No trial was compared at a rung: they have too few updates for one before the last, or, with engine: "
            "mlx-lm, no validation before it. Set sweep.halving to rows or off, or raise train.evals_per_epoch."
        )
    return lines


def _halving(result: SweepResult, settings: SweepSettings) -> str:
    """The rule of successive halving in words."""
    shares = ", ".join(f"{share:.0%}" for share in rung_shares(settings.reduction, settings.rungs))
    what = "of its updates" if settings.halving == "updates" else "of the rows"
    if not result.places:
        return (
            f"Successive halving: after {shares} {what}, a trial continues when it is among the best "
            f"1/{settings.reduction} that came so far."
        )
    best = ", ".join(map(str, result.places))
    return f"Successive halving: after {shares} {what}, a trial waits until it is surely among the best {best}."


def _cells(row: TrialRow, place: int | None) -> list[str]:
    look = row.looks[-1] if row.looks else None
    score = row.score if row.score is not None else look.score if look else None
    loss = row.valid_loss if row.valid_loss is not None else look.valid_loss if look else None
    state = f"{row.state}: {row.why}" if row.why else row.state
    if not row.feasible:
        state += ": fails too many probes"
    return [
        str(place) if place else "",
        str(row.number + 1),
        settings_text(row.settings),
        "" if score is None else f"{score:.3f}",
        "" if loss is None else f"{loss:.4f}",
        "" if row.probe_loss is None else f"{row.probe_loss:+.0%}",
        clock(row.seconds) if row.seconds else "",
        state,
    ]


def sweep_text(result: SweepResult, settings: SweepSettings, *, recipe: str, width: int = 80) -> str:
    """The whole result; ``recipe`` is the argument for the next command."""
    places = {number: place for place, number in enumerate(result.ranking, start=1)}
    shown = [row for row in result.trials if row.state != "interrupted"]
    shown.sort(key=lambda row: (places.get(row.number + 1, len(places) + 1), row.number))
    rows = [_cells(row, places.get(row.number + 1)) for row in shown]
    headers = ["", "trial", "settings", "score", "loss", "probes lost", "time", "state"]
    if not any(row[5] for row in rows):
        headers.pop(5)
        for row in rows:
            row.pop(5)
    parts = [
        *(fill(line, width=width) for line in _rules(result, settings)),
        "",
        render_table(headers, rows, width=width),
    ]
    for verdict in result.finalists:
        text = f"trial {verdict.trial}: {verdict.headline} (report: {verdict.report})"
        parts += ["", fill(text, width=width)]
    for failure in result.failed:
        parts += ["", fill(f"no verdict: {failure}", width=width)]
    if result.finalists and result.alpha is not None:
        rate = result.alpha * result.trial_count
        parts += [
            fill(
                f"Error rate of each verdict: {rate:g} / {result.trial_count} trials = {result.alpha:.3g}. "
                "The run's own report is not corrected for the other trials.",
                width=width,
            )
        ]
    if places:
        parts += ["", f"next: ragtune sweep best {recipe} --write recipes/NAME.yaml"]
    return "\n".join(parts)
