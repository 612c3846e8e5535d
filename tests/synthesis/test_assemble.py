"""Contexts of training rows: gold and hard distractors, shared by groups."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlx_ragtune.records import Chunk, Evidence, Example, Kind, Pair
from mlx_ragtune.synthesis.assemble import AssemblyReport, assemble
from tests.synthesis.corpus import (
    CHUNKS,
    METHODS,
    WordRetriever,
    build_messages,
    chunk,
    document,
    grounded,
    near_miss,
    off_corpus,
    sentence_of,
    synthesis,
    text_of,
)

SHARES: Mapping[Kind, float] = {"grounded": 0.6, "synthesis": 0.2, "refusal": 0.2}


def everything() -> list[Pair]:
    """60 / 20 / 20: five of each kind for twelve papers."""
    pairs = [grounded(name, number) for name in METHODS for number in range(3)]
    pairs += [synthesis(left, right) for left, right in zip(METHODS, METHODS[3:] + METHODS[:3], strict=True)]
    pairs += [near_miss(name) for name in METHODS[:8]]
    return pairs + [off_corpus(number) for number in range(4)]


def build(
    pairs: Sequence[Pair], *, chunks: Sequence[Chunk] = CHUNKS, top_k: int = 3, seed: int = 0
) -> tuple[list[Example], AssemblyReport]:
    return assemble(
        pairs,
        WordRetriever(chunks),
        chunks,
        top_k=top_k,
        seed=seed,
        shares=SHARES,
        build_messages=build_messages,
    )


def papers_of(row: Example) -> set[str]:
    return {identifier.rsplit("-", 1)[0] for identifier in row.context_ids}


def by_group(rows: Sequence[Example]) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    return groups


def test_every_pair_becomes_one_row_that_ends_in_its_answer() -> None:
    pairs = everything()
    rows, report = build(pairs)
    answers = {pair.id: pair.answer for pair in pairs}
    assert sorted(row.id for row in rows) == sorted(answers)
    assert all(row.messages[-1].content == answers[row.id] for row in rows)
    assert [message.role for message in rows[0].messages] == ["system", "user", "assistant"]
    assert not report.dropped


def test_rows_of_a_group_have_the_same_contexts_byte_for_byte() -> None:
    rows, _ = build(everything())
    for members in by_group(rows).values():
        assert len({row.context_ids for row in members}) == 1
        prefixes = {row.messages[1].content.rsplit("\n\nQuestion: ", 1)[0] for row in members}
        assert len(prefixes) == 1


def test_rows_of_a_group_are_neighbours() -> None:
    rows, _ = build(everything())
    order = [row.group for row in rows]
    changes = sum(one != two for one, two in itertools.pairwise(order))
    assert changes + 1 == len(set(order))


def test_groups_hold_four_rows_on_average_and_never_more_than_five() -> None:
    rows, report = build(everything())
    sizes = [len(members) for members in by_group(rows).values()]
    assert max(sizes) <= 5
    assert 3.5 <= sum(sizes) / len(sizes) <= 5
    assert sum(size * count for size, count in report.group_sizes.items()) == len(rows)


def test_an_answerable_row_shows_its_gold_papers_and_no_more_than_top_k_passages() -> None:
    for top_k in (2, 3, 5):
        rows, _ = build(everything(), top_k=top_k)
        for row in rows:
            assert len(row.context_ids) == len(set(row.context_ids)) <= top_k
            if row.kind != "refusal":
                assert len(row.context_ids) == top_k
                assert set(row.papers) <= papers_of(row)


def test_a_refusal_never_shows_the_paper_that_would_answer_it() -> None:
    rows, _ = build(everything())
    refusals = [row for row in rows if row.kind == "refusal"]
    assert len(refusals) == 12
    assert all(not set(row.papers) & papers_of(row) for row in refusals)


def test_most_refusals_share_the_contexts_of_answerable_rows() -> None:
    rows, _ = build(everything())
    groups = by_group(rows)
    alone = [row for row in rows if all(other.kind == "refusal" for other in groups[row.group])]
    assert len(alone) <= 2


def test_a_near_miss_is_shown_what_the_retriever_finds_for_it() -> None:
    rows, _ = build([*[grounded(name) for name in METHODS], near_miss("LoRA")])
    row = next(row for row in rows if row.id == "n-lora-0")
    found = WordRetriever().search(near_miss("LoRA").question, 8, without_papers=("lora",))
    assert {one.document_id for one in found} & papers_of(row)


def test_a_near_miss_that_finds_no_group_stands_alone_with_what_it_finds() -> None:
    rows, _ = build([grounded("LoRA"), near_miss("PPO")], top_k=1)
    row = next(row for row in rows if row.kind == "refusal")
    found = WordRetriever().search(near_miss("PPO").question, 1, without_papers=("ppo",))
    assert row.context_ids == tuple(one.chunk_id for one in found) != ("lora-0",)


def test_the_gold_passage_stands_at_every_place() -> None:
    rows, report = build([grounded(name, number) for name in METHODS for number in range(3)])
    assert set(report.gold_positions) == {1, 2, 3}
    assert min(report.gold_positions.values()) >= 2
    assert len(rows) == 36


def test_a_distractor_that_holds_the_quote_is_not_shown() -> None:
    secret = document("Phi", text=f"{text_of('Phi')} LoRA memory save case: {sentence_of('LoRA')}")
    chunks = [chunk(secret) if one.document_id == "phi" else one for one in CHUNKS]
    rows, _ = build([grounded("LoRA")], chunks=chunks, top_k=8)
    assert len(rows[0].context_ids) == 8
    assert "phi" not in papers_of(rows[0])


def test_another_chunk_of_the_gold_paper_is_no_distractor() -> None:
    second = replace(CHUNKS[0], id="lora-1", text="How much memory does LoRA save in case 0? More of LoRA.")
    rows, _ = build([grounded("LoRA")], chunks=[*CHUNKS, second], top_k=5)
    assert "lora-1" not in rows[0].context_ids


def test_a_near_duplicate_of_the_gold_paper_is_no_distractor() -> None:
    twin = replace(CHUNKS[0], id="twin-0", document_id="twin", text=text_of("LoRA").replace("10 percent", "some"))
    rows, _ = build([grounded("LoRA")], chunks=[*CHUNKS, twin], top_k=5)
    assert "twin" not in papers_of(rows[0])


def test_contexts_come_only_from_the_chunks_that_are_given() -> None:
    allowed = CHUNKS[:5]
    pairs = [grounded(name) for name in METHODS[:5]]
    rows, _ = assemble(pairs, WordRetriever(), allowed, top_k=3, seed=0, shares=SHARES, build_messages=build_messages)
    assert {one for row in rows for one in row.context_ids} <= {one.id for one in allowed}


def test_groups_with_few_rows_join_when_the_retriever_finds_one_for_the_other() -> None:
    rows, report = build([grounded(name) for name in METHODS])
    assert max(report.group_sizes) <= 3, "three gold chunks fill top_k"
    assert report.group_sizes == {3: 4}
    for row in rows:
        assert set(row.papers) <= papers_of(row)


def test_a_synthesis_row_shares_its_contexts_with_grounded_rows_on_both_papers() -> None:
    rows, _ = build([synthesis("LoRA", "HNSW"), grounded("LoRA"), grounded("HNSW"), grounded("LoRA", 1)])
    group = next(row.group for row in rows if row.kind == "synthesis")
    members = [row for row in rows if row.group == group]
    assert {row.papers for row in members} >= {("lora",), ("hnsw",), ("lora", "hnsw")}


def test_the_report_counts_kinds_shares_and_how_often_the_retriever_finds_the_gold() -> None:
    _, report = build(everything())
    assert report.kinds == {"grounded": 36, "synthesis": 12, "refusal": 12}
    assert report.refusals == {"near_miss": 8, "off_corpus": 4}
    assert report.shares_got == SHARES == report.shares_wanted
    assert report.gold_found is not None
    assert report.gold_found > 0.9
    _, blind = build([off_corpus(0)])
    assert blind.gold_found is None


def test_pairs_that_cannot_be_shown_with_their_evidence_are_dropped_with_the_reason() -> None:
    split = replace(grounded("LoRA"), evidence=(Evidence("lora", "a sentence that stands in no chunk at all"),))
    wide = synthesis("LoRA", "HNSW")
    bare = replace(grounded("DoRA"), evidence=())
    rows, report = build([split, wide, bare], top_k=1)
    assert rows == []
    assert {one.id: (one.reason, one.detail) for one in report.dropped} == {
        "g-lora-0": ("an evidence quote is in no chunk of its paper", ""),
        "s-lora-hnsw": ("evidence in more chunks than retrieval.top_k", "2 chunks, retrieval.top_k is 1"),
        "g-dora-0": ("no evidence quote", ""),
    }


def test_the_rows_depend_on_the_seed_and_not_on_the_order_of_the_pairs() -> None:
    pairs = everything()
    rows, _ = build(pairs)
    again, _ = build(list(reversed(pairs)))
    other, _ = build(pairs, seed=1)
    assert rows == again
    assert [row.context_ids for row in rows] != [row.context_ids for row in other]


def wrong_section(name: str) -> Pair:
    return replace(near_miss(name), id=f"w-{name.lower()}", evidence=grounded(name).evidence)


def test_a_wrong_section_refusal_may_see_its_paper_but_never_the_evidence() -> None:
    second = replace(CHUNKS[0], id="lora-1", section="Training", text="LoRA is trained for adapters in case 0.")
    chunks = [*CHUNKS, second]
    rows, _ = build([wrong_section("LoRA")], chunks=chunks)
    assert "lora-1" in rows[0].context_ids
    assert "lora-0" not in rows[0].context_ids


def test_a_wrong_section_refusal_never_joins_the_group_of_its_evidence() -> None:
    rows, _ = build([grounded("LoRA"), grounded("DoRA"), wrong_section("LoRA")])
    row = next(row for row in rows if row.id == "w-lora")
    assert "lora-0" not in row.context_ids


def test_near_misses_go_to_the_contexts_that_their_question_finds() -> None:
    pairs = [grounded(name, number) for name in METHODS for number in range(3)]
    misses = [near_miss(name) for name in METHODS]
    rows, _ = build([*pairs, *misses, *(off_corpus(number) for number in range(6))])
    for miss in misses:
        row = next(row for row in rows if row.id == miss.id)
        found = WordRetriever().search(miss.question, 6, without_papers=miss.papers)
        assert {one.chunk_id for one in found} & set(row.context_ids)
