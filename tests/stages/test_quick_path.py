"""``evaluate.engine: mlx``: a look at the adapter without fuse, export and server, marked on every page."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.tuning.decode import decode
from tests.stages.project import edit, ragtune, rows

SKIPPED = ("fuse", "export", "register")
EVALUATE = Path("runs") / "small" / "7-evaluate"


def recipe_of(home: Path) -> Path:
    return home / "recipes" / "small.yaml"


def states(home: Path) -> dict[str, str]:
    done = ragtune("status", recipe_of(home), "--json", cwd=home)
    return {row["stage"]: row["state"] for row in json.loads(done.stdout)}


def run(home: Path, *arguments: str) -> Any:
    done = ragtune("run", recipe_of(home), *arguments, cwd=home)
    assert done.returncode == 0, done.stderr
    return done


def answers(evaluate: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["model"], row["question_id"]): row for row in rows(evaluate / "used.jsonl")}


@pytest.fixture(scope="module")
def quick(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished project with full-precision files; ``small`` is quick, ``served`` was served."""
    home = tmp_path_factory.mktemp("quick") / "copy"
    shutil.copytree(finished, home, symlinks=True)
    edit(recipe_of(home), export={"type": "F32"}, evaluate={"prompted": {"examples": 1, "tokens": 300}})
    shutil.copyfile(recipe_of(home), home / "recipes" / "served.yaml")
    done = ragtune("run", home / "recipes" / "served.yaml", cwd=home)
    assert done.returncode == 0, done.stderr
    edit(recipe_of(home), evaluate={"engine": "mlx"})
    shutil.rmtree(home / "runs" / "small")
    return home


@pytest.fixture(scope="module")
def done(quick: Path) -> Any:
    return run(quick)


def test_fuse_export_and_register_are_not_needed_and_status_says_so(quick: Path, done: Any) -> None:
    assert "up to date" in run(quick).stderr
    assert {name for name, state in states(quick).items() if state == "not needed"} == set(SKIPPED)
    assert [
        (name, state) for name, state in states(quick).items() if name not in SKIPPED and state != "up to date"
    ] == []
    folders = {path.name for path in (quick / "runs" / "small").iterdir() if path.is_symlink()}
    assert folders == {"1-corpus", "2-dataset", "3-train", "7-evaluate", "8-report"}
    assert "similarity is not measured" in done.stderr
    text = ragtune("status", recipe_of(quick), cwd=quick).stdout
    assert text.count("evaluate.engine is mlx") == 3


@pytest.mark.usefixtures("done")
def test_the_asked_prompts_are_the_served_ones_byte_for_byte(quick: Path) -> None:
    ours, theirs = answers(quick / EVALUATE), answers(quick / "runs" / "served" / "7-evaluate")
    assert ours.keys() == theirs.keys()
    assert {model for model, _ in ours} == {"base", "prompted", "tuned"}
    for key, row in ours.items():
        assert row["prompt_sha256"] == theirs[key]["prompt_sha256"], key
        assert row["prompt_tokens"] == theirs[key]["prompt_tokens"], key


@pytest.mark.usefixtures("done")
def test_with_files_of_full_precision_most_answers_are_the_served_ones(quick: Path) -> None:
    ours, theirs = answers(quick / EVALUATE), answers(quick / "runs" / "served" / "7-evaluate")
    same = sum(row["text"].strip() == theirs[key]["text"].strip() for key, row in ours.items())
    assert same >= 0.7 * len(ours)  # a random model has many near ties
    assert len({row["text"] for row in ours.values()}) > len(ours) / 4


def test_every_page_and_fact_says_that_it_is_the_quick_path(quick: Path, done: Any) -> None:
    report = quick / "runs" / "small" / "8-report"
    for name in ("report.html", "report.md", "summary.txt", "report.json"):
        text = " ".join((report / name).read_text().split())
        assert "Quick path: answered in MLX" in text, name
        assert "Quick path, not the served models" in text, name
    assert "Quick path: answered in MLX" in " ".join(done.stdout.split())
    facts = json.loads((quick / EVALUATE / "manifest.json").read_text())["facts"]
    assert facts["verdict"].endswith("(quick path)")
    assert facts["headline"].startswith("Quick path, not the served models")
    served = (quick / "runs" / "served" / "8-report" / "report.md").read_text()
    assert "Quick path" not in served
    for row in rows(quick / EVALUATE / "scores.jsonl"):
        assert not {"latency_seconds", "tokens_per_second", "first_token_seconds"} & row["metrics"].keys()


