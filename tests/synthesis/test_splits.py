"""No paper is on two sides, shares are met, the same input gives the same split."""

from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlx_ragtune.records import Document, Evidence, Pair
from mlx_ragtune.synthesis.splits import same_material, split_by_paper, split_by_row
from tests.synthesis.corpus import DOCUMENTS, METHODS, grounded, near_miss, off_corpus, text_of


def pair(identifier: str, *papers: str) -> Pair:
    kind = {0: "refusal", 1: "grounded"}.get(len(papers), "synthesis")
    return Pair(identifier, kind, "q?", "a", papers)  # type: ignore[arg-type]


def test_all_pairs_of_a_paper_are_on_one_side() -> None:
    pairs = [grounded(name, number) for name in METHODS for number in range(3)]
    pairs += [near_miss(name) for name in METHODS]
    splits = split_by_paper(pairs, DOCUMENTS, valid_share=0.25, test_share=0.25, seed=0)
    for name in METHODS:
        assert len({splits[one.id] for one in pairs if one.papers == (name.lower(),)}) == 1
    papers = Counter(splits[f"g-{name.lower()}-0"] for name in METHODS)
    assert papers == {"train": 6, "valid": 3, "test": 3}


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.4])
def test_shares_of_papers_are_met_within_one_paper(share: float) -> None:
    pairs = [pair(f"p{number}", f"paper{number}") for number in range(100)]
    splits = split_by_paper(pairs, valid_share=share, test_share=0.0, seed=3)
    counts = Counter(splits.values())
    assert abs(counts["valid"] - 100 * share) <= 1
    assert counts["test"] == 0


def test_a_small_share_still_holds_out_one_paper() -> None:
    splits = split_by_paper([pair("a", "x"), pair("b", "y")], valid_share=0.05, test_share=0.0, seed=0)
    assert sorted(splits.values()) == ["train", "valid"]


def test_one_paper_alone_is_for_training() -> None:
    assert split_by_paper([pair("a", "x")], valid_share=0.1, test_share=0.1, seed=0) == {"a": "train"}


