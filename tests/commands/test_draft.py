"""draft: from papers to a benchmark file by one command, which can be interrupted, repeated and mistrusted."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_ragtune.jsonl import read_dicts, write_rows
from mlx_ragtune.records import ChatReply, ChatRequest, Question
from mlx_ragtune.scoring.answers.benchmark_rows import read_questions
from tests.clients.openai_server import OpenAiStandIn
from tests.stages.project import Done, ragtune
from tests.synthesis.drafter import Drafter, Hopeless
from tests.synthesis.small import Small
from tests.synthesis.writer import NOTES

PAPERS = ("lora", "rag", "hnsw", "flan", "ragas", "self_rag", "qlora", "hotpot_qa")
SMALL = ("--papers", "3", "--questions", "12")


@pytest.fixture
def server() -> Iterator[OpenAiStandIn]:
    with OpenAiStandIn(Drafter().chat) as standin:
        yield standin


@pytest.fixture
def recipe(tmp_path: Path, server: OpenAiStandIn) -> Path:
    """What ``init`` writes for a folder without a benchmark, with a server that answers."""
    (tmp_path / "papers").mkdir()
    for name in PAPERS:
        shutil.copy(NOTES / f"{name}.md", tmp_path / "papers")
    options = ("--base", "toy:qwen3", "--backend", "ollama", "--generator", "qwen3:4b-instruct")
    assert ragtune("init", "papers", *options, cwd=tmp_path).returncode == 0
    path = tmp_path / "recipes" / "papers.yaml"
    generator = f'backend: openai\n    model: writer\n    hosts: ["{server.host}"]'
    path.write_text(path.read_text().replace('backend: ollama\n    model: "qwen3:4b-instruct"', generator))
    return path


def draft(recipe: Path, *options: str) -> Done:
    return ragtune("draft", recipe, *options, cwd=recipe.parents[1])


def benchmark(recipe: Path) -> Path:
    return recipe.with_name("papers.benchmark.jsonl")


def test_one_command_writes_a_benchmark_that_validates_and_says_what_it_can_show(recipe: Path) -> None:
    done = draft(recipe, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "set aside 3 of 8 papers (seed 0), which will not be trained on: " in done.stderr
    assert done.stderr.index("if all of them succeed:") < done.stderr.index("no verdict is possible")
    assert "12 of 12 questions, drafted by writer" in done.stdout
    assert f"next: ragtune review {recipe} --what benchmark, then: ragtune run {recipe}" in done.stdout
    questions = read_questions(benchmark(recipe))
    assert {question.origin for question in questions} == {"drafted"}
    assert {question.writer for question in questions} == {"writer"}
    assert any(question.topic == "unnamed" for question in questions)
    validated = ragtune("validate", recipe, "--json", cwd=recipe.parents[1])
    (row,) = json.loads(validated.stdout)
    assert (row["error"], row["findings"]) == (None, [])


def test_a_benchmark_that_exists_is_not_overwritten_and_a_second_call_names_redo(recipe: Path) -> None:
    benchmark(recipe).write_text('{"question": "Who won?", "answer": null}\n')
    done = draft(recipe, *SMALL)
    assert done.returncode == 3
    assert f"try: ragtune draft {recipe} --redo" in done.stderr
    assert benchmark(recipe).read_text().count("\n") == 1


def test_a_redo_keeps_what_a_person_wrote_reviewed_or_edited_and_asks_nothing_twice(
    recipe: Path, server: OpenAiStandIn
) -> None:
    draft(recipe, *SMALL)
    rows = list(read_dicts(benchmark(recipe)))
    rows[0]["origin"] = "reviewed"
    rows[1]["question"] = "What does a person ask here instead of the model?"
    own = {"question": "Who won the cup?", "answer": None}
    write_rows(benchmark(recipe), [*rows, own])
    before = len(server.bodies)
    done = draft(recipe, *SMALL, "--redo")
    assert done.returncode == 0, done.stderr
    assert "kept: 3 questions that a person wrote, reviewed or edited" in done.stderr
    after = {question.id: question for question in read_questions(benchmark(recipe))}
    assert after[rows[0]["id"]].origin == "reviewed"
    assert after[rows[1]["id"]].question == rows[1]["question"]
    assert "Who won the cup?" in {question.question for question in after.values()}
    assert len(after) == 12
    assert len(server.bodies) - before < before / 2, "finished calls are not made again"
    assert f"former content: {benchmark(recipe)}.bak" in done.stdout
    assert list(read_dicts(Path(f"{benchmark(recipe)}.bak"))) == [*rows, own]


def test_an_interrupted_draft_writes_nothing_and_the_same_command_continues(
    recipe: Path, server: OpenAiStandIn
) -> None:
    server.refuse = lambda body: (400, {"error": "stopped"}) if body and len(server.bodies) > 12 else None
    stopped = draft(recipe, *SMALL)
    assert stopped.returncode == 4
    assert "run the same command again" in stopped.stderr
    assert not benchmark(recipe).exists()
    server.refuse = lambda _body: None
    made = len(server.bodies)
    assert draft(recipe, *SMALL).returncode == 0
    resumed = len(server.bodies) - made
    whole = benchmark(recipe).read_bytes()
    benchmark(recipe).unlink()
    shutil.rmtree(recipe.parents[1] / "runs")
    made = len(server.bodies)
    assert draft(recipe, *SMALL).returncode == 0
    assert benchmark(recipe).read_bytes() == whole
    assert resumed < len(server.bodies) - made


def test_ctrl_c_is_answered_with_what_is_kept_and_loses_no_finished_request(
    recipe: Path, server: OpenAiStandIn
) -> None:
    good = Drafter()

    def stop(request: ChatRequest) -> ChatReply:
        if len(good.requests) == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return good.chat(request)

    server.answer = stop
    done = draft(recipe, *SMALL)
    assert done.returncode == 130
    assert "every finished request is kept, and the same command continues" in done.stderr
    assert not benchmark(recipe).exists()
    server.answer = fresh = Drafter().chat
    assert draft(recipe, *SMALL).returncode == 0
    assert not {repr(one) for one in good.requests[:4]} & {repr(one) for one in fresh.__self__.requests}  # type: ignore[attr-defined]


def test_a_model_that_writes_nothing_usable_ends_with_the_reasons_and_what_to_do(
    recipe: Path, server: OpenAiStandIn
) -> None:
    server.answer = Hopeless().chat
    done = draft(recipe, *SMALL)
    assert done.returncode == 4
    assert "'writer' wrote no answerable question that passed the checks, so nothing was written:" in done.stderr
    assert "× question does not end in a question mark" in done.stderr
    assert f"try: ragtune draft {recipe} --model NAME, with a larger model" in done.stderr
    assert not benchmark(recipe).exists()
    benchmark(recipe).write_text('{"question": "Who won?", "answer": null}\n')
    assert draft(recipe, *SMALL, "--redo").returncode == 4
    assert benchmark(recipe).read_text() == '{"question": "Who won?", "answer": null}\n'


def test_fewer_questions_than_wanted_are_a_success_with_a_report(recipe: Path, server: OpenAiStandIn) -> None:
    class Half(Drafter):
        def _item(self, prompt: str, fields: list[str], at: int, request: object) -> dict[str, str]:
            item = super()._item(prompt, fields, at, request)  # type: ignore[arg-type]
            return item if "key" in fields else dict.fromkeys(fields, "Nothing.")

    server.answer = Half().chat
    done = draft(recipe, *SMALL, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert 0 < report["drafted"] < report["wanted"]
    assert report["funnel"]["off_corpus"]["kept"] == 0
    assert report["funnel"]["off_corpus"]["rejections"]
    assert len(read_questions(benchmark(recipe))) == report["drafted"]


def test_papers_of_the_users_own_pairs_are_not_set_aside_and_a_model_must_be_named(
    recipe: Path, server: OpenAiStandIn
) -> None:
    pairs = recipe.parents[1] / "pairs.jsonl"
    rows = [row for row in read_dicts(NOTES.parent / "pairs.jsonl") if row["kind"] == "grounded"]
    named = list(dict.fromkeys(row["papers"][0] for row in rows))[:5]
    for name in named:
        shutil.copy(NOTES / f"{name}.md", recipe.parents[1] / "papers")
    used = [row for row in rows if row["papers"][0] in named]
    write_rows(pairs, used)
    text = recipe.read_text()
    start, end = text.index("  generator:"), text.index("  max_tokens: 2048")
    recipe.write_text(f"{text[:start]}  pairs: ../pairs.jsonl\n{text[end:]}")
    done = draft(recipe)
    assert done.returncode == 2
    assert "the recipe has no generator" in done.stderr
    assert draft(recipe, "--model", "writer", "--backend", "wrong").returncode == 2
    chosen = ("--model", "writer", "--backend", "openai", "--host", server.host)
    free = set(PAPERS) - set(named)
    done = draft(recipe, *chosen, "--papers", "9")
    assert done.returncode == 3
    assert f"try: ragtune draft {recipe} --papers {len(free)}" in done.stderr
    done = draft(recipe, *chosen, "--questions", "12")
    assert done.returncode == 0, done.stderr
    questions = read_questions(benchmark(recipe))
    assert {paper for question in questions for paper in question.papers} <= free
    assert not {question.question for question in questions} & {row["question"] for row in used}


def test_what_is_drafted_is_held_out_of_training(recipe: Path) -> None:
    assert draft(recipe, *SMALL).returncode == 0
    questions: list[Question] = read_questions(benchmark(recipe))
    aside = {paper for question in questions for paper in question.papers}
    recipe.write_text(
        recipe.read_text().replace("pairs: 120", "pairs: 20").replace("max_tokens: 2048", "max_tokens: 8192")
    )
    done = ragtune("dataset", recipe, cwd=recipe.parents[1])
    assert done.returncode == 0, done.stderr
    rows = list(read_dicts(recipe.parents[1] / "runs" / "papers" / "2-dataset" / "examples-train.jsonl"))
    assert rows
    assert not aside & {paper for row in rows for paper in row["papers"]}
    assert not [row for row in rows for name in row["context_ids"] if name.rpartition("-")[0] in aside]


def test_a_very_small_model_drafts_by_asking_for_quoted_sentences(recipe: Path, server: OpenAiStandIn) -> None:
    text = recipe.read_text().replace("model: writer", "model: writer\n    answers: quoted")
    shares = "  shares: {grounded: 0.75, synthesis: 0, refusal: 0.25}\n"
    recipe.write_text(text.replace("  max_tokens: 2048\n", f"  max_tokens: 2048\n{shares}"))
    server.answer = Small().chat
    done = draft(recipe, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "planned: 12 questions: 8 answerable, 4 off-corpus" in done.stderr
    assert "answerable from two papers, near miss: not made with 'answers: quoted'" in done.stderr
    assert done.stdout.count("not made with 'answers: quoted'") == 2
    assert ragtune("validate", recipe, cwd=recipe.parents[1]).returncode == 0
