"""A base whose template prints the date is trained, exported and served with one date, which the manifest names."""

import json
from pathlib import Path

from mlx_ragtune.clients.gguf_header import read_header
from mlx_ragtune.models.toy import TEMPLATE
from tests.stages.project import edit, make_project, ragtune
from tests.toy_models import copied

DATED = "{{- '<|im_start|>system\\nToday is ' + strftime_now('%d %B %Y') + '.<|im_end|>\\n' }}" + TEMPLATE


def test_the_served_prompt_has_the_date_of_training_on_any_day(toys: Path, tmp_path: Path) -> None:
    base = copied(toys / "qwen3", tmp_path / "base")
    (base / "chat_template.jinja").write_text(DATED)
    recipe = make_project(tmp_path / "project")
    edit(recipe, base={"model": str(base)}, evaluate={"distractors": False}, scoring={"similarity": None})
    done = ragtune("evaluate", recipe, cwd=recipe.parents[1])
    assert done.returncode == 0, done.stderr
    assert "all prompts and both exported models have 2024-07-26" in done.stderr
    run = recipe.parents[1] / "runs" / "small"
    manifest = json.loads((run / "2-dataset" / "manifest.json").read_text())
    assert manifest["facts"]["template_date"] == "2024-07-26"
    for name in ("base", "tuned"):
        template = str(read_header(run / "5-export" / f"{name}.gguf")["tokenizer.chat_template"])
        assert "Today is ' + '26 July 2024'" in template
        assert "strftime_now" not in template
    assert "strftime_now" not in (run / "4-fuse" / "model" / "chat_template.jinja").read_text()
    assert "strftime_now" in (base / "chat_template.jinja").read_text(), "the user's folder stays as it is"
    assert "byte for byte" in (run / "7-evaluate" / "manifest.json").read_text()
