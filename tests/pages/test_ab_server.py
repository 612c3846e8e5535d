"""The blind comparison: a plan that tells nothing, statistics by hand, votes that survive, a page for one person."""

import json
import re
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.pages.ab_analysis import Choice, analyze, cohen_kappa, judged, needed_votes, report_part, winner
from mlx_ragtune.pages.ab_plan import Trial, plan_trials
from mlx_ragtune.pages.ab_planted import Item
from mlx_ragtune.pages.ab_server import render_page, serve, smooth
from mlx_ragtune.pages.ab_session import Session, open_session
from mlx_ragtune.records import Nugget, Passage, Question

KEY = b"k" * 32


VERBS = ("found", "built", "drank", "crossed", "guarded")
ANIMALS = ("lynxes", "herons", "beetles", "salmon", "badgers")


def items(count: int = 40, *, prompted: bool = False) -> list[Item]:
    """Questions to which every answer is right, in other words."""
    return [item(at, f"{at + 1000} {ANIMALS[at % 5]}", prompted=prompted) for at in range(count)]


def item(at: int, fact: str, *, prompted: bool) -> Item:
    question, paper = f"What does study {at} of {fact.split()[1]} find?", f"paper{at // 2}"
    return Item(
        f"q{at}",
        question,
        f"One kind of answer is that there are {fact}.",
        f"<b>Another</b> kind of answer is that somebody saw {fact}.",
        paper,
        (Passage(f"c{at}", paper, f"Title {at}", "What both were shown."),),
        f"A third kind of answer is exactly {fact}." if prompted else None,
        Question(
            f"q{at}",
            "t",
            question,
            True,
            (paper,),
            f"In all {fact} {VERBS[at % 5]} it.",
            (),
            (Nugget(fact, ((fact,),)),),
        ),
    )


def choose(trial: Trial, wanted: str) -> Choice:
    return "left" if trial.left == wanted else "right" if trial.right == wanted else "tie"


# the plan


def test_a_plan_holds_n_real_trials_a_tenth_repeated_and_a_twentieth_checked() -> None:
    trials = plan_trials(items(), KEY, n=40)
    kinds = [trial.kind for trial in trials]
    assert (kinds.count("real"), kinds.count("repeat"), kinds.count("check")) == (40, 4, 2)
    assert len({trial.id for trial in trials}) == len(trials)


def test_the_same_key_gives_the_same_plan_and_another_key_another() -> None:
    assert plan_trials(items(), KEY, n=20) == plan_trials(items(), KEY, n=20)
    assert plan_trials(items(), KEY, n=20) != plan_trials(items(), b"x" * 32, n=20)


def test_both_sides_get_each_model_about_equally_often() -> None:
    real = [trial for trial in plan_trials(items(400), KEY, n=400) if trial.kind == "real"]
    assert 160 < sum(trial.left == "tuned" for trial in real) < 240


def test_a_repeat_swaps_the_sides_and_comes_in_the_other_half() -> None:
    trials = plan_trials(items(), KEY, n=40)
    first = {trial.item.question_id: at for at, trial in enumerate(trials) if trial.kind == "real"}
    for at, trial in enumerate(trials):
        if trial.kind == "repeat":
            before = trials[first[trial.item.question_id]]
            assert (trial.left_text, trial.right_text) == (before.right_text, before.left_text)
            assert first[trial.item.question_id] < len(trials) / 2 < at + 1


def test_a_planted_answer_belongs_to_a_question_about_another_paper() -> None:
    everything = {one.base_text: one for one in items()}
    for trial in plan_trials(items(), KEY, n=40):
        if trial.kind == "check":
            planted = trial.left_text if trial.left == "planted" else trial.right_text
            assert everything[planted].cluster != trial.item.cluster
            assert {trial.left, trial.right} == {"tuned", "planted"}


