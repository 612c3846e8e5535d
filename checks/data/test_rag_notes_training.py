"""The shipped training notes and pairs: complete, grounded word for word, apart from the benchmark."""

import itertools
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from rapidfuzz import fuzz

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Pair, Question
from mlx_ragtune.scoring.answers.citation import cited_papers
from mlx_ragtune.scoring.answers.numbers import number_grounding
from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.scoring.answers.style import is_prose
from mlx_ragtune.synthesis.benchmark_view import HeldOut, view_of
from mlx_ragtune.synthesis.checks import check_pair
from mlx_ragtune.synthesis.dedupe import contamination

FOLDER = Path(__file__).parents[2] / "data" / "rag_notes"
NOTE_WORDS = range(120, 251)
ANSWER_WORDS = range(20, 56)
REFUSAL_WORDS = range(15, 56)
NEAR_DUPLICATE = 92
SHARES = {"grounded": 0.6, "synthesis": 0.2, "refusal": 0.2}
NUMBER_WORDS = re.compile(
    r"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|half|third|hundred|twice|double)\b"
)

PAIRS = list(read_rows(FOLDER / "pairs.jsonl", Pair))
ANSWERED = [pair for pair in PAIRS if pair.kind != "refusal"]
REFUSED = [pair for pair in PAIRS if pair.kind == "refusal"]
NEAR_MISSES = [pair for pair in REFUSED if pair.refusal_kind == "near_miss"]


def _parse(path: Path) -> tuple[dict[str, Any], str]:
    _, head, body = path.read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), body.strip()


def _plain(text: str) -> str:
    return " ".join(text.split())


NOTES = {path.stem: _parse(path) for path in sorted((FOLDER / "papers").glob("*.md"))}
TITLES = {name: str(head["title"]) for name, (head, _) in NOTES.items()}
BODIES = {name: body for name, (_, body) in NOTES.items()}
TRAINING = sorted({paper for pair in PAIRS for paper in pair.papers})


@cache
def _benchmark() -> list[Question]:
    path = FOLDER / "benchmark.jsonl"
    return list(read_rows(path, Question)) if path.exists() else []


def _without_titles(pair: Pair) -> str:
    answer = pair.answer
    for paper in pair.papers:
        answer = answer.replace(f'"{TITLES[paper]}"', " ")
    return answer


# --- the notes


def test_a_training_note_has_title_authors_and_year_and_its_id_is_a_plain_name() -> None:
    for paper in TRAINING:
        head, _ = NOTES[paper]
        assert re.fullmatch(r"[a-z0-9_]+", paper), paper
        assert list(head) in (["title", "authors", "year", "arxiv"], ["title", "authors", "year"]), paper
        assert isinstance(head["title"], str), paper
        assert head["title"].strip() == head["title"] != "", paper
        assert isinstance(head["authors"], list), paper
        assert head["authors"], paper
        assert all(isinstance(author, str) and " " in author for author in head["authors"]), paper
        assert len(set(head["authors"])) == len(head["authors"]), paper


def test_a_note_carries_the_year_in_which_its_arxiv_id_begins() -> None:
    for paper in TRAINING:
        head, _ = NOTES[paper]
        assert isinstance(head["year"], int), paper
        if "arxiv" in head:
            assert isinstance(head["arxiv"], str), "quoted, or YAML reads a number and drops its last zero"
            assert re.fullmatch(r"\d{4}\.\d{5}", head["arxiv"]), paper
            assert head["year"] == 2000 + int(head["arxiv"][:2]), paper


def test_a_note_is_two_or_three_plain_paragraphs_of_120_to_250_words() -> None:
    for paper in TRAINING:
        body = BODIES[paper]
        assert len(body.split()) in NOTE_WORDS, paper
        paragraphs = body.split("\n\n")
        assert len(paragraphs) in (2, 3), paper
        assert is_prose(body), paper
        for paragraph in paragraphs:
            assert "\n" not in paragraph, "one paragraph, one line: quotes must be found in it"
            assert paragraph.endswith("."), paper
        assert paragraphs[0].strip("# ") != TITLES[paper], paper


def test_titles_and_arxiv_ids_are_unique_over_the_whole_corpus() -> None:
    titles = Counter(title.casefold() for title in TITLES.values())
    arxiv = Counter(head["arxiv"] for head, _ in NOTES.values() if "arxiv" in head)
    assert [title for title, count in titles.items() if count > 1] == []
    assert [number for number, count in arxiv.items() if count > 1] == []


