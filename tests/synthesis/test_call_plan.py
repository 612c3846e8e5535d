"""The plan: even over papers and sections, the same each time, long enough for the lowest yield."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_ragtune.errors import InputError
from mlx_ragtune.recipe import GeneratorSettings
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.records import Chunk, Kind
from mlx_ragtune.synthesis.call_plan import PARTS, WRITTEN, Plan, even_order, make_plan, quotas
from tests.synthesis.corpus import CHUNKS, text_of

SHARES: Mapping[Kind, float] = {"grounded": 0.6, "synthesis": 0.2, "refusal": 0.2}


def chunks(papers: int, sections: int = 2, each: int = 2) -> list[Chunk]:
    return [
        Chunk(
            f"p{paper}:{section}{at}", f"p{paper}", f"Paper {paper}", f"s{section}", 1, 0, 1, f"{paper} {section} {at}"
        )
        for paper in range(papers)
        for section in range(sections)
        for at in range(each)
    ]


def plan(pairs: int = 100, *, seed: int = 0, papers: int = 8, min_yield: float = 0.5) -> Plan:
    settings = GeneratorSettings(model="m", pairs=pairs, min_yield=min_yield)
    return make_plan(chunks(papers), settings, SHARES, seed=seed)


def test_quotas_sum_to_the_pairs_and_keep_the_shares() -> None:
    counts = quotas(2000, SHARES, sections=True)
    assert sum(counts.values()) == 2000
    assert counts == {
        "grounded": 1080, "partial": 120, "synthesis": 400,
        "off_corpus": 140, "without_paper": 140, "false_premise": 80, "wrong_section": 40,
    }  # fmt: skip


@settings(deadline=None)
@given(st.integers(1, 500), st.floats(0, 1), st.booleans())
def test_quotas_always_sum_to_the_pairs(pairs: int, grounded: float, sections: bool) -> None:
    shares: Mapping[Kind, float] = {"grounded": grounded, "synthesis": 0.0, "refusal": 1 - grounded}
    counts = quotas(pairs, shares, sections=sections)
    assert sum(counts.values()) == pairs
    assert all(count > 0 for count in counts.values())
    assert sections or "wrong_section" not in counts


def test_any_beginning_of_the_order_covers_papers_and_sections_evenly() -> None:
    order = even_order(chunks(6, sections=3, each=2), seed=0)
    assert len(order) == len({chunk.id for chunk in order}) == 36
    for length in range(6, 37, 6):
        papers = Counter(chunk.document_id for chunk in order[:length])
        assert set(papers.values()) == {length // 6}
    for paper in range(6):
        sections = [chunk.section for chunk in order if chunk.document_id == f"p{paper}"]
        assert set(sections[:3]) == {"s0", "s1", "s2"}


def test_papers_of_different_length_take_turns_until_they_end() -> None:
    long, short = chunks(1, sections=5, each=4), chunks(2, sections=1, each=1)[1:]
    order = even_order([*long, *short], seed=0)
    assert "p1" in {chunk.document_id for chunk in order[:2]}
    assert len(order) == 21


def test_the_same_corpus_and_seed_give_the_same_plan_in_any_order_of_the_chunks() -> None:
    settings = GeneratorSettings(model="m", pairs=60)
    one = make_plan(chunks(8), settings, SHARES, seed=0)
    assert one == make_plan(chunks(8)[::-1], settings, SHARES, seed=0)
    assert one.calls != make_plan(chunks(8), settings, SHARES, seed=1).calls


def test_the_plan_is_long_enough_for_the_lowest_yield() -> None:
    made = plan(100, min_yield=0.5)
    asked = Counter[str]()
    for call in made.calls:
        asked[call.task] += call.pairs
    for task in WRITTEN:
        assert asked[task] >= made.quotas[task] / 0.5


def test_every_task_is_spread_over_the_whole_plan() -> None:
    calls = plan(400).calls
    half = calls[: len(calls) // 2]
    for task in WRITTEN:
        share = sum(call.task == task for call in half) / sum(call.task == task for call in calls)
        assert 0.4 <= share <= 0.6


def test_a_second_visit_to_a_chunk_asks_from_another_angle() -> None:
    visits: dict[str, list[str]] = {}
    for call in plan(400, papers=2).calls:
        if call.task == "grounded":
            visits.setdefault(call.chunk_ids[0], []).append(call.angle)
    assert all(len(set(angles[:6])) == min(6, len(angles)) for angles in visits.values())
    assert max(len(angles) for angles in visits.values()) > 6


def test_no_two_calls_are_the_same() -> None:
    calls = plan(400, papers=2).calls
    assert len(set(calls)) == len(calls)


def test_synthesis_joins_two_papers_each_two_chunks_once_the_most_similar_first() -> None:
    twin = replace(CHUNKS[0], id="twin-0", document_id="twin", text=text_of("LoRA") + " and more")
    settings = GeneratorSettings(model="m", pairs=40)
    made = make_plan([*CHUNKS, twin], settings, SHARES, seed=0)
    joined = [call.chunk_ids for call in made.calls if call.task == "synthesis"]
    assert len({frozenset(two) for two in joined}) == len(joined)
    assert all(one.split("-")[0] != other.split("-")[0] for one, other in joined)
    assert frozenset(("lora-0", "twin-0")) in {frozenset(two) for two in joined[:13]}


def test_two_chunks_of_one_paper_are_never_joined() -> None:
    for call in plan(200).calls:
        if call.task == "synthesis":
            assert len({one.split(":")[0] for one in call.chunk_ids}) == 2


def test_off_corpus_questions_are_on_many_subjects_and_no_chunk() -> None:
    calls = [call for call in plan(800).calls if call.task == "off_corpus"]
    assert all(call.chunk_ids == () for call in calls)
    assert len({call.angle for call in calls}) >= 30
    assert all(call.angle == call.angle.strip() for call in calls)


def test_one_paper_cannot_give_synthesis_pairs() -> None:
    settings = GeneratorSettings(model="m", pairs=10)
    with pytest.raises(
        InputError, match="synthesis pairs need two papers; the corpus has one outside the benchmark: 'p0'"
    ):
        make_plan(chunks(1), settings, SHARES, seed=0)
    only: Mapping[Kind, float] = {"grounded": 0.75, "synthesis": 0.0, "refusal": 0.25}
    assert "synthesis" not in make_plan(chunks(1), settings, only, seed=0).quotas


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(InputError, match="no chunk"):
        make_plan([], GeneratorSettings(model="m"), SHARES, seed=0)


def test_the_plan_of_the_source_experiment_has_its_counts() -> None:
    recipe = load_recipe(Path(__file__).parents[2] / "recipes" / "source_experiment.yaml")
    assert recipe.dataset.generator is not None
    wanted = quotas(recipe.dataset.generator.pairs, recipe.dataset.shares, sections=True)
    kinds = {kind: sum(wanted.get(task, 0) for task in tasks) for kind, tasks in PARTS.items()}
    assert kinds == {"grounded": 1200, "synthesis": 397, "refusal": 400}
