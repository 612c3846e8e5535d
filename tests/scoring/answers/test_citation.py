import pytest

from mlx_ragtune.scoring.answers.citation import (
    Citations,
    citation_metrics,
    cited_papers,
    find_citations,
    without_titles,
)
from tests.scoring.answers import citation_rows, more_citation_rows, outside_citation_rows
from tests.scoring.answers.citation_rows import MORE_ROWS, ROWS, SHOWN, THIRD_ROWS
from tests.scoring.made import TITLES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('According to "LoRA: Low-Rank Adaptation of Large Language Models", it is small.', ("lora",)),
        ("LoRA+: Efficient Low Rank Adaptation of Large Models uses two rates.", ("lora_plus",)),
        ("QLoRA: Efficient Finetuning of Quantized LLMs needs 48GB.", ("qlora",)),
        ("QLoRA: Eficient Fine-tuning of Quantized LLMs needs 48GB.", ("qlora",)),
        (f"{TITLES['ragas']} and {TITLES['rag']} differ.", ("rag", "ragas")),
        ("The RAGAS paper asks a model.", ("ragas",)),
        ("According to RAGAS, a model is asked.", ("ragas",)),
        ("The authors of QLoRA quantize twice.", ("qlora",)),
        ('As "RAGAS" shows, a model is asked.', ("ragas",)),
        ("Lost in the Middle shows that the middle is lost.", ("lost",)),
        ("LoRA adapters are small, as in QLoRA.", ()),
        ("Low-rank adaptation (LoRA) is small.", ()),
        ("The LoRA+ paper uses two rates.", ("lora_plus",)),
        ("retrieval augmented generation", ()),
        ("", ()),
    ],
)
def test_papers_are_cited_by_title_or_alias(text: str, expected: tuple[str, ...]) -> None:
    assert cited_papers(text, TITLES) == expected


def test_a_short_title_is_found_only_as_words() -> None:
    assert cited_papers("We use RoBERTa here.", {"bert": "BERT"}) == ()
    assert cited_papers("We use BERT here.", {"bert": "BERT"}) == ()
    assert cited_papers("The RoBERTa paper differs.", {"bert": "BERT"}) == ()
    assert cited_papers("The BERT paper differs.", {"bert": "BERT"}) == ("bert",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'The paper "Adaptive Rank Merging for Small Models" says so.',
            ("Adaptive Rank Merging for Small Models",),
        ),
        (
            "According to FlashLoRA: Fast Adapters for Everyone, rank 4 is enough.",
            ("FlashLoRA: Fast Adapters for Everyone",),
        ),
        (
            "The study titled Sparse Memory Routing in Transformers shows it.",
            ("Sparse Memory Routing in Transformers",),
        ),
        ("*Deep Rank Collapse in Language Models* shows it.", ("Deep Rank Collapse in Language Models",)),
        (f'"{TITLES["qlora"]}" shows it.', ()),
        ('"Efficient Finetuning of Quantized LLMs" shows it.', ()),
        ('As "Lost in the Middle" shows.', ()),
        ("According to Edward Hu and Yelong Shen, it is small.", ()),
        ('They call it "a quantile of the normal distribution" there.', ()),
        ("According to the authors, it is small.", ()),
        ("", ()),
    ],
)
def test_titles_of_no_paper_are_fabricated(text: str, expected: tuple[str, ...]) -> None:
    assert find_citations(text, TITLES).fabricated == expected


@pytest.mark.parametrize(("text", "cited", "fabricates"), [*ROWS, *MORE_ROWS, *THIRD_ROWS])
def test_each_answer_cites_what_it_names_as_a_source(text: str, cited: str, fabricates: bool) -> None:
    assert cited_papers(text, citation_rows.TITLES) == tuple(sorted(cited.split()))
    assert bool(find_citations(text, citation_rows.TITLES, SHOWN).fabricated) is fabricates


@pytest.mark.parametrize(("text", "cited", "fabricates"), [*more_citation_rows.ROWS, *more_citation_rows.MORE_ROWS])
def test_titles_that_are_ordinary_phrases_are_cited_where_they_cite(text: str, cited: str, fabricates: bool) -> None:
    titles, shown = more_citation_rows.TITLES, more_citation_rows.SHOWN
    assert cited_papers(text, titles) == tuple(sorted(cited.split()))
    assert bool(find_citations(text, titles, shown).fabricated) is fabricates


TWINS = {"a": "Notes on Kelp and Storms", "b": "Notes on kelp and storms", "c": TITLES["lora"]}


@pytest.mark.parametrize("gold", ["a", "b"])
def test_a_title_that_two_papers_bear_is_right_for_either(gold: str) -> None:
    citations = find_citations('"Notes on Kelp and Storms" says so.', TWINS)
    assert citations == Citations((("a", "b"),), ())
    metrics = citation_metrics(citations, gold=[gold], in_context=[gold], answerable=True)
    assert metrics == {
        "citation_rate": 1.0,
        "citation_precision": 1.0,
        "citation_recall": 1.0,
        "outside_context_citation": 0.0,
        "fabricated_title": 0.0,
    }


def test_a_title_in_lower_case_is_cited_in_lower_case() -> None:
    titles = {"a": "same text", "b": "same text", "c": "word2vec"}
    assert cited_papers('According to "same text", it holds; "word2vec" agrees.', titles) == ("a", "b", "c")
    assert cited_papers("We use word2vec, and it is the same text.", titles) == ()


