"""Papers are set aside by seed, of all lengths, copies together, and never those of the user's pairs."""

import random
from collections.abc import Sequence

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Chunk, Document
from mlx_ragtune.synthesis.draft_papers import Candidates, candidates, default_count, set_aside


def paper(name: str, sentences: int) -> Document:
    """A paper of words that no other one has."""
    drawn = random.Random(name)
    word = lambda: "".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=7))  # noqa: E731
    text = " ".join(f"The {' '.join(word() for _ in range(12))}." for _ in range(sentences))
    return Document(name, f"{name}.pdf", name.title(), text)


def chunks(documents: Sequence[Document]) -> list[Chunk]:
    return [Chunk(f"{d.id}-0", d.id, d.title, "Method", 1, 0, len(d.text), d.text) for d in documents]


CORPUS = [paper(f"paper{n:02d}", 3 + n) for n in range(15)]


def test_the_same_seed_sets_aside_the_same_papers_and_another_seed_others() -> None:
    found = candidates(CORPUS, chunks(CORPUS), ())
    assert default_count(found) == 6
    draws = [set_aside(found, 6, seed=seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert all(len(drawn) == 6 for drawn in draws)


@pytest.mark.parametrize("seed", range(5))
def test_every_part_of_the_range_of_lengths_gives_one_paper(seed: int) -> None:
    drawn = set_aside(candidates(CORPUS, chunks(CORPUS), ()), 5, seed=seed)
    assert [int(name[-2:]) // 3 for name in drawn] == [0, 1, 2, 3, 4]


def test_copies_count_as_one_paper_and_one_of_them_is_asked_about() -> None:
    copy = Document("copy", "copy.pdf", "Copy", CORPUS[3].text + " And one more sentence.")
    found = candidates([*CORPUS, copy], chunks([*CORPUS, copy]), ())
    assert found.groups == 15
    assert len({"copy", "paper03"} & set(found.papers)) == 1


def test_papers_of_the_users_pairs_and_their_copies_are_never_set_aside() -> None:
    copy = Document("copy", "copy.pdf", "Copy", CORPUS[3].text)
    used = {"paper03", *(f"paper{n:02d}" for n in range(5, 15))}
    found = candidates([*CORPUS, copy], chunks([*CORPUS, copy]), used)
    assert set(found.papers) == {"paper00", "paper01", "paper02", "paper04"}
    assert default_count(found) == 4, "papers that the pairs leave free cost no training rows"


def test_a_paper_without_text_to_ask_about_is_not_set_aside() -> None:
    cover = Document("cover", "cover.pdf", "Cover", "A cover page.")
    assert "cover" not in candidates([*CORPUS, cover], chunks([*CORPUS, cover]), ()).papers


def test_papers_of_questions_that_are_kept_stay_set_aside() -> None:
    found = candidates(CORPUS, chunks(CORPUS), ())
    drawn = set_aside(found, 5, seed=0, kept={"paper00", "paper01", "paper02"})
    assert {"paper00", "paper01", "paper02"} < set(drawn)
    assert len(drawn) == 5


def test_two_papers_must_remain_and_the_message_names_the_most() -> None:
    few = CORPUS[:4]
    found = candidates(few, chunks(few), ())
    assert (found.most, default_count(found)) == (2, 2)
    with pytest.raises(InputError, match="2 papers must remain") as caught:
        set_aside(found, 3, seed=0)
    assert caught.value.fix == "ragtune draft RECIPE --papers 2"
    with pytest.raises(InputError) as caught:
        set_aside(candidates(few[:2], chunks(few[:2]), ()), 1, seed=0)
    assert caught.value.fix == "add papers to corpus.folder"


@pytest.mark.parametrize(("groups", "wanted"), [(3, 1), (6, 3), (12, 6), (15, 6), (30, 10), (132, 40), (2000, 40)])
def test_a_third_is_set_aside_within_bounds(groups: int, wanted: int) -> None:
    assert default_count(Candidates(tuple(f"p{n}" for n in range(groups)), groups, 0)) == wanted
