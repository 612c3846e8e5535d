"""report: what was found, for a person: a summary, Markdown, JSON and one self-contained HTML page."""

import json
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft, Inputs, digest_file, read_artifact
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.pages.report_data import (
    FairnessPart,
    Report,
    RowPart,
    distractors_of,
    fairness_of,
    fooled_of,
    forgetting_of,
    from_comparison,
    judge_of,
    refusals_of,
    stamps_of,
)
from mlx_ragtune.pages.report_html import render_html
from mlx_ragtune.pages.report_text import render_markdown, render_text
from mlx_ragtune.pages.wording import flat
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Answer, Question
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.verdict.distractors import LABELS

SECTIONS = (
    "base", "corpus", "retrieval", "dataset", "train", "export", "register", "evaluate", "scoring",
)  # fmt: skip


def report(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write ``report.html``, ``report.md``, ``report.json`` and ``summary.txt``."""
    whole = _gather(recipe, inputs)
    for name, text in (
        ("report.html", render_html(whole)),
        ("report.md", render_markdown(whole)),
        ("report.json", json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"),
        ("summary.txt", render_text(whole)),
    ):
        (draft / name).write_text(text, encoding="utf-8")
    draft.record(verdict=whole["verdict"]["label"], headline=whole["verdict"]["headline"])


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _json_rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _gather(recipe: Recipe, inputs: Inputs) -> Report:
    """Everything the pages show, as plain data."""
    evaluate = inputs["evaluate"]
    whole = from_comparison(
        _json(evaluate / "verdict.json"),
        list(read_rows(recipe.benchmark, Question)),
        list(read_rows(evaluate / "used.jsonl", Answer)),
    )
    training = _json(inputs["train"] / "result.json")
    gates = _json(evaluate / "gates.json")
    proven: FairnessPart = {
        "name": "served prompts", "base": gates["served_prompts"], "tuned": gates["served_prompts"], "equal": True,
    }  # fmt: skip
    return {
        **whole,
        **_asides(evaluate),
        **_human(inputs["votes"], evaluate),
        "stamps": stamps_of(gates["allowed"]),
        "title": f"{recipe.name}: base against tuned",
        "recipe_name": recipe.name,
        "fairness": [proven, *fairness_of(_json(evaluate / "conditions.json"))],
        "retrieval": _facts(_json(evaluate / "retrieval.json")),
        "losses": _json_rows(inputs["train"] / "losses.jsonl"),
        "best_update": training["best_update"],
        "training": _facts(training),
        "dataset": _dataset(_json(inputs["dataset"] / "statistics.json")),
        "settings": {name: getattr(recipe, name).model_dump(mode="json", exclude_none=True) for name in SECTIONS}
        | {"seed": recipe.seed},
        "versions": _versions(inputs),
    }


def _asides(evaluate: Path) -> Report:
    """What was asked for besides: general probes, a judge, similarity. What was not is not on the page."""
    parts: Report = {"refusals": refusals_of(_json(evaluate / "refusals.json"))}  # type: ignore[typeddict-item]
    if (evaluate / "distractors.jsonl").exists():
        labels: dict[str, str] = {condition: label for condition, label in LABELS.items()}  # noqa: C416
        labels |= {name: metric.label for name, metric in METRICS.items()}
        parts["distractors"] = distractors_of(_json_rows(evaluate / "distractors.jsonl"), labels)
    if (evaluate / "probes.jsonl").exists():
        parts["forgetting"] = forgetting_of(_json_rows(evaluate / "probes.jsonl"))
    if (evaluate / "judge.json").exists():
        parts["judge"] = judge_of(_json(evaluate / "judge.json"))
    if (evaluate / "similarity.json").exists():
        parts["fooled"] = fooled_of(_json(evaluate / "similarity.json"))
    return parts


def _human(votes: Path, evaluate: Path) -> Report:
    """The result of a blind comparison of exactly these answers, where there is one."""
    path = votes / digest_file(evaluate / "used.jsonl")[:12] / "unblinded.json"
    return {"human": _json(path)} if path.exists() else {}  # type: ignore[typeddict-item]


def _facts(facts: dict[str, Any]) -> list[RowPart]:
    """Facts as labelled text, numbers at a readable length."""
    return [{"label": name.replace("_", " "), "value": value} for name, value in flat(facts)]


def _dataset(statistics: dict[str, Any]) -> list[RowPart]:
    """Rows, tokens and kinds of the training split, as in a table of the data."""
    train = statistics["train"]
    kinds = {
        one["kind"]: f"{one['rows']} rows ({one['share']:.0%}), {one['tokens_min']}–{one['tokens_max']} tokens"
        for one in train["kinds"]
    }
    rows = {f"{split} rows": statistics[split]["rows"] for split in ("train", "valid", "test")}
    return _facts({**rows, "groups": train["groups"], "tokens": train["tokens"], **kinds})


def _versions(inputs: Inputs) -> dict[str, str]:
    artifact = read_artifact(inputs["evaluate"])
    assert artifact is not None  # noqa: S101 (it is an input)
    return dict(flat({name: artifact.manifest[name] for name in ("finished_at", "platform", "python", "packages")}))
