"""A whole draft with a rule-made writer: what is kept, how evenly, what survives a stop, what a weak model gives."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlx_ragtune.errors import ToolError
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.papers.reading import open_paper
from mlx_ragtune.records import ChatRequest, Question
from mlx_ragtune.synthesis.benchmark_file import require_sound
from mlx_ragtune.synthesis.call_plan import even_order
from mlx_ragtune.synthesis.draft_checks import Library
from mlx_ragtune.synthesis.draft_plan import draft_calls, quotas
from mlx_ragtune.synthesis.drafting import HOPELESS_ASKED, Drafted, DraftSources, Writer, draft
from mlx_ragtune.synthesis.jobs import Jobs
from mlx_ragtune.synthesis.replies import Backend
from tests.synthesis.corpus import WordRetriever
from tests.synthesis.drafter import Drafter, Hopeless
from tests.synthesis.test_generate import Silent
from tests.synthesis.writer import NAMES, NOTES, Failing, note_chunks

ALL = note_chunks()
ASIDE = ("lora", "rag", "hnsw", "flan")
CHUNKS = even_order([chunk for chunk in ALL if chunk.document_id in ASIDE], 0)


def run(
    folder: Path, *backends: Backend, total: int = 30, slots: int = 1, seed: int = 0, known: Sequence[Question] = ()
) -> Drafted:
    quota = quotas(len(ASIDE), total)
    sources = DraftSources(
        {chunk.id: chunk for chunk in CHUNKS},
        WordRetriever(ALL),
        3,
        Library({chunk.document_id: chunk.title for chunk in ALL}),
        frozenset(NAMES),
    )
    calls = draft_calls(quota, CHUNKS, ["sailing", "chess", "opera"], seed=seed)
    writer = Writer(backends or (Drafter(),), "writer", "sha256:writer", slots, 8192)
    with Jobs(folder / "jobs.sqlite") as jobs:
        return draft(calls, quota, sources, writer=writer, jobs=jobs, seed=seed, progress=Silent(), known=known)


def test_the_wanted_questions_of_every_kind_and_each_passes_the_checks_of_the_file(tmp_path: Path) -> None:
    drafted = run(tmp_path)
    assert {task: funnel.kept for task, funnel in drafted.funnels.items()} == quotas(4, 30)
    write_rows(tmp_path / "benchmark.jsonl", drafted.questions)
    documents = [open_paper(NOTES / f"{name}.md", id=name).document for name in NAMES]
    assert require_sound(tmp_path / "benchmark.jsonl", documents=documents) == list(drafted.questions)
    assert {question.origin for question in drafted.questions} == {"drafted"}
    assert all(question.evidence and question.nuggets for question in drafted.questions if question.answerable)
    assert {paper for question in drafted.questions for paper in question.papers} == set(ASIDE)


def on_one_paper(drafted: Drafted) -> list[int]:
    """How many answerable questions each paper has alone."""
    return sorted(Counter(q.papers[0] for q in drafted.questions if q.answerable and len(q.papers) == 1).values())


@pytest.mark.parametrize("seed", range(6))
def test_papers_have_as_many_questions_each_though_each_kind_is_rounded_up(tmp_path: Path, seed: int) -> None:
    assert on_one_paper(run(tmp_path, total=40, seed=seed)) == [5, 5, 5, 5]


def test_the_places_of_a_paper_that_gives_nothing_go_evenly_to_the_others(tmp_path: Path) -> None:
    class Mute(Drafter):
        def _item(self, prompt: str, fields: list[str], at: int, request: ChatRequest) -> dict[str, str]:
            item = super()._item(prompt, fields, at, request)
            return dict.fromkeys(item, "") if "HNSW" in prompt or "Hierarchical Navigable" in prompt else item

    counts = on_one_paper(run(tmp_path, Mute(), total=40))
    assert len(counts) == 3
    assert max(counts) - min(counts) <= 1


def test_the_result_does_not_depend_on_slots_or_on_interruptions(tmp_path: Path) -> None:
    for name in ("one", "many", "cut"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "one")
    assert run(tmp_path / "many", slots=5).questions == whole.questions
    with pytest.raises(ToolError, match="3 calls failed in a row"):
        run(tmp_path / "cut", Broken())
    resumed = run(tmp_path / "cut")
    assert resumed.questions == whole.questions
    assert 0 < resumed.requests < whole.requests
    again = run(tmp_path / "cut", Failing(lambda _number: True))
    assert (again.questions, again.requests) == (whole.questions, 0)


class Broken(Failing):
    def __init__(self) -> None:
        super().__init__(lambda number: number > 30)
        self.writer = Drafter()


def test_another_seed_asks_other_questions(tmp_path: Path) -> None:
    first, other = (run(tmp_path, seed=seed) for seed in (0, 1))
    assert {q.question for q in first.questions} != {q.question for q in other.questions}


def test_questions_that_are_kept_are_neither_asked_again_nor_share_an_id(tmp_path: Path) -> None:
    first = run(tmp_path).questions
    known = first[:3]
    second = run(tmp_path, known=known).questions
    assert not {q.question for q in known} & {q.question for q in second}
    assert not {q.id for q in known} & {q.id for q in second}


def test_a_model_that_writes_nothing_usable_is_given_up_soon_and_is_no_error(tmp_path: Path) -> None:
    weak = Hopeless()
    drafted = run(tmp_path, weak, total=100)
    assert drafted.questions == ()
    assert set(drafted.given_up) == set(quotas(4, 100))
    assert all(funnel.asked <= HOPELESS_ASKED + 4 for funnel in drafted.funnels.values())
    assert all(funnel.rejections for funnel in drafted.funnels.values())
    assert drafted.requests < 5 * HOPELESS_ASKED


def test_off_corpus_questions_that_the_papers_answer_are_rejected(tmp_path: Path) -> None:
    class OnTopic(Drafter):
        def _item(self, prompt: str, fields: list[str], at: int, request: object) -> dict[str, str]:
            item = super()._item(prompt, fields, at, request)  # type: ignore[arg-type]
            if fields == ["question", "topic"]:
                item["question"] = f"What do studies report about matrices number {at}?"
            return item

    drafted = run(tmp_path, OnTopic())
    assert drafted.funnels["off_corpus"].kept == 0
