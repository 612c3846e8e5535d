"""A whole generation with a rule-made writer: what is kept, what is lost, what survives a kill."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.clients.http_retries import ServerGoneError
from mlx_ragtune.errors import ToolError
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.recipe import GeneratorSettings
from mlx_ragtune.records import ChatReply, ChatRequest, Chunk, Kind, Pair
from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.synthesis.authored import read_pairs
from mlx_ragtune.synthesis.call_plan import make_plan
from mlx_ragtune.synthesis.generate import GenerationReport, Sources, generate
from mlx_ragtune.synthesis.jobs import Jobs
from mlx_ragtune.synthesis.replies import Backend
from tests.synthesis.corpus import WordRetriever
from tests.synthesis.writer import Broken, Failing, Slow, Writer, note_chunks

SHARES: Mapping[Kind, float] = {"grounded": 0.6, "synthesis": 0.2, "refusal": 0.2}
CHUNKS = note_chunks()


class Silent:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def reach(self, done: int, total: int, note: str = "") -> None:
        self.seen.append((done, total))


def run(
    folder: Path,
    *backends: Backend,
    pairs: int = 50,
    slots: int = 1,
    min_yield: float = 0.3,
    chunks: Sequence[Chunk] = CHUNKS,
    barred: Callable[[Pair], str] = lambda _pair: "",
    say: Callable[[str], None] = lambda _text: None,
) -> GenerationReport:
    folder.mkdir(exist_ok=True)
    settings = GeneratorSettings(model="writer", pairs=pairs, slots=slots, min_yield=min_yield)
    plan = make_plan(chunks, settings, SHARES, seed=0)
    sources = Sources({chunk.id: chunk for chunk in chunks}, WordRetriever(chunks), 3, barred)
    with Jobs(folder / "jobs.sqlite") as jobs:
        return generate(
            plan,
            sources,
            backends=backends or (Writer(),),
            jobs=jobs,
            settings=settings,
            model_digest="sha256:writer",
            progress=Silent(),
            say=say,
        )


def test_the_wanted_number_of_pairs_in_the_wanted_kinds(tmp_path: Path) -> None:
    report = run(tmp_path)
    assert len(report.pairs) == 50
    assert Counter(pair.kind for pair in report.pairs) == {"grounded": 30, "synthesis": 10, "refusal": 10}
    assert {row.task for row in report.rows} == {
        "grounded", "partial", "synthesis", "off_corpus", "false_premise", "without_paper", "wrong_section",
    }  # fmt: skip
    assert len({pair.id for pair in report.pairs}) == 50


def test_replies_with_half_a_surrogate_pair_end_neither_the_run_nor_any_rerun(tmp_path: Path) -> None:
    def spoil(reply: ChatReply) -> ChatReply:
        return replace(reply, text=reply.text.replace("report about", "report about \\ud83d", 1))

    first = run(tmp_path, Broken(spoil))
    again = run(tmp_path, Broken(spoil))
    assert len(first.pairs) == 50
    assert first.rejections["text that is not valid Unicode"] > 10
    assert again.rows == first.rows
    assert again.requests == 0


def test_corpora_with_other_ids_share_a_table_without_sharing_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_ragtune.synthesis.call_plan.ANGLES", ("what was measured",))
    run(tmp_path, pairs=10)
    moved = [replace(chunk, id=f"new-{chunk.id}", document_id=f"new-{chunk.document_id}") for chunk in CHUNKS]
    report = run(tmp_path, pairs=10, chunks=moved)
    assert report.requests > 0
    assert all(paper.startswith("new-") for pair in report.pairs for paper in pair.papers)


def test_what_is_kept_passes_the_checks_of_authored_pairs(tmp_path: Path) -> None:
    from mlx_ragtune.papers.reading import open_paper
    from tests.synthesis.writer import NAMES, NOTES

    report = run(tmp_path)
    documents = [open_paper(NOTES / f"{name}.md", id=name).document for name in NAMES]
    plain = [row.pair for row in report.rows if row.task != "wrong_section"]
    write_rows(tmp_path / "pairs.jsonl", plain)
    assert read_pairs(tmp_path / "pairs.jsonl", documents) == plain


def test_every_refusal_refuses_and_names_what_is_missing(tmp_path: Path) -> None:
    report = run(tmp_path)
    refusals = [pair for pair in report.pairs if pair.kind == "refusal"]
    assert all(is_refusal(pair.answer) for pair in refusals)
    assert len({pair.answer.split()[0] for pair in refusals}) > 1, "the wording varies"


def test_a_contrast_refusal_repeats_a_kept_question_and_names_its_paper(tmp_path: Path) -> None:
    report = run(tmp_path)
    grounded = {row.pair.question: row.pair for row in report.rows if row.task == "grounded"}
    contrasts = [row.pair for row in report.rows if row.task == "without_paper"]
    wrong = [row.pair for row in report.rows if row.task == "wrong_section"]
    assert contrasts
    assert wrong
    for pair in contrasts + wrong:
        assert pair.papers == grounded[pair.question].papers
    assert all(pair.evidence == grounded[pair.question].evidence for pair in wrong)
    assert not {pair.question for pair in contrasts} & {pair.question for pair in wrong}


def test_papers_are_covered_evenly(tmp_path: Path) -> None:
    report = run(tmp_path, pairs=80)
    counts = Counter(row.pair.papers[0] for row in report.rows if row.task == "grounded")
    assert set(counts) == {chunk.document_id for chunk in CHUNKS}
    assert max(counts.values()) - min(counts.values()) <= 6


def test_rows_carry_their_origin(tmp_path: Path) -> None:
    report = run(tmp_path)
    row = next(row for row in report.rows if row.task == "synthesis")
    assert row.model == "sha256:writer"
    assert len(row.chunk_sha256) >= 2
    assert all(len(digest) == 64 for digest in row.chunk_sha256.values())
    assert set(row.scores) == {"round_trip", "closed_book"}
    assert len(row.prompt_version) == 12


def test_the_funnel_narrows_and_adds_up(tmp_path: Path) -> None:
    report = run(tmp_path, pairs=80)
    for funnel in report.funnels.values():
        assert funnel.asked >= funnel.written >= funnel.sound >= funnel.passed >= funnel.kept
        assert funnel.kept <= funnel.wanted
    assert sum(funnel.kept for funnel in report.funnels.values()) == 80
    assert 0.3 <= report.yield_share <= 1
    assert report.jobs["pending"] == report.jobs["error"] == 0


def test_a_kind_makes_up_for_a_task_that_lacks_pairs(tmp_path: Path) -> None:
    report = run(tmp_path, pairs=80)
    partial, grounded = report.funnels["partial"], report.funnels["grounded"]
    assert partial.kept < partial.wanted, "the writer's partial questions repeat grounded ones"
    assert partial.kept + grounded.kept == 48
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        made = sum(jobs.counts().values())
    assert sum(funnel.calls for funnel in report.funnels.values()) <= made, "no call is taken up twice"


def test_the_result_does_not_depend_on_the_number_of_servers_or_slots(tmp_path: Path) -> None:
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    one = run(tmp_path / "one")
    many = run(tmp_path / "many", Slow(0.004), Slow(0.001), slots=3)
    assert one.rows == many.rows
    assert one.funnels == many.funnels


def test_a_second_run_asks_nothing_and_gives_the_same(tmp_path: Path) -> None:
    first = run(tmp_path)
    writer = Writer()
    again = run(tmp_path, writer)
    assert writer.requests == []
    assert again.rows == first.rows
    assert (again.requests, again.answer_tokens) == (0, 0)


def test_more_pairs_asked_for_later_reuse_what_is_there(tmp_path: Path) -> None:
    run(tmp_path, pairs=40)
    writer, fresh = Writer(), Writer()
    run(tmp_path, writer, pairs=60)
    (tmp_path / "fresh").mkdir()
    run(tmp_path / "fresh", fresh, pairs=60)
    assert 0 < len(writer.requests) < 0.6 * len(fresh.requests)


def test_another_model_is_asked_anew(tmp_path: Path) -> None:
    run(tmp_path, pairs=10)
    settings = GeneratorSettings(model="writer", pairs=10)
    writer = Writer()
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        generate(
            make_plan(CHUNKS, settings, SHARES, seed=0),
            Sources({chunk.id: chunk for chunk in CHUNKS}, WordRetriever(CHUNKS), 3),
            backends=[writer],
            jobs=jobs,
            settings=settings,
            model_digest="sha256:another",
            progress=Silent(),
        )
    assert writer.requests


# --- bad replies


def text(value: str, done: str = "stop", thinking: str = "") -> Callable[[ChatReply], ChatReply]:
    return lambda reply: replace(reply, text=value, done_reason=done, thinking=thinking)


def test_one_bad_reply_in_three_is_repaired_by_asking_again(tmp_path: Path) -> None:
    backend = Broken(text("I would rather talk about it."), lambda number, _: number % 3 == 0)
    report = run(tmp_path, backend)
    assert len(report.pairs) == 50
    repairs = [one for one in backend.writer.requests if len(one.messages) == 4]
    assert repairs
    assert "That cannot be used: no JSON object with a list" in repairs[0].messages[-1].content
    assert repairs[0].messages[2].content == "I would rather talk about it."


def test_json_that_arrives_in_the_thinking_counts(tmp_path: Path) -> None:
    backend = Broken(lambda reply: replace(reply, text="", thinking=f"Let me see. {reply.text}"))
    assert run(tmp_path, backend).rows == run_elsewhere(tmp_path).rows


def test_json_in_a_fence_with_chatter_counts(tmp_path: Path) -> None:
    backend = Broken(lambda reply: replace(reply, text=f"Sure!\n```json\n{reply.text}\n```\nDone {{x}}"))
    assert run(tmp_path, backend).rows == run_elsewhere(tmp_path).rows


def run_elsewhere(folder: Path) -> GenerationReport:
    (folder / "elsewhere").mkdir()
    return run(folder / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (text(""), "reply: empty reply"),
        (text("No."), "reply: no JSON object with a list 'pairs'"),
        (text('{"pairs": [{"evidence": "cut of', "length"), "reply: max_tokens used up by the answer"),
        (text("", "length", "I think and think"), "reply: max_tokens used up by thinking"),
        (text('{"pairs": []}'), "reply: no item with all the keys"),
        (text('{"pairs": [{"question": "Why?"}, 5, null]}'), "reply: no item with all the keys"),
    ],
)
def test_a_model_that_never_writes_pairs_is_stopped_with_the_reason(
    spoil: Callable[[ChatReply], ChatReply], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ToolError) as caught:
        run(tmp_path, Broken(spoil))
    assert "only 0 of " in caught.value.what
    assert "(0%) passed the checks, dataset.generator.min_yield is 30%" in caught.value.what
    assert f"× {reason}" in caught.value.what
    assert caught.value.exit_code == 4
    assert "larger dataset.generator.model" in caught.value.fix


def spoil_items(change: Callable[[dict[str, str]], dict[str, str]]) -> Callable[[ChatReply], ChatReply]:
    def spoil(reply: ChatReply) -> ChatReply:
        value = json.loads(reply.text)
        if "pairs" in value:
            value["pairs"] = [change(item) for item in value["pairs"]]
        return replace(reply, text=json.dumps(value))

    return spoil


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("evidence", "A sentence that stands nowhere in the passage, made up.", "evidence quote not in the text"),
        ("question", "What does the paper report?", "question too short or too long"),
        ("reply", "It is so, and 1234 more.", "number that is not in the source"),
    ],
)
def test_a_model_with_one_bad_habit_is_stopped_and_the_habit_is_named(
    field: str, value: str, reason: str, tmp_path: Path
) -> None:
    habit = spoil_items(lambda item: {**item, field: value} if field in item else item)
    with pytest.raises(ToolError) as caught:
        run(tmp_path, Broken(habit), min_yield=0.9)
    assert reason in caught.value.what.splitlines()[1]


def test_a_low_yield_stops_early_and_keeps_what_passed(tmp_path: Path) -> None:
    spoiler = Broken(text("No."))
    with pytest.raises(ToolError):
        run(tmp_path, spoiler, pairs=2000)
    assert spoiler.count < 60
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        assert jobs.counts()["rejected"] > 0


def test_when_a_judge_gives_no_verdict_the_pairs_are_rejected_not_trusted(tmp_path: Path) -> None:
    def mute(reply: ChatReply) -> ChatReply:
        return replace(reply, text='{"verdicts": []}') if "verdicts" in reply.text else reply

    with pytest.raises(ToolError, match=r"model: no verdict \(not one verdict for each question\)"):
        run(tmp_path, Broken(mute), min_yield=0.9)


def test_answers_that_the_judge_does_not_find_in_the_source_are_rejected(tmp_path: Path) -> None:
    def never(reply: ChatReply) -> ChatReply:
        return replace(reply, text=reply.text.replace('"yes"', '"no"'))

    with pytest.raises(ToolError, match="model: the source does not state the answer"):
        run(tmp_path, Broken(never), min_yield=0.9)


def test_refusals_that_the_passages_do_answer_are_rejected(tmp_path: Path) -> None:
    def always(reply: ChatReply) -> ChatReply:
        return replace(reply, text=reply.text.replace('"absent"', '"answered"'))

    said: list[str] = []
    report = run(tmp_path, Broken(always), say=said.append)
    assert Counter(pair.kind for pair in report.pairs) == {"grounded": 30, "synthesis": 10, "refusal": 4}
    assert said[-1] == "44 of 50 pairs: 6 fewer refusal"
    assert any("× model: the passages do answer it" in line for line in said)


def test_fewer_pairs_than_wanted_are_no_error_and_the_funnel_is_told_by_task_and_reason(tmp_path: Path) -> None:
    said: list[str] = []
    report = run(tmp_path, pairs=240, min_yield=0.1, chunks=note_chunks("lora", "rag"), say=said.append)
    assert 24 < len(report.pairs) < 240
    assert max(map(len, said)) <= 80
    assert said[0].split()[2:] == ["wanted", "asked", "written", "sound", "passed", "kept"]
    told = {line.split()[0]: [int(count) for count in line.split()[1:]] for line in said if re.match("  [a-z]", line)}
    assert told.keys() == {*report.funnels, "all"}
    for task, funnel in report.funnels.items():
        assert told[task][1:] == [funnel.asked, funnel.written, funnel.sound, funnel.passed, funnel.kept]
    assert told["all"][0] == 240
    assert told["all"][-1] == len(report.pairs)
    assert said[-1].startswith(f"{len(report.pairs)} of 240 pairs: ")


def test_few_kept_pairs_are_an_error_though_all_that_were_written_passed(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"all planned calls are made and only \d+ of 240 pairs are kept") as caught:
        run(tmp_path, pairs=240, min_yield=0.6, chunks=note_chunks("lora", "rag"))
    assert "× repeats an earlier question" in caught.value.what


def test_what_the_model_knows_without_the_paper_is_capped_at_a_quarter(tmp_path: Path) -> None:
    class Knowing(Writer):
        """Answers from memory as well as from the passage."""

        def __init__(self) -> None:
            super().__init__()
            self.last = ""

        def chat(self, request: object) -> ChatReply:
            reply = super().chat(request)  # type: ignore[arg-type]
            if "answers" in reply.text[:12]:
                if "from what you know" in request.messages[1].content:  # type: ignore[attr-defined]
                    return replace(reply, text=self.last)
                self.last = reply.text
            return reply

    report = run(tmp_path, Knowing())
    assert report.rejections["answerable without the paper"] > 10
    assert report.funnels["grounded"].kept < report.funnels["grounded"].wanted / 3


# --- servers that fail, programs that die


def test_a_server_that_is_away_stops_the_run_with_its_own_advice(tmp_path: Path) -> None:
    with pytest.raises(ToolError) as caught:
        run(tmp_path, Failing(lambda _number: True))
    assert caught.value.what == "3 calls failed in a row; the last error: connection refused"
    assert caught.value.where == "http://127.0.0.1:11434"
    assert caught.value.fix == "ollama serve; then run the same command again to resume"
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        assert jobs.counts()["error"] == 3


def test_a_failed_call_is_made_again_by_the_next_run(tmp_path: Path) -> None:
    with pytest.raises(ToolError):
        run(tmp_path, Failing(lambda number: number >= 20))
    writer = Writer()
    again = run(tmp_path, writer)
    assert again.jobs["error"] == 0
    assert again.rows == run_elsewhere(tmp_path).rows


def test_a_failure_now_and_then_is_counted_and_does_not_stop_the_run(tmp_path: Path) -> None:
    report = run(tmp_path, Failing(lambda number: number in (5, 20, 40, 60)))
    assert len(report.pairs) == 50
    assert sum(funnel.failed_calls for funnel in report.funnels.values()) == 4
    assert report.jobs["error"] == 4


def test_a_bug_in_a_backend_keeps_its_traceback(tmp_path: Path) -> None:
    class Buggy:
        def chat(self, _request: object) -> ChatReply:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(tmp_path, Buggy())


def test_an_interrupt_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    class Interrupting(Silent):
        def reach(self, done: int, total: int, note: str = "") -> None:
            if done >= 20:
                raise KeyboardInterrupt

    settings = GeneratorSettings(model="writer", pairs=50)
    plan = make_plan(CHUNKS, settings, SHARES, seed=0)
    sources = Sources({chunk.id: chunk for chunk in CHUNKS}, WordRetriever(CHUNKS), 3)
    said: list[str] = []
    with Jobs(tmp_path / "jobs.sqlite") as jobs, pytest.raises(KeyboardInterrupt):
        generate(
            plan,
            sources,
            backends=[Writer()],
            jobs=jobs,
            settings=settings,
            model_digest="sha256:writer",
            progress=Interrupting(),
            say=said.append,
        )
    assert said[0].startswith("generated pairs"), "the funnel is told on a stop too"
    writer, fresh = Writer(), Writer()
    assert len(run(tmp_path, writer).pairs) == 50
    (tmp_path / "fresh").mkdir()
    run(tmp_path / "fresh", fresh)
    assert len(writer.requests) < 0.75 * len(fresh.requests)


def test_of_two_servers_one_may_go_away_and_no_pair_is_lost(tmp_path: Path) -> None:
    class Gone(Failing):
        def chat(self, request: ChatRequest) -> ChatReply:
            try:
                return super().chat(request)
            except ToolError as error:
                raise ServerGoneError(error.what, where="http://box:11434") from None

    said: list[str] = []
    settings = GeneratorSettings(model="writer", pairs=20, slots=2)
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        report = generate(
            make_plan(CHUNKS, settings, SHARES, seed=0),
            Sources({chunk.id: chunk for chunk in CHUNKS}, WordRetriever(CHUNKS), 3),
            backends=[Gone(lambda number: number >= 3), Slow(0.002)],
            jobs=jobs,
            settings=settings,
            model_digest="sha256:writer",
            progress=Silent(),
            say=said.append,
        )
    lost = [line for line in said if "the other servers" in line]
    assert lost == ["http://box:11434: connection refused; the other servers do its calls"]
    (tmp_path / "fresh").mkdir()
    assert report.rows == run(tmp_path / "fresh", pairs=20).rows
    assert len(report.rows) == 20
    assert sum(funnel.failed_calls for funnel in report.funnels.values()) == 0


CHILD = """
import sys
from pathlib import Path
sys.path.append("benchmarks")
from tests.synthesis.test_generate import run
from tests.synthesis.writer import Slow
folder = Path(sys.argv[1])
run(folder, Slow(0.03, folder / "log"), slots=2)
"""


FINISHED = "SELECT outcome FROM job WHERE state IN ('ok', 'rejected')"


def test_a_killed_run_goes_on_and_asks_only_what_was_in_flight_again(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    log = tmp_path / "log"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], cwd=root)
    deadline = time.monotonic() + 300
    while not log.exists() or len(log.read_text().splitlines()) < 40:
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    with Jobs(tmp_path / "jobs.sqlite") as jobs:
        assert jobs.counts()["ok"] > 3
        assert jobs.counts()["pending"] in (1, 2), "one for each slot at the most"
    connection = sqlite3.connect(tmp_path / "jobs.sqlite")
    kept = sum(json.loads(row)["requests"] for (row,) in connection.execute(FINISHED))
    connection.close()
    resumed, whole = run(tmp_path), run_elsewhere(tmp_path)
    assert resumed.rows == whole.rows
    assert kept >= 40 - 2 * 4, "all that was asked but for the two calls in flight"
    assert whole.requests - kept <= resumed.requests <= whole.requests - kept + 4


def test_pairs_of_a_model_that_writes_the_paper_are_repaired_and_the_repairs_are_recorded(tmp_path: Path) -> None:
    def habit(item: dict[str, str]) -> dict[str, str]:
        if "evidence" not in item:
            return item
        question = re.sub(r"What does .* report", "What does the paper report", item["question"])
        return {**item, "question": question, "reply": re.sub(r'"[^"]+" reports:', "The paper reports:", item["reply"])}

    report = run(tmp_path, Broken(spoil_items(habit)))
    rows = [row for row in report.rows if row.task == "grounded"]
    assert rows
    assert all("title for 'the paper'" in row.repairs for row in rows)
    assert all(row.pair.answer.startswith('"') and "the paper" not in row.pair.question for row in rows)
    assert report.repairs["title for 'the paper'"] == sum("title for 'the paper'" in row.repairs for row in report.rows)
    assert sum(funnel.repairs["title for 'the paper'"] for funnel in report.funnels.values()) >= len(rows)


def test_pairs_that_ask_the_benchmark_or_cite_another_paper_are_not_kept(tmp_path: Path) -> None:
    free = run(tmp_path)
    barred = {pair.question for pair in free.pairs[::5] if pair.kind != "refusal"}
    report = run(tmp_path, barred=lambda pair: "asks a benchmark question" if pair.question in barred else "")
    assert report.rejections["asks a benchmark question"] > 0
    assert not barred & {pair.question for pair in report.pairs}
    other = next(chunk.title for chunk in CHUNKS if chunk.document_id == "flan")
    habit = spoil_items(
        lambda item: {**item, "reply": f'{item["reply"]} So does "{other}".'} if "evidence" in item else item
    )
    with pytest.raises(ToolError, match="cites a paper that is not its source"):
        run(tmp_path / "other", Broken(habit))


def test_kills_at_any_moment_neither_lose_nor_double_a_pair(tmp_path: Path) -> None:
    root, log = Path(__file__).parents[2], tmp_path / "log"
    draw = random.Random(3)
    for asked in (9, 40):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], cwd=root)
        while not log.exists() or len(log.read_text().splitlines()) < asked:
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.05))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    resumed, whole = run(tmp_path), run_elsewhere(tmp_path)
    assert resumed.rows == whole.rows
    assert len({row.pair.id for row in resumed.rows}) == len(resumed.rows) == 50
