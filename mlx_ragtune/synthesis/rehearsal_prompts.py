"""The general prompts of ``dataset.rehearsal``: they have no answers, the base model answers them itself."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.bundled import bundled
from mlx_ragtune.errors import InputError, RecipeError
from mlx_ragtune.jsonl import read_located_rows
from mlx_ragtune.recipe import RehearsalSettings

SHIPPED = "data/rehearsal/prompts.jsonl"
"""The bundled prompts."""


@dataclass(frozen=True)
class RehearsalPrompt:
    """A prompt as a user of the base model would write it."""

    id: str
    prompt: str
    category: str = ""


def prompts_file(path: Path | None) -> Path:
    """The recipe's own file, or the bundled one."""
    return path or bundled(SHIPPED)


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def read_prompts(path: Path) -> list[RehearsalPrompt]:
    """The prompts of a JSONL file, in order. Raises InputError with ``file:line``.

    Ids and prompts must be distinct, and no prompt may be blank.
    """
    ids: set[str] = set()
    texts: dict[str, str] = {}
    prompts: list[RehearsalPrompt] = []
    for where, row in read_located_rows(path, RehearsalPrompt):
        text = _normal(row.prompt)
        fault = ""
        if not text:
            fault = "is blank"
        elif row.id in ids:
            fault = "has an id that is used twice"
        elif text in texts:
            fault = f"has the text of prompt {texts[text]!r}"
        if fault:
            raise InputError(f"prompt {row.id!r} {fault}", where=where, fix="correct or remove this line")
        ids.add(row.id)
        texts[text] = row.id
        prompts.append(row)
    if not prompts:
        raise InputError(
            "the file has no prompts", where=str(path), fix='write one JSON object per line: {"id": …, "prompt": …}'
        )
    return prompts


def prompts_of(settings: RehearsalSettings) -> list[RehearsalPrompt]:
    """The prompts that a recipe has answered, in order. Raises as ``read_prompts``, and when there are too few."""
    path = prompts_file(settings.prompts)
    prompts = read_prompts(path)
    count = settings.count or len(prompts)
    if count > len(prompts):
        raise RecipeError(
            f"{count} prompts are asked for, but {path} has {len(prompts)}",
            where="dataset.rehearsal.count",
            fix=f"set dataset.rehearsal.count to at most {len(prompts)}, or remove it",
        )
    return [prompts[index * len(prompts) // count] for index in range(count)]


def require_apart(path: Path, probes: Sequence[str]) -> None:
    """Raise InputError when a prompt of the file is one of the probes: they would measure what was rehearsed."""
    asked = {_normal(text) for text in probes}
    shared = [row.id for row in read_prompts(path) if _normal(row.prompt) in asked]
    if shared:
        raise InputError(
            f"{len(shared)} rehearsal prompts are general probes too: {', '.join(shared[:5])}",
            where=str(path),
            fix="remove these prompts: what is trained cannot show what was forgotten",
        )
