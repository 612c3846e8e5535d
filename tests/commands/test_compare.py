"""compare: finished runs and files of answers; what cannot be compared is said with file and line."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mlx_ragtune.artifact import digest_json
from mlx_ragtune.cli import main
from mlx_ragtune.commands.compare import compare_contestants, read_all
from mlx_ragtune.errors import ArtifactError, InputError, ToolError
from mlx_ragtune.evaluation.fairness import Conditions
from mlx_ragtune.jsonl import to_json, write_rows
from mlx_ragtune.pages.report_data import ReportData
from mlx_ragtune.pipeline import stage_named
from mlx_ragtune.records import ARMS, Arm, Document, Nugget, Passage, Question
from tests.pages import made

CONDITIONS = Conditions("Q8_0", "a" * 64, 4096, "ollama 0.12", {"temperature": 0.0}, (0,))
ASKED = [
    replace(question, nuggets=(Nugget("n", ((f"{at + 3} things",),)),))
    for at, question in enumerate(made.questions(12))
]
IDS = [question.id for question in ASKED]


def make_run(
    runs: Path,
    name: str,
    *,
    conditions: Conditions = CONDITIONS,
    asked: list[Question] = ASKED,
    arms: Sequence[Arm] = ("base", "tuned"),
    seed: int = 1,
) -> Path:
    """The files of a finished run that compare reads. The prompts of the prompted base differ from the others."""
    evaluate, corpus = runs / name / "7-evaluate", runs / name / "1-corpus"
    evaluate.mkdir(parents=True)
    corpus.mkdir()
    write_rows(corpus / "documents.jsonl", [Document(f"paper{at}", "p", f"Title {at}", "text") for at in range(6)])
    write_rows(evaluate / "questions.jsonl", asked)
    write_rows(evaluate / "scores.jsonl", [row for model in arms for row in made.scores(asked, model, seed)])
    write_rows(evaluate / "used.jsonl", made.answers(asked, arms))
    passages = [Passage("c0", "paper0", "Title 0", "Study 0 measures 3 things.")]
    write_rows(evaluate / "contexts.jsonl", [{"question_id": one.id, "passages": passages} for one in asked])
    given = {arm: replace(conditions, prompts={"q00": "p" if arm == "prompted" else "q"}) for arm in arms}
    (evaluate / "conditions.json").write_text(to_json({arm: asdict(value) for arm, value in given.items()}))
    write_rows(
        evaluate / "probes.jsonl",
        [{"id": f"p{at}", "category": "fact", "base": True, "tuned": at > 0} for at in range(20)],
    )
    return runs / name


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAGTUNE_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs", "demo")
    return tmp_path / "runs"


def rows_of(text: str = "It measures {} things.", ids: Iterable[str] = IDS) -> list[dict[str, Any]]:
    return [{"question_id": name, "text": text.format(at + 3)} for at, name in enumerate(ids)]


def write_file(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(path, rows)
    return path


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    write_rows(tmp_path / "benchmark.jsonl", ASKED)
    return tmp_path / "benchmark.jsonl"


def compared(*names: object, benchmark: Path | None = None) -> list[ReportData]:
    return compare_contestants(read_all(list(map(str, names)), benchmark), allow=(), margin=0.05, alpha=0.05)


def ragtune(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_two_models_of_a_run_are_compared_with_guards_and_answers(runs: Path) -> None:
    (data,) = compared("demo:base", "demo:tuned")
    assert data.title == "base: demo:base · tuned: demo:tuned"
    assert data.stamps == ()
    assert {guard.name for guard in data.comparison.guards} >= {"forgetting", "invalid"}
    assert data.answers[7].tuned_text == "Ragas evaluates R"


def test_a_recipe_names_its_run_and_so_does_a_folder(runs: Path, tmp_path: Path) -> None:
    for first in ("recipes/demo.yaml:base", f"{runs}/demo:base", "demo:base"):
        assert compared(first, "demo")[0].title == "base: demo:base · tuned: demo:tuned"


def test_a_folder_of_the_same_name_in_the_shell_does_not_hide_the_run(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    assert compared("demo:base", "demo:tuned")


def test_stage_folders_may_be_links_to_a_shared_store(runs: Path, tmp_path: Path) -> None:
    (runs / ".store").mkdir()
    for folder in ("1-corpus", "7-evaluate"):
        (runs / "demo" / folder).rename(runs / ".store" / folder)
        (runs / "demo" / folder).symlink_to(runs / ".store" / folder)
    file = write_file(tmp_path / "other.jsonl", rows_of())
    (data,) = compared("demo", file)
    assert data.title == "base: demo:tuned · tuned: other.jsonl"
    assert data.comparison.row("number_grounding") is not None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("demo", "nothing"), "no finished run 'nothing' (finished: demo)"),
        (("demo", "dmo"), "ragtune compare with 'demo'"),
        (("demo", "demo.v2"), "no finished run 'demo.v2'"),
        (("demo", ":base"), "no finished run ''"),
        (("demo", "runs"), "no finished run 'runs'"),
    ],
)
def test_a_run_that_does_not_exist_lists_those_that_do(names: tuple[str, ...], said: str, runs: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        compared(*names)
    assert said in str(caught.value)


def test_a_third_model_is_refused(runs: Path) -> None:
    with pytest.raises(InputError, match="'third' is neither 'base' nor 'prompted' nor 'tuned'"):
        compared("demo:base", "demo:third")


@pytest.mark.parametrize(
    "names", [("demo", "demo"), ("demo", "demo:tuned"), ("demo", "recipes/demo.yaml"), ("demo:base", "runs/demo:base")]
)
def test_one_model_under_two_names_is_refused(names: tuple[str, ...], runs: Path) -> None:
    with pytest.raises(InputError, match="named twice: demo:"):
        compared(*names)


def test_files_of_one_name_in_two_folders_are_told_apart(runs: Path, benchmark: Path, tmp_path: Path) -> None:
    first, second = (write_file(tmp_path / name / "answers.jsonl", rows_of()) for name in ("a", "b"))
    (data,) = compared(first, second, benchmark=benchmark)
    assert data.title == "base: a/answers.jsonl · tuned: b/answers.jsonl"
    assert data.stamps[0].startswith("Unknown conditions")
    assert str(tmp_path) not in json.dumps(asdict(data))


def test_a_file_without_contexts_has_no_metric_that_needs_them(benchmark: Path, tmp_path: Path) -> None:
    good = write_file(tmp_path / "good.jsonl", rows_of())
    cut = write_file(tmp_path / "cut.jsonl", [{**row, "done_reason": "length"} for row in rows_of()])
    (data,) = compared(good, cut, benchmark=benchmark)
    means = {row.name: (row.all.base_mean, row.all.tuned_mean) for row in data.comparison.rows}
    assert means["correctness"][1] == 0 < means["correctness"][0]
    assert means["invalid"] == (0.0, 1.0)
    assert not {"citation_recall", "number_grounding", "latency_seconds", "answer_tokens"} & set(means)
    assert {state for delta in data.comparison.questions for state in delta.tuned_validity} == {"truncated"}


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "array": (b"[1]\n", "a.jsonl:1"),
    "torn": (b'{"question_id": "q00", "text": "x"}\n{"question_id": "q0', "a.jsonl:2"),
    "latin-1": (b'{"question_id": "q00", "text": "caf\xe9"}\n', "a.jsonl:1"),
    "utf-16": ('{"question_id": "q00", "text": "x"}\n'.encode("utf-16"), "a.jsonl: cannot be read: UTF-16"),
    "nan": (b'{"question_id": "q00", "text": NaN}\n', "a.jsonl:1"),
    "no text": (b'{"question_id": "q00"}\n', "a.jsonl:1"),
    "text a number": (b'{"question_id": "q00", "text": 3}\n', "a.jsonl:1"),
    "seed a word": (b'{"question_id": "q00", "text": "x", "seed": "one"}\n', "a.jsonl:1"),
    "unknown key": (b'{"question_id": "q00", "text": "x", "txt": "y"}\n', "a.jsonl:1"),
    "surrogate": (b'{"question_id": "q00", "text": "\\ud800"}\n', "a.jsonl:1"),
    "duplicate": (b'\n{"question_id": "q00", "text": "x"}\n\n{"question_id": "q00", "text": "y"}\n', "a.jsonl:4"),
    "unknown id": (b'\n{"question_id": "q0O", "text": "x"}\n', "a.jsonl:2"),
    "empty": (b"\n", "no answers"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_row_is_named_with_file_and_line(kind: str, benchmark: Path, tmp_path: Path) -> None:
    data, said = BAD_FILES[kind]
    (tmp_path / "a.jsonl").write_bytes(data)
    write_file(tmp_path / "b.jsonl", rows_of())
    with pytest.raises(InputError) as caught:
        compared(tmp_path / "a.jsonl", tmp_path / "b.jsonl", benchmark=benchmark)
    assert said in str(caught.value)
    assert caught.value.fix


def test_an_unknown_question_gets_a_suggestion_and_a_duplicate_names_the_first_line(
    benchmark: Path, tmp_path: Path
) -> None:
    rows = rows_of()
    write_file(tmp_path / "b.jsonl", rows)
    write_file(tmp_path / "a.jsonl", [{**rows[0], "question_id": "Q00"}])
    with pytest.raises(InputError, match="question 'Q00' is not in the benchmark\n  try: did you mean 'q00'"):
        compared(tmp_path / "a.jsonl", tmp_path / "b.jsonl", benchmark=benchmark)
    write_file(tmp_path / "a.jsonl", [*rows, rows[3]])
    with pytest.raises(InputError, match="second answer to question 'q03' with seed 0, the first is in line 4"):
        compared(tmp_path / "a.jsonl", tmp_path / "b.jsonl", benchmark=benchmark)


@pytest.mark.parametrize("text", ["caf\u2028é", "a\u0085b", "a\x0cb", "論文 \U0001f600", "\x1b[31mred\x07"])
def test_odd_characters_in_answers_are_read_and_do_not_reach_the_terminal(
    text: str, benchmark: Path, tmp_path: Path
) -> None:
    write_file(tmp_path / "a.jsonl", rows_of(text + " {}"))
    write_file(tmp_path / "b.jsonl", rows_of())
    result = ragtune(
        tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--benchmark", benchmark, "--html", tmp_path / "p.html"
    )
    assert result.exit_code == 0, result.output
    assert not any(ord(char) < 32 and char != "\n" for char in result.output)
    assert "8 questions" not in (tmp_path / "p.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["answers.json", "answers.txt", "answers"])
def test_a_file_of_answers_may_have_any_suffix(name: str, benchmark: Path, tmp_path: Path) -> None:
    write_file(tmp_path / "b.jsonl", rows_of())
    assert compared(write_file(tmp_path / name, rows_of()), tmp_path / "b.jsonl", benchmark=benchmark)


def test_a_missing_file_a_missing_benchmark_and_an_unused_one_are_refused(runs: Path, benchmark: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: cannot"):
        compared("demo", "none.jsonl")
    with pytest.raises(InputError, match="files of answers need their questions"):
        compared("a.jsonl", "b.jsonl")
    with pytest.raises(InputError, match="--benchmark has no effect on runs"):
        compared("demo:base", "demo:tuned", benchmark=benchmark)


def test_a_benchmark_with_one_id_twice_or_without_questions_is_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "a.jsonl", rows_of())
    write_rows(tmp_path / "benchmark.jsonl", [ASKED[0], ASKED[1], ASKED[0]])
    with pytest.raises(InputError, match=r"benchmark\.jsonl:3: duplicate question id 'q00'"):
        compared(tmp_path / "a.jsonl", tmp_path / "a.jsonl", benchmark=tmp_path / "benchmark.jsonl")
    (tmp_path / "benchmark.jsonl").write_text("")
    with pytest.raises(InputError, match="no questions"):
        compared(tmp_path / "a.jsonl", tmp_path / "a.jsonl", benchmark=tmp_path / "benchmark.jsonl")


def test_different_questions_name_who_lacks_which(runs: Path, tmp_path: Path) -> None:
    file = write_file(tmp_path / "a.jsonl", rows_of(ids=IDS[:10]))
    with pytest.raises(InputError, match=r"a\.jsonl has no answer to q10, q11"):
        compared("demo", file)
    make_run(runs, "other", asked=[replace(ASKED[0], question="Please?"), *ASKED[1:]])
    with pytest.raises(InputError, match="the benchmarks differ in q00"):
        compared("demo", "other")


def test_other_conditions_are_refused_and_allowed_only_by_name(runs: Path) -> None:
    make_run(runs, "other", conditions=replace(CONDITIONS, quantization="Q4_K_M"))
    with pytest.raises(ToolError, match="quantization: base Q8_0, tuned Q4_K_M"):
        compared("demo", "other")
    both = read_all(["demo", "other"], None)
    (data,) = compare_contestants(both, allow=("quantization",), margin=0.05, alpha=0.05)
    assert data.stamps == ("Different quantization (allowed): base Q8_0, tuned Q4_K_M",)


def test_nan_in_a_runs_scores_is_refused_with_its_line(runs: Path) -> None:
    path = runs / "demo" / "7-evaluate" / "scores.jsonl"
    lines = path.read_text().split("\n")
    lines[2] = lines[2].replace('"correctness": ', '"correctness": NaN, "x": ')
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"scores\.jsonl:3: .*NaN"):
        compared("demo:base", "demo:tuned")


@pytest.mark.parametrize("option", ["--margin", "--alpha"])
def test_nan_as_a_number_is_refused(option: str, runs: Path) -> None:
    result = ragtune("demo:base", "demo:tuned", option, "nan")
    assert result.exit_code in (2, 3)


@pytest.mark.parametrize(("place", "said"), [("none/page.html", "does not exist"), (".", "directory")])
def test_a_page_that_cannot_be_written_is_refused_before_anything_is_read(place: str, said: str, runs: Path) -> None:
    result = ragtune("nothing", "nowhere", "--html", place)
    assert result.exit_code == 2
    assert said in result.output
    assert "no finished run" not in result.output


def test_the_command_prints_a_table_json_or_a_page(runs: Path, tmp_path: Path) -> None:
    result = ragtune("demo:base", "demo:tuned", "--html", "page.html")
    assert result.exit_code == 0, result.output
    assert "base: demo:base · tuned: demo:tuned" in result.output
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    (found,) = json.loads(ragtune("demo:base", "demo:tuned", "--json").output)
    assert found["title"] == "base: demo:base · tuned: demo:tuned"
    assert found["verdict"] in result.output


def test_a_benchmark_in_a_language_that_cannot_be_scored_is_refused_by_name(tmp_path: Path) -> None:
    polish = Question("q", "gull", "Ile minut przed promem i kto je liczy na wybrzeżu?", answerable=False)
    write_rows(tmp_path / "benchmark.jsonl", [replace(polish, refusal_kind="off_corpus")])
    answers = write_file(tmp_path / "a.jsonl", [{"question_id": "q", "text": "Nie wiem."}])
    with pytest.raises(InputError, match="Polish"):
        read_all([str(answers), str(answers)], benchmark=tmp_path / "benchmark.jsonl")


# the base with examples in its prompt


@pytest.fixture
def prompted(runs: Path) -> Path:
    """A second run on the same questions, with three arms."""
    return make_run(runs, "shots", arms=ARMS, seed=2)


def test_a_tuned_model_is_also_compared_with_the_prompt_of_its_run(prompted: Path) -> None:
    (data,) = compared("shots:base", "shots")
    assert data.title == "base: shots:base · prompted: shots:prompted · tuned: shots:tuned"
    assert data.arms == ARMS
    assert data.names == {"base": "shots:base", "prompted": "shots:prompted", "tuned": "shots:tuned"}
    assert data.stamps == ()  # its examples are no difference that must be allowed
    assert data.answers[0].prompted_text == "According to the prompted model, it measures 3 things. " * 3
    result = ragtune("shots:base", "shots")
    assert re.search(r"metric +base +prompted +tuned", result.output)
    assert max(map(len, result.output.split("\n"))) <= 80


def test_both_comparisons_are_in_the_json(prompted: Path) -> None:
    (row,) = json.loads(ragtune("shots:base", "shots", "--json").output)
    means = [
        next(metric["all"]["base_mean"] for metric in rows if metric["name"] == "prompt_tokens")
        for rows in (row["rows"], row["against_prompted"]["rows"])
    ]
    assert means == [made.PROMPT_TOKENS["base"], made.PROMPT_TOKENS["prompted"]]
    assert {"title", "stamps", "verdict", "headline", "advice", "gained", "paid"} <= row.keys()
    (two,) = json.loads(ragtune("demo:base", "demo", "--json").output)
    assert two["against_prompted"] is None


def test_the_prompted_base_is_a_contestant_of_its_own(prompted: Path) -> None:
    (data,) = compared("shots:prompted", "shots:tuned")
    assert data.title == "base: shots:prompted · tuned: shots:tuned"
    assert data.arms == ("base", "tuned")
    (other,) = compared("shots:base", "shots:prompted")
    assert other.title == "base: shots:base · tuned: shots:prompted"
    guards = {guard.name: guard for guard in other.comparison.guards}
    assert guards["forgetting"].base == guards["forgetting"].tuned  # the weights are those of the base


def test_a_run_without_a_prompted_base_says_how_to_get_one(runs: Path) -> None:
    with pytest.raises(InputError, match="not asked with examples") as caught:
        compared("demo:base", "demo:prompted")
    assert "evaluate.prompted" in caught.value.fix


def test_other_prompts_are_still_refused_between_runs(runs: Path, prompted: Path) -> None:
    conditions = runs / "shots" / "7-evaluate" / "conditions.json"
    value = json.loads(conditions.read_text())
    value["tuned"]["prompts"] = {"q00": "changed"}
    conditions.write_text(to_json(value))
    with pytest.raises(ToolError, match="prompts: base"):
        compared("demo", "shots")


def test_several_models_and_their_prompted_bases_stand_in_one_table(runs: Path, prompted: Path) -> None:
    make_run(runs, "more", arms=ARMS, seed=3)
    reports = compared("demo:base", "demo", "shots", "more")
    names = [data.title.partition("tuned: ")[2] for data in reports]
    assert names == ["demo:tuned", "shots:tuned", "shots:prompted", "more:tuned"]  # one prompt, whoever trained
    text = ragtune("demo:base", "demo", "shots", "more").output
    assert max(map(len, text.split("\n"))) <= 80
    assert [set(line) for line in text.split("\n")].count({"─"}) == 1, "it is one table"
    assert "4 models, each compared with demo:base" in text
    lines = text.split("\n")
    for data, name in zip(reports, names, strict=True):
        row = next(at for at, line in enumerate(lines) if line.startswith(f"{name} "))
        assert data.outcome.verdict in "".join(lines[row : row + 4])
    named = [data.title for data in compared("demo:base", "shots", "shots:prompted", "more")]
    assert len(named) == len(set(named)) == 3
    alone = {row.name: row.holm_p for row in compared("demo:base", "demo")[0].comparison.rows}
    for metric in reports[0].comparison.rows:
        assert metric.holm_p is None or metric.holm_p >= (alone[metric.name] or 0)


def trained(run: Path, rank: int, loss: float) -> None:
    """What the training of a finished run leaves."""
    facts = {"best_valid_loss": loss, "best_update": 3, "updates": 3, "seconds": 90.0, "peak_memory_bytes": 2**30,
             "candidates": []}  # fmt: skip
    settings = {"train": {"rank": rank, "alpha": 8}}
    empty = {"key": "k", "seconds": 1.0, "facts": {}, "files": {}}
    for stage in map(stage_named, ("corpus", "dataset", "train")):
        (run / stage.folder).mkdir(exist_ok=True)
        inputs = dict.fromkeys(set(stage.needs) - {"rehearse"}, digest_json([]))
        described = {"settings": settings if stage.name == "train" else {}, "inputs": inputs}
        manifest = {**empty, "described": described, "facts": facts if stage.name == "train" else {}}
        (run / stage.folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_row_of_many_says_what_differs_with_loss_and_minutes(runs: Path) -> None:
    for name, rank, loss in (("demo", 4, 1.25), ("eight", 8, 1.125), ("sixteen", 16, 1.5)):
        if name != "demo":
            make_run(runs, name, seed=rank)
        trained(runs / name, rank, loss)
    lines = [line.rstrip() for line in ragtune("demo", "eight", "sixteen").output.split("\n")]
    assert any(line.startswith("eight:tuned ") and "1.1250  1.5 " in line for line in lines), lines
    assert any(line.startswith("rank 8 ") for line in lines), lines
    assert not any("alpha" in line for line in lines)
    assert len(lines) < 30
    assert max(map(len, lines)) <= 80
    (first, second) = json.loads(ragtune("demo", "eight", "sixteen", "--json").output)
    assert first["runs"]["eight:tuned"] == {
        "settings": {"train.rank": 8}, "valid_loss": 1.125, "train_seconds": 90.0, "peak_memory_bytes": 2**30,
    }  # fmt: skip
    assert second["runs"]["demo:tuned"]["settings"] == {"train.rank": 4}


def test_a_noise_floor_of_the_run_counts_in_compare(runs: Path) -> None:
    noise = {"compared": 4, "varied": ["threads 2 -> 1"], "differ": {"base": 1}, "floors": {"prose_style": 0.9}}
    (runs / "demo" / "7-evaluate" / "noise.json").write_text(to_json(noise))
    row = compared("demo:base", "demo")[0].comparison.row("prose_style")
    assert row is not None
    assert row.noise == 0.9


def test_noise_floors_count_for_each_of_several_models_and_for_their_probes(runs: Path) -> None:
    make_run(runs, "more", seed=3)
    probes = [{"id": f"p{at}", "category": "fact", "base": True, "tuned": at > 9} for at in range(20)]
    write_rows(runs / "more" / "7-evaluate" / "probes.jsonl", probes)
    before = {guard.name: guard.state for guard in compared("demo:base", "demo", "more")[1].comparison.guards}
    assert before["forgetting"] == "FAIL"
    noise = {"compared": 4, "varied": ["engine"], "differ": {}, "floors": {"prose_style": 0.9, "forgetting": 0.5}}
    (runs / "more" / "7-evaluate" / "noise.json").write_text(to_json(noise))
    demo, more = (data.comparison for data in compared("demo:base", "demo", "more"))
    rows = [comparison.row("prose_style") for comparison in (demo, more)]
    assert [row and row.noise for row in rows] == [None, 0.9]
    assert {guard.name: guard.state for guard in more.guards}["forgetting"] != "FAIL"
