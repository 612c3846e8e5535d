"""Repairs name what is known and change nothing else."""

import re
from dataclasses import replace

import pytest

from mlx_ragtune.records import Evidence, Pair
from mlx_ragtune.synthesis.checks import check_pair
from mlx_ragtune.synthesis.repairs import (
    BARE_TITLE,
    CITED,
    LIST,
    NAMED,
    POINTER,
    SPELLED,
    SUBJECT,
    TRIMMED,
    name_both,
    name_once,
    repair_pair,
    with_citation,
)
from tests.synthesis.corpus import grounded, near_miss, off_corpus, synthesis, text_of, title_of

T = "LoRA: Low-Rank Adaptation"
U = "QLoRA: Efficient Finetuning of Quantized LLMs"
SOURCE = "LoRA saves 10 percent of the memory on its benchmark."


def answered(answer: str, question: str = "How much memory does LoRA save?") -> Pair:
    return Pair("p", "grounded", question, answer, ("lora",), (Evidence("lora", SOURCE),))


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ("What does the paper propose for large models?", f'What does "{T}" propose for large models?'),
        ("What did the authors use as a data set?", f'What did the authors of "{T}" use as a data set?'),
        ("What do the authors of this paper claim?", f'What do the authors of "{T}" claim?'),
        ("How does the paper's main method save memory?", f'How does the main method of "{T}" save memory?'),
        ("How fast is the proposed method on a GPU?", f'How fast is the method proposed in "{T}" on a GPU?'),
        ("How was it trained according to the text?", f'How was it trained according to "{T}"?'),
        ("Which optimizer is used in this study?", f'Which optimizer is used in "{T}"?'),
        ("Which gain does the provided excerpt report?", f'Which gain does "{T}" report?'),
        ("Which rank is best according to Table 6?", f'Which rank is best according to Table 6 of "{T}"?'),
    ],
)
def test_a_question_gets_the_title_for_what_points_at_its_paper(question: str, named: str) -> None:
    assert name_once(question, T) == named


@pytest.mark.parametrize(
    "text",
    [
        "How does LoRA behave in the context of scheduling?",
        "How does LoRA correct errors in the text of a page?",
        "What does the study of low-rank updates show?",
        "Who wrote the paper LoRA?",
        f'What does the paper "{T}" say on the paper of Adam?',
    ],
)
def test_a_text_that_points_at_nothing_stays(text: str) -> None:
    assert name_once(text, T) == text


def test_the_given_context_is_a_subject_where_the_source_speaks_of_it() -> None:
    question = "Does RAG answer from the given context?"
    assert name_once(question, T, ["It answers from the given context alone."]) == question
    assert name_once(question, T, [SOURCE]) == f'Does RAG answer from "{T}"?'


@pytest.mark.parametrize(
    ("answer", "repaired", "names"),
    [
        (
            "In this paper, the authors propose updates of low rank.",
            f'"{T}" proposes updates of low rank.',
            {NAMED},
        ),
        ("The paper's method saves 10 percent.", f'The method of "{T}" saves 10 percent.', {NAMED}),
        (
            f"The paper saves 10 percent. The paper title is '{T}'.",
            f'"{T}" saves 10 percent.',
            {SPELLED, BARE_TITLE, NAMED},
        ),
        ("It builds upon low-rank matrices.", f'"{T}" builds upon low-rank matrices.', {SUBJECT}),
        ("According to Passage 1, it saves 10 percent.", f'According to "{T}", it saves 10 percent.', {NAMED}),
        (f'"{T}" is the first study of it, and saves.', f'"{T}" is the first study of it, and saves.', set()),
        (f"According to the paper '{T},' it saves 10 percent.", f'According to "{T}", it saves 10 percent.', {SPELLED}),
        (f"The paper titled {T} saves 10 percent.", f'"{T}" saves 10 percent.', {SPELLED}),
        ("As “lora - low rank adaptation” shows, it saves.", f'As "{T}" shows, it saves.', {SPELLED}),
        (f"As „{T}“ shows, it saves.", f'As "{T}" shows, it saves.', {SPELLED}),
        (f"As 《{T}》 shows, it saves.", f'As "{T}" shows, it saves.', {SPELLED}),
        (
            f"**'{T}'** reports savings:\n- 10 percent of the memory\n- less time",
            f'"{T}" reports savings: 10 percent of the memory; less time.',
            {LIST, SPELLED},
        ),
        (
            f'"{T}" saves 10 percent. The excerpt states this, as this paper does.',
            f'"{T}" saves 10 percent. The paper states this, as the paper does.',
            {POINTER},
        ),
    ],
)
def test_an_answer_is_repaired_and_its_repairs_are_named(answer: str, repaired: str, names: set[str]) -> None:
    after = repair_pair(answered(answer), [T], [SOURCE])
    assert after.pair.answer == repaired
    assert set(after.repairs) == names


def test_an_answer_without_a_citation_gets_one_in_several_wordings() -> None:
    answers = [f"LoRA saves {number} percent of the memory." for number in range(40)]
    cited = [with_citation(answer, T) for answer in answers]
    assert all(f'"{T}"' in text for text in cited)
    openings = {" ".join(text.replace(T, "T").split()[:2]) for text in cited}
    assert len(openings) > 3
    assert with_citation("Yes. It does.", T) == f'Yes ("{T}"). It does.'
    assert repair_pair(answered(answers[0]), [T], [SOURCE]).repairs == (CITED,)