@pytest.mark.usefixtures("done")
def test_quick_and_served_answers_are_compared_only_when_that_is_allowed(quick: Path) -> None:
    refused = ragtune("compare", "small", "served", cwd=quick)
    assert refused.returncode == 4
    assert "quantization: base none (fp32 as in training), tuned F32" in refused.stderr
    names = ("quantization", "server", "engine", "batch", "threads", "prompts")
    allowed = [part for name in names for part in ("--allow", name)]
    both = ragtune("compare", "small", "served", *allowed, cwd=quick)
    assert both.returncode == 0, both.stderr
    assert "Quick path: answered in MLX" in " ".join(both.stdout.split())


@pytest.mark.usefixtures("done")
def test_people_are_not_asked_about_quick_answers(quick: Path) -> None:
    refused = ragtune("ab", recipe_of(quick), "--no-browser", cwd=quick)
    assert refused.returncode == 3
    assert "quick path" in refused.stderr


def test_another_rank_asks_only_the_new_adapter(quick: Path, tmp_path: Path) -> None:
    home = tmp_path / "copy"
    shutil.copytree(quick, home, symlinks=True)
    run(home)
    (cache,) = (home / "runs" / ".store" / "cache").glob("quick-answers-*.jsonl")
    before = rows(cache)
    edit(recipe_of(home), train={"rank": 2})
    run(home)
    added = rows(cache)[len(before) :]
    assert {row["model"] for row in added} == {"tuned"}
    gates = json.loads((home / EVALUATE / "gates.json").read_text())
    assert gates["reused_answers"]["tuned"] == 0
    assert gates["reused_answers"]["base"] == len([row for row in before if row["model"] == "base"]) > 0
    # back to the served path: its finished stages are found again
    edit(recipe_of(home), train={"rank": 4}, evaluate={"engine": "served"})
    run(home)
    assert set(states(home).values()) == {"up to date"}
    # and an export that is asked for is made, whatever the engine
    edit(recipe_of(home), train={"rank": 2}, evaluate={"engine": "mlx"})
    done = ragtune("export", recipe_of(home), cwd=home)
    assert done.returncode == 0, done.stderr
    assert (home / "runs" / "small" / "5-export" / "tuned.gguf").is_file()
    assert states(home)["export"] == "not needed"


def test_a_killed_quick_evaluation_asks_nothing_twice(quick: Path, tmp_path: Path, monkeypatch: Any) -> None:
    home = tmp_path / "copy"
    shutil.copytree(quick, home, symlinks=True)
    edit(recipe_of(home), train={"learning_rate": 4e-3})
    count = iter(range(10**6))

    def broken(*given: Any, **options: Any) -> Any:
        for reply in decode(*given, **options):
            if next(count) == 3:
                raise KeyboardInterrupt
            yield reply

    monkeypatch.setattr("mlx_ragtune.evaluation.quick.decode", broken)
    stopped = ragtune("run", recipe_of(home), cwd=home)
    assert stopped.returncode == 130
    (cache,) = (home / "runs" / ".store" / "cache").glob("quick-answers-*.jsonl")
    kept = rows(cache)
    monkeypatch.undo()
    assert states(home)["evaluate"] == "interrupted"
    run(home)
    assert rows(cache)[: len(kept)] == kept
    keys = [row["key"] for row in rows(cache)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"temperature": 0.7}, "answers greedily; set it to 0"),
        ({"repeat_penalty": 1.1}, "answers greedily; set it to 1"),
    ],
)
def test_what_the_quick_path_cannot_do_is_refused_in_the_recipe(
    quick: Path, tmp_path: Path, sampling: dict[str, Any], words: str
) -> None:
    recipe = tmp_path / "small.yaml"
    text = recipe_of(quick).read_text().replace("../", f"{quick}/")
    recipe.write_text(text)
    edit(recipe, evaluate={"sampling": sampling})
    refused = ragtune("validate", recipe, cwd=tmp_path)
    assert refused.returncode == 2
    assert words in refused.stderr
