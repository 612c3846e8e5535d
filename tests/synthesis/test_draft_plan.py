"""The plan of a draft: how many questions of each kind, and calls that cover papers evenly."""

from collections import Counter

import pytest

from mlx_ragtune.scoring.verdict.possible import outlooks
from mlx_ragtune.synthesis.call_plan import even_order
from mlx_ragtune.synthesis.draft_plan import draft_calls, planned, quotas
from tests.synthesis.writer import note_chunks

CHUNKS = even_order(note_chunks(), 0)
FIELDS = ["sailing", "chess"]


@pytest.mark.parametrize("total", [1, 2, 7, 40, 133])
@pytest.mark.parametrize("papers", [1, 2, 9])
def test_the_kinds_sum_to_the_total(total: int, papers: int) -> None:
    quota = quotas(papers, total)
    assert sum(quota.values()) == total
    assert papers > 1 or "two_paper" not in quota


def test_by_default_four_on_each_paper_and_every_kind_can_decide() -> None:
    quota = quotas(6)
    assert quota == {"named": 15, "unnamed": 5, "two_paper": 4, "near_miss": 15, "off_corpus": 15}
    asked = planned(quota, [f"p{n}" for n in range(6)])
    assert all(outlook.decides for outlook in outlooks(asked, comparisons=2))


def test_the_calls_cover_papers_and_kinds_side_by_side() -> None:
    quota = quotas(8, 40)
    calls = draft_calls(quota, CHUNKS, FIELDS, seed=0)
    first = calls[: len(calls) // 4]
    assert {call.task for call in first} == set(quota)
    papers = {chunk.id: chunk.document_id for chunk in CHUNKS}
    named = [papers[call.chunk_ids[0]] for call in calls if call.task == "named"][:8]
    assert max(Counter(named).values()) == 1
    pairs = [call.chunk_ids for call in calls if call.task == "two_paper"]
    assert pairs
    assert all(papers[left] != papers[right] for left, right in pairs)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert {call.angle for call in calls if call.task == "off_corpus"} == set(FIELDS)


def test_where_every_field_is_covered_nothing_off_corpus_is_asked() -> None:
    assert not [call for call in draft_calls(quotas(4, 20), CHUNKS, [], seed=0) if call.task == "off_corpus"]
