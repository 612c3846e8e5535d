"""What the papers cannot give is known before the first request."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.recipe import GeneratorSettings
from mlx_ragtune.records import Chunk, Kind
from mlx_ragtune.synthesis.call_plan import make_plan
from mlx_ragtune.synthesis.plan_bounds import most_pairs, require_possible
from tests.synthesis.test_call_plan import SHARES, chunks


def bounded(pairs: int, found: list[Chunk], shares: Mapping[Kind, float] = SHARES) -> str:
    """The error for this many pairs, or ""."""
    plan = make_plan(found, GeneratorSettings(model="m", pairs=pairs), shares, seed=0)
    try:
        require_possible(plan, chunks=len(found), pairs_per_call=4)
    except InputError as error:
        return str(error)
    return ""


def test_a_plan_within_its_bounds_is_accepted() -> None:
    found = chunks(8)
    assert bounded(200, found) == ""
    plan = make_plan(found, GeneratorSettings(model="m", pairs=200), SHARES, seed=0)
    assert most_pairs(plan, chunks=32, pairs_per_call=4)["grounded"] == (768, "32 passages × 6 angles × 4 pairs")


def test_more_pairs_than_passages_can_give_are_refused_with_the_number_that_fits() -> None:
    text = bounded(1000, chunks(2, sections=1, each=2))
    assert "the papers cannot give 1000 pairs" in text
    assert "grounded: 540 wanted, 96 at most (4 passages × 6 angles × 4 pairs)" in text
    assert "synthesis: 200 wanted, 8 at most" in text
    fits = int(text.partition("dataset.generator.pairs to ")[2].split()[0])
    assert 0 < fits <= 40
    assert bounded(fits, chunks(2, sections=1, each=2)) == ""


def test_refusals_that_need_more_grounded_pairs_than_there_are_name_the_share() -> None:
    shares: Mapping[Kind, float] = {"grounded": 0.1, "synthesis": 0.0, "refusal": 0.9}
    text = bounded(100, chunks(8), shares)
    assert "without_paper: 31 wanted, 9 at most (one for each grounded pair)" in text
    assert "lower the share of refusal in dataset.shares" in text


def test_a_corpus_that_covers_every_field_gets_no_off_corpus_quota() -> None:
    found = [replace(chunk, text=chunk.text) for chunk in chunks(8)]
    plan = make_plan(found, GeneratorSettings(model="m", pairs=100), SHARES, seed=0, fields=())
    assert "off_corpus" not in plan.quotas
    assert sum(plan.quotas.values()) == 100
    assert not [call for call in plan.calls if call.task == "off_corpus"]


@pytest.mark.parametrize("fields", [("sailing",), ("chess", "jazz")])
def test_off_corpus_calls_are_about_the_fields_given(fields: tuple[str, ...]) -> None:
    plan = make_plan(chunks(8), GeneratorSettings(model="m", pairs=100), SHARES, seed=0, fields=fields)
    assert {call.angle for call in plan.calls if call.task == "off_corpus"} == set(fields)