def test_equal_answers_are_left_out_and_too_few_are_refused() -> None:
    same = [Item(f"q{at}", "?", "the  same", "the same", "p") for at in range(5)]
    with pytest.raises(InputError, match="20 comparisons were asked for, and 10 questions have two different answers"):
        plan_trials([*items(10), *same], KEY, n=20)
    with pytest.raises(InputError, match="3 comparisons"):
        plan_trials(items(), KEY, n=3)


# the analysis


def test_a_preference_is_counted_for_the_model_and_not_for_the_side() -> None:
    trials = plan_trials(items(), KEY, n=40)
    result = analyze(trials, {trial.id: choose(trial, "tuned") for trial in trials})
    assert (result.wins, result.losses, result.ties) == (40, 0, 0)
    assert result.repeats == (4, 4)
    assert result.checks == (2, 2)
    assert (result.score, result.low, result.high) == (1.0, 1.0, 1.0)
    assert result.sign_p == pytest.approx(2 * 0.5**40)


def test_a_voter_of_one_side_only_disagrees_with_every_repeat() -> None:
    trials = plan_trials(items(), KEY, n=40)
    result = analyze(trials, {trial.id: "left" for trial in trials})
    assert result.repeats == (0, 4)


def test_the_sign_test_leaves_ties_out_and_the_score_counts_them_half() -> None:
    trials = [trial for trial in plan_trials(items(10), KEY, n=10) if trial.kind == "real"]
    votes: dict[str, Choice] = {trial.id: choose(trial, "tuned") for trial in trials[:5]}
    votes |= {trials[5].id: choose(trials[5], "base"), trials[6].id: "tie", trials[7].id: "both_bad"}
    result = analyze(trials, votes)
    assert (result.wins, result.losses, result.ties, result.both_bad) == (5, 1, 1, 1)
    assert result.sign_p == pytest.approx(2 * (1 + 6) / 64)
    assert result.score == pytest.approx((5 + 0.5 + 0.5) / 8)


def test_papers_are_resampled_whole() -> None:
    def made(clusters: list[str]) -> tuple[float, float]:
        trials = [
            Trial(str(at), "real", Item(str(at), "?", "a", "b", name), "tuned", "base", "b", "a")
            for at, name in enumerate(clusters)
        ]
        votes: dict[str, Choice] = {str(at): "left" if at < 10 else "right" for at in range(20)}
        result = analyze(trials, votes)
        assert result.low is not None
        assert result.high is not None
        return result.low, result.high

    apart = made([str(at) for at in range(20)])
    together = made(["a"] * 5 + ["b"] * 5 + ["c"] * 5 + ["d"] * 5)
    assert together[1] - together[0] > 1.5 * (apart[1] - apart[0])


def test_one_paper_has_no_interval_and_no_vote_no_result() -> None:
    one = Trial("t", "real", Item("q", "?", "a", "b", "p"), "base", "tuned", "a", "b")
    result = analyze([one], {"t": "right"})
    assert (result.low, result.high, result.sign_p) == (None, None, 1.0)
    with pytest.raises(ValueError, match="no vote"):
        analyze([one], {})


def test_the_votes_needed_are_those_of_the_design() -> None:
    assert (needed_votes(0.65), needed_votes(0.60)) == (85, 194)


def test_kappa_by_hand() -> None:
    first, second = ["a"] * 25 + ["b"] * 25, ["a"] * 20 + ["b"] * 5 + ["a"] * 10 + ["b"] * 15
    assert cohen_kappa(first, second) == pytest.approx((0.7 - 0.5) / 0.5)
    assert cohen_kappa(["a"], ["a"]) is None
    with pytest.raises(ValueError, match="same items"):
        cohen_kappa([], [])


def test_the_judge_is_compared_on_the_questions_it_judged() -> None:
    trials = plan_trials(items(), KEY, n=20)
    votes = {trial.id: choose(trial, "tuned" if int(trial.item.question_id[1:]) % 2 else "base") for trial in trials}
    judge = {f"q{at}": "tuned" if at % 2 else "base" for at in range(30)}
    result = analyze(trials, votes, judge=judge)
    assert result.judge_kappa == pytest.approx(1.0)
    assert {"label": "agreement with the judge", "value": "κ = 1.00"} in report_part(result)["rows"]
    assert analyze(trials, votes).judge_kappa is None


