"""The pipeline: what runs, what is skipped, and what is said about it."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_ragtune import pipeline
from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.pipeline import STAGES, Run, Stage, difference, view
from mlx_ragtune.recipe import Recipe, load_recipe

SMALL = """\
base: {model: "toy:qwen3", precision: fp32}
corpus: {folder: papers}
dataset: {pairs: pairs.jsonl}
train: {rank: 4, alpha: 8}
benchmark: benchmark.jsonl
"""


def copy_inputs(_recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """A stage that writes down what it was given."""
    (draft / "seen.txt").write_text("\n".join(f"{name} {path.name}" for name, path in sorted(inputs.items())))
    draft.record(inputs=sorted(inputs))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.md").write_text("# A\n\ntext")
    for name in ("pairs", "benchmark"):
        (tmp_path / f"{name}.jsonl").touch()
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "recipes").mkdir()
    monkeypatch.setattr(Stage, "function", lambda _stage: copy_inputs)
    monkeypatch.setattr(Stage, "check", lambda *_: None)
    return opened(tmp_path)


def opened(home: Path) -> Run:
    return Run(load_recipe(home / "small.yaml"), home / "runs" / "small", base=home / "papers", base_digest="b1")


def edit(home: Path, old: str, new: str) -> Run:
    path = home / "small.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return opened(home)


def ran(run: Run) -> list[str]:
    return [one.stage for one in run.run() if one.did == "ran"]


def test_the_eight_stages_are_one_word_each_in_order() -> None:
    assert [stage.folder for stage in STAGES] == [
        "1-corpus", "2-dataset", "3-train", "4-fuse", "5-export", "6-register", "7-evaluate", "8-report",
    ]  # fmt: skip


def test_each_stage_is_a_module_with_a_function_of_its_name() -> None:
    folder = Path(pipeline.__file__).parent / "stages"
    for stage in STAGES:
        assert f"\ndef {stage.name}(recipe: Recipe, " in (folder / f"{stage.name}.py").read_text().replace(
            "_recipe", "recipe"
        ).replace("(\n    recipe", "(recipe")


def test_stages_need_only_earlier_stages_and_read_only_recipe_sections() -> None:
    names = [stage.name for stage in STAGES]
    for index, stage in enumerate(STAGES):
        assert set(stage.needs) <= {*names[:index], "base"}
        assert set(stage.reads) <= set(Recipe.model_fields)


def test_a_first_run_does_everything_and_a_second_does_nothing(run: Run, tmp_path: Path) -> None:
    assert ran(run) == [stage.name for stage in STAGES]
    again = opened(tmp_path)
    assert ran(again) == []
    assert {one.state for one in again.status()} == {"done"}
    assert {one.why for one in again.status()} == {"nothing it reads has changed"}


@pytest.mark.parametrize(
    ("old", "new", "first", "said"),
    [
        ("rank: 4", "rank: 8", "train", "train.rank: 4 → 8"),
        ("folder: papers", "folder: papers, chunk_words: 100", "corpus", "corpus.chunk_words: 350 → 100"),
        ("dataset:", "export: {type: F16}\ndataset:", "export", "export.type: 'Q8_0' → 'F16'"),
        ("dataset:", "scoring: {margin: 0.1}\ndataset:", "evaluate", "scoring.margin: 0.05 → 0.1"),
    ],
)
def test_one_edited_key_reruns_the_stages_that_read_it_and_those_built_on_them(
    run: Run, tmp_path: Path, old: str, new: str, first: str, said: str
) -> None:
    run.run()
    edited = edit(tmp_path, old, new)
    by_stage = {one.stage: one for one in edited.status()}
    assert said in by_stage[first].why
    names = [stage.name for stage in STAGES]
    expected = [
        name for index, name in enumerate(names)
        if name == first or (index > names.index(first) and _builds_on(name, first))
    ]  # fmt: skip
    assert ran(edited)[0] == first
    assert set(expected) == {one.stage for one in by_stage.values() if one.state != "done"}


def _builds_on(name: str, first: str) -> bool:
    stage = next(one for one in STAGES if one.name == name)
    return first in stage.needs or any(_builds_on(need, first) for need in stage.needs if need != "base")


def test_a_changed_paper_reruns_from_the_corpus_and_names_the_file(run: Run, tmp_path: Path) -> None:
    run.run()
    (tmp_path / "papers" / "a.md").write_text("# A\n\nother text")
    assert "changed: papers/a.md" in opened(tmp_path).status()[0].why


def test_another_base_reruns_what_needs_it(run: Run, tmp_path: Path) -> None:
    run.run()
    other = opened(tmp_path)
    other.base_digest = "b2"
    assert ran(other) == [stage.name for stage in STAGES if stage.name != "corpus"]


def test_a_moved_project_stays_done(run: Run, tmp_path: Path) -> None:
    run.run()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("papers", "pairs.jsonl", "benchmark.jsonl", "small.yaml", "runs", "recipes"):
        (tmp_path / name).rename(moved / name)
    assert ran(opened(moved)) == []


def test_redo_runs_a_finished_stage_again(run: Run, tmp_path: Path) -> None:
    run.run()
    outcomes = opened(tmp_path).run(redo=["evaluate"])
    assert "evaluate" in [one.stage for one in outcomes if one.did == "ran"]


def test_until_stops_after_that_stage(run: Run) -> None:
    assert [one.stage for one in run.run(until="train")] == ["corpus", "dataset", "train"]


def test_a_stage_sees_only_the_sections_it_declares(run: Run) -> None:
    seen = view(run.recipe, next(stage for stage in STAGES if stage.name == "corpus"))
    assert seen.corpus.chunk_words == 350
    with pytest.raises(AttributeError, match="stage 'corpus' reads 'train' but does not declare it"):
        _ = seen.train


def test_a_stage_gets_only_the_inputs_it_declares(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(_recipe: Recipe, inputs: Inputs, _draft: Draft) -> None:
        _ = inputs["fuse"]

    monkeypatch.setattr(Stage, "function", lambda _stage: greedy)
    with pytest.raises(KeyError, match="'fuse' is not declared"):
        run.run(until="corpus")


def failing_at(name: str) -> Callable[[Stage], Callable[[Recipe, Inputs, Draft], None]]:
    def fail(_recipe: Recipe, _inputs: Inputs, draft: Draft) -> None:
        (draft / "partial.txt").write_text("kept")
        raise InputError("no")

    return lambda stage: fail if stage.name == name else copy_inputs


def test_a_failed_stage_keeps_what_was_done_and_the_same_command_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stage, "function", failing_at("train"))
    with pytest.raises(InputError):
        run.run()
    by_stage = {one.stage: one for one in opened(tmp_path).status()}
    assert (by_stage["dataset"].state, by_stage["train"].state) == ("done", "interrupted")
    assert (tmp_path / "runs" / "small" / ".drafts" / "3-train" / "partial.txt").read_text() == "kept"
    monkeypatch.setattr(Stage, "function", lambda _stage: copy_inputs)
    assert ran(opened(tmp_path))[0] == "train"
    assert (tmp_path / "runs" / "small" / "3-train" / "partial.txt").exists()


def test_every_refusal_comes_before_the_first_stage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(stage: Stage, _recipe: Recipe, _base: Path) -> None:
        if stage.name == "export":
            raise InputError("unsupported architecture")

    monkeypatch.setattr(Stage, "check", check)
    with pytest.raises(InputError, match="unsupported"):
        run.run()
    assert not (run.home / "1-corpus").exists()


def test_a_damaged_artifact_is_named_by_status_and_refused_by_run(run: Run, tmp_path: Path) -> None:
    run.run()
    (run.home / "3-train" / "seen.txt").write_text("")
    assert "damaged" in {one.stage: one for one in opened(tmp_path).status()}["train"].why
    with pytest.raises(ArtifactError, match=r"seen\.txt"):
        opened(tmp_path).run()


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.test_pipeline import copy_inputs, opened
from mlx_ragtune.pipeline import Stage
def dying(stage):
    def work(recipe, inputs, draft):
        copy_inputs(recipe, inputs, draft)
        (draft / "partial.txt").write_text("kept")
        if stage.name == sys.argv[2]:
            os.kill(os.getpid(), getattr(signal, sys.argv[4]))
    return work
Stage.function = dying
Stage.check = lambda *_: None
opened(Path(sys.argv[1])).run()
"""


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES])
def test_killed_in_any_stage_the_same_command_goes_on(run: Run, tmp_path: Path, stage: str) -> None:
    root = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), stage, root, "SIGKILL"]
    assert subprocess.run(command, check=False, env={**os.environ}).returncode == -signal.SIGKILL
    names = [one.name for one in STAGES]
    assert ran(run) == names[names.index(stage) :]
    assert (run.home / f"{names.index(stage) + 1}-{stage}" / "partial.txt").exists()


def test_differences_are_said_by_key() -> None:
    before = {"sections": {"train": {"rank": 16}}, "files": {"a": "1", "b": "2"}, "inputs": {"corpus": "x"}}
    after = {"sections": {"train": {"rank": 8}}, "files": {"a": "3", "c": "4"}, "inputs": {"corpus": "y"}}
    assert difference(before, after) == [
        "changed: a", "gone: b", "new: c", "corpus was made again", "train.rank: 16 → 8",
    ]  # fmt: skip