@pytest.mark.parametrize("papers", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_last_paper_is_left_for_training_whatever_the_shares(papers: int, seed: int) -> None:
    pairs = [pair(f"p{number}", f"paper{number}") for number in range(papers)]
    splits = split_by_paper(pairs, valid_share=0.9, test_share=0.9, seed=seed)
    assert list(splits.values()).count("train") >= 1
    joined = [pair(f"s{number}", f"paper{number}", f"paper{number + 1}") for number in range(papers - 1)]
    splits = split_by_paper([*pairs, *joined], valid_share=1.0, test_share=0.0, seed=seed)
    assert list(splits.values()).count("train") >= 1


@pytest.mark.parametrize("papers", [3, 4, 7])
@pytest.mark.parametrize("test_share", [0.34, 0.7, 0.9])
def test_a_large_test_share_leaves_a_paper_for_validation(papers: int, test_share: float) -> None:
    pairs = [pair(f"p{number}", f"paper{number}") for number in range(papers)]
    for seed in range(3):
        counts = Counter(split_by_paper(pairs, valid_share=0.1, test_share=test_share, seed=seed).values())
        assert min(counts["train"], counts["valid"], counts["test"]) >= 1


def test_papers_joined_by_synthesis_stay_together_while_they_fit() -> None:
    pairs = [pair(f"s{number}", f"a{number}", f"b{number}") for number in range(10)]
    splits = split_by_paper(pairs, valid_share=0.2, test_share=0.2, seed=0)
    assert len(splits) == 10
    assert Counter(splits.values()) == {"train": 6, "valid": 2, "test": 2}


def test_a_synthesis_pair_over_two_sides_is_in_no_split() -> None:
    chain = [pair(f"s{number:02}", f"p{number:02}", f"p{number + 1:02}") for number in range(19)]
    singles = [pair(f"g{number:02}", f"p{number:02}") for number in range(20)]
    splits = split_by_paper([*chain, *singles], valid_share=0.2, test_share=0.0, seed=0)
    side = {f"p{number:02}": splits[f"g{number:02}"] for number in range(20)}
    assert Counter(side.values()) == {"train": 16, "valid": 4}
    for one in chain:
        left, right = (side[paper] for paper in one.papers)
        assert (one.id in splits) == (left == right)
    cut = [one for one in chain if one.id not in splits]
    assert 1 <= len(cut) <= 2, "the held-out end of a chain is one piece"


def test_copies_of_a_paper_are_on_one_side() -> None:
    copies = tuple(Document(f"copy{at}", "", f"Copy {at}", text_of("LoRA") + f" {at}") for at in range(6))
    pairs = [pair(f"g{one.id}", one.id) for one in (*copies, *DOCUMENTS[1:])]
    splits = split_by_paper(pairs, [*copies, *DOCUMENTS], valid_share=0.3, test_share=0.0, seed=0)
    assert len({splits[f"gcopy{at}"] for at in range(6)}) == 1


def test_off_corpus_refusals_are_shared_out() -> None:
    pairs = [off_corpus(number) for number in range(40)] + [grounded(name) for name in METHODS]
    splits = split_by_paper(pairs, valid_share=0.1, test_share=0.2, seed=0)
    counts = Counter(splits[f"o-{number}"] for number in range(40))
    assert counts == {"train": 28, "valid": 4, "test": 8}


def test_the_split_depends_on_the_seed_and_not_on_the_order() -> None:
    pairs = [pair(f"p{number}", f"paper{number}") for number in range(60)]
    one = split_by_paper(pairs, valid_share=0.2, test_share=0.1, seed=0)
    assert one == split_by_paper(pairs[::-1], valid_share=0.2, test_share=0.1, seed=0)
    assert one != split_by_paper(pairs, valid_share=0.2, test_share=0.1, seed=1)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdefghij"), max_size=3, unique=True), max_size=25),
    st.floats(0, 0.25),
    st.floats(0, 0.25),
    st.integers(0, 5),
)
def test_no_paper_is_ever_on_two_sides(rows: list[list[str]], valid_share: float, test_share: float, seed: int) -> None:
    pairs = [pair(f"p{at}", *papers) for at, papers in enumerate(rows)]
    splits = split_by_paper(pairs, valid_share=valid_share, test_share=test_share, seed=seed)
    sides: dict[str, set[str]] = {}
    for one in pairs:
        if one.id in splits:
            for paper in one.papers:
                sides.setdefault(paper, set()).add(splits[one.id])
    assert all(len(found) == 1 for found in sides.values())
    assert all(one.id in splits for one in pairs if len(one.papers) < 2)


def test_pairs_on_one_quote_or_with_one_question_are_in_one_group() -> None:
    quote = Evidence("a", "It trains two matrices.")
    first = Pair("1", "grounded", "What does it train?", "x", ("a",), (quote,))
    second = Pair("2", "grounded", "How many matrices?", "x", ("a",), (quote,))
    third = Pair("3", "refusal", "How many MATRICES?", "x")
    other = Pair("4", "grounded", "Why?", "x", ("a",), (Evidence("a", "Another quote."),))
    groups = same_material([first, second, third, other])
    assert groups["1"] == groups["2"] == groups["3"] != groups["4"]


@settings(max_examples=60, deadline=None)
@example([0, 1, 1, 1, 1, 1, 1, 2], 0.5, 0.2, 0)
@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=60),
    st.floats(0.01, 0.5),
    st.sampled_from((0.0, 0.2)),
    st.integers(0, 99),
)
def test_a_group_is_in_one_split_and_one_is_left_for_training(
    groups: list[int], valid: float, test: float, seed: int
) -> None:
    names = {f"r{number}": f"g{group}" for number, group in enumerate(groups)}
    splits = split_by_row(names, valid_share=valid, test_share=test, seed=seed)
    assert splits.keys() == names.keys()
    assert len({(names[row], split) for row, split in splits.items()}) == len(set(groups))
    assert "train" in splits.values()
    if len(set(groups)) > 2:
        assert "valid" in splits.values()


def test_shares_of_single_rows_are_met() -> None:
    names = {f"r{number}": f"g{number}" for number in range(100)}
    splits = split_by_row(names, valid_share=0.2, test_share=0.1, seed=0)
    assert Counter(splits.values()) == {"train": 70, "valid": 20, "test": 10}
    assert splits != split_by_row(names, valid_share=0.2, test_share=0.1, seed=1)
