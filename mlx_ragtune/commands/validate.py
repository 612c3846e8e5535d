"""validate: a recipe checked without running anything, and whether its benchmark can give a verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.bases.resolve import find_base
from mlx_ragtune.commands.outlook import outlook_json, outlook_warnings, verdict_outlook
from mlx_ragtune.errors import InputError, RecipeError
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.scoring.answers.language import require_supported_benchmark
from mlx_ragtune.scoring.verdict.possible import Outlook


@dataclass(frozen=True)
class Checked:
    """One recipe with its error, or with what its benchmark can decide and what is not on this machine yet."""

    recipe: str
    error: str | None
    outlook: tuple[Outlook, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """Why a verdict is not possible, or only for large differences, and what is missing."""
        if self.error is not None:
            return []
        return [*outlook_warnings(self.outlook), *(f"note: {what}" for what in self.missing)]

    def as_json(self) -> dict[str, Any]:
        """The row of ``ragtune validate --json``."""
        return {
            "recipe": self.recipe,
            "error": self.error,
            "verdict": outlook_json(self.outlook),
            "missing": [*self.missing],
        }


def check_recipe(path: Path, overrides: Mapping[str, Any]) -> Checked:
    """The recipe with all of its errors at once, and its benchmark's language and power."""
    try:
        recipe = load_recipe(path, overrides)
        require_supported_benchmark(recipe.benchmark)
        return Checked(str(path), None, tuple(verdict_outlook(recipe)), _missing(recipe))
    except (RecipeError, InputError) as error:
        return Checked(str(path), str(error))


def _missing(recipe: Recipe) -> tuple[str, ...]:
    """What stages will fetch: the base model, unless it is here or made on the spot."""
    model = recipe.base.model
    if model.startswith("toy:") or find_base(recipe.base) is not None:
        return ()
    return (f"base model '{model}' is not on this machine yet: 'corpus' does without it, 'dataset' fetches it",)
