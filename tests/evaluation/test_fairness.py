from dataclasses import asdict, replace
from typing import Any

import pytest

from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.evaluation.fairness import NAMES, Conditions, differences, require_equal
from tests.scoring.made import SAMPLING

SAME = Conditions(
    quantization="Q8_0",
    template_sha256="aa",
    context_tokens=4096,
    server="llama.cpp b6000",
    sampling=asdict(SAMPLING),
    seeds=(0, 1),
    prompts={"q1": "11", "q2": "22"},
    parameters={"stop": ["<|im_end|>"]},
    retrieval={"top_k": 3},
)
CHANGES: dict[str, Any] = {
    "quantization": "Q4_K_M",
    "template_sha256": "bb",
    "context_tokens": 2048,
    "server": "llama.cpp b6001",
    "sampling": {**asdict(SAMPLING), "temperature": 0.7},
    "seeds": (0,),
    "prompts": {"q1": "11", "q2": "33"},
    "parameters": {"stop": ["<|im_end|>"], "num_ctx": 2048},
    "renderer": "qwen3",
    "parser": "qwen3",
    "retrieval": {"top_k": 5},
    "thinking": "on",
    "threads": 4,
    "slots": 2,
    "batch": "512/512",
    "engine": "xllamacpp 9",
}


def test_equal_conditions_pass() -> None:
    assert differences(SAME, replace(SAME)) == []
    assert require_equal(SAME, replace(SAME)) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_condition_is_refused_by_its_name_with_a_way_to_mend_it(name: str) -> None:
    with pytest.raises(ToolError) as caught:
        require_equal(SAME, replace(SAME, **{name: CHANGES[name]}))
    assert f"{name}: base " in caught.value.what
    assert "ragtune" in caught.value.fix
    assert f"--allow {name}" in caught.value.fix


def test_every_field_is_a_condition() -> None:
    assert set(NAMES) == set(CHANGES) == set(asdict(SAME))


def test_all_differences_are_named_at_once() -> None:
    with pytest.raises(ToolError) as caught:
        require_equal(SAME, replace(SAME, quantization="Q4_K_M", server="ollama 0.14"))
    assert "quantization: base Q8_0, tuned Q4_K_M" in caught.value.what
    assert "server: base llama.cpp b6000, tuned ollama 0.14" in caught.value.what


def test_of_a_mapping_only_what_differs_is_shown() -> None:
    (found,) = differences(SAME, replace(SAME, sampling=CHANGES["sampling"]))
    assert (found.base, found.tuned) == ("temperature=0.0", "temperature=0.7")
    (found,) = differences(SAME, replace(SAME, parameters=CHANGES["parameters"]))
    assert (found.base, found.tuned) == ("num_ctx=(absent)", "num_ctx=2048")


def test_many_differing_prompts_are_counted() -> None:
    many = {f"q{number}": "x" for number in range(8)}
    (found,) = differences(replace(SAME, prompts=many), replace(SAME, prompts=dict.fromkeys(many, "y")))
    assert found.base.endswith("q4=x and 3 more")


def test_an_allowed_difference_is_returned_for_every_page_to_show() -> None:
    other = replace(SAME, quantization="Q4_K_M")
    (found,) = require_equal(SAME, other, allow=["quantization"])
    assert found.allowed
    assert str(found) == "quantization: base Q8_0, tuned Q4_K_M"
    with pytest.raises(ToolError, match="server"):
        require_equal(SAME, replace(other, server="x"), allow=["quantization"])


def test_only_known_names_can_be_allowed() -> None:
    with pytest.raises(InputError, match="cannot allow an unknown condition: everything"):
        differences(SAME, SAME, allow=["everything"])
