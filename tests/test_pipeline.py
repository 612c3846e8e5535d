"""The pipeline: what runs, what is reused, and why. The stages here are stand-ins that copy what they read."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest

from mlx_ragtune import pipeline
from mlx_ragtune.artifact import STAGE_FOLDERS, Draft, Inputs, digest_json, unused
from mlx_ragtune.errors import ArtifactError, InputError, ToolError
from mlx_ragtune.pages.tables import clock
from mlx_ragtune.pipeline import STAGES, Stage, view
from mlx_ragtune.recipe import KLSettings, Recipe
from mlx_ragtune.recipe_layers import parse_settings, recorded
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.run_folders import claim, owner_of, run_folder
from mlx_ragtune.runner import Run, Step, difference, open_recipe

NAMES = [stage.name for stage in STAGES if stage.name != "rehearse"]
"""The stages of a recipe without rehearsal."""
SMALL = """\
base: {model: "toy:qwen3", precision: fp32}
corpus: {folder: papers}
dataset: {pairs: pairs.jsonl}
train: {rank: 4, alpha: 8}
benchmark: benchmark.jsonl
"""
QUESTION = '{"id": "q1", "topic": "t", "question": "what?", "answerable": true, "papers": ["a"], "reference": "r"}\n'
FILES = {
    "corpus": ("documents.jsonl", "chunks.jsonl", "index.sqlite", "unreadable.jsonl"),
    "dataset": ("examples-train.jsonl", "examples-valid.jsonl", "statistics.json"),
    "rehearse": ("rehearsal.jsonl", "statistics.json"),
    "train": ("adapters.safetensors", "adapter_config.json", "losses.jsonl", "result.json"),
    "fuse": ("model/weights",),
    "export": ("base.gguf", "tuned.gguf"),
    "register": ("receipt.json",),
    "evaluate": ("used.jsonl", "verdict.json"),
    "report": ("report.html",),
}
"""What each stage writes."""
SETTINGS: dict[str, Callable[[Recipe], object]] = {
    "corpus": lambda recipe: recipe.corpus.chunk_tokens,
    "train": lambda recipe: recipe.train.rank,
    "export": lambda recipe: recipe.export.type,
    "evaluate": lambda recipe: recipe.scoring.margin,
}
"""A setting that stands in each stage's result."""
FACTS: dict[str, int] = {}
SALT: dict[str, str] = {}
"""Facts of the corpus, and what makes a stage's result another one, for one test."""


def stand_in(stage: Stage) -> Callable[[Recipe, Inputs, Draft], None]:
    def work(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
        folders = [inputs[name] for name in sorted(inputs) if name not in (*pipeline.MODEL_INPUTS, "votes")]
        files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        read = [path.read_text() for path in files if path.name != "manifest.json"]
        setting = SETTINGS.get(stage.name, lambda _recipe: "")(recipe)
        for name in FILES[stage.name]:
            (draft / name).parent.mkdir(exist_ok=True)
            (draft / name).write_text(f"{name} {setting} {SALT.get(stage.name, '')} {hash_of(read)}")
        draft.record(**(FACTS if stage.name == "corpus" else {}))

    return work


def hash_of(texts: list[str]) -> str:
    return digest_json(texts)[:8]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.md").write_text("# A\n\ntext")
    (tmp_path / "pairs.jsonl").touch()
    (tmp_path / "benchmark.jsonl").write_text(QUESTION)
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "recipes").mkdir()
    monkeypatch.setattr(Stage, "function", stand_in)
    monkeypatch.setattr(Stage, "check", lambda *_: None)
    monkeypatch.setattr(Stage, "disk_bytes", lambda *_: 0)
    SALT.clear()
    FACTS.clear()
    return tmp_path


def opened(home: Path, recipe: str = "small.yaml") -> Run:
    path = home / recipe
    folder = run_folder(path, home / "runs")
    loaded = load_recipe(path).model_copy(update={"name": folder.name})
    return Run(loaded, folder, path, _base=home / "papers", _base_digest="b1")


