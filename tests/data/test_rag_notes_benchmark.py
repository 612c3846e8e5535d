"""The shipped benchmark and its notes: sound in form, supported by the notes, hard to pass by accident."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import yaml
from rapidfuzz import fuzz

from mlx_ragtune.records import Nugget, Pair, Question, read_rows

FOLDER = Path(__file__).parents[2] / "data" / "rag_notes"
TOPICS = {
    "qlora", "rag", "rag_eval", "peft", "prompt_engineering", "vector_db", "rag_security",
    "instruction_tuning", "multihop_rag", "small_llm", "double_quant", "hallucination", "lora", "lora_plus",
    "ragas",
}  # fmt: skip
STOPWORDS = {
    "a", "an", "and", "are", "as", "at", "by", "did", "do", "does", "for", "from", "had", "has", "have",
    "how", "in", "is", "it", "its", "of", "on", "or", "that", "the", "their", "to", "was", "were", "what",
    "when", "which", "who", "why", "with",
}  # fmt: skip

BENCHMARK = tuple(read_rows(FOLDER / "benchmark.jsonl", Question))
ANSWERABLE = tuple(question for question in BENCHMARK if question.answerable)
UNANSWERABLE = tuple(question for question in BENCHMARK if not question.answerable)
GOLD_PAPERS = sorted({paper for question in BENCHMARK for paper in question.papers})
NEAR_DUPLICATE = 85


@cache
def note(paper: str) -> tuple[dict[str, object], str]:
    """Front matter and body of a note."""
    _, head, body = (FOLDER / "papers" / f"{paper}.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), body.strip()


def title(paper: str) -> str:
    return str(note(paper)[0]["title"])


@cache
def mentions(text: str, aliases: tuple[str, ...]) -> bool:
    """Whether any alias stands in the text as whole words, in any case."""
    return any(
        re.search(rf"(?<![^\W_]){re.escape(alias)}(?![^\W_])", text, flags=re.IGNORECASE) for alias in aliases
    )


def states(text: str, nugget: Nugget) -> bool:
    return all(mentions(text, aliases) for aliases in nugget.anchors)


def states_every_vital(text: str, question: Question) -> bool:
    return all(states(text, nugget) for nugget in question.nuggets if nugget.vital)


def content_words(text: str) -> str:
    return " ".join(sorted(set(re.findall(r"[a-z0-9+.%]+", text.lower())) - STOPWORDS))


def names(questions: tuple[Question, ...]) -> list[str]:
    return [question.id for question in questions]


each_gold_paper = pytest.mark.parametrize("paper", GOLD_PAPERS)
each_answerable = pytest.mark.parametrize("question", ANSWERABLE, ids=names(ANSWERABLE))
each_unanswerable = pytest.mark.parametrize("question", UNANSWERABLE, ids=names(UNANSWERABLE))


# --- the notes


@each_gold_paper
def test_a_gold_paper_has_a_note_with_title_authors_year_and_arxiv_id(paper: str) -> None:
    head, _ = note(paper)
    assert list(head) == ["title", "authors", "year", "arxiv"]
    assert re.fullmatch(r"[a-z0-9_]+", paper)
    assert isinstance(head["title"], str)
    authors = head["authors"]
    assert isinstance(authors, list)
    assert len(authors) >= 2
    assert all(isinstance(author, str) and " " in author for author in authors)
    assert isinstance(head["year"], int)
    arxiv = head["arxiv"]
    assert isinstance(arxiv, str)
    assert re.fullmatch(r"\d{4}\.\d{5}", arxiv)
    # An arXiv id opens with the year and month of its first version; a venue may be a year later.
    assert head["year"] == 2000 + int(arxiv[:2])


@each_gold_paper
def test_the_body_of_a_note_is_two_or_three_plain_paragraphs_of_120_to_250_words(paper: str) -> None:
    body = note(paper)[1]
    assert 120 <= len(body.split()) <= 250
    paragraphs = body.split("\n\n")
    assert 2 <= len(paragraphs) <= 3
    for paragraph in paragraphs:
        assert "\n" not in paragraph, "one paragraph, one line: quotes must be found in it"
        assert not re.match(r"[#>*|`-]", paragraph)
        assert paragraph.endswith(".")


def test_no_two_notes_share_a_title_or_an_arxiv_id() -> None:
    for key in ("title", "arxiv"):
        counts = Counter(str(note(path.stem)[0][key]) for path in sorted(FOLDER.glob("papers/*.md")))
        assert [value for value, count in counts.items() if count > 1] == []


# --- the shape of the benchmark


def test_every_row_has_its_own_id() -> None:
    assert [name for name, count in Counter(names(BENCHMARK)).items() if count > 1] == []


def test_there_are_enough_questions_of_every_kind_and_topic() -> None:
    assert len(BENCHMARK) >= 72
    assert len(ANSWERABLE) >= 48
    kinds = Counter(question.refusal_kind for question in UNANSWERABLE)
    assert set(kinds) == {"near_miss", "off_corpus"}
    assert min(kinds.values()) >= 12
    answerable = Counter(question.topic for question in ANSWERABLE)
    assert set(answerable) == TOPICS
    assert min(answerable.values()) >= 3


def test_the_answers_are_spread_over_many_papers_because_papers_are_the_clusters_of_the_statistics() -> None:
    counts = Counter(paper for question in ANSWERABLE for paper in question.papers)
    assert len(counts) >= 24
    assert [paper for paper, count in counts.items() if count > 3] == []


def test_no_two_questions_are_near_duplicates() -> None:
    words = [content_words(question.question) for question in BENCHMARK]
    close = [
        (BENCHMARK[one].id, BENCHMARK[two].id)
        for one in range(len(words))
        for two in range(one)
        if fuzz.ratio(words[one], words[two]) >= NEAR_DUPLICATE
    ]
    assert close == []


def test_near_duplicates_would_be_noticed() -> None:
    asked = content_words("How many questions does TruthfulQA have?")
    assert fuzz.ratio(asked, content_words("How many questions has TruthfulQA?")) >= NEAR_DUPLICATE


@pytest.mark.parametrize("question", BENCHMARK, ids=names(BENCHMARK))
def test_a_question_is_one_question_that_can_be_understood_alone(question: Question) -> None:
    assert question.question.endswith("?")
    assert 5 <= len(question.question.split()) <= 40
    assert not re.search(
        r"\b(this|the provided|the above) (paper|study|note|passage|text)", question.question.lower()
    )


# --- answerable questions


@each_answerable
def test_an_answerable_question_names_its_gold_papers_and_no_refusal(question: Question) -> None:
    assert 1 <= len(question.papers) <= 2
    assert all((FOLDER / "papers" / f"{paper}.md").is_file() for paper in question.papers)
    assert question.refusal_kind is None


@each_answerable
def test_the_reference_is_short_prose_that_cites_its_papers_by_full_title(question: Question) -> None:
    assert all(f'"{title(paper)}"' in question.reference for paper in question.papers)
    assert 8 <= len(question.reference.split()) <= 80
    assert question.reference.endswith((".", '."'))


@each_answerable
def test_one_to_three_nuggets_at_least_one_vital_with_short_anchors(question: Question) -> None:
    assert 1 <= len(question.nuggets) <= 3
    assert any(nugget.vital for nugget in question.nuggets)
    for nugget in question.nuggets:
        assert 1 <= len(nugget.anchors) <= 3
        assert all(aliases and all(0 < len(alias) <= 40 for alias in aliases) for aliases in nugget.anchors)
        assert nugget.text.endswith(".")


@each_answerable
def test_the_gold_notes_state_every_nugget(question: Question) -> None:
    text = "\n".join(f"{title(paper)}\n{note(paper)[1]}" for paper in question.papers)
    assert [nugget.text for nugget in question.nuggets if not states(text, nugget)] == []


@each_answerable
def test_the_reference_states_every_vital_nugget(question: Question) -> None:
    prose = re.sub("|".join(re.escape(title(paper)) for paper in question.papers), "", question.reference)
    missing = [nugget.text for nugget in question.nuggets if nugget.vital and not states(prose, nugget)]
    assert missing == []


@each_answerable
def test_repeating_the_question_or_the_title_is_not_an_answer(question: Question) -> None:
    echo = " ".join((question.question, *(title(paper) for paper in question.papers)))
    assert not states_every_vital(echo, question)


@each_answerable
def test_a_refusal_is_not_an_answer(question: Question) -> None:
    assert not states_every_vital("The provided papers do not contain this information.", question)


@each_answerable
def test_the_reference_of_another_paper_is_not_an_answer(question: Question) -> None:
    passing = [
        other.id
        for other in ANSWERABLE
        if not set(other.papers) & set(question.papers) and states_every_vital(other.reference, question)
    ]
    assert passing == []


@each_answerable
def test_keywords_are_lower_case_alias_groups_that_reference_or_notes_satisfy(question: Question) -> None:
    assert 2 <= len(question.keywords) <= 5
    text = "\n".join((question.reference, *(note(paper)[1] for paper in question.papers))).lower()
    for group in question.keywords:
        assert group
        assert all(alias == alias.lower() for alias in group)
        assert any(alias in text for alias in group), group


# --- unanswerable questions


@each_unanswerable
def test_an_unanswerable_question_has_a_kind_a_refusal_and_nothing_to_find(question: Question) -> None:
    assert question.refusal_kind is not None
    assert question.reference.startswith("The provided papers do not say ")
    assert question.nuggets == ()
    assert question.keywords == ()


@each_unanswerable
def test_only_a_near_miss_names_a_paper_and_a_topic_of_the_field(question: Question) -> None:
    if question.refusal_kind == "off_corpus":
        assert (question.topic, question.papers) == ("off_corpus", ())
    else:
        assert question.topic in TOPICS
        assert len(question.papers) <= 1
        assert all((FOLDER / "papers" / f"{paper}.md").is_file() for paper in question.papers)


# --- apart from training


@cache
def training_pairs() -> tuple[Pair, ...]:
    path = FOLDER / "pairs.jsonl"
    return tuple(read_rows(path, Pair)) if path.is_file() else ()


def test_no_paper_of_the_benchmark_is_used_for_training() -> None:
    used = {paper for pair in training_pairs() for paper in pair.papers}
    quoted = {evidence.paper for pair in training_pairs() for evidence in pair.evidence}
    assert sorted((used | quoted) & set(GOLD_PAPERS)) == []


def test_no_question_of_the_benchmark_is_asked_in_training() -> None:
    asked = [(pair.id, content_words(pair.question)) for pair in training_pairs()]
    close = [
        (question.id, name)
        for question in BENCHMARK
        for name, words in asked
        if fuzz.ratio(content_words(question.question), words) >= NEAR_DUPLICATE
    ]
    assert close == []
