"""The model card of a run: README.md of a hub repository, from figures and settings alone.

No text of papers, pairs, questions or answers is in it, and no path: of the recipe only numbers and fixed words.
"""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from mlx_ragtune.clients.hub_names import public_model
from mlx_ragtune.pages import wording
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.recipe_types import Settings
from mlx_ragtune.records import Passage
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.scoring.verdict.comparison import Comparison, Outcome

_SECTIONS = ("seed", "retrieval", "dataset", "train", "fuse", "export", "evaluate", "scoring")
_RELATION = {"adapter": "adapter", "fused": "finetune", "gguf": "quantized"}
_LIBRARY = {"adapter": "peft", "fused": "transformers", "gguf": "gguf"}
_MEANING = {
    "IMPROVED": "better than the reference",
    "REGRESSED": "worse than the reference",
    "MIXED": "better in some metrics, worse in others",
    "EQUIVALENT": "as good as the reference, within the margin",
    "INCONCLUSIVE": "not decided by this many questions",
}


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from. ``base`` is public or empty; ``kind`` is the quantization of a GGUF file."""

    repository: str
    what: Literal["adapter", "fused", "gguf"]
    base: str
    base_id: str
    license_id: str
    outcome: Outcome
    settings: Mapping[str, Any]
    rows: Mapping[str, int]
    papers: int
    kind: str
    version: str


def public_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings of a recipe that are not its defaults, without paths, names, addresses and identifiers."""
    chosen: dict[str, Any] = {"base": {"precision": recipe.base.precision}}
    if name := public_model(recipe.base.model, recipe.base.package):
        chosen["base"] = {"model": name, **chosen["base"]}
    chosen["corpus"] = {name: getattr(recipe.corpus, name) for name in ("chunk_tokens", "overlap_tokens")}
    for section in _SECTIONS:
        value = getattr(recipe, section)
        kept = _public(value) if isinstance(value, Settings) else value
        if kept not in ({}, None):
            chosen[section] = kept
    return chosen


def _public(settings: Settings) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            value = _public(value)
        elif value == field.default or not _is_public(value, field.annotation):
            continue
        elif isinstance(value, tuple):
            value = list(value)
        if value != {}:
            kept[name] = value
    return kept


def _is_public(value: Any, annotation: Any) -> bool:
    """Whether a value is a number, or one of the fixed words of its key."""
    if value is None or isinstance(value, bool | int | float):
        return True
    words = {word for word in _words(annotation) if isinstance(word, str)}
    if isinstance(value, str):
        return value in words
    if isinstance(value, tuple):
        return all(isinstance(item, bool | int | float) or item in words for item in value)
    if isinstance(value, dict):
        return all(key in words and isinstance(item, bool | int | float) for key, item in value.items())
    return False


def _words(annotation: Any) -> Iterator[Any]:
    """The values of every ``Literal`` in an annotation."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) in (Union, types.UnionType) or get_args(annotation):
        for inner in get_args(annotation):
            yield from _words(inner)


def model_card(facts: CardFacts) -> str:
    """The card as Markdown, with a head of metadata."""
    parts = [
        _head(facts),
        f"# {facts.repository.partition('/')[2]}",
        _about(facts),
        "## Verdict",
        _verdict(facts.outcome),
        "## Use",
        _use(facts),
        "## Data",
        _data(facts),
        "## Recipe",
        f"Made by ragtune {facts.version}. Settings that are not its defaults, without files and names:\n\n"
        f"```yaml\n{_yaml(facts.settings)}```",
    ]
    return "\n\n".join(parts) + "\n"


def _yaml(value: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True))


def _head(facts: CardFacts) -> str:
    about: dict[str, Any] = {"library_name": _LIBRARY[facts.what], "pipeline_tag": "text-generation"}
    if facts.base_id:
        about |= {"base_model": facts.base_id, "base_model_relation": _RELATION[facts.what]}
    if facts.license_id:
        about["license"] = facts.license_id
    about["tags"] = ["ragtune", "retrieval-augmented-generation", "lora", *(["gguf"] if facts.what == "gguf" else [])]
    return f"---\n{_yaml(about)}---"


def _about(facts: CardFacts) -> str:
    base = facts.base or "A base model that is not public"
    form = {
        "adapter": "The LoRA adapter, in the format of PEFT.",
        "fused": "The model with the adapter merged, as safetensors.",
        "gguf": f"The model with the adapter merged, as GGUF, {facts.kind}.",
    }[facts.what]
    unlicensed = "\n\nNo license was stated: that of the base model applies to its weights."
    license_text = "" if facts.license_id else unlicensed
    return (
        f"{base}, tuned to answer questions from passages of papers that stand in its prompt, to cite their titles, "
        f"and to say when they do not contain the answer. {form}{license_text}"
    )


def _verdict(outcome: Outcome) -> str:
    parts = [_compared("the base model", outcome.against_base)]
    if outcome.against_prompted is not None:
        parts.append(_compared("the base model with examples in its prompt", outcome.against_prompted))
    if outcome.provenance:
        parts.append(wording.sentence(outcome.provenance))
    return "\n\n".join(parts)


def _compared(reference: str, comparison: Comparison) -> str:
    """The metrics that were judged, with their intervals."""
    lines = [
        f"Against {reference}: **{comparison.verdict}** ({_MEANING[comparison.verdict]}); "
        f"{comparison.n_questions} questions, margin {100 * comparison.margin:.1f} points, "
        f"intervals of {1 - comparison.alpha:.0%}.",
        "",
        "| metric | before | after | difference | interval | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for row in comparison.rows:
        if row.role == "secondary" or row.unit in ("seconds", "tokens", "words"):
            continue
        before, after = (wording.amount(row, mean) for mean in (row.all.base_mean, row.all.tuned_mean))
        cells = [row.label, before, after, wording.change(row), wording.interval(row), wording.result(row.verdict)]
        lines.append(f"| {' | '.join(cell.replace('|', '/') or '–' for cell in cells)} |")
    failed = [guard.label for guard in comparison.guards if guard.state == "FAIL"]
    return "\n".join([*lines, *(["", f"Failed guards: {', '.join(failed)}."] if failed else [])])


def _use(facts: CardFacts) -> str:
    system, user = build_messages((Passage("", "", "TITLE", "TEXT"),), "QUESTION")
    adapter = facts.what == "adapter"
    key = f"train:\n  from_adapter: hf:{facts.repository}" if adapter else f"base:\n  model: {facts.repository}"
    return (
        "The model was trained, and tested, on prompts of this form. An answer to a question without passages is not "
        f"supported by any paper.\n\n```\nsystem: {system.content}\n\nuser: {user.content}\n```\n\n"
        f"In a recipe of ragtune:\n\n```yaml\n{key}\n```"
    )


def _data(facts: CardFacts) -> str:
    total = sum(facts.rows.values())
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(facts.rows.items()))
    return (
        f"Trained on {total:,} rows ({kinds}) about papers of a collection of {facts.papers:,}. The papers, their "
        "titles, the questions and the answers are not part of this repository. The weights were made from them: a "
        "tuned model can repeat phrases of the rows that it was trained on. Whoever publishes it needs the right to."
    )
