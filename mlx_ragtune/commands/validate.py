"""validate: a recipe checked without running anything, and whether its benchmark can give a verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.commands.outlook import outlook_json, outlook_warnings, verdict_outlook
from mlx_ragtune.errors import InputError, RecipeError
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.scoring.answers.language import require_supported_benchmark
from mlx_ragtune.scoring.verdict.possible import Outlook


@dataclass(frozen=True)
class Checked:
    """One recipe with its error, if any, and what its benchmark can decide."""

    recipe: str
    error: str | None
    outlook: tuple[Outlook, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """Why a verdict is not possible, or only for large differences."""
        return list(outlook_warnings(self.outlook))

    def as_json(self) -> dict[str, Any]:
        """The row of ``ragtune validate --json``."""
        return {"recipe": self.recipe, "error": self.error, "verdict": outlook_json(self.outlook)}


def check_recipe(path: Path, overrides: Mapping[str, Any]) -> Checked:
    """The recipe with all of its errors at once, and its benchmark's language and power."""
    try:
        recipe = load_recipe(path, overrides)
        require_supported_benchmark(recipe.benchmark)
        return Checked(str(path), None, tuple(verdict_outlook(recipe)))
    except (RecipeError, InputError) as error:
        return Checked(str(path), str(error))
