"""After a finished run: gates that refuse it, judges and embeddings on real answers, compare, and the blind page."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mlx_ragtune.commands.ab import open_comparison
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.pages.ab_plan import Trial
from mlx_ragtune.pages.ab_session import Session
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.runner import Run
from tests.stages.project import answers_of, edit, forget, ragtune, recipe_of, rows, run_folder, write_rows


def evaluated(home: Path) -> Path:
    return run_folder(home) / "7-evaluate"


def test_every_served_prompt_was_proven(finished: Path) -> None:
    gates = json.loads((evaluated(finished) / "gates.json").read_text())
    assert gates == {
        "allowed": [],
        "served_prompts": "equal to the training render, byte for byte (16 prompts)",
        "reused_answers": {"base": 0, "tuned": 0},
        "asked": {"questions": 8, "of": 8, "minutes": None},
        "parallel": {"slots": 1, "serial": 8, "overlap": None, "differ": {}, "compared": {}},
    }
    page = (run_folder(finished) / "8-report" / "report.html").read_text()
    assert "served prompts" in page
    assert "byte for byte" in page


def test_general_probes_guard_against_forgetting(finished: Path) -> None:
    probes = rows(evaluated(finished) / "probes.jsonl")
    assert [one["id"] for one in probes] == [one["id"] for one in rows(finished / "probes.jsonl")]
    guards = {
        one["name"]: one
        for one in json.loads((evaluated(finished) / "verdict.json").read_text())["against_base"]["guards"]
    }
    assert guards["forgetting"]["base"] == pytest.approx(sum(one["base"] for one in probes) / len(probes))
    report = json.loads((run_folder(finished) / "8-report" / "report.json").read_text())
    assert [one["id"] for one in report["probes"]] == [one["id"] for one in probes]


def test_the_first_answer_after_a_load_is_cold_and_the_others_warm(finished: Path) -> None:
    scores = rows(evaluated(finished) / "scores.jsonl")
    cold = [one for one in scores if "load_seconds" in one["metrics"]]
    assert len({one["model"] for one in cold}) == 2
    assert not any("latency_seconds" in one["metrics"] for one in cold)
    assert all("latency_seconds" in one["metrics"] for one in scores if one not in cold)


def test_each_answerable_question_is_asked_with_and_without_its_paper(finished: Path) -> None:
    asked = rows(evaluated(finished) / "distractors.jsonl")
    assert {one["condition"] for one in asked} == {"gold", "mixed", "distractors"}
    assert {one["metric"] for one in asked if one["condition"] == "distractors"} == {"refusal_near_miss"}
    assert {one["n_questions"] for one in asked} == {6}
    page = (run_folder(finished) / "8-report" / "report.html").read_text()
    assert "distractors only: refusing questions the papers almost answer" in page
    assert "macro-F1" in page


def test_similarity_stands_beside_what_fools_it(finished: Path) -> None:
    planted = {one["name"]: one for one in json.loads((evaluated(finished) / "similarity.json").read_text())}
    assert planted["negated"]["similarity"] > planted["concise and correct"]["similarity"]
    assert 0 < planted["negated"]["bertscore_f1"] <= 1
    assert "Limits of similarity" in (run_folder(finished) / "8-report" / "report.html").read_text()


def test_a_judge_is_tested_first_and_a_guessing_one_decides_nothing(project: Path) -> None:
    write_toy_model(project / "judge", architecture="llama", seed=5)
    write_gguf(project / "judge", project / "granite-toy.gguf", type="F16", name="granite-toy")
    edit(recipe_of(project), scoring={"judge": {"backend": "llamacpp", "model": "../granite-toy.gguf"}})
    done = ragtune("run", recipe_of(project), cwd=project)
    assert done.returncode == 0, done.stderr
    judge = json.loads((evaluated(project) / "judge.json").read_text())
    assert judge["n_verdicts"] > 20
    assert not judge["trusted"]
    verdict = json.loads((evaluated(project) / "verdict.json").read_text())["against_base"]
    assert verdict["primary"] == "correctness"
    assert "<h2>Judge</h2>" in (run_folder(project) / "8-report" / "report.html").read_text()
    asked = judged(project)
    edit(recipe_of(project), scoring={"margin": 0.1})
    again = ragtune("run", recipe_of(project), cwd=project)
    assert again.returncode == 0, again.stderr
    assert judged(project) == asked  # every verdict is in the cache: the judge is not asked again


def judged(home: Path) -> int:
    with closing(sqlite3.connect(home / "runs" / ".store" / "cache" / "judge.sqlite")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return sum(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in tables)


@pytest.mark.parametrize(
    ("scoring", "words", "code"),
    [
        ({"judge": {"model": "qwen2.5:14b", "host": "http://127.0.0.1:1"}}, ("same family (qwen)",), 4),
        ({"judge": {"model": "deepseek-r1:8b", "host": "http://127.0.0.1:1"}}, ("thinking model",), 4),
        ({"judge": {"model": "granite3.3:8b", "host": "http://127.0.0.1:1"}}, ("127.0.0.1:1",), 4),
        ({"judge": {"backend": "llamacpp", "model": "../none.gguf"}}, ("none.gguf", "does not exist"), 2),
        ({"similarity": {"backend": "ollama"}}, ("needs 'model'",), 2),
    ],
)
def test_a_judge_or_embedder_that_cannot_be_is_refused_before_asking(
    project: Path, scoring: dict[str, object], words: tuple[str, ...], code: int
) -> None:
    edit(recipe_of(project), scoring=scoring)
    done = ragtune("run", recipe_of(project), cwd=project)
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr


def test_other_conditions_are_refused_and_allowed_only_by_name(project: Path) -> None:
    receipts = run_folder(project) / "6-register" / "receipt.json"
    value = json.loads(receipts.read_text())
    value["tuned"]["parameters"] = {"stop": ["x"]}
    text = json.dumps(value, indent=2) + "\n"
    receipts.write_text(text)
    manifest = run_folder(project) / "6-register" / "manifest.json"
    described = json.loads(manifest.read_text())
    described["files"]["receipt.json"]["bytes"] = len(text)
    manifest.write_text(json.dumps(described))
    refused = ragtune("run", recipe_of(project), "--redo", "evaluate", cwd=project)
    assert refused.returncode == 4
    assert "parameters: base (absent), tuned" in refused.stderr or "parameters: base" in refused.stderr
    assert "--allow parameters" in refused.stderr
    unknown = ragtune("run", recipe_of(project), "--allow", "weather", cwd=project)
    assert unknown.returncode == 3
    assert "cannot allow an unknown condition: weather" in unknown.stderr
    allowed = ragtune("run", recipe_of(project), "--allow", "parameters", cwd=project)
    assert allowed.returncode == 0, allowed.stderr
    for name in ("report.html", "report.md", "summary.txt"):
        assert "Different parameters (allowed)" in (run_folder(project) / "8-report" / name).read_text()


def test_compare_judges_two_models_of_a_run(finished: Path) -> None:
    done = ragtune("compare", "small:base", "small:tuned", "--json", cwd=finished)
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    verdict = json.loads((evaluated(finished) / "verdict.json").read_text())["against_base"]
    assert found["rows"] == verdict["rows"]
    assert found["verdict"] == verdict["verdict"]
    assert found["stamps"] == []


def test_compare_takes_several_against_the_first_and_holm_over_all(project: Path) -> None:
    shutil.copytree(run_folder(project), project / "runs" / "other", symlinks=False)
    done = ragtune("compare", "small:base", "small:tuned", "other:tuned", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one["title"] for one in found] == [
        "base: small:base · tuned: small:tuned", "base: small:base · tuned: other:tuned",
    ]  # fmt: skip
    alone = json.loads(ragtune("compare", "small:base", "small:tuned", "--json", cwd=project).stdout)
    pairs = zip(found[0]["rows"], alone[0]["rows"], strict=True)
    assert all(both["holm_p"] >= one["holm_p"] for both, one in pairs if one["holm_p"] is not None)


def test_compare_scores_files_of_answers(finished: Path, tmp_path: Path) -> None:
    benchmark = finished / "benchmark.jsonl"
    asked = [one for one in rows(benchmark) if one["answerable"]]
    write_rows(tmp_path / "good.jsonl", [{"question_id": one["id"], "text": one["reference"]} for one in asked])
    write_rows(tmp_path / "empty.jsonl", [{"question_id": one["id"], "text": ""} for one in asked])
    page = tmp_path / "page.html"
    done = ragtune(
        "compare", tmp_path / "good.jsonl", tmp_path / "empty.jsonl",
        "--benchmark", benchmark, "--json", "--html", page, cwd=finished,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    means = {row["name"]: (row["all"]["base_mean"], row["all"]["tuned_mean"]) for row in found["rows"]}
    assert means["correctness"][1] == 0 < means["correctness"][0]
    assert means["invalid"] == (0.0, 1.0)
    assert "citation_recall" not in means  # nothing is known of contexts and titles
    assert found["stamps"] == [
        "Unknown conditions: how these answers were generated is not recorded (good.jsonl, empty.jsonl)"
    ]
    assert "Unknown conditions" in page.read_text()


@pytest.mark.parametrize(
    ("names", "words", "code"),
    [
        (["small", "nothing"], ("no finished run 'nothing' (finished: small)",), 5),
        (["small:base", "small:third"], ("'third' is neither 'base' nor 'prompted' nor 'tuned'",), 3),
        (["small", "small"], ("named twice",), 3),
        (["small"], ("at least two runs",), 2),
        (["a.jsonl", "b.jsonl"], ("need their questions", "--benchmark"), 3),
    ],
)
def test_compare_says_what_cannot_be_compared(
    finished: Path, names: list[str], words: tuple[str, ...], code: int
) -> None:
    done = ragtune("compare", *names, cwd=finished)
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr


def test_runs_on_different_questions_are_not_compared(project: Path) -> None:
    shutil.copytree(run_folder(project), project / "runs" / "other", symlinks=False)
    path = project / "runs" / "other" / "7-evaluate" / "questions.jsonl"
    path.write_text(re.sub(r'"question": "', '"question": "Please: ', path.read_text(), count=1))
    done = ragtune("compare", "small", "other", cwd=project)
    assert done.returncode == 3
    assert "were asked different questions" in done.stderr


def run_of(home: Path) -> Run:
    return Run(load_recipe(recipe_of(home)), run_folder(home))


def prefer_tuned(session: Session) -> None:
    """Vote for the tuned answer on every trial, and against planted ones."""

    def choice(trial: Trial) -> str:
        if trial.kind == "check":
            return "left" if trial.left != "planted" else "right"
        return "left" if trial.left == "tuned" else "right"

    for trial in session.trials:
        assert session.vote(trial.id, choice(trial))


def test_blind_votes_reach_the_next_report(project: Path) -> None:
    session = open_comparison(run_of(project), 4)
    prefer_tuned(session)
    assert session.unblind()
    done = ragtune("run", recipe_of(project), "--json", cwd=project)
    assert [one["stage"] for one in json.loads(done.stdout)["stages"] if one["did"] == "ran"] == ["report"]
    report = json.loads((run_folder(project) / "8-report" / "report.json").read_text())
    assert report["blind"]["rows"][0] == {"label": "tuned preferred", "value": "4"}
    assert "Blind comparison by people" in (run_folder(project) / "8-report" / "report.html").read_text()


def test_a_session_goes_on_with_its_number_and_other_answers_begin_another(project: Path) -> None:
    first = open_comparison(run_of(project), 4)
    assert first.vote(first.trials[0].id, "tie")
    again = open_comparison(run_of(project), None)
    assert (again.n, again.done, again.folder) == (4, 1, first.folder)
    used = evaluated(project) / "used.jsonl"
    changed = rows(used)
    changed[0]["text"] = "something else"
    write_rows(used, changed)
    assert open_comparison(run_of(project), 4).folder != first.folder


def test_without_answers_there_is_nothing_to_compare_blind(project: Path) -> None:
    forget(project, "7-evaluate")
    with pytest.raises(ArtifactError, match="no answers to compare yet"):
        open_comparison(run_of(project), None)


def test_more_comparisons_than_different_answers_are_refused(project: Path) -> None:
    with pytest.raises(InputError, match="comparisons were asked for"):
        open_comparison(run_of(project), 40)


def test_parity_measures_every_hand_off_again(finished: Path) -> None:
    done = ragtune("parity", recipe_of(finished), "--type", "F32", "--type", "Q4_K_M", "--json", cwd=finished)
    assert done.returncode == 0, done.stderr
    found = {row["name"]: row for row in json.loads(done.stdout)}
    assert list(found) == [
        "adapter → fused", "adapter → GGUF (F32)", "base → F32", "tuned → F32", "base → Q4_K_M", "tuned → Q4_K_M",
    ]  # fmt: skip
    assert found["adapter → fused"]["max_difference"] < 1e-4
    assert found["tuned → F32"]["mean_kl"] < found["tuned → Q4_K_M"]["mean_kl"] < found["tuned → Q4_K_M"]["effect"]
    assert all(row["verdict"] == "ok" for row in found.values())
    assert not [path for path in run_folder(finished).iterdir() if path.name.startswith("tmp")]


def test_parity_fails_where_the_adapters_effect_is_lost(project: Path) -> None:
    from mlx_ragtune.bases.resolve import resolve_base
    from mlx_ragtune.gguf.reader import import_gguf
    from mlx_ragtune.recipe import BaseModelSettings

    untouched = resolve_base(BaseModelSettings(model="toy:qwen3"), offline=True, import_gguf=import_gguf)
    fused = run_folder(project) / "4-fuse"
    shutil.copyfile(untouched / "model.safetensors", fused / "model" / "model.safetensors")
    manifest = json.loads((fused / "manifest.json").read_text())
    size = (fused / "model" / "model.safetensors").stat().st_size
    manifest["files"]["model/model.safetensors"]["bytes"] = size
    (fused / "manifest.json").write_text(json.dumps(manifest))
    done = ragtune("parity", recipe_of(project), cwd=project)
    assert done.returncode == 5, done.stdout
    assert "quantization noise exceeds the fine-tuning effect" in done.stderr


def test_an_unknown_type_is_refused_with_the_known_ones(finished: Path) -> None:
    done = ragtune("parity", recipe_of(finished), "--type", "Q3_K_M", cwd=finished)
    assert done.returncode == 3
    assert "no GGUF type 'Q3_K_M'" in done.stderr
    assert "Q4_K_M" in done.stderr


def test_a_preview_answers_with_the_adapter_before_anything_is_fused(project: Path) -> None:
    forget(project, "4-fuse", "5-export", "6-register", "7-evaluate", "8-report")
    asked = ("ask", recipe_of(project), "What is LoRA?", "--preview", "--json")
    done = ragtune(*asked, cwd=project)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)["answers"]
    assert answers["base"] != answers["tuned"]
    kept = sorted(path.name for path in (run_folder(project) / "preview").iterdir())
    assert [name.split("-")[0] for name in kept] == ["adapter", "base"]
    assert json.loads(ragtune(*asked, cwd=project).stdout)["answers"] == answers
    forget(project, "3-train")
    without = ragtune(*asked, cwd=project)
    assert without.returncode == 5
    assert "stage 'train' is not up to date" in without.stderr


def test_questions_are_asked_with_every_seed_and_probes_once(project: Path) -> None:
    edit(recipe_of(project), evaluate={"seeds": [0, 1], "sampling": {"max_tokens": 8, "temperature": 0.7}})
    done = ragtune("evaluate", recipe_of(project), cwd=project)
    assert done.returncode == 0, done.stderr
    used = rows(evaluated(project) / "used.jsonl")
    assert len(used) == 2 * 8 * 2
    assert {one["seed"] for one in used} == {0, 1}
    kept = answers_of(project)
    probes = [one for one in kept if one["question_id"].startswith("probe:")]
    assert len(probes) == 2 * 2 * len(rows(project / "probes.jsonl"))  # in the finished run, and in this one
    assert {one["seed"] for one in probes} == {0}
    verdict = json.loads((evaluated(project) / "verdict.json").read_text())["against_base"]
    assert {one["n_seeds"] for one in verdict["questions"]} == {2}
