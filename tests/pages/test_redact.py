"""Credentials and absolute paths never reach a report."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlx_ragtune.pages.redact import redact_text, redacted
from mlx_ragtune.pages.report_data import Fact
from tests.pages import made


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:secret@host:11434", "http://host:11434"),
        ("http://user@host", "http://host"),
        ("http://user:p@ss@host/v1", "http://host/v1"),
        ("http://user:se/cret@host", "http://host"),
        ("http://:secret@[::1]:11434", "http://[::1]:11434"),
        ("user:secret@host:11434", "host:11434"),
        ("a http://u:secret@one, https://u:secret@two b", "a http://one, https://two b"),
        ("llm @ git+https://token:secret@host/x.whl", "llm @ git+https://host/x.whl"),
        ('{"host": "http://u:secret@h", "mail": "x@y"}', '{"host": "http://h", "mail": "x@y"}'),
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("write to a@b.org", "write to a@b.org"),
    ],
)
def test_userinfo_is_removed_from_every_url(text: str, shown: str) -> None:
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    "text",
    ["60/40 takes 194 votes", "40.3 tokens/s", "hit@3", "Qwen/Qwen3-4B", "base → tuned, 1/2", "hf.co/Qwen/Qwen3:Q8_0",
     "https://host/a/b/c", "and/or/none", "~/x", "ollama:library/qwen3", "{'a': 1/2}"],
)  # fmt: skip
def test_what_is_neither_a_credential_nor_a_path_is_unchanged(text: str) -> None:
    assert redact_text(text) == text


def test_a_path_is_shown_relative_to_its_project_and_by_name_outside(tmp_path: Path) -> None:
    project = tmp_path / "my project"
    (project / "recipes").mkdir(parents=True)
    assert redact_text(str(project / "data" / "papers")) == "data/papers"
    assert redact_text(str(project)) == "my project"
    assert redact_text("/Volumes/X/papers") == "papers"
    assert redact_text("read /Volumes/X/papers.jsonl, then stop") == "read papers.jsonl, then stop"


@dataclass(frozen=True)
class Nested:
    names: tuple[str, ...]
    table: dict[str, list[str]]
    kept: str


def test_values_are_redacted_at_any_depth_and_keep_their_types() -> None:
    url = "http://u:secret@h"
    value = redacted(Nested((url,), {url: [url, "x"]}, url), keep=("kept",))
    assert value == Nested(("http://h",), {"http://h": ["http://h", "x"]}, url)


def test_a_report_keeps_answers_word_for_word() -> None:
    data = made.report()
    pair = replace(data.answers[0], tuned_text="see https://a:b@c and /usr/lib/x")
    fact = Fact("register.host", "http://u:secret@h")
    shown = redacted(replace(data, answers=(pair,), settings=(fact,)), keep=("answers",))
    assert shown.answers == (pair,)
    assert shown.settings == (Fact("register.host", "http://h"),)
    assert shown.comparison == data.comparison
