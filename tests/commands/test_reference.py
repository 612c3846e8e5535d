"""The reference pages say what the code does."""

import itertools
from pathlib import Path

import pytest

from mlx_ragtune.cli import main
from mlx_ragtune.commands.reference import pages, recipe_page
from mlx_ragtune.recipe import Recipe

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["recipe.md", "commands.md"])
def test_the_committed_page_is_what_make_docs_writes(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages(main)[name], "next: make docs"


def test_every_key_has_a_row_with_its_meaning() -> None:
    text = recipe_page()
    for section, field in Recipe.model_fields.items():
        for key, inner in getattr(field.annotation, "model_fields", {}).items():
            assert f"| `{key}` |" in text or f".{key}\n" in text, f"{section}.{key}"
            assert inner.description, f"{section}.{key}"
    assert "| `seed` | integer | `0` |" in text
    assert "`shared-prefix`, `mlx-lm`" in text


def test_a_row_of_a_table_is_one_line() -> None:
    lines = recipe_page().splitlines()
    after = [line for before, line in itertools.pairwise(lines) if before.startswith("| `")]
    assert [line for line in after if line and not line.startswith(("| `", "## "))] == []
