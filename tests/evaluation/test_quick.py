"""Pieces of the quick path that need no run."""

from types import SimpleNamespace
from typing import Any

import pytest

from mlx_ragtune.evaluation.fairness import Conditions
from mlx_ragtune.evaluation.quick import split_thinking
from mlx_ragtune.evaluation.quick_path import SERVER, STAMP, stamps_of_path
from mlx_ragtune.pipeline import needed, stages_of, stages_until


def recipe(engine: str, rehearsal: Any = None) -> Any:
    return SimpleNamespace(
        evaluate=SimpleNamespace(engine=engine),
        dataset=SimpleNamespace(rehearsal=rehearsal),
        train=SimpleNamespace(preference=None),
    )


def test_every_stage_before_a_served_one_is_needed() -> None:
    stages = stages_of(recipe("served"))
    for place, stage in enumerate(stages):
        assert needed(recipe("served"), [stage.name]) == {before.name for before in stages[: place + 1]}


def test_the_quick_path_needs_the_adapter_and_nothing_after_it() -> None:
    quick = recipe("mlx")
    left_out = {"fuse", "export", "register"}
    names = [stage.name for stage in stages_of(quick)]
    assert set(names) - needed(quick, ["report"]) == left_out
    assert needed(quick, ["evaluate"]) == {"corpus", "dataset", "train", "evaluate"}
    assert left_out - needed(quick, ["register"]) == set()
    assert needed(quick, ["report", "fuse"]) == needed(quick, ["report"]) | {"fuse"}
    assert [stage.name for stage in stages_until(quick, "evaluate")] == names[:-1]


def test_the_quick_stage_declares_no_key_of_what_it_leaves_out() -> None:
    (quick,) = [stage for stage in stages_of(recipe("mlx")) if stage.name == "evaluate"]
    assert "base.precision" in quick.keys
    assert not {"export.type", "register.serve"} & {*quick.keys, *quick.ignores}
    assert {"evaluate.slots", "evaluate.threads"} <= set(quick.ignores)


@pytest.mark.parametrize(
    ("text", "answer", "thinking"),
    [
        ("Plain.", "Plain.", ""),
        ("<think>\nHm.\n</think>\n\nYes.", "Yes.", "Hm."),
        ("\n<think></think>Yes.", "Yes.", ""),
        ("<think>cut off", "", "cut off"),
        ("Not <think>at the start</think>", "Not <think>at the start</think>", ""),
    ],
)
def test_thinking_is_taken_out_of_an_answer(text: str, answer: str, thinking: str) -> None:
    assert split_thinking(text) == (answer, thinking)


def test_a_comparison_is_marked_when_either_side_is_quick() -> None:
    quick, served = (Conditions("", "", 1, server, {}, (0,)) for server in (SERVER, "llama.cpp 1"))
    assert stamps_of_path(served, quick) == stamps_of_path(quick, None) == (STAMP,)
    assert stamps_of_path(served, served) == stamps_of_path(None) == ()
