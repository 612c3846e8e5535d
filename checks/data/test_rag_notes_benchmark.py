"""The shipped benchmark and its notes: sound in form, supported by the notes, hard to pass by accident."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

import yaml
from rapidfuzz import fuzz

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Pair, Question
from mlx_ragtune.scoring.answers.citation import cited_papers
from mlx_ragtune.scoring.answers.keywords import keyword_coverage
from mlx_ragtune.scoring.answers.nuggets import correctness, nugget_state
from mlx_ragtune.scoring.answers.refusal import is_refusal

Row = TypeVar("Row")
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


def score(answer: str, question: Question) -> float:
    result = correctness(answer, question.nuggets).score
    assert result is not None
    return result


def content_words(text: str) -> str:
    return " ".join(sorted(set(re.findall(r"[a-z0-9+.%]+", text.lower())) - STOPWORDS))


def names(questions: tuple[Question, ...]) -> list[str]:
    return [question.id for question in questions]


def for_each(rows: Mapping[str, Row]) -> Callable[[Callable[[Row], None]], Callable[[], None]]:
    """One test of a rule over all rows, which lists every row that breaks it."""

    def decorate(rule: Callable[[Row], None]) -> Callable[[], None]:
        def test() -> None:
            failures = []
            for name, row in rows.items():
                try:
                    rule(row)
                except AssertionError as error:
                    failures.append(f"{name}: {error}")
            assert not failures, "\n".join(failures)

        test.__name__, test.__doc__ = rule.__name__, rule.__doc__
        return test

    return decorate


def by_name(questions: tuple[Question, ...]) -> dict[str, Question]:
    return {question.id: question for question in questions}


each_gold_paper = for_each({paper: paper for paper in GOLD_PAPERS})
each_question = for_each(by_name(BENCHMARK))
each_answerable = for_each(by_name(ANSWERABLE))
each_unanswerable = for_each(by_name(UNANSWERABLE))


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


@each_question
def test_a_question_is_one_question_that_can_be_understood_alone(question: Question) -> None:
    assert question.question.endswith("?")
    assert 5 <= len(question.question.split()) <= 40
    assert not re.search(r"\b(this|the provided|the above) (paper|study|note|passage|text)", question.question.lower())


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
def test_the_gold_notes_support_every_nugget(question: Question) -> None:
    text = "\n".join(note(paper)[1] for paper in question.papers)
    states = {nugget.text: nugget_state(text, nugget) for nugget in question.nuggets}
    assert set(states.values()) == {"supported"}, states


@each_answerable
def test_the_reference_scores_full_marks(question: Question) -> None:
    result = correctness(question.reference, question.nuggets)
    assert (result.score, result.label) == (1.0, "CORRECT"), result
    assert keyword_coverage(question.reference, question.keywords) == 1.0
    titles = {paper: title(paper) for paper in GOLD_PAPERS}
    assert cited_papers(question.reference, titles) == tuple(sorted(question.papers))
    assert not is_refusal(question.reference)


@each_answerable
def test_repeating_the_question_or_the_title_is_not_an_answer(question: Question) -> None:
    echo = " ".join((question.question, *(title(paper) for paper in question.papers)))
    assert score(echo, question) < 1


@each_answerable
def test_a_right_answer_that_begins_by_repeating_the_question_keeps_its_marks(question: Question) -> None:
    # A "not" or "without" of the question must not be read as a negation of the answer.
    for nugget in question.nuggets:
        answer = f"{question.question[:-1]} is {' and '.join(aliases[0] for aliases in nugget.anchors)}."
        assert nugget_state(answer, nugget) == "supported", answer


@each_answerable
def test_the_reference_of_another_paper_is_not_an_answer(question: Question) -> None:
    others = (other for other in ANSWERABLE if not set(other.papers) & set(question.papers))
    assert [other.id for other in others if score(other.reference, question) == 1] == []


@each_answerable
def test_keywords_are_two_to_five_groups_of_lower_case_aliases(question: Question) -> None:
    assert 2 <= len(question.keywords) <= 5
    assert all(group and all(alias == alias.lower() for alias in group) for group in question.keywords)


# Answers in other words than the reference's: concise, wordy, with the negations that people use.
RIGHT = {
    "qlora-01": "It drops from over 780 GB to under 48 GB, so one 48 GB GPU is enough.",
    "qlora-02": "The weights are kept in NF4, optimal when they follow a normal distribution.",
    "qlora-03": "With a zero adapter, training starts at weights that differ from the pretrained weights.",
    "qlora-04": "It quantizes the weight minus the low-rank part and then does an SVD of what is left.",
    "double_quant-01": "The quantization constants are quantized again, saving 0.37 bits for each parameter.",
    "double_quant-02": "They are not quantized but computed in fp16; over 99.9 percent remain in int8.",
    "double_quant-03": "To every row of the activations and every column of the weight matrix.",
    "double_quant-04": "It goes up by 600–1,000 percent.",
    "lora-01": "10 000 times fewer trainable parameters and three times less memory.",
    "lora-02": "There is no additional latency because BA is simply merged into the pretrained weights.",
    "lora-03": "A is random Gaussian and B is zero, hence the model does not change at the start.",
    "lora_plus-01": "It sets a higher learning rate for B than for A.",
    "lora_plus-02": "Accuracy rose by 1–2 % and fine-tuning was up to 2x faster.",
    "lora_plus-03": "A's learning rate goes like 1/n, B's like O(1), and the suggested ratio is 16.",
    "peft-02": "So that they begin near the identity function and training does not fail.",
    "peft-04": "Because optimizing it directly is not stable.",
    "peft-06": "Negatively in full fine-tuning; positively in LoRA.",
    "rag-01": "RAG-Sequence conditions on one document throughout, RAG-Token on another for every token.",
    "rag-02": "The query encoder and BART are fine-tuned. The document encoder is not updated.",
    "rag-03": "Only 12 % and 4 %.",
    "rag-05": "It is not needed since it annotated the training data and the generator learned that.",
    "rag-06": "Correct, incorrect and ambiguous.",
    "rag_eval-01": "ARES applies PPI with at least 150 human labels.",
    "rag_eval-05": "They rely on the wrong document rather than on their own knowledge.",
    "ragas-01": "It splits the answer into statements and takes the fraction supported by the context.",
    "prompt_engineering-02": "From roughly 100 billion parameters; below that it does not help.",
    "prompt_engineering-04": 'No, examples are not needed: "Let\'s think step by step" is enough.',
    "vector_db-02": "At the top layer, going down greedily; the complexity is logarithmic.",
    "rag_security-01": "90 percent with 5 texts for each question.",
    "rag_security-03": "Paraphrasing, perplexity filters and others were tried, but they are not sufficient.",
    "rag_security-04": "The attacker needs no access: the prompt sits on a web page that gets retrieved.",
    "instruction_tuning-01": "Supervised fine-tuning, then a reward model, then PPO.",
    "instruction_tuning-04": "No dataset of the same cluster was seen during tuning.",
    "instruction_tuning-06": "It did not help them; results on unseen tasks became worse.",
    "multihop_rag-02": "8 paragraphs found by TF-IDF.",
    "multihop_rag-04": "0.56 with retrieved chunks against 0.89 with the gold evidence.",
    "small_llm-01": "1.1 billion parameters, about 1 trillion tokens over three epochs.",
    "small_llm-03": "50.6 % and 55.5 %.",
    "hallucination-01": "Intrinsic ones conflict with it; extrinsic are neither supported nor refuted.",
    "hallucination-03": "817; the best model was truthful on 58 percent, people on 94 percent.",
    "hallucination-05": "It compares the sentence with other samples and works without a database.",
}

WRONG = {
    "qlora-01": "It drops from more than 780GB to less than 24GB.",
    "qlora-02": "It uses 4-bit floating point (FP4), which is optimal for uniformly distributed weights.",
    "double_quant-01": "The quantization constants are quantized, saving 0.73 bits per parameter.",
    "double_quant-02": "They are clipped to 8-bit, like 100% of the values.",
    "lora-01": "It cuts the trainable parameters by a factor of 1,000 and the memory by a factor of 10.",
    "lora-03": "Both matrices are initialised from a random Gaussian.",
    "lora_plus-01": "It adds a third matrix C between A and B.",
    "peft-01": "They come within 4% of full fine-tuning and add 36% parameters per task.",
    "peft-06": "Both correlate negatively.",
    "rag-03": "It reached 70% and 68%.",
    "rag-06": "It can retrieve, rewrite or refuse.",
    "rag_eval-04": "It was 43% in English and 45.33% in Chinese.",
    "ragas-03": "It agreed best for context relevance, in 95% of cases.",
    "prompt_engineering-03": "GPT-3 175B, which surpassed PaLM 540B.",
    "prompt_engineering-05": "It rose from 10.4% to 40.7%.",
    "vector_db-01": "It is the number of its neighbours.",
    "vector_db-04": "It took less than 12 hours.",
    "rag_security-01": "It reaches 50% with ten texts.",
    "instruction_tuning-02": "In 58% of cases; the 1.3B version did worse.",
    "instruction_tuning-05": "On 25 of 25 datasets, with 175B parameters.",
    "multihop_rag-04": "It reached 44% and 57%.",
    "multihop_rag-05": "Both were built from scientific articles.",
    "small_llm-01": "It has 1.1M parameters and was trained on 3 billion words.",
    "small_llm-03": "It reaches 45% and 29%.",
    "hallucination-03": "It has 718 questions; the best model reached 94%, humans 58%. Many failed.",
    "hallucination-06": "BERTScore performed best.",
}


def by_id(identifier: str) -> Question:
    return next(question for question in BENCHMARK if question.id == identifier)


@for_each({identifier: (identifier, answer) for identifier, answer in RIGHT.items()})
def test_a_right_answer_in_other_words_scores_full_marks(row: tuple[str, str]) -> None:
    identifier, answer = row
    assert score(answer, by_id(identifier)) == 1.0, answer


@for_each({identifier: (identifier, answer) for identifier, answer in WRONG.items()})
def test_a_plausible_wrong_answer_does_not_score_full_marks(row: tuple[str, str]) -> None:
    identifier, answer = row
    assert score(answer, by_id(identifier)) < 1.0, answer


# --- unanswerable questions


@each_unanswerable
def test_an_unanswerable_question_has_a_kind_a_refusal_and_nothing_to_find(question: Question) -> None:
    assert question.refusal_kind is not None
    assert question.reference.startswith("The provided papers do not say ")
    assert is_refusal(question.reference)
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


def test_a_near_miss_without_a_paper_names_something_that_no_note_mentions() -> None:
    notes = "\n".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("papers/*.md"))).lower()
    paperless = [one for one in UNANSWERABLE if one.refusal_kind == "near_miss" and not one.papers]
    assert len(paperless) >= 5
    for question in paperless:
        names = re.findall(r"\b\w*[a-z]\w*[A-Z]\w*\b|\b[A-Z]{4,}\b", question.question)
        assert names, question.question
        assert [name for name in names if name.lower() in notes] == []


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