def test_there_are_at_least_42_training_papers_with_three_or_more_grounded_pairs_each() -> None:
    assert len(TRAINING) >= 42
    counts = Counter(pair.papers[0] for pair in PAIRS if pair.kind == "grounded")
    assert {paper: counts[paper] for paper in TRAINING if counts[paper] < 3} == {}


def test_every_note_belongs_to_training_or_to_the_benchmark() -> None:
    gold = {paper for question in _benchmark() for paper in question.papers}
    assert sorted(set(NOTES) - set(TRAINING) - gold) == []


# --- the shape of the pairs


def test_there_are_at_least_200_pairs_with_unique_ids() -> None:
    assert len(PAIRS) >= 200
    assert [name for name, count in Counter(pair.id for pair in PAIRS).items() if count > 1] == []


def test_a_row_writes_every_key_so_that_the_file_shows_the_format() -> None:
    keys = ["id", "kind", "question", "answer", "papers", "evidence", "refusal_kind"]
    lines = (FOLDER / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if list(json.loads(line)) != keys] == []


@pytest.mark.parametrize("kind", SHARES)
def test_the_shares_of_the_kinds_are_within_five_points(kind: str) -> None:
    share = sum(pair.kind == kind for pair in PAIRS) / len(PAIRS)
    assert abs(share - SHARES[kind]) <= 0.05


def test_half_of_the_refusals_are_near_misses() -> None:
    assert abs(len(NEAR_MISSES) / len(REFUSED) - 0.5) <= 0.1


def test_synthesis_pairs_are_spread_over_the_papers_and_never_repeat_a_combination() -> None:
    combinations = Counter(frozenset(pair.papers) for pair in PAIRS if pair.kind == "synthesis")
    assert max(combinations.values()) == 1
    uses = Counter(paper for two in combinations for paper in two)
    assert max(uses.values()) <= 4
    assert len(uses) >= len(TRAINING) * 0.9


def test_no_two_questions_are_near_duplicates() -> None:
    close = [
        (one.id, two.id)
        for one, two in itertools.combinations(PAIRS, 2)
        if fuzz.ratio(one.question.lower(), two.question.lower()) >= NEAR_DUPLICATE
    ]
    assert close == []


def test_questions_and_answers_are_not_all_cut_from_one_pattern() -> None:
    for texts in ([pair.question for pair in PAIRS], [pair.answer for pair in ANSWERED]):
        openings = Counter(" ".join(text.split()[:2]) for text in texts)
        assert max(openings.values()) <= 0.2 * len(texts)
    title_first = sum(pair.answer.startswith('"') for pair in ANSWERED)
    assert 0.2 <= title_first / len(ANSWERED) <= 0.6


# --- grounded and synthesis pairs


def test_a_pair_passes_the_checks_that_generated_pairs_must_pass() -> None:
    for pair in PAIRS:
        shown = {paper: BODIES[paper] for paper in pair.papers}
        assert check_pair(pair, shown, {paper: TITLES[paper] for paper in pair.papers}) is None, pair.id


def test_every_quote_stands_verbatim_in_its_note_and_each_paper_has_one() -> None:
    for pair in ANSWERED:
        assert len(pair.papers) == {"grounded": 1, "synthesis": 2}[pair.kind], pair.id
        assert tuple(evidence.paper for evidence in pair.evidence) == pair.papers, pair.id
        for evidence in pair.evidence:
            assert len(evidence.quote.split()) >= 4, pair.id
            assert _plain(evidence.quote) in _plain(BODIES[evidence.paper]), pair.id
        assert pair.refusal_kind is None, pair.id


def test_the_answer_cites_the_full_title_of_each_of_its_papers_once_and_no_other() -> None:
    for pair in ANSWERED:
        quoted = re.findall(r'"([^"]+)"', pair.answer)
        assert sorted(quoted) == sorted(TITLES[paper] for paper in pair.papers), pair.id
        assert cited_papers(pair.answer, TITLES) == tuple(sorted(pair.papers)), pair.id


def test_every_number_of_an_answer_stands_in_its_quotes_or_in_the_question() -> None:
    for pair in ANSWERED:
        answer = _without_titles(pair)
        shown = " ".join((pair.question, *(evidence.quote for evidence in pair.evidence)))
        assert number_grounding(answer, [shown]) in (None, 1.0), pair.id
        written = set(NUMBER_WORDS.findall(answer.lower()))
        assert written - set(NUMBER_WORDS.findall(shown.lower())) == set(), pair.id