def edit(home: Path, old: str, new: str, recipe: str = "small.yaml") -> None:
    path = home / recipe
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def ran(home: Path, recipe: str = "small.yaml", *, redo: tuple[str, ...] = ()) -> list[str]:
    return [outcome.stage for outcome in opened(home, recipe).run(redo=redo) if outcome.did == "ran"]


def states(home: Path, recipe: str = "small.yaml") -> dict[str, str]:
    return {step.stage: step.state for step in opened(home, recipe).plan()}


def why(home: Path, stage: str) -> str:
    return next(step.why for step in opened(home).plan() if step.stage == stage)


def test_the_eight_stages_are_one_word_each_in_order() -> None:
    assert [stage.folder for stage in STAGES] == list(STAGE_FOLDERS.values())
    assert list(STAGE_FOLDERS) == [stage.name for stage in STAGES]
    assert list(STAGE_FOLDERS.values()) == sorted(STAGE_FOLDERS.values())  # as 'ls' shows them


def test_each_stage_is_a_module_with_a_function_of_its_name() -> None:
    folder = Path(pipeline.__file__).parent / "stages"
    for stage in STAGES:
        assert f"\ndef {stage.name}(" in (folder / f"{stage.name}.py").read_text()


def test_stages_need_only_earlier_stages_and_read_only_recipe_keys() -> None:
    for index, stage in enumerate(STAGES):
        assert set(stage.needs) <= {*(before.name for before in STAGES[:index]), *pipeline.MODEL_INPUTS}
        assert {key.partition(".")[0] for key in (*stage.keys, *stage.ignores)} <= set(Recipe.model_fields)


def test_a_first_run_does_everything_and_a_second_does_nothing(home: Path) -> None:
    assert ran(home) == NAMES
    assert ran(home) == []
    assert set(states(home).values()) == {"up to date"}


@pytest.mark.parametrize(
    ("old", "new", "first", "said"),
    [
        ("rank: 4", "rank: 8", "train", "train.rank: 4 → 8"),
        ("folder: papers", "folder: papers, chunk_tokens: 100", "corpus", "corpus.chunk_tokens: 512 → 100"),
        ("dataset:", "export: {type: F16}\ndataset:", "export", "export.type: 'Q8_0' → 'F16'"),
        ("dataset:", "scoring: {margin: 0.1}\ndataset:", "evaluate", "scoring.margin: 0.05 → 0.1"),
    ],
)
def test_an_edited_key_reruns_the_stage_that_reads_it_and_those_that_depend_on_it(
    home: Path, old: str, new: str, first: str, said: str
) -> None:
    ran(home)
    edit(home, old, new)
    assert said in why(home, first)
    expected = [name for name in NAMES if name == first or _depends_on(name, first)]
    assert [name for name, state in states(home).items() if state != "up to date"] in (
        expected, sorted({*expected, "report"}, key=NAMES.index),
    )  # fmt: skip
    assert ran(home)[0] == first


def _depends_on(name: str, first: str) -> bool:
    stage = next(stage for stage in STAGES if stage.name == name)
    return first in stage.needs or any(
        _depends_on(need, first) for need in stage.needs if need not in pipeline.MODEL_INPUTS
    )


def test_a_changed_paper_reruns_the_corpus_and_is_named(home: Path) -> None:
    ran(home)
    (home / "papers" / "a.md").write_text("# A\n\nother text")
    assert "changed: papers/a.md" in why(home, "corpus")


def test_a_rerun_stops_where_a_stage_reproduces_the_same_bytes(home: Path) -> None:
    ran(home)
    edit(home, "folder: papers", "folder: papers, chunk_tokens: 511")
    ran(home)
    (home / "papers" / "b.md").write_text("# B\n\nthe stand-in corpus does not look inside")
    assert ran(home) == ["corpus"]
    assert set(states(home).values()) == {"up to date"}