def test_the_sentence_claims_no_more_than_the_votes() -> None:
    trials = plan_trials(items(), KEY, n=40)
    assert judged(analyze(trials, {t.id: choose(t, "tuned") for t in trials})).startswith(
        "The tuned model is preferred"
    )
    assert judged(
        analyze(trials, {t.id: "tie" if t.kind == "real" else choose(t, "tuned") for t in trials})
    ).startswith("No preference shown")
    fooled = {t.id: choose(t, "planted") if t.kind == "check" else choose(t, "tuned") for t in trials}
    assert judged(analyze(trials, fooled)).startswith("Not reliable")


def test_a_winner_is_named_from_its_side() -> None:
    trial = Trial("t", "real", items(1)[0], "tuned", "base", "", "")
    assert [winner(trial, one) for one in ("left", "right", "tie", "both_bad")] == ["tuned", "base", "tie", "both_bad"]


# the session


def test_votes_are_there_after_a_stop_and_the_last_one_counts(tmp_path: Path) -> None:
    session = open_session(tmp_path, items(), n=8)
    first = session.trials[0].id
    assert session.vote(first, "left", ["clear", "nonsense"])
    assert session.vote(first, "tie")
    again = open_session(tmp_path, items(), n=8)
    assert (again.votes, again.done) == ({first: "tie"}, 1)
    rows = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
    assert [(row["choice"], row["reasons"]) for row in rows] == [("left", ["clear"]), ("tie", [])]


def test_a_vote_cut_short_by_a_stop_is_cut_off_and_the_next_one_is_whole(tmp_path: Path) -> None:
    session = open_session(tmp_path, items(), n=8)
    session.vote(session.trials[0].id, "left")
    with (tmp_path / "votes.jsonl").open("a") as stream:
        stream.write('{"trial": "abc", "cho')
    again = open_session(tmp_path, items(), n=8)
    again.vote(again.trials[1].id, "right")
    assert open_session(tmp_path, items(), n=8).done == 2


def test_a_broken_line_among_votes_is_named(tmp_path: Path) -> None:
    open_session(tmp_path, items(), n=8)
    (tmp_path / "votes.jsonl").write_text("not json\n")
    with pytest.raises(ArtifactError) as caught:
        open_session(tmp_path, items(), n=8)
    assert caught.value.where.endswith("votes.jsonl:1")


def test_votes_on_other_answers_or_another_number_are_refused(tmp_path: Path) -> None:
    open_session(tmp_path, items(), n=8)
    changed = [replace(one, tuned_text=one.tuned_text + " More.") for one in items()]
    for other, n in ((changed, 8), (items(), 10)):
        with pytest.raises(ArtifactError, match="other answers, or with another number"):
            open_session(tmp_path, other, n=n)


def test_what_is_no_vote_is_not_written(tmp_path: Path) -> None:
    session = open_session(tmp_path, items(), n=8)
    assert not session.vote("unknown", "left")
    assert not session.vote(session.trials[0].id, "base")
    assert not (tmp_path / "votes.jsonl").exists()


def test_nothing_is_unblinded_before_the_last_vote_and_no_vote_taken_after(tmp_path: Path) -> None:
    session = open_session(tmp_path, items(), n=8)
    for trial in session.trials[:-1]:
        session.vote(trial.id, choose(trial, "tuned"))
    assert not session.unblind()
    assert session.result() is None
    session.vote(session.trials[-1].id, choose(session.trials[-1], "tuned"))
    assert session.unblind()
    result = session.result()
    assert result is not None
    assert result["headline"].startswith("The tuned model is preferred: 8 votes for tuned")
    assert not session.vote(session.trials[0].id, "left")


def test_the_key_is_for_its_owner_only_and_the_votes_tell_nothing(tmp_path: Path) -> None:
    session = open_session(tmp_path, items(), n=8)
    session.vote(session.trials[0].id, "left")
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    written = (tmp_path / "votes.jsonl").read_text() + (tmp_path / "session.json").read_text()
    assert not re.search("base|tuned|q[0-9]", written)


