"""A date in a chat template is frozen wherever the template is read or written."""

import json
from pathlib import Path

from mlx_ragtune.models.prompts import load_tokenizer, prompt_text
from mlx_ragtune.models.template_dates import freeze_files, frozen, frozen_date
from mlx_ragtune.models.vocabulary import chat_template, read_vocabulary, stored_template
from mlx_ragtune.records import Message
from tests.toy_models import change, copied

LLAMA = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    '{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %}'
    "{%- endif %}{%- endif %}{{- 'Today Date: ' + date_string }}"
    "{%- for message in messages %}{{- message.role + message.content }}{%- endfor %}"
)


def test_each_call_becomes_its_text() -> None:
    assert frozen("{{ strftime_now('%d %b %Y') }}") == "{{ '26 Jul 2024' }}"
    assert frozen('{{ strftime_now( "%Y-%m-%d" ) }}') == '{{ "2024-07-26" }}'
    assert frozen("{% set today = 'strftime_now' %}") == "{% set today = 'strftime_now' %}"
    assert frozen("{{ strftime_now(form) }}") == "{{ strftime_now(form) }}"
    assert frozen_date(LLAMA) == "2024-07-26"
    assert frozen_date(frozen(LLAMA)) == ""


def test_training_and_the_exported_vocabulary_have_one_date(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    (folder / "chat_template.jinja").write_text(LLAMA)
    text = prompt_text([Message("user", "Why?")], load_tokenizer(folder), thinking=False)
    assert text.startswith("Today Date: 26 Jul 2024")
    assert read_vocabulary(folder).template == chat_template(folder) == frozen(LLAMA)
    assert stored_template(folder) == LLAMA


def test_the_files_of_a_folder_are_frozen_wherever_the_template_is(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    change(folder / "tokenizer_config.json", chat_template=[{"name": "default", "template": LLAMA}, {"name": "x"}])
    (folder / "chat_template.jinja").write_text(LLAMA)
    freeze_files(folder)
    (entry, _) = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    assert entry["template"] == frozen(LLAMA) == (folder / "chat_template.jinja").read_text()
    before = (folder / "tokenizer_config.json").read_bytes()
    freeze_files(folder)
    assert (folder / "tokenizer_config.json").read_bytes() == before
