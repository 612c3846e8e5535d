"""What a reviewer is shown and may do: quotes in their passages, checked edits, reviews in the user's files."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import read_rows, write_rows
from mlx_ragtune.records import Evidence, Pair, Question
from mlx_ragtune.reviewing.review_apply import record, write_reviewed
from mlx_ragtune.reviewing.review_edits import problems
from mlx_ragtune.reviewing.review_items import Edit, ReviewItem, authored_items, benchmark_items, generated_items
from mlx_ragtune.reviewing.review_log import ReviewLog
from mlx_ragtune.reviewing.review_places import find_quote
from mlx_ragtune.reviewing.review_session import Checked, Sent, Session
from mlx_ragtune.synthesis.checks import quote_in
from mlx_ragtune.synthesis.refusals import WITHOUT_TOPIC, WORDINGS
from tests.reviewing.made_reviews import OTHER, QUOTE, TITLE, changed, library, pair, question, refused, session


def number(made: Session, name: str) -> int:
    return next(n for n, item in enumerate(made.shown) if item.row.id == name)


def send(made: Session, name: str, action: str, **more: Any) -> Sent:
    return Sent(number(made, name), name, action, **more)  # type: ignore[arg-type]


# quotes


@given(st.text("ab c\n.1", min_size=0, max_size=60), st.text("ab c\n.1", min_size=0, max_size=20))
def test_a_quote_is_found_exactly_where_the_check_accepts_it(text: str, quote: str) -> None:
    span = find_quote(quote, text)
    assert (span is None) == (quote_in(quote, text) is not None)
    if span is not None:
        assert " ".join(text[slice(*span)].split()) == " ".join(quote.split())


def test_a_quote_with_a_slip_is_found_where_it_stands() -> None:
    text = f"Before.\n\n{QUOTE.replace('valley', 'valey')}\nAfter."
    span = find_quote(QUOTE, text)
    assert span is not None
    assert "1998 counted 412 lynxes" in text[slice(*span)]
    assert find_quote(QUOTE.replace("412", "413"), text) is None


def test_a_quote_is_shown_in_its_passage_with_section_and_page(tmp_path: Path) -> None:
    (place,) = library(tmp_path).places(question())
    assert " ".join(place.quote.split()) == QUOTE
    assert (place.page, place.pdf, place.recorded, place.problem) == (2, True, True, "")
    assert "Results" in place.section
    assert "repeated two years later" in place.after


def test_a_quote_that_is_not_in_its_paper_is_shown_as_such(tmp_path: Path) -> None:
    item = question()
    invented = replace(item.row, evidence=(Evidence("lynx", "Nobody ever counted any lynx in there."),))
    (place,) = library(tmp_path).places(ReviewItem("benchmark", invented))
    assert (place.problem, place.quote) == ("evidence quote not in the text", "Nobody ever counted any lynx in there.")
    elsewhere = replace(item.row, evidence=(Evidence("gone", QUOTE),))
    (place,) = library(tmp_path).places(ReviewItem("benchmark", elsewhere))
    assert place.problem == "the corpus has no paper 'gone'"


def test_without_a_quote_the_closest_passages_are_shown(tmp_path: Path) -> None:
    row = replace(question().row, evidence=())
    places = library(tmp_path).places(ReviewItem("benchmark", row))
    assert places[0].paper == "lynx"
    assert not places[0].recorded
    assert "412 lynxes" in places[0].before
    assert library(tmp_path).places(refused()) == [] or not library(tmp_path).places(refused())[0].recorded


def test_the_page_of_a_pdf_is_shown_with_the_quote_marked(tmp_path: Path) -> None:
    papers = library(tmp_path)
    (place,) = papers.places(question())
    image = papers.image(place)
    assert (image.page, image.pages, image.marked) == (2, 2, "whole")
    assert papers.image(place, 1).marked == "none"
    with pytest.raises(InputError, match="no pages"):
        papers.image(papers.places(pair())[0])


# edits


def edit_of(item: ReviewItem, **changes: object) -> Edit:
    return replace(Edit(item.row.question, item.answer, item.nuggets), **changes)  # type: ignore[arg-type]


def found(tmp_path: Path, item: ReviewItem, **changes: object) -> dict[str, bool]:
    edited = item.edited(edit_of(item, **changes))
    return {problem.text: problem.blocks for problem in problems(edited, library(tmp_path).documents)}


def test_what_is_right_has_no_problem(tmp_path: Path) -> None:
    assert [found(tmp_path, item) for item in (question(), refused(), pair())] == [{}, {}, {}]


def test_a_reference_that_its_own_facts_do_not_accept_is_refused(tmp_path: Path) -> None:
    wrong = found(tmp_path, question(), answer="The survey counted 500 lynxes.")
    assert any("lacks '412' of the nugget" in text and wrong[text] for text in wrong)
    denied = found(tmp_path, question(), answer="The survey did not count 412 lynxes.")
    assert any("the opposite of the nugget" in text and denied[text] for text in denied)
    bare = replace(question().nuggets[0], anchors=())
    assert any("an anchor group is empty" in text for text in found(tmp_path, question(), nuggets=(bare,)))


def test_refusals_must_refuse_and_answers_must_not(tmp_path: Path) -> None:
    assert any("does not refuse" in text for text in found(tmp_path, refused(), answer="It is Paris."))
    assert "a refusal where an answer is due" in found(tmp_path, pair(), answer="The papers do not say this.")


def test_advice_does_not_block(tmp_path: Path) -> None:
    advice = found(tmp_path, pair(), question="How does the proposed method work?")
    assert advice == {"question does not say which paper or method": False}
    assert found(tmp_path, pair(), answer="Herons return for nine years to the nest that they know.") == {
        "title not cited in double quotes": False
    }


def test_every_wording_of_a_refusal_passes_without_a_remark(tmp_path: Path) -> None:
    for wording in (*WORDINGS, *WITHOUT_TOPIC):
        assert found(tmp_path, refused(), answer=wording.format(topic="volcanoes")) == {}, wording
    answered = found(tmp_path, pair(), answer='"Notes" reports that these studies found nine years.')
    assert any("speaks of 'this paper'" in text for text in answered)


# a session


def test_a_session_is_resumed_and_says_what_it_found(tmp_path: Path) -> None:
    made = session(tmp_path)
    for name in ("q0", "q1", "q2"):
        made.decide(send(made, name, "accept"))
    made.decide(send(made, "q3", "reject", reason="wrong", note="it says 500"))
    again = session(tmp_path)
    summary = again.summary("benchmark")
    assert (summary.done, summary.sampled, summary.accepted, summary.rejected) == (4, 6, 3, 1)
    assert summary.text.startswith("1 of 4 questions has a defect: about 25% of all 6")
    assert summary.text.endswith("2 of the sample are still to review.")
    details = again.details(number(again, "q3"))
    assert (details["decision"], details["reason"], details["note"]) == ("reject", "wrong", "it says 500")
    for name in ("o0", "o1"):
        again.decide(send(again, name, "accept"))
    assert again.summary("benchmark").text == "1 of 6 questions has a defect. All are reviewed."
    assert again.summary("pairs").next == "Review all 3: each one counts."


def test_only_the_sample_decides_the_estimate(tmp_path: Path) -> None:
    made = session(tmp_path, questions=40, refusals=0)
    assert len([item for item in made.shown if item.part == "benchmark"]) == 30
    outside = next(item for item in made.items["benchmark"] if item not in made.shown)
    made.log.decide(outside, "reject", reason="wrong")
    assert made.summary("benchmark").estimate is None
    made.plan(40)
    assert made.summary("benchmark").estimate is not None
    assert session(tmp_path, questions=40, refusals=0).sample_size("benchmark") == 40


def advice(made: Session, *, defects: int) -> str:
    """What to do after the sample of pairs, so many of them rejected."""
    for at, item in enumerate(one for one in made.shown if one.part == "pairs"):
        more = {"reason": "wrong"} if at < defects else {}
        made.decide(send(made, item.row.id, "reject" if more else "accept", **more))
    return made.summary("pairs").next


def test_the_advice_follows_from_what_was_found(tmp_path: Path) -> None:
    made = session(tmp_path / "a", pairs=200)
    assert made.summary("pairs").next == "Review these 30: they decide whether the rest can be trusted."
    assert advice(made, defects=0) == "Apply the reviews, and use the other 170 pairs as they are."
    made = session(tmp_path / "b", pairs=200)
    assert advice(made, defects=1).startswith("Review more (--sample ")
    made.more("pairs")
    shown = [item for item in made.shown if item.part == "pairs"]
    assert 30 < len(shown) < 80
    assert made.summary("pairs").done == 30
    made = session(tmp_path / "c", pairs=200)
    assert advice(made, defects=9) == (
        "Too many are defective (most often: the answer is wrong): generate them again with a larger model, "
        "or review all (--all)."
    )
    with pytest.raises(InputError):
        made.more("benchmark")  # its sample is not done


def test_an_edit_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    made = session(tmp_path)
    n = number(made, "q1")
    with pytest.raises(InputError, match="lacks '412'"):
        made.decide(send(made, "q1", "edit", edit=edit_of(made.item(n), answer="500 lynxes.")))
    assert made.log.reviews.current(made.item(n)) is None
    better = edit_of(made.item(n), question="How many lynxes did the survey of 1998 count in the northern valley?")
    assert made.check(Checked(n, better)) == []
    made.decide(send(made, "q1", "edit", edit=better))
    details = made.details(n)
    assert details["question"] == better.question
    assert details["original"]["question"] == question(1).row.question
    made.decide(send(made, "q1", "accept"))  # accepts what is shown
    assert made.details(n)["question"] == better.question


@pytest.mark.parametrize(
    "sent",
    [
        Sent(99, "", "accept"),
        Sent(-1, "", "accept"),
        Sent(0, "", "reject"),
        Sent(0, "", "reject", reason="x"),
        Sent(0, "", "edit"),
        Sent(0, "another", "accept"),
    ],
)
def test_a_decision_that_is_not_complete_is_refused(tmp_path: Path, sent: Sent) -> None:
    made = session(tmp_path)
    first = made.shown[0].row.id
    with pytest.raises(InputError):
        made.decide(replace(sent, id=sent.id or first))
    assert not made.log.path.exists()


def test_a_changed_item_says_so_and_is_open_again(tmp_path: Path) -> None:
    made = session(tmp_path)
    made.log.decide(changed(question(2)), "accept")
    details = made.details(number(made, "q2"))
    assert (details["decision"], details["earlier"]) == ("", "accept")
    assert details["changed_since"]
    assert made.summary("benchmark").changed == 1


# files


def test_reviews_are_applied_once_and_the_file_is_kept(tmp_path: Path) -> None:
    path, log = tmp_path / "benchmark.jsonl", ReviewLog(tmp_path / "reviews.jsonl")
    items = [question(0), question(1), question(2), refused(0)]
    write_rows(path, [item.row for item in items])
    before = path.read_bytes()
    log.decide(items[0], "accept")
    log.decide(items[1], "reject", reason="wrong")
    log.decide(items[2], "edit", edited=asdict(changed(items[2]).row))
    applied = write_reviewed(benchmark_items(path), log.reviews, path)
    assert log.reviews.is_pending("benchmark")
    assert not log.reviews.is_pending("pairs")
    record(applied, items, log)
    assert (applied.removed, applied.replaced, applied.accepted, applied.unreviewed) == (("q1",), ("q2",), ("q0",), 1)
    assert applied.backup is not None
    assert applied.backup.read_bytes() == before
    rows = list(read_rows(path, Question))
    assert [(row.id, row.origin) for row in rows] == [("q0", "reviewed"), ("q2", "reviewed"), ("o0", "drafted")]
    assert rows[1].question == changed(items[2]).row.question
    assert log.undo() is None  # what is in the file is not taken back by a key
    assert not log.reviews.is_pending("benchmark")
    again = write_reviewed(benchmark_items(path), log.reviews, path)
    assert (again.backup, again.removed) == (None, ())
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "benchmark.jsonl", "benchmark.jsonl.bak", "reviews.jsonl"
    ]  # fmt: skip


def test_the_estimate_stays_after_a_rejected_item_has_left_the_file(tmp_path: Path) -> None:
    made = session(tmp_path)
    made.decide(send(made, "q0", "accept"))
    made.decide(send(made, "q1", "reject", reason="wrong"))
    before = made.summary("benchmark")
    path = tmp_path / "benchmark.jsonl"
    write_rows(path, [item.row for item in made.items["benchmark"]])
    record(write_reviewed(benchmark_items(path), made.log.reviews, path), made.items["benchmark"], made.log)
    made.items = {**made.items, "benchmark": benchmark_items(path)}
    made.plan(None)
    after = made.summary("benchmark")
    assert len(made.items["benchmark"]) == 5
    assert (after.estimate, after.total, after.removed) == (before.estimate, before.total, 1)


def test_what_was_removed_from_an_older_file_does_not_count_in_a_new_one(tmp_path: Path) -> None:
    made = session(tmp_path)
    made.decide(send(made, "q1", "reject", reason="wrong"))
    path = tmp_path / "benchmark.jsonl"
    write_rows(path, [item.row for item in made.items["benchmark"]])
    made.apply = lambda _part: write_reviewed(benchmark_items(path), made.log.reviews, path)
    made.read = lambda: {"benchmark": benchmark_items(path)}
    record(made.write("benchmark"), [question(1)], made.log)
    assert made.summary("benchmark").removed == 1
    assert "q1" not in [item.row.id for item in made.shown]
    write_rows(path, [question(at).row for at in range(50, 60)])  # drafted again
    made.items = made.read()
    made.plan(None)
    assert (made.summary("benchmark").removed, made.summary("benchmark").total) == (0, 10)


def test_a_second_copy_overwrites_no_first_and_an_empty_result_is_refused(tmp_path: Path) -> None:
    path, log = tmp_path / "pairs.jsonl", ReviewLog(tmp_path / "reviews.jsonl")
    items = [pair(0), pair(1)]
    write_rows(path, [item.row for item in items])
    for at in (0, 1):
        log.decide(items[at], "edit", edited=asdict(changed(items[at]).row))
        write_reviewed(authored_items(path), log.reviews, path)
    assert sorted(one.name for one in tmp_path.glob("*.bak*")) == ["pairs.jsonl.bak", "pairs.jsonl.bak2"]
    for item in authored_items(path):
        log.decide(item, "reject", reason="wrong")
    content = path.read_bytes()
    with pytest.raises(InputError, match="every row is rejected"):
        write_reviewed(authored_items(path), log.reviews, path)
    assert path.read_bytes() == content


def test_a_review_of_another_content_is_not_applied(tmp_path: Path) -> None:
    path, log = tmp_path / "pairs.jsonl", ReviewLog(tmp_path / "reviews.jsonl")
    log.decide(pair(0), "reject", reason="wrong")
    write_rows(path, [changed(pair(0)).row])
    applied = write_reviewed(authored_items(path), log.reviews, path)
    assert (applied.written, applied.removed, applied.changed) == (1, (), ("p0",))


def test_short_rows_and_names_of_files_are_understood_and_what_was_not_reviewed_stays_as_it_was(tmp_path: Path) -> None:
    path, log = tmp_path / "benchmark.jsonl", ReviewLog(tmp_path / "reviews.jsonl")
    short = [
        {"question": f"How many lynxes did survey {at} count?", "answer": "It counted 412 lynxes.", "paper": "lynx.pdf"}
        for at in range(3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in short))
    items = benchmark_items(path)
    papers = library(tmp_path / "papers")
    assert papers.titles(items[0]) == [TITLE]
    assert papers.places(items[0])[0].paper == "lynx"
    assert problems(papers.known(items[0]), papers.documents) == []
    log.decide(items[0], "accept")
    log.decide(items[1], "reject", reason="trivial")
    write_reviewed(items, log.reviews, path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["origin"] == "reviewed"
    assert lines[0]["nuggets"]
    assert lines[1] == short[2]
    assert log.reviews.current(benchmark_items(path)[0]) is not None


def test_generated_pairs_become_a_file_that_can_be_given_back(tmp_path: Path) -> None:
    source, target = tmp_path / "generated.jsonl", tmp_path / "mine-pairs.jsonl"
    write_rows(source, [{"pair": asdict(pair(at).row), "task": "grounded", "model": "m"} for at in range(3)])
    items, log = generated_items(source), ReviewLog(tmp_path / "reviews.jsonl")
    assert [item.task for item in items] == ["grounded"] * 3
    log.decide(items[1], "reject", reason="trivial")
    applied = write_reviewed(items, log.reviews, target)
    assert applied.backup is None
    assert [row.id for row in read_rows(target, Pair)] == ["p0", "p2"]
    with source.open("a") as stream:
        stream.write(json.dumps({"pair": asdict(pair(0).row), "task": ""}) + "\n")
    with pytest.raises(InputError, match="duplicate id 'p0'"):
        generated_items(source)


def test_what_a_rule_repaired_is_shown_to_the_reviewer(tmp_path: Path) -> None:
    source = tmp_path / "generated.jsonl"
    write_rows(source, [{"pair": asdict(pair().row), "task": "grounded", "repairs": ["citation added"]}])
    made = session(tmp_path, pairs=0)
    made.items = {"pairs": generated_items(source)}
    made.plan(None)
    assert made.details(0)["repairs"] == ["citation added"]


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("own.jsonl", '{"messages": [{"role": "user", "content": "Q?"}]}\n', "chat"),
        ("own.csv", "question,answer\nQ?,A\n", "csv"),
    ],
)
def test_rows_that_are_no_pairs_are_refused_with_their_format(tmp_path: Path, name: str, text: str, shown: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"these rows have the format '{shown}'"):
        authored_items(tmp_path / name)


def test_the_evidence_of_a_pair_is_checked_as_the_data_set_does(tmp_path: Path) -> None:
    row = pair().row
    assert isinstance(row, Pair)
    bad = ReviewItem("pairs", replace(row, evidence=(Evidence("heron", f"{OTHER} And swans."),)))
    assert any(one.blocks and "not in the text" in one.text for one in problems(bad, library(tmp_path).documents))