def test_an_answer_is_one_or_two_sentences_of_20_to_55_words() -> None:
    for pair in ANSWERED:
        answer = _without_titles(pair)
        assert len(pair.answer.split()) in ANSWER_WORDS, pair.id
        assert 1 <= len(re.findall(r"[.!?](?= [A-Z]|$)", answer)) <= 2, pair.id
        assert pair.answer.endswith("."), pair.id
        assert "\n" not in pair.answer, pair.id
        assert re.search(r"[*#`_]|this paper", answer) is None, pair.id
        assert not is_refusal(pair.answer), pair.id


# --- refusals


def test_a_refusal_refuses_in_the_agreed_words_and_cites_nothing() -> None:
    for pair in REFUSED:
        assert is_refusal(pair.answer), pair.id
        assert "provided papers" in pair.answer, pair.id
        assert '"' not in pair.answer, pair.id
        assert cited_papers(pair.answer, TITLES) == (), pair.id
        assert len(pair.answer.split()) in REFUSAL_WORDS, pair.id
        assert pair.answer.endswith("."), pair.id


def test_a_refusal_names_what_was_asked_for_and_guesses_no_number() -> None:
    for pair in REFUSED:
        asked, said = (set(re.findall(r"[a-z]{4,}", text.lower())) for text in (pair.question, pair.answer))
        filler = {"that", "this", "from", "them", "does", "which", "what", "with", "have", "papers", "provided"}
        assert len((asked & said) - filler) >= 1, pair.id
        assert number_grounding(pair.answer, [pair.question]) in (None, 1.0), pair.id


def test_a_refusal_has_no_evidence_and_at_most_the_one_paper_to_keep_away() -> None:
    for pair in REFUSED:
        assert pair.evidence == (), pair.id
        assert pair.refusal_kind is not None, pair.id
        assert len(pair.papers) <= (1 if pair.refusal_kind == "near_miss" else 0), pair.id


def test_more_near_misses_have_their_paper_kept_away_than_not() -> None:
    assert 2 * sum(bool(pair.papers) for pair in NEAR_MISSES) > len(NEAR_MISSES)


def test_an_off_corpus_question_names_nothing_that_a_note_is_about() -> None:
    off_corpus = [pair for pair in REFUSED if pair.refusal_kind == "off_corpus"]
    for pair in off_corpus:
        names = re.findall(r"(?<!^)\b[A-Z]\w{3,}", pair.question)
        text = "\n".join(BODIES.values())
        # "English" is a language of corpora in the notes and a legal system in a question.
        assert [name for name in names if name in text and name != "English"] == [], pair.id


def test_source_md_states_the_true_counts() -> None:
    text = _plain((FOLDER / "SOURCE.md").read_text(encoding="utf-8"))
    kept_away = sum(bool(pair.papers) for pair in NEAR_MISSES)
    for claim in (
        f"{len(TRAINING)} training papers",
        f"{len(PAIRS)} pairs",
        f"{sum(pair.kind == 'grounded' for pair in PAIRS)} grounded",
        f"{sum(pair.kind == 'synthesis' for pair in PAIRS)} synthesis",
        f"{len(REFUSED)} refusal",
        f"{len(REFUSED) - len(NEAR_MISSES)} off-corpus",
        f"{kept_away} near misses whose paper is kept away",
        f"{len(NEAR_MISSES) - kept_away} near misses whose paper may be shown",
    ):
        assert claim in text, claim


# --- apart from the benchmark


def test_no_pair_uses_a_gold_paper_of_the_benchmark() -> None:
    gold = {paper for question in _benchmark() for paper in question.papers}
    used = {evidence.paper for pair in PAIRS for evidence in pair.evidence} | set(TRAINING)
    assert sorted(used & gold) == []


def test_no_pair_asks_a_question_of_the_benchmark() -> None:
    view = view_of(_benchmark())
    assert not contamination(PAIRS, view, HeldOut(view.papers, ()))
    close = [
        (pair.id, question.id)
        for pair in PAIRS
        for question in _benchmark()
        if fuzz.ratio(pair.question.lower(), question.question.lower()) >= NEAR_DUPLICATE
    ]
    assert close == []
