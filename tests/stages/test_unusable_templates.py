"""A base whose chat template cannot be used is refused before the first stage, with the file and what is wrong."""

from pathlib import Path

import pytest

from tests.stages.project import edit, make_project, ragtune
from tests.toy_models import copied

TURNS = "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
THINKS = TURNS + "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
ALTERNATES = (
    "{%- for message in messages %}{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{{ message.content }}{%- endfor %}"
)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (THINKS, "always opens a think block ('<think>'), although dataset.thinking is off"),
        (ALTERNATES, "does not accept a system message"),
        ("{% for m in messages %}{{ m.role }}", "fails: TemplateSyntaxError"),
    ],
)
def test_it_is_refused_before_the_first_stage(toys: Path, tmp_path: Path, template: str, problem: str) -> None:
    base = copied(toys / "qwen3", tmp_path / "base")
    (base / "chat_template.jinja").write_text(template)
    recipe = make_project(tmp_path / "project")
    edit(recipe, base={"model": str(base)})
    done = ragtune("run", recipe, cwd=recipe.parents[1])
    assert done.returncode == 3
    assert f"the chat template {problem}" in done.stderr
    assert str(base / "chat_template.jinja") in done.stderr
    assert "1-corpus" not in done.stderr
    assert not (recipe.parents[1] / "runs" / "small" / "1-corpus").exists()
