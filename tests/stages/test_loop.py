"""The whole loop on a small project: every stage with its real component, and the ways it can be stopped."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_ragtune.clients.runtime_mlx import mx
from tests.stages.project import (
    answers_of,
    edit,
    forget,
    ragtune,
    recipe_of,
    rows,
    run_folder,
    stage_folder,
    write_rows,
)

FOLDERS = [
    "1-corpus", "2-dataset", "3-train", "4-fuse", "5-export", "6-register", "7-evaluate", "8-report",
]  # fmt: skip


def test_a_run_leaves_exactly_eight_artifacts_each_with_its_manifest(finished: Path) -> None:
    found = sorted(path.name for path in run_folder(finished).iterdir() if not path.name.startswith("."))
    assert found == FOLDERS
    for name in FOLDERS:
        manifest = json.loads((run_folder(finished) / name / "manifest.json").read_text())
        assert manifest["packages"]["mlx"]
        assert set(manifest["files"]) == {
            path.relative_to(run_folder(finished) / name).as_posix()
            for path in (run_folder(finished) / name).rglob("*")
            if path.is_file() and path.name != "manifest.json"
        }
    assert list((finished / "runs" / ".store" / ".drafts").iterdir()) == []


def test_a_second_run_does_nothing_and_says_so(finished: Path) -> None:
    done = ragtune("run", recipe_of(finished), "--json", cwd=finished)
    assert {one["did"] for one in json.loads(done.stdout)["stages"]} == {"skipped"}
    assert done.stderr.count(": up to date") == 8


def test_the_adapter_loads_in_mlx_lm_and_changes_its_answer(finished: Path) -> None:
    from mlx_lm import generate, load

    from mlx_ragtune.bases.resolve import resolve_base
    from mlx_ragtune.gguf.reader import import_gguf
    from mlx_ragtune.recipe import BaseModelSettings

    base = resolve_base(BaseModelSettings(model="toy:qwen3"), offline=True, import_gguf=import_gguf)
    adapter = run_folder(finished) / "3-train"
    plain, tokenizer = load(str(base))
    tuned, _ = load(str(base), adapter_path=str(adapter))
    prompt = tokenizer.encode("Question: what?")
    before, after = (model(mx.array(prompt)[None])[0, -1] for model in (plain, tuned))
    assert float(mx.abs(before - after).max()) > 0.01
    assert isinstance(generate(tuned, tokenizer, prompt=prompt, max_tokens=4), str)


def test_the_fused_folder_is_complete(finished: Path) -> None:
    from mlx_lm import load
    from transformers import AutoTokenizer

    folder = run_folder(finished) / "4-fuse" / "model"
    model, _ = load(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    turns = [{"role": "user", "content": "hi"}]
    assert "<|im_start|>" in tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert "quantization" not in json.loads((folder / "config.json").read_text())
    assert model(mx.array([[1, 2, 3]])).shape[:2] == (1, 3)


def test_fuse_and_export_compute_the_logits_of_each_model_once(finished: Path) -> None:
    used = [json.loads((run_folder(finished) / name / "manifest.json").read_text())["parts"] for name in FOLDERS[3:5]]
    fused, exported = ({part for part in parts if part.startswith("logits-")} for parts in used)
    assert len(fused) == 2
    assert exported <= fused
    store = finished / "runs" / ".store" / "parts"
    assert {path.name for path in store.glob("logits-*")} == fused


def test_both_gguf_files_are_of_one_type_and_answer(finished: Path) -> None:
    from mlx_ragtune.clients.receipts import gguf_facts
    from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
    from mlx_ragtune.records import ChatRequest, Message, Sampling

    export = run_folder(finished) / "5-export"
    facts = [gguf_facts(export / f"{model}.gguf") for model in ("base", "tuned")]
    assert facts[0] == facts[1]
    assert facts[0].type == "Q8_0"
    with LlamaCppServer(export / "tuned.gguf", context_tokens=512) as server:
        reply = server.chat(ChatRequest((Message("user", "hi"),), Sampling(max_tokens=4)))
    assert reply.answer_tokens > 0
    parity = json.loads((export / "parity.json").read_text())
    assert all(one["tokens_equal"] for one in parity["parity"].values())
    assert parity["effect_nats"] > 0


def test_the_data_set_is_chat_jsonl_that_mlx_lm_reads(finished: Path) -> None:
    from mlx_lm.tuner.datasets import ChatDataset
    from mlx_lm.utils import load_tokenizer

    folder = run_folder(finished) / "2-dataset"
    base = run_folder(finished) / "4-fuse" / "model"
    for split in ("train", "valid"):
        data = rows(folder / f"{split}.jsonl")
        assert data
        assert [turn["role"] for turn in data[0]["messages"]] == ["system", "user", "assistant"]
        tokens, offset = ChatDataset(data, load_tokenizer(base), mask_prompt=True).process(data[0])
        assert 0 < offset < len(tokens)


def test_no_paper_is_in_two_splits_and_none_of_the_benchmark_in_training(finished: Path) -> None:
    folder = run_folder(finished) / "2-dataset"
    papers = {
        split: {paper for row in rows(folder / f"examples-{split}.jsonl") for paper in row["papers"]}
        for split in ("train", "valid")
    }
    assert papers["train"]
    assert papers["valid"]
    assert not papers["train"] & papers["valid"]
    held = {paper for row in rows(finished / "benchmark.jsonl") for paper in row["papers"]}
    shown = {one.split(":")[0] for row in rows(folder / "examples-train.jsonl") for one in row["context_ids"]}
    assert not shown & (held | papers["valid"])


def test_losses_fall_and_the_best_is_named(finished: Path) -> None:
    losses = rows(run_folder(finished) / "3-train" / "losses.jsonl")
    result = json.loads((run_folder(finished) / "3-train" / "result.json").read_text())
    assert losses[-1]["train_loss"] < losses[0]["train_loss"]
    valid = [row["valid_loss"] for row in losses if "valid_loss" in row]
    assert result["best_valid_loss"] == min(valid)
    assert result["trainable_parameters"] > 0
    assert not (run_folder(finished) / "3-train" / "checkpoints").exists()


def test_both_models_were_asked_the_same_prompts(finished: Path) -> None:
    used = rows(run_folder(finished) / "7-evaluate" / "used.jsonl")
    prompts = {
        model: [(one["question_id"], one["prompt_sha256"]) for one in used if one["model"] == model]
        for model in ("base", "tuned")
    }
    assert prompts["base"] == prompts["tuned"]
    assert all(digest for _, digest in prompts["base"])


def test_the_served_prompt_is_the_training_prompt(finished: Path) -> None:
    """The rendered prompt that the server hashed equals our tokenizer's rendering of the same messages."""
    from mlx_ragtune.artifact import digest_bytes
    from mlx_ragtune.models.prompts import load_tokenizer
    from mlx_ragtune.records import Passage
    from mlx_ragtune.retrieval.prompt import build_messages

    evaluate = run_folder(finished) / "7-evaluate"
    tokenizer = load_tokenizer(run_folder(finished) / "4-fuse" / "model")
    questions = {row["id"]: row["question"] for row in rows(finished / "benchmark.jsonl")}
    used = {row["question_id"]: row["prompt_sha256"] for row in rows(evaluate / "used.jsonl")}
    for row in rows(evaluate / "contexts.jsonl"):
        messages = build_messages([Passage(**one) for one in row["passages"]], questions[row["question_id"]])
        turns = [{"role": one.role, "content": one.content} for one in messages]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        assert digest_bytes(text.encode()) == used[row["question_id"]]


