"""rehearse: the base model answers general prompts; training rehearses some of the answers, so that less is forgotten.

The result depends on the base and the prompts only: all recipes with the same base share it.
"""

import json
from pathlib import Path

from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.clients.machine import PROCESS_BYTES, MemoryNeed, require_memory
from mlx_ragtune.errors import InputError, RecipeError
from mlx_ragtune.evaluation.own_answers import BaseAsker
from mlx_ragtune.jsonl import RowLog, write_rows
from mlx_ragtune.models.model_folder import check_base
from mlx_ragtune.models.prompts import context_window, load_tokenizer, prompt_tokens
from mlx_ragtune.recipe import Recipe, RehearsalSettings
from mlx_ragtune.records import Message
from mlx_ragtune.synthesis.rehearsal_prompts import prompts_of
from mlx_ragtune.tuning.decode import MOST_TOKENS
from mlx_ragtune.tuning.resources import decode_memory


def check(recipe: Recipe, base: Path) -> None:
    """Raise an error for a base that cannot answer, prompts that cannot be read, or too little memory."""
    check_base(base, thinking=recipe.dataset.thinking == "on")
    settings, thinking = _settings(recipe), recipe.dataset.thinking == "on"
    tokenizer, window = load_tokenizer(base), context_window(base)
    for prompt in prompts_of(settings):
        tokens = len(prompt_tokens((Message("user", prompt.prompt),), tokenizer, thinking=thinking))
        if tokens + settings.max_tokens > window:
            raise RecipeError(
                f"prompt {prompt.id!r} has {tokens} tokens: with {settings.max_tokens} of an answer it is longer than "
                f"the {window} that the base model reads",
                where="dataset.rehearsal.max_tokens",
                fix="lower dataset.rehearsal.max_tokens, or shorten the prompt",
            )
    need = memory(recipe, base)
    require_memory("rehearse", need.bytes, fix=need.fix)


def memory(recipe: Recipe, base: Path) -> MemoryNeed:
    """The base in MLX, with keys and values of the answers that are written at a time."""
    needed = decode_memory(base, recipe.base.precision, tokens=MOST_TOKENS) + PROCESS_BYTES
    return MemoryNeed(needed, "set base.precision: 4bit, or choose a smaller base")


def _settings(recipe: Recipe) -> RehearsalSettings:
    assert recipe.dataset.rehearsal is not None  # noqa: S101 (the stage is in no other table)
    return recipe.dataset.rehearsal


def rehearse(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write ``rehearsal.jsonl``, the rows with usable answers, and ``statistics.json``.

    Answers are kept as they come, so a stopped run continues. Raises InputError when no answer is usable.
    """
    settings = _settings(recipe)
    prompts = prompts_of(settings)
    asker = BaseAsker(
        inputs["base"], recipe.base.precision, recipe.dataset.thinking == "on", max_tokens=settings.max_tokens
    )
    with (
        RowLog(draft.cache("rehearsal-answers.jsonl")) as log,
        draft.track("answering general prompts", len(prompts)) as track,
    ):
        own = asker.ask(prompts, log, track)
    usable = asker.usable(prompts, own.answers)
    if not usable.rows:
        reasons = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in usable.dropped.items())
        raise InputError(
            f"none of the base model's {len(prompts)} answers can be used ({reasons})",
            where="dataset.rehearsal",
            fix="raise dataset.rehearsal.max_tokens, choose an instruction-tuned base, or remove dataset.rehearsal",
        )
    write_rows(draft / "rehearsal.jsonl", usable.rows)
    if usable.mostly_refusals:
        draft.say(
            f"warning: {usable.refusals} of the base model's {len(usable.rows)} usable answers look like refusals; "
            "training on them makes the tuned model refuse more"
        )
    facts = {
        "prompts": len(prompts),
        "usable": len(usable.rows),
        "not_used": dict(usable.dropped),
        "look_like_refusals": usable.refusals,
    }
    (draft / "statistics.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    draft.record(**facts, reused_answers=own.reused)
