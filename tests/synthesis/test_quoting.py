"""Evidence first: which sentences are asked for, which questions are kept, and what a run of them gives."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlx_ragtune.recipe import GeneratorSettings
from mlx_ragtune.records import Chunk, Kind
from mlx_ragtune.synthesis import quoting
from mlx_ragtune.synthesis.call_plan import even_order, make_plan
from mlx_ragtune.synthesis.draft_checks import Library
from mlx_ragtune.synthesis.draft_plan import draft_calls, quotas
from mlx_ragtune.synthesis.drafting import DraftSources, Writer, draft
from mlx_ragtune.synthesis.generate import GenerationReport, Sources, generate
from mlx_ragtune.synthesis.jobs import Jobs
from mlx_ragtune.synthesis.quoting import question_in, question_problem, quotable, topic_in
from mlx_ragtune.synthesis.replies import Backend
from tests.synthesis.corpus import WordRetriever
from tests.synthesis.small import Small
from tests.synthesis.test_generate import Silent
from tests.synthesis.writer import NAMES, note_chunks

SHARES: Mapping[Kind, float] = {"grounded": 0.7, "synthesis": 0.0, "refusal": 0.3}
TITLE = "FlexMix: A General Framework for Finite Mixture Models"
EM = "The EM algorithm provides a general framework for fitting models on incomplete data."
GOOD = (
    EM,
    "Wilm's Tumour was treated intensively, and intensive treatment cures the majority of all early cases.",
    "Splits are performed in the variables tax (property-tax rate) and ptratio (pupil-teacher ratio).",
)
LEANING = (
    "It provides a general framework for fitting models on incomplete data with many classes.",
    "However, the EM algorithm provides a general framework for fitting models on incomplete data.",
    "We use the EM algorithm as a general framework for fitting models on incomplete data.",
    "The results in Table 3 provide a general framework for fitting models on incomplete data.",
    "The EM algorithm provides a general framework for fitting models on incomplete data",
    "The call R> flexmix(y = x) provides a general framework for fitting models on incomplete data.",
    "Leisch F (2004). FlexMix and its general framework, Journal of Statistical Software, pp. 1-18.",
    "In addition the EM algorithm provides a framework for fitting models on incomplete data.",
    "The main difference is that the EM algorithm provides a framework for incomplete data.",
    "Not unlike the EM algorithm, both provide a framework for fitting models on incomplete data.",
    "The EM algorithm and its very general framework for many models on incomplete data sets.",
)
FOREIGN = (
    "Der Algorithmus, der 1977 vorgestellt wurde, schätzt die Parameter der Mischverteilung in mehreren Schritten.",
    "L'algorithme estime les paramètres du modèle par une suite d'étapes dont chacune augmente la vraisemblance.",
    "データは二つの群に分けられ、それぞれの群について平均が計算された。",
)  # fmt: skip


def chunk(*said: str, title: str = TITLE) -> Chunk:
    text = " ".join(said)
    return Chunk("c-1", "flexmix", title, "", 1, 0, len(text), text)


@pytest.mark.parametrize("sentence", GOOD)
def test_a_sentence_that_states_something_alone_is_quotable(sentence: str) -> None:
    assert quotable(chunk(sentence)) == [sentence]


@pytest.mark.parametrize("sentence", LEANING)
def test_a_sentence_that_leans_on_others_or_holds_debris_is_not(sentence: str) -> None:
    assert quotable(chunk(sentence)) == []


@pytest.mark.parametrize("text", FOREIGN)
def test_sentences_in_other_languages_end_nothing(text: str) -> None:
    assert all(one in text for one in quotable(chunk(text)))


def test_a_heading_that_the_text_layer_joined_to_a_sentence_is_not_quoted() -> None:
    assert quotable(chunk(f"Model frame {EM}")) == [EM]


def test_the_order_depends_on_the_seed_alone() -> None:
    assert quotable(chunk(*GOOD), 1) == quotable(chunk(*GOOD), 1)
    assert {tuple(quotable(chunk(*GOOD), seed)) for seed in range(9)} > {tuple(quotable(chunk(*GOOD)))}


KEPT = (
    "What does the EM algorithm provide a framework for?",
    "What is the purpose of the EM algorithm?",
    "What is the purpose of the EM algorithm function?",
)
REJECTED = (
    ("", quoting.NO_QUESTION),
    ("Is the EM algorithm a general framework for models?", quoting.YES_OR_NO),
    ("What is the difference between the two?", quoting.UNNAMED),
    ("What does it provide for fitting models?", quoting.UNNAMED),
    ("How many patients were treated with the EM algorithm?", quoting.FROM_EXAMPLE),
    ("What is the capital of a general country?", quoting.OFF_SENTENCE),
    ("What is the difference between the EM algorithm and models?", quoting.OFF_SENTENCE),
    ("Which algorithm provides the most models for incomplete data?", quoting.OFF_SENTENCE),
    ("How many models does the EM algorithm fit?", quoting.NOT_GIVEN),
    ("What is the purpose of incomplete data?", quoting.OFF_SENTENCE),
    ("What is the general framework?", quoting.NO_DEFINITION),
    ("How does the EM algorithm provide a general framework for fitting incomplete models?", quoting.GIVES_AWAY),
)


@pytest.mark.parametrize("question", KEPT)
def test_a_question_that_its_sentence_answers_is_kept(question: str) -> None:
    assert question_problem(question, EM, TITLE) == ""


@pytest.mark.parametrize(("question", "reason"), REJECTED)
def test_other_questions_are_rejected_for_a_fixed_reason(question: str, reason: str) -> None:
    assert question_problem(question, EM, TITLE) == reason


def test_what_is_displayed_is_not_defined() -> None:
    shown = "The median survival time is displayed in each terminal node of the fitted tree."
    assert question_problem("What is the median survival time?", shown, TITLE) == quoting.NO_DEFINITION
    told = "The median survival time is the time after which half of the patients have died."
    assert question_problem("What is the median survival time?", told, TITLE) == ""


def test_what_belongs_to_a_thing_must_be_told() -> None:
    asked = "What is the basis for all inference?"
    told = "In linear models the asymptotic normal distribution is the basis for all inference procedures."
    assert question_problem(asked, told, TITLE) == ""
    shown = "On the basis of normal samples, all inference procedures of the package work with any distribution."
    assert question_problem(asked, shown, TITLE) == quoting.OFF_SENTENCE


def test_the_first_question_of_a_reply_is_read() -> None:
    assert question_in("\nQuestion: Why do bees dance? Because.\nFact: more") == "Why do bees dance?"
    assert question_in("Bees dance.") == question_in("") == ""


def test_the_topic_of_a_refusal_is_a_phrase_of_the_question() -> None:
    assert topic_in("What is The basis for all inference?", EM) == "the basis for all inference"
    assert topic_in("Which data does the EM algorithm fit?", EM) == "the EM algorithm"
    assert topic_in("Which data?", EM) == ""


CHUNKS = note_chunks()


def run(folder: Path, backend: Backend, *, pairs: int = 30, slots: int = 1) -> GenerationReport:
    settings = GeneratorSettings(model="small", pairs=pairs, slots=slots, answers="quoted", min_yield=0.1)
    plan = make_plan(CHUNKS, settings, SHARES, seed=0, fields=["opera", "sailing", "knitting", "wine", "chess"])
    sources = Sources({one.id: one for one in CHUNKS}, WordRetriever(CHUNKS), 3)
    with Jobs(folder / "jobs.sqlite") as jobs:
        return generate(
            plan, sources, backends=[backend], jobs=jobs, settings=settings, model_digest="sha256:small",
            progress=Silent(),
        )  # fmt: skip


def test_every_kept_answer_quotes_its_evidence_and_the_model_judges_nothing(tmp_path: Path) -> None:
    small = Small()
    report = run(tmp_path, small)
    assert {task: funnel.kept for task, funnel in report.funnels.items() if task == "grounded"} == {"grounded": 21}
    assert min(report.funnels["without_paper"].kept, report.funnels["off_corpus"].kept) > 0
    for row in report.rows:
        assert row.scores == {}
        if row.task == "grounded":
            (evidence,) = row.pair.evidence
            assert evidence.quote[1:-1] in row.pair.answer
        elif row.task == "off_corpus":
            assert row.topic
            assert row.topic in row.pair.answer
    openings = Counter(row.pair.answer[:12] for row in report.rows if row.task == "grounded")
    assert max(openings.values()) < 0.5 * openings.total()
    assert report.funnels["without_paper"].kept == report.funnels["without_paper"].wanted
    assert all(request.messages[-1].content.endswith("\nQuestion:") for request in small.requests)


def test_a_second_run_asks_nothing_and_slots_change_nothing(tmp_path: Path) -> None:
    first = run(tmp_path, Small())
    again = run(tmp_path, Small())
    (tmp_path / "many").mkdir()
    assert (again.rows, again.requests) == (first.rows, 0)
    assert run(tmp_path / "many", Small(), slots=4).rows == first.rows
    assert first.requests > len(first.pairs) - first.funnels["without_paper"].kept


def test_a_draft_has_questions_whose_references_quote_and_none_that_rules_cannot_make(tmp_path: Path) -> None:
    aside = ("lora", "rag", "hnsw", "flan")
    own = even_order([one for one in CHUNKS if one.document_id in aside], 0)
    quota = quotas(4, 12, quoted=True)
    sources = DraftSources(
        {one.id: one for one in own}, WordRetriever(CHUNKS), 3,
        Library({one.document_id: one.title for one in CHUNKS}), frozenset(NAMES),
    )  # fmt: skip
    calls = draft_calls(quota, own, ["opera", "sailing", "wine"], seed=0, quoted=True)
    writer = Writer([Small()], "small", "sha256:small", 1, 8192)
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        drafted = draft(calls, quota, sources, writer=writer, jobs=jobs, seed=0, progress=Silent())
    assert set(quota) == {"named", "off_corpus"}
    answered = [question for question in drafted.questions if question.answerable]
    assert len(answered) >= 4
    assert all(question.nuggets and question.evidence[0].quote[1:-1] in question.reference for question in answered)
    assert any(question.refusal_kind == "off_corpus" for question in drafted.questions)


def test_a_long_question_for_something_of_something_is_judged_at_once() -> None:
    """A pattern that can split a word in many ways takes years for this one."""
    question = "What is multiplicativeheteroscedasticityconsistent standarderrorestimation between covariates?"
    assert question_problem(question, "A mosaic plot shows counts by the area of its tiles.", "On mosaics")
