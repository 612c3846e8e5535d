"""report: the result for a person: a summary, Markdown, JSON and one self-contained HTML page."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from mlx_ragtune.artifact import Draft, Inputs, digest_file, read_artifact
from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.evaluation.fairness import Difference
from mlx_ragtune.evaluation.quick_path import stamps_of_path
from mlx_ragtune.jsonl import parse_row, read_dicts, read_json, read_rows
from mlx_ragtune.pages.output_file import write_page
from mlx_ragtune.pages.plots import LossPoint
from mlx_ragtune.pages.redact import redacted
from mlx_ragtune.pages.report_data import (
    Asked,
    BlindResult,
    BothRefusals,
    ConditionPair,
    CorrectedDifference,
    Fact,
    JudgeOutcome,
    Noise,
    Parallel,
    ProbeOutcome,
    Prompted,
    ReportData,
    Shown,
    Strengths,
    pair_answers,
    pair_conditions,
    read_conditions,
    stamps_of,
)
from mlx_ragtune.pages.report_html import render_html
from mlx_ragtune.pages.report_markdown import render_markdown
from mlx_ragtune.pages.report_sections import build_report
from mlx_ragtune.pages.report_text import render_text
from mlx_ragtune.pages.strength_plot import StrengthRow
from mlx_ragtune.pages.wording import flat
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Answer, Question
from mlx_ragtune.scoring.answers.similarity import PlantedRow
from mlx_ragtune.scoring.verdict.comparison import read_outcome
from mlx_ragtune.scoring.verdict.distractors import ConditionRow

SETTINGS = (
    "base", "corpus", "retrieval", "dataset", "train", "export", "register", "evaluate", "scoring",
)  # fmt: skip

Row = TypeVar("Row")


def report(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write ``report.html``, ``report.md``, ``report.json`` and ``summary.txt``."""
    data = redacted(_gather(recipe, inputs), keep=("answers",))
    page = build_report(data)
    for name, text in (
        ("report.html", render_html(page)),
        ("report.md", render_markdown(page)),
        ("report.json", json.dumps(asdict(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"),
        ("summary.txt", render_text(page)),
    ):
        write_page(draft / name, text)
    draft.record(verdict=data.outcome.verdict, headline=data.outcome.headline)


def _gather(recipe: Recipe, inputs: Inputs) -> ReportData:
    """Everything that the report shows."""
    evaluate = inputs["evaluate"]
    outcome = read_outcome(evaluate / "verdict.json")
    training = read_json(inputs["train"] / "result.json")
    settings = {name: getattr(recipe, name).model_dump(mode="json", exclude_none=True) for name in SETTINGS}
    settings["fuse"] = {"strength": recipe.fuse.strength}
    gates = read_json(evaluate / "gates.json")
    return ReportData(
        title=f"{recipe.name}: {'base' if outcome.against_prompted is None else 'base and prompted base'} vs. tuned",
        outcome=outcome,
        answers=pair_answers(
            outcome,
            list(read_rows(evaluate / "questions.jsonl", Question)),
            list(read_rows(evaluate / "used.jsonl", Answer)),
        ),
        stamps=_stamps(evaluate, gates),
        blind=_blind(inputs["votes"], evaluate),
        retrieval=_facts(read_json(evaluate / "retrieval.json")),
        conditions=_conditions(evaluate, gates),
        refusals=parse_row(BothRefusals, read_json(evaluate / "refusals.json"), where="refusals.json"),
        distractors=tuple(_rows_if_any(evaluate / "distractors.jsonl", ConditionRow)),
        probes=tuple(_rows_if_any(evaluate / "probes.jsonl", ProbeOutcome)),
        judge=_judge(evaluate / "judge.json"),
        similarity=_similarity(evaluate / "similarity.json"),
        losses=tuple(_losses(inputs["train"] / "losses.jsonl")),
        best_update=training["best_update"],
        training=(
            *_facts(_training(recipe, training)),
            *_kl(inputs["train"] / "losses.jsonl", training["best_update"]),
            *_preference(inputs["train"] / "losses.jsonl", training["best_update"]),
        ),
        strengths=_strengths(recipe, training),
        dataset=(*_dataset(read_json(inputs["dataset"] / "statistics.json")), *_rehearsal(recipe, inputs, training)),
        settings=_facts(settings | {"seed": recipe.seed}, spaced=False),
        versions=_versions(evaluate),
        asked=parse_row(Asked, gates["asked"], where="gates.json: asked"),
        parallel=parse_row(Parallel, gates["parallel"], where="gates.json: parallel")
        if gates["parallel"] is not None
        else None,
        noise=_if_any(evaluate / "noise.json", Noise),
        shown=_if_any(evaluate / "shown.json", Shown),
        prompted=_if_any(evaluate / "prompted.json", Prompted),
    )


def _stamps(evaluate: Path, gates: Mapping[str, Any]) -> tuple[str, ...]:
    """What every page warns of: the quick path, conditions that were allowed to differ."""
    quick = stamps_of_path(read_conditions(evaluate / "conditions.json").tuned)
    return (*quick, *stamps_of([parse_row(Difference, item, where="gates.json") for item in gates["allowed"]]))


def _if_any(path: Path, row_type: type[Row]) -> Row | None:
    """The content of a JSON file that only some runs have."""
    return parse_row(row_type, read_json(path), where=path.name) if path.exists() else None


def _rows_if_any(path: Path, row_type: type[Row]) -> Iterator[Row]:
    """The rows of a file that only some runs have."""
    if path.exists():
        yield from read_rows(path, row_type)


def _losses(path: Path) -> Iterator[LossPoint]:
    for row in read_dicts(path):
        yield LossPoint(row["update"], row.get("train_loss"), row.get("valid_loss"), row.get("rehearsal_loss"))


def _training(recipe: Recipe, training: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of training that concern this recipe; the strengths have a section of their own."""
    unused = {"strengths"}
    if recipe.dataset.rehearsal is None:
        unused |= {"rehearsal_rows", "rehearsal_held_rows", "base_rehearsal_loss", "rehearsal_loss", "strength"}
    return {name: value for name, value in training.items() if name not in unused}


def _strengths(recipe: Recipe, training: Mapping[str, Any]) -> Strengths | None:
    """The strengths that training tried; None where it tried none."""
    if not training.get("strengths") or recipe.train.strength is None:
        return None
    points = tuple(parse_row(StrengthRow, point, where="result.json") for point in training["strengths"])
    return Strengths(points, training["strength"], recipe.train.strength.max_loss, recipe.fuse.strength)


def _rehearsal(recipe: Recipe, inputs: Inputs, training: Mapping[str, Any]) -> Iterator[Fact]:
    """How many of the base's own answers were trained on, and why others are not used."""
    if recipe.dataset.rehearsal is None:
        return
    own = read_json(inputs["rehearse"] / "statistics.json")
    total = training["train_rows"] + training["rehearsal_rows"]
    yield Fact("rehearsal rows", f"{training['rehearsal_rows']:,} ({training['rehearsal_rows'] / total:.0%} of all)")
    yield Fact("rehearsal rows held out", f"{training['rehearsal_held_rows']:,}")
    reasons = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in own["not_used"].items())
    used = f"{own['usable']:,} of {own['prompts']:,} answers are used{f' ({reasons})' if reasons else ''}"
    yield Fact("the base's own answers", used)


def _preference(losses: Path, best_update: int) -> Iterator[Fact]:
    """With ``train.preference``: how the kept adapter orders the validation rows' answers and rejected answers."""
    for row in read_dicts(losses):
        if row["update"] == best_update and "valid_preference_accuracy" in row:
            yield Fact("validation answers preferred to rejected ones", f"{row['valid_preference_accuracy']:.0%}")
            yield Fact("mean preference margin", f"{row['valid_preference_margin']:.3f}")


def _kl(losses: Path, best_update: int) -> Iterator[Fact]:
    """With ``train.kl``: the KL in the update that was kept, and on rows not trained on where it has tokens."""
    for row in read_dicts(losses):
        if row["update"] == best_update:
            for name, rows in (("train", "training"), ("valid", "validation"), ("rehearsal", "held-out rehearsal")):
                if f"{name}_kl" in row:
                    yield Fact(f"KL to the base on {rows} rows (nats per token)", f"{row[f'{name}_kl']:.4f}")


def _conditions(evaluate: Path, gates: Mapping[str, Any]) -> tuple[ConditionPair, ...]:
    """What the server reported of each model; the check of the served prompts covers all."""
    conditions = read_conditions(evaluate / "conditions.json")
    served = gates["served_prompts"]
    reused = {arm: str(number) for arm, number in gates["reused_answers"].items()}
    prompted = conditions.prompted is not None
    return (
        ConditionPair(
            "answers from an earlier run", reused["base"], reused["tuned"], equal=True, prompted=reused.get("prompted")
        ),
        ConditionPair("served prompts", served, served, equal=True, prompted=served if prompted else None),
        *pair_conditions(conditions),
    )


def _judge(path: Path) -> JudgeOutcome | None:
    if not path.exists():
        return None
    judge = read_json(path)
    corrected = judge.get("corrected")
    return JudgeOutcome(
        model=judge["model"],
        summary=judge["summary"],
        caught={kind: (caught, planted) for kind, (caught, planted) in judge["caught"].items()},
        corrected=parse_row(CorrectedDifference, corrected, where=path.name) if corrected else None,
    )


def _similarity(path: Path) -> tuple[PlantedRow, ...]:
    rows = read_json(path) if path.exists() else ()
    return tuple(parse_row(PlantedRow, row, where=path.name) for row in rows)


def _blind(votes: Path, evaluate: Path) -> BlindResult | None:
    """The result of a blind comparison of exactly these answers, where there is one."""
    path = votes / digest_file(evaluate / "used.jsonl")[:12] / "unblinded.json"
    return parse_row(BlindResult, read_json(path), where=str(path)) if path.exists() else None


def _facts(values: dict[str, Any], *, spaced: bool = True) -> tuple[Fact, ...]:
    """Nested values as labeled text; ``spaced`` for people: no underscores, thousands separated."""
    facts = (Fact(name, text) for name, text in flat(values))
    return tuple(Fact(fact.label.replace("_", " "), _grouped(fact.value)) if spaced else fact for fact in facts)


def _grouped(text: str) -> str:
    return f"{int(text):,}" if text.isdecimal() and len(text) > 4 else text


def _dataset(statistics: dict[str, Any]) -> tuple[Fact, ...]:
    """Rows read, left out for each reason and used; groups, tokens and kinds of the training split."""
    train = statistics["train"]
    account = statistics["account"]
    facts = [Fact("rows read", f"{sum(account['read'].values()):,}")]
    if account["made"]:
        facts.append(Fact("rows added", f"{sum(account['made'].values()):,}"))
    facts += [Fact(f"left out: {reason}", f"{sum(kinds.values()):,}") for reason, kinds in account["left_out"].items()]
    facts += [Fact(f"{split} rows", f"{statistics[split]['rows']:,}") for split in ("train", "valid", "test")]
    tokens = train["tokens"]
    facts.append(Fact("groups with one context", f"{train['groups']:,}"))
    facts.append(Fact("tokens per row", f"{tokens['min']:,} to {tokens['max']:,}, mean {tokens['mean']:,.0f}"))
    for kind in train["kinds"]:
        text = f"{kind['rows']:,} ({kind['share']:.0%}), {kind['tokens_min']:,} to {kind['tokens_max']:,} tokens"
        facts.append(Fact(f"{kind['kind']} rows", text))
    if contrast := train.get("contrast"):
        text = f"{contrast['made']:,} of the refusals: questions of other rows, asked without their paper"
        facts.append(Fact("contrast pairs", text))
    if bare := train.get("no_passages"):
        facts.append(Fact("without passages", f"{bare:,} of the refusals: questions of other rows, with no passages"))
    for copy in statistics["held_out_copies"]:
        overlap = f"copy of '{copy['original']}' ({max(copy['of_paper'], copy['of_original']):.0%} the same text)"
        facts.append(Fact(f"held out: {copy['paper']}", overlap))
    return tuple(facts)


def _versions(evaluate: Path) -> tuple[Fact, ...]:
    """When, where and with what the answers were made."""
    artifact = read_artifact(evaluate)
    if artifact is None:
        raise ArtifactError("not a finished artifact", where=str(evaluate), fix="run the same command again")
    return _facts({name: artifact.manifest[name] for name in ("finished_at", "platform", "python", "packages")},
                  spaced=False)  # fmt: skip
