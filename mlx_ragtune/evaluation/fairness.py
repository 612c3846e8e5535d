"""The fairness gate: all models run under the same conditions, or they are not compared.

A different quantization or template changes answers as much as fine-tuning does. Each difference is reported
with both values and the command that removes it; a difference can only be accepted by name.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlx_ragtune.errors import InputError, ToolError

_EXPORT_AGAIN = "ragtune export RECIPE --redo   # writes base and tuned by the same path"
_REGISTER_AGAIN = "ragtune register RECIPE --redo   # serves both the same way"
_ASK_AGAIN = "ragtune evaluate RECIPE --redo   # asks both models again"
_SHOWN = 5


@dataclass(frozen=True)
class Conditions:
    """How one model was served and queried.

    ``parameters`` are those the server reports for the model; ``renderer`` and ``parser`` are Ollama's
    names (empty when the template is used). ``prompts`` maps each question id to the hash of the
    rendered prompt ("" if it is unknown). ``retrieval`` describes index and depth. ``threads`` (0: the
    server's default), ``slots``, ``batch`` and the ``engine``'s build change roundings, and so greedy answers.
    """

    quantization: str
    template_sha256: str
    context_tokens: int
    server: str
    sampling: Mapping[str, Any]
    seeds: tuple[int, ...]
    prompts: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    renderer: str = ""
    parser: str = ""
    retrieval: Mapping[str, Any] = field(default_factory=dict)
    thinking: str = "off"
    threads: int = 0
    slots: int = 1
    batch: str = ""
    engine: str = ""


@dataclass(frozen=True)
class Difference:
    """One condition that differs, with both values as text and the command that removes the difference."""

    name: str
    base: str
    tuned: str
    fix: str
    allowed: bool = False

    def __str__(self) -> str:
        return f"{self.name}: base {self.base}, tuned {self.tuned}"


_FIXES = {
    "quantization": _EXPORT_AGAIN,
    "template_sha256": _EXPORT_AGAIN,
    "parameters": _REGISTER_AGAIN,
    "renderer": _REGISTER_AGAIN,
    "parser": _REGISTER_AGAIN,
    "context_tokens": _REGISTER_AGAIN,
    "server": _ASK_AGAIN,
    "prompts": _ASK_AGAIN,
    "sampling": _ASK_AGAIN,
    "seeds": _ASK_AGAIN,
    "retrieval": _ASK_AGAIN,
    "thinking": _ASK_AGAIN,
    "threads": _ASK_AGAIN,
    "slots": _ASK_AGAIN,
    "batch": _ASK_AGAIN,
    "engine": _ASK_AGAIN,
}
NAMES = tuple(_FIXES)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value or "(none)"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _unequal_keys(base: Mapping[str, Any], tuned: Mapping[str, Any]) -> tuple[str, str]:
    """Both values of every key that differs, as text; only the first few when there are many."""
    missing = object()
    names = sorted(name for name in base.keys() | tuned.keys() if base.get(name, missing) != tuned.get(name, missing))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""

    def side(values: Mapping[str, Any]) -> str:
        shown = (f"{name}={_text(values[name]) if name in values else '(absent)'}" for name in names[:_SHOWN])
        return ", ".join(shown) + more

    return side(base), side(tuned)


def check_allowed(names: Iterable[str]) -> None:
    """Raise InputError for a name that is not a condition."""
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        what = f"cannot allow an unknown condition: {', '.join(unknown)}"
        raise InputError(what, fix=f"choose from: {', '.join(NAMES)}")


def differences(base: Conditions, tuned: Conditions, *, allow: Iterable[str] = ()) -> list[Difference]:
    """Every condition that differs, in the order of ``NAMES``; allowed ones are marked and not hidden.

    Raises InputError for a name in ``allow`` that is not a condition.
    """
    allowed = set(allow)
    check_allowed(allowed)
    unequal = []
    for name in NAMES:
        left, right = getattr(base, name), getattr(tuned, name)
        if left == right:
            continue
        texts = _unequal_keys(left, right) if isinstance(left, Mapping) else (_text(left), _text(right))
        unequal.append(Difference(name, *texts, fix=_FIXES[name], allowed=name in allowed))
    return unequal


def require_equal(base: Conditions, tuned: Conditions, *, allow: Iterable[str] = ()) -> list[Difference]:
    """The allowed differences, which every page shows. Raises ToolError that lists all the others."""
    unequal = differences(base, tuned, allow=allow)
    refused = [difference for difference in unequal if not difference.allowed]
    if refused:
        raise ToolError(
            "base and tuned were not run under the same conditions:\n"
            + "\n".join(f"  {difference}" for difference in refused),
            fix="\n       ".join(dict.fromkeys(difference.fix for difference in refused))
            + f"\n       or accept it by name: {' '.join(f'--allow {difference.name}' for difference in refused)}",
        )
    return unequal