def test_scoring_again_asks_nothing(project: Path) -> None:
    before = answers_of(project)
    edit(recipe_of(project), scoring={"margin": 0.1, "similarity": None})
    for model in ("base", "tuned"):  # no file, no answer: asking anything would fail
        (run_folder(project) / "5-export" / f"{model}.gguf").write_bytes(
            b"x" * (run_folder(project) / "5-export" / f"{model}.gguf").stat().st_size
        )
    done = ragtune("run", recipe_of(project), "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    ran = [one["stage"] for one in json.loads(done.stdout)["stages"] if one["did"] == "ran"]
    assert ran == ["evaluate", "report"]
    assert answers_of(project) == before


def test_ask_shows_contexts_and_answers(finished: Path) -> None:
    done = ragtune("ask", recipe_of(finished), "What is LoRA?", "--model", "tuned", "--json", cwd=finished)
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert len(reply["contexts"]) == 2
    assert set(reply["answers"]) == {"tuned"}


def test_served_models_are_listed_and_removed(project: Path) -> None:
    listed = json.loads(ragtune("models", "list", "--json", cwd=project).stdout)
    assert [row["name"] for row in listed] == ["small-base", "small-tuned"]
    assert ragtune("models", "remove", "small", cwd=project).returncode == 0
    assert json.loads(ragtune("models", "list", "--json", cwd=project).stdout) == []
    again = ragtune("models", "remove", "small", cwd=project)
    assert again.returncode == 3
    assert "run 'small' has no registered models" in again.stderr


def test_status_says_which_key_changed(project: Path) -> None:
    edit(recipe_of(project), train={"rank": 8})
    states = {
        row["stage"]: row for row in json.loads(ragtune("status", recipe_of(project), "--json", cwd=project).stdout)
    }
    assert states["dataset"]["state"] == "up to date"
    assert states["train"]["why"] == "train.rank: 4 → 8"
    assert states["report"]["state"] == "run"


def refused(home: Path, *words: str, code: int, command: str = "run") -> None:
    """The command fails with this exit code, one message with these words, and no traceback."""
    done = ragtune(command, recipe_of(home), cwd=home)
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def break_papers(home: Path) -> None:
    (home / "papers" / "broken.pdf").write_bytes(b"not a pdf")
    (home / "papers" / "empty.md").write_text("")


def break_pairs(home: Path) -> None:
    with (home / "pairs.jsonl").open("a") as stream:
        stream.write("{oops\n")


def train_on_the_benchmark(home: Path) -> None:
    paper = rows(home / "benchmark.jsonl")[0]["papers"][0]
    quote = next(
        line for line in (home / "papers" / f"{paper}.md").read_text().split("---")[2].split(". ") if len(line) > 40
    ).strip()
    pair = {
        **rows(home / "pairs.jsonl")[0],
        "id": "leak",
        "papers": [paper],
        "evidence": [{"paper": paper, "quote": quote}],
    }
    write_rows(home / "pairs.jsonl", [*rows(home / "pairs.jsonl"), pair])


def empty_corpus(home: Path) -> None:
    for path in (home / "papers").iterdir():
        path.unlink()


def twice_in_benchmark(home: Path) -> None:
    first = rows(home / "benchmark.jsonl")
    write_rows(home / "benchmark.jsonl", [*first, first[0]])


@pytest.mark.parametrize(
    ("damage", "words", "code"),
    [
        (break_papers, ("2 of 13 papers cannot be used", "broken.pdf", "empty.md", "on_unreadable"), 3),
        (break_pairs, ("pairs.jsonl:", "not JSON"), 3),
        (train_on_the_benchmark, ("use papers of the benchmark", "leak"), 3),
        (empty_corpus, ("no paper",), 3),
        (twice_in_benchmark, ("duplicate question id", "benchmark.jsonl:9"), 3),
        (lambda home: edit(recipe_of(home), dataset={"max_tokens": 100}), ("rows do not fit", "max_tokens"), 3),
        (lambda home: edit(recipe_of(home), train={"learning_rate": 1e30}), ("the loss is", "learning_rate"), 4),
        (lambda home: edit(recipe_of(home), train={"layers": 9}), ("the model has only 2", "train.layers"), 2),
        (lambda home: edit(recipe_of(home), register={"serve": "ollama", "host": "http://127.0.0.1:1"}),
         ("127.0.0.1:1",), 4),
        (lambda home: edit(recipe_of(home), base={"model": "nobody/nothing"}), ("nobody/nothing", "base"), 4),
        (lambda home: edit(recipe_of(home), base={"model": "toy:mamba"}), ("mamba",), 2),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_error_and_what_was_done_stays(
    project: Path, damage: Callable[[Path], None], words: tuple[str, ...], code: int
) -> None:
    damage(project)
    refused(project, *words, code=code)
    assert (run_folder(project) / "1-corpus" / "manifest.json").exists()


def test_unreadable_papers_are_skipped_and_listed_when_the_recipe_says_so(project: Path) -> None:
    break_papers(project)
    edit(recipe_of(project), corpus={"on_unreadable": "skip"})
    done = ragtune("corpus", recipe_of(project), cwd=project)
    assert done.returncode == 0, done.stderr
    listed = {row["path"] for row in rows(run_folder(project) / "1-corpus" / "unreadable.jsonl")}
    assert listed == {"broken.pdf", "empty.md"}


@pytest.mark.parametrize("change", ["template", "architecture"])
def test_a_base_that_cannot_be_exported_is_refused_before_training(project: Path, change: str) -> None:
    model = project / "model"
    shutil.copytree(run_folder(project) / "4-fuse" / "model", model)
    file = "tokenizer_config.json" if change == "template" else "config.json"
    value = json.loads((model / file).read_text())
    if change == "template":
        value.pop("chat_template", None)
        (model / "chat_template.jinja").unlink(missing_ok=True)
    else:
        value["model_type"] = "mamba"
    (model / file).write_text(json.dumps(value))
    edit(recipe_of(project), base={"model": "../model"})
    shutil.rmtree(project / "runs")
    refused(project, "template" if change == "template" else "mamba", code=3)
    assert not (run_folder(project) / "1-corpus").exists()


def start(home: Path, *arguments: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mlx_ragtune.cli", *map(str, arguments)]
    return subprocess.Popen(command, cwd=home, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def unbroken(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The adapter of a run with four validations an epoch that nothing stopped."""
    home = tmp_path_factory.mktemp("unbroken") / "copy"
    shutil.copytree(finished, home, symlinks=True)
    edit(recipe_of(home), train={"evals_per_epoch": 4})
    done = ragtune("train", recipe_of(home), cwd=home)
    assert done.returncode == 0, done.stderr
    return (run_folder(home) / "3-train" / "adapters.safetensors").read_bytes()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_training_the_same_command_gives_the_same_adapter(
    project: Path, how: signal.Signals, unbroken: bytes
) -> None:
    edit(recipe_of(project), train={"evals_per_epoch": 4})
    running = start(project, "train", recipe_of(project))
    drafts = project / "runs" / ".store" / ".drafts"
    wait_for(lambda: any(drafts.glob("train-*/checkpoints/update-*")) or running.poll() is not None)
    running.send_signal(how)
    _, said = running.communicate(timeout=60)
    assert running.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), said
    if how == signal.SIGINT:
        assert "stopping after the current step" in said
        assert "stopped in stage 'train'; finished work is kept" in said
    assert json.loads(ragtune("status", recipe_of(project), "--json", cwd=project).stdout)[2]["state"] == "interrupted"
    again = ragtune("train", recipe_of(project), cwd=project)
    assert again.returncode == 0, again.stderr
    assert (run_folder(project) / "3-train" / "adapters.safetensors").read_bytes() == unbroken


def test_killed_while_asking_no_answer_is_lost_or_asked_twice(project: Path) -> None:
    whole = answers_of(project)
    forget(project, "7-evaluate")
    shutil.rmtree(project / "runs" / ".store" / "cache")
    running = start(project, "evaluate", recipe_of(project))
    wait_for(lambda: len(kept_lines(project)) >= 2 or running.poll() is not None)
    running.kill()
    running.communicate()
    kept = kept_lines(project)
    assert 2 <= len(kept) < len(whole)
    path = next(path for path in (project / "runs" / ".store" / "cache").rglob("*answers*") if path.stat().st_size)
    with path.open("ab") as stream:
        stream.write(b'{"key": "torn')  # as a kill in the middle of a write leaves it
    assert ragtune("evaluate", recipe_of(project), cwd=project).returncode == 0
    found = answers_of(project)
    assert sorted((row["key"], row["text"]) for row in found) == sorted((row["key"], row["text"]) for row in whole)


def kept_lines(home: Path) -> list[str]:
    cache = home / "runs" / ".store" / "cache"
    return [line for path in cache.rglob("*answers*") for line in path.read_text().split("\n")[:-1]]


def test_evaluate_redo_asks_again(project: Path) -> None:
    before = answers_of(project)
    done = ragtune("evaluate", recipe_of(project), "--redo", cwd=project)
    assert done.returncode == 0, done.stderr
    assert len(answers_of(project)) == 2 * len(before)


def test_a_second_recipe_with_another_rank_reuses_everything_before_training_and_the_base(project: Path) -> None:
    other = recipe_of(project).with_name("other.yaml")
    shutil.copyfile(recipe_of(project), other)
    edit(other, train={"rank": 2, "alpha": 4})
    before = answers_of(project)
    done = ragtune("run", other, "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    did = {row["stage"]: row["did"] for row in json.loads(done.stdout)["stages"]}
    assert [name for name, what in did.items() if what == "reused"] == ["corpus", "dataset"]
    assert "writing base.gguf" not in done.stderr
    runs = project / "runs"
    [shared] = (runs / ".store" / "parts").glob("base-gguf-*/base.gguf")
    assert (runs / "other" / "5-export" / "base.gguf").samefile(shared)
    new = answers_of(project)[:]
    for row in before:
        new.remove(row)
    assert {row["model"] for row in new} == {"tuned"}
    gates = json.loads((runs / "other" / "7-evaluate" / "gates.json").read_text())
    assert gates["reused_answers"] == {"base": len(before) // 2, "tuned": 0}  # the report says so
    titles = [
        json.loads((runs / name / "8-report" / "report.json").read_text())["title"] for name in ("small", "other")
    ]
    assert titles == ["small: base vs. tuned", "other: base vs. tuned"]


def test_equal_models_are_equal_files_whatever_the_recipe_is_called(project: Path) -> None:
    renamed = recipe_of(project).with_name("renamed.yaml")
    shutil.copyfile(recipe_of(project), renamed)
    done = ragtune("export", renamed, "--redo", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    runs = project / "runs"
    for name in ("base.gguf", "tuned.gguf"):
        assert (runs / "renamed" / "5-export" / name).read_bytes() == (runs / "small" / "5-export" / name).read_bytes()


def test_ask_refuses_a_model_of_other_settings(project: Path) -> None:
    edit(recipe_of(project), train={"rank": 8})
    done = ragtune("ask", recipe_of(project), "What is LoRA?", cwd=project)
    assert done.returncode == 5
    assert "stage 'train' is not up to date: train.rank: 4 → 8" in done.stderr
    assert f"ragtune register {recipe_of(project)}" in done.stderr


def test_a_server_that_is_down_is_found_before_training(project: Path) -> None:
    edit(recipe_of(project), register={"serve": "ollama", "host": "http://127.0.0.1:1"}, train={"rank": 8})
    refused(project, "127.0.0.1:1", code=4)
    assert json.loads(ragtune("status", recipe_of(project), "--json", cwd=project).stdout)[2]["state"] == "run"


def test_two_runs_of_one_recipe_at_once_are_refused(project: Path) -> None:
    import filelock

    with filelock.FileLock(run_folder(project) / ".lock"):
        refused(project, "another run of this recipe is in progress", code=5)


def test_a_served_file_that_is_not_the_registered_one_is_refused(project: Path) -> None:
    forget(project, "7-evaluate")
    shutil.rmtree(project / "runs" / ".store" / "cache")
    export = stage_folder(project, "5-export")
    size = (export / "tuned.gguf").stat().st_size
    (export / "tuned.gguf").write_bytes((export / "base.gguf").read_bytes().ljust(size, b"\0")[:size])
    refused(project, "not the file that was registered", code=5, command="evaluate")