def test_the_first_word_behind_an_added_title_is_written_as_in_the_source() -> None:
    source = "The savings of memory are large. Adam and memory banks are slow, but Banks liked them."
    common = [with_citation(f"Memory shrinks by {number} percent.", T, [source]) for number in range(40)]
    assert not any(re.search(r"(?:,|that) Memory", text) for text in common)
    named = [with_citation(f"Banks shrinks it by {number} percent.", T, [source]) for number in range(40)]
    assert all("Banks shrinks" in text for text in named)


def test_a_question_that_begins_with_it_gets_the_title() -> None:
    pair = answered("LoRA saves 10 percent of the memory.", "By how much did it lower the memory?")
    assert repair_pair(pair, [T], [SOURCE]).pair.question == f'By how much did "{T}" lower the memory?'
    kept = "How long does it take to train LoRA?"
    assert repair_pair(replace(pair, question=kept), [T], [SOURCE]).pair.question == kept


def test_no_citation_is_added_beside_a_title_of_another_paper() -> None:
    answer = f'"{U}" reports that LoRA saves 10 percent.'
    after = repair_pair(answered(answer), [T], [SOURCE])
    assert (after.pair.answer, after.repairs) == (answer, ())
    assert check_pair(after.pair, {"lora": SOURCE}, {"lora": T}) == "cites a paper that is not its source"


@pytest.mark.parametrize("pair", [grounded("LoRA"), synthesis("LoRA", "CRAG"), near_miss("LoRA"), off_corpus(1)])
def test_a_sound_pair_is_not_touched_and_a_repaired_one_not_again(pair: Pair) -> None:
    titles = [title_of(name) for name in ("LoRA", "CRAG") if name.lower() in pair.papers]
    sources = [text_of(name) for name in ("LoRA", "CRAG") if name.lower() in pair.papers]
    assert repair_pair(pair, titles, sources) == type(repair_pair(pair, titles))(pair, ())
    spoilt = replace(pair, question=f"What does the paper say: {pair.question}", answer=f"**{pair.answer}**")
    once = repair_pair(spoilt, titles, sources).pair
    assert repair_pair(once, titles, sources).pair == once


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ("How do the two papers differ in memory?", f'How do "{T}" and "{U}" differ in memory?'),
        ("How do both approaches save memory?", f'How do both approaches of "{T}" and "{U}" save memory?'),
        (
            "How do the methods described in each paper differ?",
            f'How do the methods described in "{T}" and "{U}" differ?',
        ),
        ("How does Paper 1 differ from Paper 2?", f'How does "{T}" differ from "{U}"?'),
        (
            "How do the two papers' approaches to memory differ?",
            f'How do the approaches of "{T}" and "{U}" to memory differ?',
        ),
        ("How do LoRA and QLoRA differ as approaches?", "How do LoRA and QLoRA differ as approaches?"),
    ],
)
def test_a_question_on_two_papers_gets_both_titles(question: str, named: str) -> None:
    assert name_both(question, [T, U]) == named


def test_a_synthesis_answer_names_each_paper_where_it_first_speaks_of_it() -> None:
    pair = Pair("p", "synthesis", "How do LoRA and QLoRA differ?", "", ("lora", "qlora"))
    for answer, repaired in (
        (
            "The first paper saves memory. Paper 2 saves more, and the second paper is newer.",
            f'"{T}" saves memory. "{U}" saves more, and the second paper is newer.',
        ),
        (
            f"The first paper, '{T},' saves memory, while the QLoRA paper saves more.",
            f'"{T}" saves memory, while "{U}" saves more.',
        ),
        ("LoRA saves memory, QLoRA more.", f'LoRA ("{T}") saves memory, QLoRA ("{U}") more.'),
    ):
        assert repair_pair(replace(pair, answer=answer), [T, U]).pair.answer == repaired


def test_the_first_paper_is_not_named_where_the_answer_gives_it_another_title() -> None:
    answer = f"The first paper, 'Ragas: Evaluation of Retrieval,' saves, while '{U}' saves more."
    pair = Pair("p", "synthesis", "How do LoRA and QLoRA differ?", answer, ("lora", "qlora"))
    repaired = repair_pair(pair, [T, U], ["See Ragas: Evaluation of Retrieval (2023).", ""]).pair
    assert f'"{T}"' not in repaired.answer


def test_marks_around_evidence_that_the_source_does_not_have_are_removed() -> None:
    pair = answered(f'"{T}" saves 10 percent.')
    quoted = replace(pair, evidence=(Evidence("lora", f'"{SOURCE}"'),))
    assert repair_pair(quoted, [T], [SOURCE]).pair.evidence == pair.evidence
    assert repair_pair(quoted, [T], [SOURCE]).repairs == (TRIMMED,)
    assert repair_pair(quoted, [T], [f'He wrote "{SOURCE}"']).repairs == ()


def test_a_table_is_left_as_it_is() -> None:
    table = f'"{T}" reports:\n| rank | memory |\n| 4 | **10** |'
    assert repair_pair(answered(table), [T], [SOURCE]).pair.answer == table
