"""Contrast pairs and rejected answers: the same question with and without its paper."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from mlx_ragtune.records import Chunk, Evidence, Example, Pair
from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.synthesis.assemble import assemble
from mlx_ragtune.synthesis.contrast import (
    ANSWERED,
    NOTHING_ELSE,
    REFUSED,
    WITHOUT,
    Contrast,
    contrast_pair,
    may_answer,
)
from mlx_ragtune.synthesis.refusals import WITHOUT_TOPIC, RefusalWording, own_wordings
from mlx_ragtune.synthesis.rejected import rejected_answers, with_wrong_title
from tests.synthesis.corpus import CHUNKS as NUMBERED
from tests.synthesis.corpus import (
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
    title_of,
)
from tests.synthesis.test_assemble import SHARES, build, papers_of

REFUSE = RefusalWording({})
CHUNKS = [replace(one, text=re.sub(r"(\w+word)\d+x\d+", r"\1", one.text)) for one in NUMBERED]
"""The corpus without numbers in its filler: a passage with the answer's number may answer the question."""


def everything() -> list[Pair]:
    pairs = [grounded(name, number) for name in METHODS for number in range(2)]
    return [*pairs, synthesis("LoRA", "HNSW"), near_miss("PPO"), *(off_corpus(number) for number in range(3))]


def contrasted(
    pairs: Sequence[Pair], share: float, *, chunks: Sequence[Chunk] = CHUNKS, top_k: int = 3, seed: int = 0
) -> tuple[list[Example], Contrast]:
    contrast = Contrast(share, REFUSE)
    rows, _ = assemble(
        pairs,
        WordRetriever(chunks),
        chunks,
        top_k=top_k,
        seed=seed,
        shares=SHARES,
        build_messages=build_messages,
        contrast=contrast,
    )
    return rows, contrast


def made(rows: Sequence[Example]) -> list[Example]:
    return [row for row in rows if row.id.endswith(WITHOUT)]


def test_a_share_of_the_answerable_pairs_is_asked_once_more_without_its_paper() -> None:
    rows, contrast = contrasted(everything(), 0.5)
    added = {row.id: row for row in made(rows)}
    assert len(added) == contrast.report.made == contrast.report.wanted == 12
    originals = {row.id: row for row in rows}
    for name, row in added.items():
        original = originals[name.removesuffix(WITHOUT)]
        assert row.kind == "refusal"
        assert is_refusal(row.messages[-1].content)
        assert row.messages[1].content.rsplit("\n", 1)[-1] == original.messages[1].content.rsplit("\n", 1)[-1]
        assert not papers_of(row) & set(original.papers)
        assert papers_of(original) >= set(original.papers)


def test_its_passages_are_the_retrievers_best_of_the_other_papers() -> None:
    rows, _ = contrasted(everything(), 1.0)
    pairs = {pair.id: pair for pair in everything()}
    for row in made(rows):
        pair = pairs[row.id.removesuffix(WITHOUT)]
        found = WordRetriever(CHUNKS).search(pair.question, 3, without_papers=pair.papers)
        assert sorted(row.context_ids) == sorted(one.chunk_id for one in found)


def test_the_other_rows_are_what_they_are_without_contrast_pairs() -> None:
    rows, _ = contrasted(everything(), 1.0)
    plain, _ = build(everything(), chunks=CHUNKS)
    assert [row for row in rows if not row.id.endswith(WITHOUT)] == plain
    assert contrasted(everything(), 0.0)[0] == plain


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_the_pairs() -> None:
    names = {row.id for row in made(contrasted(everything(), 0.4)[0])}
    assert names == {row.id for row in made(contrasted(everything()[::-1], 0.4)[0])}
    assert names != {row.id for row in made(contrasted(everything(), 0.4, seed=1)[0])}
    assert names < {row.id for row in made(contrasted(everything(), 0.6)[0])}


def test_a_question_that_other_passages_may_answer_is_not_refused() -> None:
    secret = document("DoRA", text="DoRA decomposes. In case 0, LoRA saves 10 percent of the memory, says DoRA.")
    chunks = [chunk(secret) if one.document_id == "dora" else one for one in CHUNKS]
    rows, contrast = contrasted([grounded("LoRA")], 1.0, chunks=chunks)
    assert not made(rows)
    assert contrast.report.skipped == {ANSWERED: 1}


def test_a_copy_of_the_paper_is_not_shown_either() -> None:
    twin = replace(CHUNKS[0], id="twin-0", document_id="twin", text=CHUNKS[0].text.replace("10 percent", "some"))
    rows, _ = contrasted([grounded("LoRA")], 1.0, chunks=[*CHUNKS, twin], top_k=5)
    assert papers_of(made(rows)[0]) & {"lora", "twin"} == set()


def test_without_another_paper_or_with_a_refusal_of_the_question_none_is_made() -> None:
    _, alone = contrasted([grounded("LoRA")], 1.0, chunks=CHUNKS[:1])
    assert alone.report.skipped == {NOTHING_ELSE: 1}
    refused = replace(near_miss("LoRA"), question=grounded("LoRA").question)
    rows, contrast = contrasted([grounded("LoRA"), refused], 1.0)
    assert not made(rows)
    assert contrast.report.skipped == {REFUSED: 1}


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        (f"As known, {sentence_of('LoRA')}", True),
        ("LoRA is said to save 10% of memory.", True),
        ("LoRA saves 11 percent of the time.", False),
        ("DoRA decomposes weights.", False),
    ],
)
def test_numbers_and_evidence_tell_whether_a_passage_may_answer(text: str, answers: bool) -> None:
    assert may_answer(grounded("LoRA"), [replace(CHUNKS[2], text=text)]) is answers