def test_a_title_that_two_papers_bear_is_one_wrong_citation() -> None:
    citations = find_citations(f'"Notes on Kelp and Storms" and "{TITLES["lora"]}" say so.', TWINS)
    metrics = citation_metrics(citations, gold=["c"], in_context=["c"], answerable=True)
    assert (metrics["citation_precision"], metrics["outside_context_citation"]) == (0.5, 1.0)


def test_a_title_beside_its_alias_is_one_citation() -> None:
    titles = {"a": "RAGAS: Automated Evaluation of Pipelines", "b": "RAGAS: Automated Evaluation of Chat Models"}
    text = 'According to RAGAS, it holds; "RAGAS: Automated Evaluation of Pipelines" shows it.'
    assert find_citations(text, titles).cited == (("a",),)
    assert find_citations("According to RAGAS, it holds.", titles).cited == (("a", "b"),)


def test_an_ordinary_title_stays_in_the_text_where_it_is_no_citation() -> None:
    text = 'According to "Attention", attention is quadratic.'
    assert without_titles(text, {"a": "Attention"}) == 'according to " … ", attention is quadratic.'


def test_words_of_the_contexts_are_not_fabricated() -> None:
    text = 'It follows "Measuring Massive Multitask Language Understanding" here.'
    assert find_citations(text, TITLES).fabricated
    assert not find_citations(text, TITLES, ["Measuring massive multitask language understanding, 2020"]).fabricated


def _metrics(cited: tuple[str, ...], made_up: tuple[str, ...] = (), **changes: object) -> dict[str, float]:
    about = {"gold": ("lora", "qlora"), "in_context": ("lora", "ragas"), "answerable": True, **changes}
    return citation_metrics(Citations(tuple((paper,) for paper in cited), made_up), **about)  # type: ignore[arg-type]


def test_rates_by_hand() -> None:
    assert _metrics(("lora", "ragas", "rag"), ("Made Up",)) == {
        "citation_rate": 1.0,
        "citation_precision": 0.25,
        "citation_recall": 0.5,
        "outside_context_citation": 1.0,
        "fabricated_title": 1.0,
    }


def test_without_a_citation_precision_is_undefined_and_recall_zero() -> None:
    assert _metrics(()) == {
        "citation_rate": 0.0,
        "citation_recall": 0.0,
        "outside_context_citation": 0.0,
        "fabricated_title": 0.0,
    }


def test_a_fabricated_title_alone_has_precision_zero() -> None:
    assert _metrics((), ("Made Up",))["citation_precision"] == 0.0


def test_unanswerable_questions_have_no_citation_rate() -> None:
    assert set(_metrics(("lora",), answerable=False)) == {"outside_context_citation", "fabricated_title"}


def test_questions_without_gold_papers_have_no_recall() -> None:
    assert set(_metrics(("lora",), gold=())) == {
        "outside_context_citation",
        "fabricated_title",
        "citation_rate",
    }


def test_titles_are_cut_out_wherever_they_stand() -> None:
    text = f'"{TITLES["lora"]}" says A; {TITLES["qlora"]} says B; {TITLES["lora"]} says C.'
    assert without_titles(text, TITLES).split() == [
        '"',
        "…",
        '"',
        "says",
        "a;",
        "…",
        "says",
        "b;",
        "…",
        "says",
        "c.",
    ]
    assert without_titles("LoRA says A.", TITLES) == "lora says a."


def test_of_two_titles_that_match_in_one_place_the_better_counts() -> None:
    titles = {
        "a": "Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks",
        "b": "Retrieval-Augmented Generation for Knowledge-Intensive NLP Task Suites",
    }
    assert cited_papers(f'As "{titles["b"]}" shows.', titles) == ("b",)
    assert cited_papers(f'As "{titles["a"]}" shows.', titles) == ("a",)


@pytest.mark.parametrize(
    "row",
    [*outside_citation_rows.ROWS, *outside_citation_rows.SECOND, *outside_citation_rows.THIRD],
    ids=lambda row: row[0][:60],
)
def test_each_answer_of_an_outsider_cites_what_it_names(row: outside_citation_rows.Row) -> None:
    text, cited, fabricated = row
    given = find_citations(text, outside_citation_rows.TITLES, outside_citation_rows.SHOWN)
    assert sorted("+".join(papers) for papers in given.cited) == sorted(cited.split())
    assert bool(given.fabricated) == fabricated


ROOFS = {
    "roofs": "Les toits d'argile après la grêle",
    "moth": "Lantern Moths Under Red Light",
    "first": "Clay Roofs after Hail",
    "second": "Clay Roofs after Hail",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Selon « Les toits d’argile après la grêle », 1050 degrés suffisent.", ("roofs",)),
        ("Selon «Les toits d'argile apres la grele», 1050 degrés suffisent.", ("roofs",)),
        ('"lantern moths under red light" shows that red lamps draw fewer moths.', ("moth",)),
        ("Lantern moths under red light fly less.", ()),
        ('"Clay Roofs After Hail" reports 1050 degrees.', ("first", "second")),
        ("Clay roofs after hail often need repair.", ()),
    ],
)
def test_quotation_marks_with_spaces_and_other_apostrophes_enclose_a_title(
    text: str, expected: tuple[str, ...]
) -> None:
    assert cited_papers(text, ROOFS) == expected


def test_a_chapter_that_describes_something_is_no_paper() -> None:
    assert find_citations('The chapter "Materials and Methods" describes firing.', ROOFS).fabricated == ()
    assert find_citations('The paper "Materials and Fire" describes firing.', ROOFS).fabricated