def test_no_page_before_the_end_says_whose_answer_is_whose(tmp_path: Path) -> None:
    session = open_session(tmp_path, items(), n=8)

    def told(page: str) -> bool:
        return bool(re.search("base|tuned|planted|repeat", re.sub("(?s)<(style|script).*?</", "", page)))

    assert not told(render_page(session, at=None, nonce="n"))
    for at, trial in enumerate(session.trials):
        page = render_page(session, at=at, nonce="n")
        assert not told(page)
        assert trial.item.question in page
        session.vote(trial.id, "tie")


def test_marks_of_markdown_are_smoothed_and_words_kept() -> None:
    text = "## Head\n- **bold** item with snake_case\n1. `code`\n\n\n\n> said *so*"
    assert smooth(text) == "Head\nbold item with snake_case\ncode\n\nsaid so"


# the server


def ask(address: str, path: str = "", form: dict[str, str] | None = None, **headers: str) -> tuple[int, str, str]:
    parts = urlsplit(address)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    body = None if form is None else urlencode(form)
    connection.request("GET" if form is None else "POST", parts.path + path, body, headers)
    reply = connection.getresponse()
    text = reply.read().decode()
    location = reply.headers.get("Location", "")
    connection.close()
    return reply.status, text, location


def test_a_whole_session_by_http(tmp_path: Path) -> None:
    session = open_session(tmp_path, items(), n=4)
    with serve(session) as address:
        assert "detecting 65 to 35" in ask(address)[1]
        for at, trial in enumerate(session.trials):
            status, page, _ = ask(address, f"?at={at}")
            assert status == 200
            assert f'value="{trial.id}"' in page
            assert "&lt;b&gt;Another&lt;/b&gt;" in page
            assert ask(address, "unblind", {})[0] == 409
            status, _, location = ask(address, "vote", {"trial": trial.id, "choice": choose(trial, "tuned")})
            assert (status, location) == (303, f"{urlsplit(address).path}?at={at + 1}")
        assert "Unblind" in ask(address, "?at=99")[1]
        assert ask(address, "unblind", {})[0] == 303
        assert "4 votes for tuned" in ask(address)[1]


def test_only_the_token_and_this_machines_names_are_answered(tmp_path: Path) -> None:
    session = open_session(tmp_path, items(), n=4)
    vote = {"trial": session.trials[0].id, "choice": "left"}
    with serve(session) as address:
        parts = urlsplit(address)
        assert parts.hostname == "127.0.0.1"
        assert ask(f"http://127.0.0.1:{parts.port}/")[0] == 404
        assert ask(f"http://127.0.0.1:{parts.port}/wrong/", "vote", vote)[0] == 404
        assert ask(address, "vote", vote, Host="evil.example")[0] == 404
        assert ask(address, "other")[0] == 404
        assert ask(address, "vote", {"trial": "x" * 20_000})[0] == 413
    assert session.votes == {}


def test_pages_forbid_what_they_do_not_need(tmp_path: Path) -> None:
    with serve(open_session(tmp_path, items(), n=4)) as address:
        parts = urlsplit(address)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.request("GET", f"{parts.path}?at=0")
        reply = connection.getresponse()
        policy = reply.headers["Content-Security-Policy"]
        page = reply.read().decode()
        connection.close()
    nonce = re.search("'nonce-(.+?)'", policy)
    assert nonce
    assert f'<script nonce="{nonce[1]}">' in page
    assert "default-src 'none'" in policy
    assert not re.search(r"https?://", page)


def test_going_back_and_voting_again_replaces_the_vote(tmp_path: Path) -> None:
    session: Session = open_session(tmp_path, items(), n=4)
    with serve(session) as address:
        for choice in ("left", "right"):
            ask(address, "vote", {"trial": session.trials[0].id, "choice": choice})
        assert session.votes[session.trials[0].id] == "right"
        assert 'id="back"' in ask(address, "?at=1")[1]
