"""Every failure says what, where and what next, and has an exit code of its own."""

import pickle

import pytest

from mlx_ragtune.errors import ArtifactError, InputError, RagtuneError, RecipeError, ToolError, printable

KINDS = (RecipeError, InputError, ToolError, ArtifactError)


def test_exit_codes_are_2_to_5() -> None:
    assert [kind.exit_code for kind in KINDS] == [2, 3, 4, 5]
    assert all(issubclass(kind, RagtuneError) for kind in KINDS)


@pytest.mark.parametrize(
    ("where", "fix", "text"),
    [
        ("", "", "it is empty"),
        ("a.pdf", "", "a.pdf: it is empty"),
        ("", "remove it", "it is empty\n  try: remove it"),
        ("a.pdf", "remove it", "a.pdf: it is empty\n  try: remove it"),
    ],
)
def test_the_text_is_where_what_and_the_next_thing_to_try(where: str, fix: str, text: str) -> None:
    assert str(InputError("it is empty", where=where, fix=fix)) == text


def test_the_parts_can_be_read_apart() -> None:
    error = ToolError("no answer", where="http://127.0.0.1:11434", fix="ollama serve")
    assert (error.what, error.where, error.fix) == ("no answer", "http://127.0.0.1:11434", "ollama serve")


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_back_from_a_worker_process(kind: type[RagtuneError]) -> None:
    back = pickle.loads(pickle.dumps(kind("what", where="where", fix="fix")))
    assert type(back) is kind
    assert (back.what, back.where, back.fix) == ("what", "where", "fix")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\x08b\x7f", r"a\x08b\x7f"),
        ("\x9b31m\x85", r"\x9b31m\x85"),
        ("over\rwritten", r"over\x0dwritten"),
        ("\0", r"\x00"),
        ("abc\u202edcba\u2066\u200f", r"abc\u202edcba\u2066\u200f"),
        ("not-utf8-\udcff", r"not-utf8-\udcff"),
        ("tab\tand\nnewline", "tab\tand\nnewline"),
        ("naïve 日本語 \U0001f600 שלום", "naïve 日本語 \U0001f600 שלום"),
    ],
)
def test_text_from_outside_cannot_control_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(ToolError(text, where=text, fix=text)) == f"{shown}: {shown}\n  try: {shown}"
    printable(text).encode()