def test_where_the_answer_has_no_numbers_half_of_its_new_words_tell() -> None:
    pair = Pair("p", "grounded", "What does DPR use?", '"Dense" uses gold passages of other questions as negatives.',
                ("dpr",), (Evidence("dpr", "gold passages of other questions"),))  # fmt: skip
    near = replace(CHUNKS[0], text="Negatives were passages for other questions in the batch.")
    assert may_answer(pair, [near])
    assert not may_answer(pair, [replace(CHUNKS[0], text="The retriever has two encoders with a softmax.")])


AUTHORED = (
    ("How tall is Etna?", "The given papers do not say how tall Etna is, so I cannot answer that from them."),
    ("Who wrote Emma?", "The given papers do not mention the author of Emma, so I cannot answer that from them."),
    ("What is a lepton?", "I cannot answer this from the given papers, because they do not mention leptons."),
    ("Where do eels spawn?", "I cannot answer this from the given papers, because they do not say where eels go."),
)


def refusals(rows: Sequence[tuple[str, str]]) -> list[Pair]:
    return [Pair(str(n), "refusal", question, answer) for n, (question, answer) in enumerate(rows)]


def test_refusals_are_worded_as_those_of_the_data_set_without_their_topics() -> None:
    own = own_wordings(refusals(AUTHORED))
    assert set(own) == {
        "I cannot answer this from the given papers.",
        "The given papers do not say this, so I cannot answer that from them.",
        "The given papers do not mention this, so I cannot answer that from them.",
        "I cannot answer this from the given papers, because they do not mention this.",
        "I cannot answer this from the given papers, because they do not say this.",
    }
    wording = RefusalWording({}, own)
    said = {wording(grounded(name)) for name in METHODS}
    assert said <= set(own)
    assert len(said) > 2


def test_german_refusals_are_refused_in_german() -> None:
    rows = [(f"Was ist {topic}?", "Die vorliegenden Arbeiten sagen dazu nichts.") for topic in ("Pech", "Glut", "Eis")]
    rows += [(f"Wo liegt {place}?", f"Dazu steht nichts in den Texten, {place} fehlt.") for place in ("Ulm", "Bern")]
    assert "Die vorliegenden Arbeiten sagen dazu nichts." in own_wordings(refusals(rows))


def test_a_sentence_with_words_of_one_topic_is_not_taken() -> None:
    rows = [*AUTHORED, ("How are tomatoes grown?", "These texts contain no word on vegetable gardening.")]
    assert not any("gardening" in wording for wording in own_wordings(refusals(rows)))


def test_a_known_topic_is_named_and_without_own_wordings_the_plain_ones_are_used() -> None:
    pair = grounded("LoRA")
    assert "the memory of LoRA" in RefusalWording({pair.id: "the memory of LoRA"})(pair)
    assert RefusalWording({})(pair) in WITHOUT_TOPIC
    assert all(map(is_refusal, WITHOUT_TOPIC))


def test_both_rows_of_a_question_prefer_the_opposite() -> None:
    pairs = everything()
    rows, contrast = contrasted(pairs, 1.0)
    found = {one.id: one for one in rejected_answers(rows, [*pairs, *contrast.made], CHUNKS, refuse=REFUSE, seed=0)}
    answers = {pair.id: pair.answer for pair in [*pairs, *contrast.made]}
    for pair in contrast.made:
        original = pair.id.removesuffix(WITHOUT)
        assert (found[pair.id].why, found[pair.id].answer) == ("answer", answers[original])
        if found[original].why == "refusal":
            assert found[original].answer == answers[pair.id]
    assert {one.why for one in found.values()} == {"answer", "refusal", "title"}
    assert not {"o-0", "n-ppo-0"} & set(found)


def test_a_wrong_title_is_that_of_another_paper_among_the_passages() -> None:
    pairs = everything()
    rows, _ = contrasted(pairs, 0.0)
    shown = {row.id: {title_of(name) for name in METHODS if name.lower() in papers_of(row)} for row in rows}
    own = {pair.id: {title_of(name) for name in METHODS if name.lower() in pair.papers} for pair in pairs}
    wrong = [one for one in rejected_answers(rows, pairs, CHUNKS, refuse=REFUSE, seed=0) if one.why == "title"]
    assert wrong
    for one in wrong:
        (title,) = {name for name in map(title_of, METHODS) if f'"{name}"' in one.answer} - own[one.id]
        assert title in shown[one.id]


def test_an_answer_that_cites_no_title_has_no_wrong_one() -> None:
    assert with_wrong_title("It saves memory.", ["A Study"], ["Another"]) == ""
    assert with_wrong_title('"A Study" saves memory.', ["A Study"], []) == ""
    assert with_wrong_title('"A Study" saves.', ["A Study"], ["Another"]) == '"Another" saves.'


def test_the_id_and_the_papers_of_a_contrast_pair_are_those_of_its_original() -> None:
    pair = synthesis("LoRA", "HNSW")
    other = contrast_pair(pair, REFUSE)
    assert (other.id, other.papers) == (f"{pair.id}{WITHOUT}", pair.papers)
    assert (other.kind, other.refusal_kind, other.evidence) == ("refusal", "near_miss", ())
