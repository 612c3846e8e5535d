"""A base that cannot be trained, exported and served is refused from its headers, with the file and the reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.model_folder import check_base, missing_files, read_config
from mlx_ragtune.models.prompts import (
    check_prompt_lengths,
    check_question_lengths,
    load_tokenizer,
    rendered,
)
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.models.vocabulary import read_vocabulary
from mlx_ragtune.records import Message
from tests.toy_models import ARCHITECTURES, change, copied

CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "wide", "untied"])
def test_every_toy_is_a_base(toys: Path, tmp_path: Path, architecture: str) -> None:
    folder = toys / architecture
    if architecture == "gemma3_text":  # the default toy has a global layer, that of the fixture has none
        with pytest.raises(InputError, match="at least 6 layers"):
            check_base(folder)
        write_toy_model(tmp_path / "gemma", architecture="gemma3_text")
        folder = tmp_path / "gemma"
    assert check_base(folder)["model_type"] in ARCHITECTURES


def with_template(toys: Path, folder: Path, template: str) -> Path:
    made = copied(toys / "qwen3", folder)
    (made / "chat_template.jinja").write_text(template)
    return made


NO_SYSTEM = (
    "{%- for message in messages %}{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{- message.role + message.content }}{%- endfor %}"
)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ m.role }}", "fails: TemplateSyntaxError"),
        ("{{ messages[7].content.nothing() }}", "fails: UndefinedError"),
        ("{{ 1 / 0 }}", "fails: ZeroDivisionError"),
        ("{{ raise_exception('only in pairs') }}", "fails: TemplateError: only in pairs"),
        ("{% for i in range(10**9) %}{% endfor %}", "fails: OverflowError"),
        (NO_SYSTEM, "does not accept a system message (TemplateError: Conversation roles must alternate)"),
        (CHATML.replace("for message in messages", "for message in messages if message.role != 'system'"),
         "leaves out the system message"),
        ("{{ messages[0].content }}", "leaves out the user message"),
        (CHATML.replace("for message in messages", "for message in messages if message.role != 'assistant'"),
         "leaves out the assistant message"),
        ("{% set form = '%d %b' %}{{ strftime_now(form) }}" + CHATML, "in a form that cannot be frozen"),
        (CHATML.replace("assistant\\n'", "assistant\\n<think>\\n'"), "always opens a think block ('<think>')"),
        (CHATML.replace("assistant\\n'", "assistant\\n[THINK]'"), "always opens a think block ('[THINK]')"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("thinking", [False, True])
def test_a_template_that_cannot_be_used_is_refused_by_file(
    toys: Path, tmp_path: Path, template: str, said: str, thinking: bool
) -> None:
    folder = with_template(toys, tmp_path / "m", template)
    with pytest.raises(InputError) as caught:
        check_base(folder, thinking=thinking)
    assert said in caught.value.what
    assert caught.value.where.startswith(str(folder / "chat_template.jinja"))
    assert caught.value.fix


@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        "{% set today = 'strftime_now' %}" + CHATML,
        CHATML.replace("assistant\\n'", "assistant\\n<think>\\n\\n</think>\\n'"),
        "<think> is explained in the system prompt. " + CHATML,
        "{% if not messages %}{{ strftime_now('%Y') }}{% endif %}" + CHATML,
        "{{ strftime_now('%d %b %Y') }}" + CHATML,
        '{% if strftime_now is defined %}{% set d = strftime_now( "%Y" ) %}{{ d }}{% endif %}' + CHATML,
    ],
)
def test_a_template_that_only_mentions_dates_and_thinking_is_accepted(
    toys: Path, tmp_path: Path, template: str
) -> None:
    check_base(with_template(toys, tmp_path / "m", template))


def test_a_template_in_the_settings_is_checked_too(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    change(folder / "tokenizer_config.json", chat_template="{% if %}")
    with pytest.raises(InputError, match="TemplateSyntaxError") as caught:
        check_base(folder)
    assert caught.value.where == str(folder / "tokenizer_config.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": -64}, "hidden_size is -64"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_attention_heads": "4"}, "num_attention_heads is '4'"),
        ({"num_attention_heads": True}, "num_attention_heads is True"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"num_hidden_layers": 2.0}, "num_hidden_layers is 2.0"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3"),
        ({"head_dim": 15}, "head_dim is 15"),
        ({"head_dim": -16}, "head_dim is -16"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps is '1e-6'"),
        ({"max_position_embeddings": [8192]}, "max_position_embeddings is [8192]"),
        ({"rope_theta": "many"}, "wrong type"),
        ({"rope_scaling": 7}, "wrong type"),
        ({"rope_theta": -1.0}, "rope_theta -1"),
        ({"intermediate_size": 64}, "config.json requires [64, 64]"),
        ({"num_hidden_layers": 3}, "'model.layers.2."),
        ({"vocab_size": 5}, "config.json requires [5, 64]"),
        ({"model_type": ["qwen3"]}, "cannot be exported"),
    ],
)
def test_a_damaged_config_is_refused_with_the_value(
    toys: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m", **changes)
    with pytest.raises(InputError) as caught:
        check_base(folder)
    assert said in caught.value.what


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe{}", b'{"a": NaN}', b"[" * 100_000, b'{"model": 5}'],
    ids=str,
)
def test_a_damaged_file_is_refused_by_name(toys: Path, tmp_path: Path, file: str, content: bytes) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    (folder / file).write_bytes(content)
    with pytest.raises(InputError) as caught:
        check_base(folder)
    assert str(folder) in caught.value.where or "architecture 'None'" in caught.value.what


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": NaN}', b'{"model": 5}', b'{"model": {"type": "BPE"}}',
                                     b'{"model": {"type": "BPE", "vocab": [], "merges": []}}'])  # fmt: skip
def test_a_damaged_tokenizer_has_no_vocabulary(toys: Path, tmp_path: Path, content: bytes) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    (folder / "tokenizer.json").write_bytes(content)
    for read in (read_vocabulary, load_tokenizer):
        with pytest.raises(InputError):
            read(folder)


@pytest.mark.parametrize("generation", [b"[]", b"{", b"null"])
def test_a_damaged_generation_config_is_refused(toys: Path, tmp_path: Path, generation: bytes) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    (folder / "generation_config.json").write_bytes(generation)
    with pytest.raises(InputError) as caught:
        check_base(folder)
    assert caught.value.where.endswith("generation_config.json")


UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda weights: weights.pop(UP), f"tensor '{UP}' is missing"),
        (lambda weights: weights.update({UP: weights[UP][:-1].copy()}), "has shape [127, 64]"),
        (lambda weights: weights.update({UP: weights[UP].T.copy()}), "has shape [64, 128]"),
        (lambda weights: weights.update({UP: weights[UP].astype(np.int32)}), "is I32, not F32"),
    ],
)
def test_weights_that_do_not_fit_the_config_are_refused(
    toys: Path, tmp_path: Path, spoil: Callable[[dict[str, np.ndarray]], None], said: str
) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    spoil(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError) as caught:
        check_base(folder)
    assert said in caught.value.what


@pytest.mark.parametrize("kept", [0, 7, 20, 3000, -1])
def test_truncated_weights_are_refused(toys: Path, tmp_path: Path, kept: int) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError) as caught:
        check_base(folder)
    assert caught.value.where == str(file)


@pytest.mark.parametrize(
    "index", ["[]", "{", '{"weight_map": {"a": "../other.safetensors"}}', '{"weight_map": {"a": 1}}']
)
def test_a_damaged_index_is_refused(toys: Path, tmp_path: Path, index: str) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    (folder / "model.safetensors.index.json").write_text(index)
    for read in (check_base, missing_files):
        with pytest.raises(InputError, match="not a shard index"):
            read(folder)


def test_mistral_is_a_base(toys: Path) -> None:
    assert read_config(toys / "mistral")["model_type"] == "mistral"


def test_a_prompt_without_room_for_an_answer_is_refused() -> None:
    check_prompt_lengths([[1] * 99], window=100)
    check_prompt_lengths([], window=100)
    with pytest.raises(InputError, match="a prompt has 100 tokens, the base model reads at most 100") as caught:
        check_prompt_lengths([[1], [1] * 100], window=100)
    assert "retrieval.top_k" in caught.value.fix


def test_rendered_prompts_stay_within_the_window(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m", max_position_embeddings=64)
    rendered([[Message("user", "Short?")]], folder, thinking=False)
    with pytest.raises(InputError, match="reads at most 64"):
        rendered([[Message("user", "word " * 100)]], folder, thinking=False)


def test_a_question_that_fills_the_window_is_refused_with_its_line(toys: Path) -> None:
    questions = [("benchmark.jsonl:1", "Why?"), ("benchmark.jsonl:2", "x" * 500)]
    check_question_lengths(questions, toys / "qwen3", window=1000)
    with pytest.raises(InputError, match="the question has 500 tokens") as caught:
        check_question_lengths(questions, toys / "qwen3", window=400)
    assert caught.value.where == "benchmark.jsonl:2"
    check_question_lengths([("benchmark.jsonl:1", " paper" * 60)], toys / "qwen3", window=200)


def test_nan_is_not_json(tmp_path: Path, toys: Path) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(json.dumps({**json.loads(text), "rms_norm_eps": float("nan")}))
    with pytest.raises(InputError, match="NaN is not a JSON number"):
        check_base(folder)
