"""A whole run with rehearsal and a choice of strength: from the base's answers to the report."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.errors import RecipeError
from mlx_ragtune.evaluation import own_answers
from mlx_ragtune.recipe import RehearsalSettings
from mlx_ragtune.synthesis.rehearsal_prompts import prompts_file, prompts_of, read_prompts
from mlx_ragtune.tuning.decode import Decoded
from tests.stages.project import answers_of, edit, make_project, ragtune, recipe_of, rows, run_folder, write_rows

COUNT = 24


def said(prompt: int) -> Decoded:
    """What the stand-in for the base answers: the toy itself only babbles until it is cut off."""
    if prompt % 6 == 5:
        return Decoded("And so on and so", 192, "length")
    return Decoded(f"Number {prompt} is a number, friend.", 9, "stop")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("rehearse")
    recipe = make_project(home)
    write_rows(home / "prompts.jsonl", [{"id": f"n{at}", "prompt": f"What is number {at}?"} for at in range(COUNT)])
    edit(
        recipe,
        dataset={"rehearsal": {"share": 0.2, "prompts": "../prompts.jsonl"}},
        train={"epochs": 1, "strength": {"scales": [0.5, 1.0], "max_loss": 50}},
        evaluate={"engine": "mlx", "distractors": False},
        scoring={"similarity": None},
    )
    asked: list[int] = []

    def stand_in(_model: Any, _tokenizer: Any, prompts: Any, **_options: Any) -> Iterator[tuple[int, Decoded]]:
        asked.append(len(prompts))
        for index in range(len(prompts)):
            yield index, said(index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_answers, "decode", stand_in)
        patch.setattr("mlx_ragtune.tuning.select.MAX_TOKENS", 4)
        done = ragtune("run", recipe, cwd=home)
        assert done.returncode == 0, done.stderr
        assert asked == [COUNT]
        yield home


def manifest(home: Path, folder: str, run: str = "small") -> dict[str, Any]:
    return dict(json.loads((home / "runs" / run / folder / "manifest.json").read_text()))


def test_the_usable_answers_are_rows_and_the_others_are_counted(home: Path) -> None:
    facts = manifest(home, "2b-rehearse")["facts"]
    assert facts["prompts"] == COUNT
    assert (facts["usable"], facts["not_used"]) == (20, {"truncated": 4})
    kept = rows(run_folder(home) / "2b-rehearse" / "rehearsal.jsonl")
    assert {row["kind"] for row in kept} == {"rehearsal"}
    assert len({row["group"] for row in kept}) == len(kept) == 20
    assert kept[0]["messages"][0] == {"role": "user", "content": "What is number 0?"}


def test_training_counts_both_kinds_of_rows_and_keeps_every_strength(home: Path) -> None:
    result = json.loads((run_folder(home) / "3-train" / "result.json").read_text())
    examples = rows(run_folder(home) / "2-dataset" / "examples-train.jsonl")
    assert result["train_rows"] == len(examples)
    assert result["rehearsal_rows"] == round(0.25 * len(examples))
    assert result["rehearsal_held_rows"] == 8
    assert [point["scale"] for point in result["strengths"]] == [0.0, 0.5, 1.0]
    facts = manifest(home, "3-train")["facts"]
    assert facts["strength"] == result["strength"]
    assert not [row for row in examples if row["kind"] == "rehearsal"]  # examples are of the data set alone


def test_another_recipe_with_that_base_asks_nothing_and_says_so(home: Path) -> None:
    other = home / "recipes" / "other.yaml"
    other.write_text(recipe_of(home).read_text())
    edit(other, train={"learning_rate": 1e-4}, dataset={"rehearsal": {"share": 0.1, "prompts": "../prompts.jsonl"}})
    done = ragtune("train", other, cwd=home)
    assert done.returncode == 0, done.stderr
    assert "2b-rehearse: reused from an earlier run" in done.stderr
    same = {(home / "runs" / run / "2b-rehearse").resolve() for run in ("small", "other")}
    assert len(same) == 1


def test_the_report_shows_what_was_rehearsed_and_the_line_of_strengths(home: Path) -> None:
    report = run_folder(home) / "8-report"
    page, text = (report / "report.html").read_text(), (report / "report.md").read_text()
    assert "Strength of the adapter" in page
    assert "strength 0.5" in page
    assert "rehearsal rows" in text
    assert "20 of 24 answers are used (truncated 4)" in text
    assert json.loads((report / "report.json").read_text())["strengths"]["points"][0]["scale"] == 0.0


def test_status_lists_the_stage_and_plan_counts_its_rows(home: Path) -> None:
    done = ragtune("status", recipe_of(home), "--json", cwd=home)
    assert {"stage": "rehearse", "state": "up to date"}.items() <= json.loads(done.stdout)[2].items()
    done = ragtune("plan", recipe_of(home), "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lengths"]["rehearsal"]["rows"] > 0


def test_a_prompt_that_is_a_probe_is_refused_before_anything_runs(home: Path, tmp_path: Path) -> None:
    probe = rows(home / "probes.jsonl")[0]["prompt"]
    write_rows(home / "bad.jsonl", [{"id": "a", "prompt": f"  {probe.upper()} "}])
    leaky = home / "recipes" / "leaky.yaml"
    leaky.write_text(recipe_of(home).read_text())
    edit(leaky, dataset={"rehearsal": {"prompts": "../bad.jsonl"}})
    done = ragtune("run", leaky, cwd=home)
    assert done.returncode == 3
    assert "1 rehearsal prompts are general probes too: a" in done.stderr
    assert not (home / "runs" / "leaky" / "3-train").exists()


def test_export_at_another_strength_is_a_run_of_its_own_with_the_same_adapter(home: Path) -> None:
    done = ragtune("export", recipe_of(home), "--strength", "0.5", cwd=home)
    assert done.returncode == 0, done.stderr
    weaker = "small+fuse.strength=0.5"
    folders = [(home / "runs" / run / "3-train").resolve() for run in ("small", weaker)]
    assert folders[0] == folders[1]
    assert (home / "runs" / weaker / "5-export" / "tuned.gguf").is_file()
    effect = manifest(home, "4-fuse", weaker)["facts"]["adapter_effect"]
    done = ragtune("export", recipe_of(home), "--strength", "1", cwd=home)
    assert done.returncode == 0, done.stderr
    assert effect < manifest(home, "4-fuse", "small+fuse.strength=1")["facts"]["adapter_effect"]
    twice = ragtune("export", recipe_of(home), "--strength", "1", "--set", "fuse.strength=0.5", cwd=home)
    assert twice.returncode == 2
    assert "--strength and --set fuse.strength say the same" in twice.stderr
    wrong = ragtune("export", recipe_of(home), "--strength", "0", cwd=home)
    assert wrong.returncode == 2
    assert "fuse.strength" in wrong.stderr


def test_the_quick_path_asks_only_the_tuned_model_again_at_another_strength(home: Path) -> None:
    def asked() -> list[tuple[str, str]]:
        return [(row["model"], row["key"]) for row in answers_of(home) if row["model"] in ("base", "tuned")]

    before = asked()
    done = ragtune("evaluate", recipe_of(home), "--set", "fuse.strength=0.25", cwd=home)
    assert done.returncode == 0, done.stderr
    new = [row for row in asked() if row not in before]
    assert {model for model, _ in new} == {"tuned"}
    assert len(new) > 4
    again = ragtune("evaluate", recipe_of(home), "--set", "fuse.strength=0.25", "--redo", cwd=home)
    assert again.returncode == 0, again.stderr


def test_no_usable_answer_is_an_error_with_the_reasons(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_model: Any, _tokenizer: Any, prompts: Any, **_options: Any) -> Iterator[tuple[int, Decoded]]:
        yield from ((index, Decoded("", 0, "stop")) for index in range(len(prompts)))

    monkeypatch.setattr(own_answers, "decode", silent)
    done = ragtune("rehearse", recipe_of(home), "--set", "dataset.rehearsal.max_tokens=20", cwd=home)
    assert done.returncode == 3
    assert "none of the base model's 24 answers can be used (empty 24)" in done.stderr


def test_a_base_that_refuses_everything_is_warned_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(_model: Any, _tokenizer: Any, prompts: Any, **_options: Any) -> Iterator[tuple[int, Decoded]]:
        text = "I'm sorry, but I cannot answer this question."
        yield from ((index, Decoded(text, 9, "stop")) for index in range(len(prompts)))

    monkeypatch.setattr(own_answers, "decode", refusing)
    done = ragtune("rehearse", recipe_of(home), "--set", "dataset.rehearsal.max_tokens=21", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "warning: 24 of the base model's 24 usable answers look like refusals" in done.stderr


def test_a_stopped_stage_goes_on_where_it_was(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def stopping(_model: Any, _tokenizer: Any, prompts: Any, **_options: Any) -> Iterator[tuple[int, Decoded]]:
        asked.append(len(prompts))
        for index in range(len(prompts)):
            if len(asked) == 1 and index == 10:
                raise KeyboardInterrupt
            yield index, said(index)

    monkeypatch.setattr(own_answers, "decode", stopping)
    arguments = ("rehearse", recipe_of(home), "--set", "dataset.rehearsal.max_tokens=64")
    stopped = ragtune(*arguments, cwd=home)
    assert stopped.returncode == 130
    assert "finished work is kept" in stopped.stderr
    status = ragtune("status", *arguments[1:], "--json", cwd=home)
    assert json.loads(status.stdout)[2]["state"] == "interrupted"
    done = ragtune(*arguments, cwd=home)
    assert done.returncode == 0, done.stderr
    assert asked == [COUNT, COUNT - 10]
    assert "reused_answers: 10" in done.stdout


def test_a_count_takes_prompts_from_all_over_the_file_and_at_most_as_many_as_there_are() -> None:
    every = read_prompts(prompts_file(None))
    chosen = prompts_of(RehearsalSettings(count=40))
    assert len(chosen) == len({prompt.id for prompt in chosen}) == 40
    assert {prompt.category for prompt in chosen} == {prompt.category for prompt in every}
    assert prompts_of(RehearsalSettings()) == prompts_of(RehearsalSettings(count=len(every))) == every
    with pytest.raises(RecipeError, match=f"{len(every) + 1} prompts are asked for"):
        prompts_of(RehearsalSettings(count=len(every) + 1))