HARMLESS: dict[str, Callable[[Path], object]] = {
    "a letter in a topic": lambda home: edit(home, '"topic": "t"', '"topic": "u"', "benchmark.jsonl"),
    "an alias in an anchor": lambda home: edit(
        home, '"reference"', '"nuggets": [{"text": "x", "anchors": [["x", "y"]]}], "reference"', "benchmark.jsonl"
    ),
    "keywords": lambda home: edit(home, '"reference"', '"keywords": [["x"]], "reference"', "benchmark.jsonl"),
    "a .bib beside the papers": lambda home: (home / "papers" / "refs.bib").write_text("@article{}"),
    "a .DS_Store": lambda home: (home / "papers" / ".DS_Store").write_text("x"),
    "on_unreadable": lambda home: edit(home, "folder: papers", "folder: papers, on_unreadable: skip"),
    "on_too_long": lambda home: edit(home, "pairs: pairs.jsonl", "pairs: pairs.jsonl, on_too_long: drop"),
    "report_to": lambda home: edit(home, "rank: 4", "rank: 4, report_to: [wandb]"),
    "a comment": lambda home: edit(home, "train:", "# mine\ntrain:"),
    "a default written out": lambda home: edit(home, "rank: 4", "rank: 4, epochs: 3"),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_what_cannot_change_the_adapter_does_not_retrain(home: Path, change: str) -> None:
    ran(home)
    HARMLESS[change](home)
    assert not set(ran(home)) & {"corpus", "dataset", "train", "fuse", "export", "register"}


def test_another_reference_is_looked_for_in_the_rows_and_retrains_nothing_where_it_is_not(home: Path) -> None:
    ran(home)
    edit(home, '"reference": "r"', '"reference": "rr"', "benchmark.jsonl")
    assert set(ran(home)) == {"dataset", "evaluate"}


def test_another_question_text_rebuilds_the_data_set(home: Path) -> None:
    ran(home)
    edit(home, "what?", "who?", "benchmark.jsonl")
    assert ran(home)[0] == "dataset"


def test_the_same_papers_and_recipe_elsewhere_are_up_to_date(home: Path) -> None:
    ran(home)
    moved = home / "elsewhere"
    moved.mkdir()
    for name in ("papers", "pairs.jsonl", "benchmark.jsonl", "small.yaml", "runs", "recipes"):
        (home / name).rename(moved / name)
    assert ran(moved) == []


def test_a_moved_base_folder_is_the_same_base(home: Path) -> None:
    for name in ("one", "two"):
        (home / name / "model").mkdir(parents=True)
    edit(home, '"toy:qwen3"', "./one/model")
    ran(home)
    edit(home, "./one/model", "./two/model")
    assert ran(home) == []


def test_another_base_reruns_everything_but_the_corpus(home: Path) -> None:
    ran(home)
    run = opened(home)
    run._base_digest = "b2"
    assert [outcome.stage for outcome in run.run() if outcome.did == "ran"][:2] == ["dataset", "train"]


def test_policies_apply_to_what_was_skipped_before(home: Path) -> None:
    FACTS["unreadable"] = 2
    edit(home, "folder: papers", "folder: papers, on_unreadable: skip")
    ran(home)
    assert ran(home) == []
    edit(home, "on_unreadable: skip", "on_unreadable: fail")
    assert "2 papers are unreadable" in why(home, "corpus")


def test_a_newer_key_that_is_null_is_no_part_of_an_artifacts_key(home: Path) -> None:
    stages = [stage for stage in STAGES if "train" in stage.keys]
    assert [stage.name for stage in stages] == ["train", "report"]
    for stage in stages:
        assert "kl" not in opened(home).settings(stage)["train"]
    ran(home)
    edit(home, "rank: 4", "rank: 4, kl: {tokens: all}")
    for stage in stages:
        assert opened(home).settings(stage)["train"]["kl"] == KLSettings(tokens="all").model_dump()
    assert why(home, "train").startswith("train.kl: None → {'weight': 0.1, 'tokens': 'all'")


def test_redo_with_another_result_reruns_what_depends_on_it(home: Path) -> None:
    ran(home)
    SALT["train"] = "another result"
    assert ran(home, redo=("train",)) == ["train", "fuse", "export", "register", "evaluate", "report"]
    assert set(states(home).values()) == {"up to date"}


def test_redo_with_the_same_result_reruns_nothing_else(home: Path) -> None:
    ran(home)
    assert ran(home, redo=("train",)) == ["train"]


def test_an_interrupted_redo_resumes_in_its_own_draft(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(home)
    monkeypatch.setattr(Stage, "function", failing_at("train"))
    with pytest.raises(InputError):
        opened(home).run(redo=["train"])
    assert states(home)["train"] == "up to date"  # the finished artifact is untouched
    assert why(home, "train") == "a run with --redo was interrupted"
    monkeypatch.setattr(Stage, "function", stand_in)
    ran(home, redo=("train",))
    assert (home / "runs" / "small" / "3-train" / "partial.txt").read_text() == "kept"


def test_two_recipes_share_what_their_difference_does_not_touch(home: Path) -> None:
    ran(home)
    (home / "other.yaml").write_text(SMALL.replace("rank: 4", "rank: 8"))
    assert states(home, "other.yaml")["dataset"] == "reuse"
    assert ran(home, "other.yaml") == ["train", "fuse", "export", "register", "evaluate", "report"]
    assert (home / "runs" / "other" / "2-dataset").resolve() == (home / "runs" / "small" / "2-dataset").resolve()
    assert set(states(home).values()) == {"up to date"}


def test_going_back_to_an_earlier_setting_computes_nothing(home: Path) -> None:
    ran(home)
    edit(home, "rank: 4", "rank: 8")
    ran(home)
    edit(home, "rank: 8", "rank: 4")
    outcomes = opened(home).run()
    assert {outcome.did for outcome in outcomes} == {"skipped", "reused"}


def test_one_file_name_in_two_folders_is_two_inputs(home: Path) -> None:
    """The benchmark and the pairs are both called rows.jsonl, in different folders."""
    for name in ("pairs", "benchmark"):
        (home / f"{name}-folder").mkdir()
        shutil.copyfile(home / f"{name}.jsonl", home / f"{name}-folder" / "rows.jsonl")
        edit(home, f"{name}.jsonl", f"{name}-folder/rows.jsonl")
    ran(home)
    (home / "pairs-folder" / "rows.jsonl").write_text("{}\n")
    assert why(home, "dataset") == "changed: pairs"


def test_a_second_blind_test_reaches_the_report(home: Path) -> None:
    ran(home)
    for digest in ("aaaa", "bbbb"):
        (home / "runs" / "small" / "ab" / digest).mkdir(parents=True)
        (home / "runs" / "small" / "ab" / digest / "unblinded.json").write_text(f'{{"of": "{digest}"}}')
        assert ran(home) == ["report"], digest
    assert ran(home) == []


def test_two_recipes_with_one_name_do_not_share_a_run_folder(home: Path) -> None:
    (home / "mine").mkdir()
    text = SMALL.replace("rank: 4", "rank: 8")
    for name in ("papers", "pairs", "benchmark."):
        text = text.replace(f": {name}", f": ../{name}")
    (home / "mine" / "small.yaml").write_text(text)
    ran(home)
    first, second = opened(home), opened(home, "mine/small.yaml")
    assert (first.home.name, second.home.name[:6]) == ("small", "small-")
    ran(home, "mine/small.yaml")
    assert set(states(home).values()) == {"up to date"}
    assert opened(home, "mine/small.yaml").recipe.name != first.recipe.name


def variant(home: Path, overrides: dict[str, object], recipe: str = "small.yaml") -> Run:
    run = open_recipe(home / recipe, overrides)
    run._base, run._base_digest = home / "papers", "b1"
    return run


def test_a_variant_has_its_own_folder_and_shares_every_artifact_that_it_can(home: Path) -> None:
    ran(home)
    run = variant(home, {"train.rank": 2})
    assert run.home.name == run.recipe.name == "small+train.rank=2"
    outcomes = {outcome.stage: outcome.did for outcome in run.run()}
    assert [stage for stage, did in outcomes.items() if did == "reused"] == ["corpus", "dataset"]
    assert set(states(home).values()) == {"up to date"}
    assert {step.state for step in variant(home, {"train": {"rank": 2}}).plan()} == {"up to date"}
    assert [stage for stage, did in outcomes.items() if did == "ran"] == NAMES[2:]
    again = {outcome.did for outcome in variant(home, {"train.rank": 2}).run()}
    assert again == {"skipped"}


def test_a_variant_in_a_file_shares_the_artifacts_of_the_same_settings(home: Path) -> None:
    variant(home, {"train.rank": 2}).run()
    (home / "other.yaml").write_text("extends: small.yaml\ntrain: {rank: 2}\n")
    outcomes = {outcome.stage: outcome.did for outcome in opened(home, "other.yaml").run()}
    assert [stage for stage, did in outcomes.items() if did == "ran"] == ["register", "report"]


def test_an_edit_of_an_extended_recipe_reruns_the_variant(home: Path) -> None:
    (home / "other.yaml").write_text("extends: small.yaml\ntrain: {alpha: 16}\n")
    ran(home, "other.yaml")
    edit(home, "rank: 4", "rank: 8")
    assert states(home, "other.yaml")["train"] == "run"
    assert states(home, "other.yaml")["dataset"] == "up to date"


def test_variants_of_two_recipes_with_one_name_do_not_share_a_run_folder(home: Path) -> None:
    (home / "mine").mkdir()
    (home / "mine" / "small.yaml").write_text("extends: ../small.yaml\ntrain: {alpha: 16}\n")
    variant(home, {"train.rank": 2}).run(until="corpus")
    second = variant(home, {"train.rank": 2}, "mine/small.yaml")
    assert second.home.name.startswith("small+train.rank=2-")
    second.run(until="corpus")
    assert variant(home, {"train.rank": 2}).home.name == "small+train.rank=2"
    assert variant(home, {"train.rank": 2}, "mine/small.yaml").home == second.home


def test_a_variant_whose_folder_has_other_settings_gets_another(home: Path) -> None:
    claim(home / "runs" / "small+train.rank=2", home / "small.yaml", {"train.rank": 3})
    assert variant(home, {"train.rank": 2}).home.name.startswith("small+train.rank=2-")


def test_the_marks_of_a_run_folder_lead_back_to_its_variant(home: Path) -> None:
    run = variant(home, {"train.learning_rate": 1e-4, "train.target_modules": ("q_proj", "v_proj")})
    run.run(until="corpus")
    owner = owner_of(run.home)
    assert owner is not None
    assert open_recipe(owner.recipe, owner.settings).home == run.home
    with chdir(home):
        assert owner.arguments == (
            "small.yaml --set train.learning_rate=0.0001 --set 'train.target_modules=[q_proj,v_proj]'"
        )
    words = shlex.split(owner.arguments)[2::2]
    assert recorded(parse_settings(words), run.recipe) == owner.settings


def test_prune_keeps_what_a_variant_uses(home: Path) -> None:
    run = variant(home, {"train.rank": 2})
    run.run()
    assert list(unused(run.store)) == []
    shutil.rmtree(run.home)
    assert {name.partition("/")[0] for name, _ in unused(run.store)} == set(NAMES)


@pytest.mark.parametrize("damage", ["[]", "{", "\0"])
def test_a_run_folder_with_damaged_marks_has_no_owner(home: Path, damage: str) -> None:
    claim(home / "runs" / "small", home / "small.yaml", {"train.rank": 2})
    (home / "runs" / "small" / ".settings").write_text(damage)
    assert owner_of(home / "runs" / "small") is None
    (home / "runs" / "small" / ".settings").unlink()
    (home / "runs" / "small" / ".recipe").write_text("")
    assert owner_of(home / "runs" / "small") is None


def test_a_renamed_recipe_folder_keeps_the_run(home: Path) -> None:
    path = home / "small.yaml"
    claim(home / "runs" / "small", path)
    (home / "deep").mkdir()
    path.rename(home / "deep" / "small.yaml")
    assert run_folder(home / "deep" / "small.yaml", home / "runs").name == "small"


def test_every_stage_that_will_run_is_checked_before_the_first_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    def check(stage: Stage, _recipe: Recipe, _base: Path) -> None:
        checked.append(stage.name)
        if stage.name == "register" and len(checked) > len(NAMES):
            raise ToolError("no server")

    monkeypatch.setattr(Stage, "check", check)
    ran(home)
    assert checked == NAMES
    edit(home, "rank: 4", "rank: 8")  # register's own key is unchanged; it depends on train
    with pytest.raises(ToolError, match="no server"):
        opened(home).run()
    assert checked[len(NAMES) :] == ["train", "fuse", "export", "register"]
    assert states(home)["train"] == "run"


def test_redo_checks_the_stage_and_those_that_depend_on_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(home)
    checked: list[str] = []
    monkeypatch.setattr(Stage, "check", lambda stage, *_: checked.append(stage.name))
    ran(home, redo=("fuse",))
    assert checked == ["fuse", "export", "register", "evaluate", "report"]


def test_disk_of_all_stages_together_is_refused_before_the_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage, "disk_bytes", lambda stage, *_: 2**58 if stage.name in ("fuse", "export") else 0)
    with pytest.raises(ToolError, match="GiB of disk"):
        opened(home).run()
    assert not (home / "runs" / "small" / "1-corpus").exists()


def test_a_file_that_changes_during_the_run_ends_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def swapping(stage: Stage) -> Callable[[Recipe, Inputs, Draft], None]:
        def work(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
            stand_in(stage)(recipe, inputs, draft)
            if stage.name == "train":
                edit(home, "what?", "who else?", "benchmark.jsonl")

        return work

    monkeypatch.setattr(Stage, "function", swapping)
    with pytest.raises(InputError, match="changed during the run: changed: benchmark") as caught:
        opened(home).run()
    assert "same command" in caught.value.fix
    monkeypatch.setattr(Stage, "function", stand_in)
    assert ran(home)[0] == "dataset"


def test_a_paper_that_changes_while_it_is_read_is_not_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def editing(stage: Stage) -> Callable[[Recipe, Inputs, Draft], None]:
        def work(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
            stand_in(stage)(recipe, inputs, draft)
            (home / "papers" / "a.md").write_text("# A\n\nnew text")

        return work

    monkeypatch.setattr(Stage, "function", editing)
    with pytest.raises(InputError, match=r"papers/a\.md"):
        opened(home).run(until="corpus")
    assert not (home / "runs" / "small" / "1-corpus").exists()


def test_until_stops_after_that_stage(home: Path) -> None:
    assert [outcome.stage for outcome in opened(home).run(until="train")] == ["corpus", "dataset", "train"]


def test_the_corpus_needs_no_base_model(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "base", property(lambda _run: pytest.fail("the base was asked for")))
    run = opened(home)
    run._base_digest = None
    run.run(until="corpus")


def test_a_plan_without_the_base_downloads_nothing(home: Path) -> None:
    run = Run(load_recipe(home / "small.yaml"), home / "runs" / "small", offline=True)
    edit(home, '"toy:qwen3"', "nobody/nothing")
    run = Run(load_recipe(home / "small.yaml"), home / "runs" / "small", offline=True)
    run.run(until="corpus")
    steps = {step.stage: step for step in run.plan()}
    assert steps["corpus"].state == "up to date"
    assert "'nobody/nothing' is not on this machine" in steps["dataset"].why


def test_chunks_are_counted_again_when_the_models_tokenizer_is_here(home: Path) -> None:
    def corpus() -> Step:
        return Run(load_recipe(home / "small.yaml"), home / "runs" / "small", offline=True).plan(until="corpus")[0]

    edit(home, '"toy:qwen3"', "nobody/nothing")
    opened(home).bring("corpus")
    assert corpus().state == "up to date"
    edit(home, "nobody/nothing", '"toy:qwen3"')
    assert (corpus().state, corpus().why) == ("run", "its tokens are counted with another tokenizer")
    opened(home).bring("corpus")
    edit(home, '"toy:qwen3"', '"toy:qwen2"')
    assert corpus().state == "up to date", "another model with the same tokenizer"


def test_a_stage_sees_only_the_keys_that_it_declares(home: Path) -> None:
    recipe = opened(home).recipe
    seen = view(recipe, pipeline.stage_named("corpus"))
    assert seen.corpus.chunk_tokens == 512
    with pytest.raises(AttributeError, match="stage 'corpus' reads 'train' but does not declare it"):
        _ = seen.train
    train = view(recipe, pipeline.stage_named("train"))
    assert train.base.precision == "fp32"
    with pytest.raises(AttributeError, match=r"reads 'base\.revision'"):
        _ = train.base.revision


def test_a_stage_gets_only_the_inputs_that_it_declares(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(_recipe: Recipe, inputs: Inputs, _draft: Draft) -> None:
        _ = inputs["fuse"]

    monkeypatch.setattr(Stage, "function", lambda _stage: greedy)
    with pytest.raises(KeyError, match="'fuse' is not declared"):
        opened(home).run(until="corpus")


def test_a_stage_finds_only_the_files_that_it_declares(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[str]] = {}

    def looking(stage: Stage) -> Callable[[Recipe, Inputs, Draft], None]:
        def work(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
            if stage.name == "dataset":
                seen["corpus"] = sorted(path.name for path in inputs["corpus"].iterdir())
            stand_in(stage)(recipe, inputs, draft)

        return work

    monkeypatch.setattr(Stage, "function", looking)
    opened(home).run(until="dataset")
    assert seen["corpus"] == ["chunks.jsonl", "documents.jsonl", "index.sqlite"]
    manifest = (home / "runs" / "small" / "2-dataset" / "manifest.json").read_text()
    assert ".inputs" not in manifest


def failing_at(name: str) -> Callable[[Stage], Callable[[Recipe, Inputs, Draft], None]]:
    def fail(_recipe: Recipe, _inputs: Inputs, draft: Draft) -> None:
        (draft / "partial.txt").write_text("kept")
        raise InputError("no")

    return lambda stage: fail if stage.name == name else stand_in(stage)


def test_a_failed_stage_keeps_what_was_done_and_the_same_command_resumes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stage, "function", failing_at("train"))
    with pytest.raises(InputError):
        opened(home).run()
    assert (states(home)["dataset"], states(home)["train"]) == ("up to date", "interrupted")
    monkeypatch.setattr(Stage, "function", stand_in)
    assert ran(home)[0] == "train"
    assert (home / "runs" / "small" / "3-train" / "partial.txt").exists()


def test_a_draft_of_other_settings_is_not_resumed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage, "function", failing_at("train"))
    with pytest.raises(InputError):
        opened(home).run()
    edit(home, "rank: 4", "rank: 8")
    assert states(home)["train"] == "run"
    edit(home, "rank: 8", "rank: 4")
    assert states(home)["train"] == "interrupted"


def test_a_damaged_artifact_is_named_and_made_again(home: Path) -> None:
    ran(home)
    (home / "runs" / "small" / "3-train" / "losses.jsonl").write_text("")
    assert "damaged: 'losses.jsonl' has 0 bytes" in why(home, "train")
    assert ran(home) == ["train"]


def test_status_says_what_a_run_in_progress_is_doing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str] = {}

    def looking(stage: Stage) -> Callable[[Recipe, Inputs, Draft], None]:
        if stage.name == "train":
            seen.update(states(home))
        return stand_in(stage)

    monkeypatch.setattr(Stage, "function", looking)
    ran(home)
    assert (seen["dataset"], seen["train"]) == ("up to date", "running")


def test_commands_refuse_artifacts_of_other_settings(home: Path) -> None:
    ran(home)
    assert opened(home).artifact("register").folder.exists()
    edit(home, "rank: 4", "rank: 8")
    with pytest.raises(ArtifactError, match=r"'train' is not up to date: train\.rank: 4 → 8") as caught:
        opened(home).artifact("register")
    assert caught.value.fix == "ragtune register RECIPE"


def test_prune_removes_just_what_no_run_uses(home: Path) -> None:
    ran(home)
    edit(home, "rank: 4", "rank: 8")
    ran(home)
    store = opened(home).store
    names = [name.partition("/")[0] for name, _ in unused(store)]
    assert names == ["evaluate", "export", "fuse", "register", "report", "train"]
    assert list(unused(store, remove=True))
    assert not list(unused(store))
    assert set(states(home).values()) == {"up to date"}


def test_prune_leaves_what_is_being_built(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def pruning(stage: Stage) -> Callable[[Recipe, Inputs, Draft], None]:
        def work(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
            draft.part("base-gguf", {"stage": stage.name}, lambda folder: None)
            stand_in(stage)(recipe, inputs, draft)
            seen.append([name for name, _ in unused(opened(home).store, remove=True)])

        return work

    monkeypatch.setattr(Stage, "function", pruning)
    assert ran(home) == NAMES
    assert not any(seen)


def test_parts_are_built_once_and_pruned_with_their_last_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []

    def with_part(stage: Stage) -> Callable[[Recipe, Inputs, Draft], None]:
        def work(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
            stand_in(stage)(recipe, inputs, draft)
            if stage.name == "export":
                draft.part("base-gguf", {"base": "b1"}, built.append)

        return work

    monkeypatch.setattr(Stage, "function", with_part)
    ran(home)
    edit(home, "rank: 4", "rank: 8")
    ran(home)
    assert len(built) == 1
    assert not [name for name, _ in unused(opened(home).store) if "base-gguf" in name]
    shutil.rmtree(home / "runs" / "small")
    assert [name for name, _ in unused(opened(home).store) if "base-gguf" in name]


def test_redo_starts_with_empty_caches_and_replaces_their_rows(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def caching(stage: Stage) -> Callable[[Recipe, Inputs, Draft], None]:
        def work(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
            if stage.name == "evaluate":
                cache = draft.cache("answers.jsonl")
                started.append(cache.read_text() if cache.exists() else "")
                with cache.open("a") as stream:
                    stream.write(f'{{"key": "q1", "n": {len(started)}}}\n')
            stand_in(stage)(recipe, inputs, draft)

        return work

    monkeypatch.setattr(Stage, "function", caching)
    ran(home)
    ran(home, redo=("evaluate",))
    edit(home, "dataset:", "scoring: {margin: 0.1}\ndataset:")
    ran(home)
    assert started[:2] == ["", ""]
    assert started[2] == '{"key": "q1", "n": 1}\n{"key": "q1", "n": 2}\n'
    assert "answers" not in (home / "runs" / "small" / "7-evaluate" / "manifest.json").read_text()


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.test_pipeline import opened, stand_in
from mlx_ragtune.pipeline import Stage
def dying(stage):
    def work(recipe, inputs, draft):
        stand_in(stage)(recipe, inputs, draft)
        (draft / "partial.txt").write_text("kept")
        if stage.name == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
    return work
Stage.function = dying
Stage.check = lambda *_: None
Stage.disk_bytes = lambda *_: 0
opened(Path(sys.argv[1])).run()
"""


@pytest.mark.parametrize("stage", ["corpus", "train", "report"])
def test_killed_in_any_stage_the_same_command_resumes(home: Path, stage: str) -> None:
    root = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(home), stage, root]
    assert subprocess.run(command, check=False, env={**os.environ}).returncode == -signal.SIGKILL
    assert states(home)[stage] == "interrupted"
    assert ran(home) == NAMES[NAMES.index(stage) :]
    assert (home / "runs" / "small" / STAGE_FOLDERS[stage] / "partial.txt").exists()


def test_differences_are_named_by_key() -> None:
    before = {"settings": {"train": {"rank": 16}}, "files": {"a": "1", "b": "2"}, "inputs": {"corpus": "x"}}
    after = {"settings": {"train": {"rank": 8}}, "files": {"a": "3", "c": "4"}, "inputs": {"corpus": "y"}}
    assert difference(before, after) == [
        "changed: a", "removed: b", "new: c", "corpus has a different result", "train.rank: 16 → 8",
    ]  # fmt: skip


def test_durations_are_readable() -> None:
    assert [clock(value) for value in (0.42, 12.3, 59.4, 245, 24626)] == [
        "0.4 s", "12 s", "59 s", "4 min 05 s", "6 h 50 min",
    ]  # fmt: skip
