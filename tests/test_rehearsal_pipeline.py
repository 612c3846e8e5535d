"""The plan of recipes with rehearsal and adapter strength. The stages are the stand-ins of ``test_pipeline``."""

from pathlib import Path

import pytest

from mlx_ragtune import pipeline
from mlx_ragtune.errors import RecipeError
from mlx_ragtune.pipeline import stage_named, stages_of, view
from mlx_ragtune.recipe_train import NEWER_KEYS
from tests.test_pipeline import NAMES, SMALL, edit, home, opened, ran, states, variant, why

__all__ = ["home"]
PROMPTS = '{"id": "a", "prompt": "Hello?"}\n'


@pytest.fixture
def rehearsed(home: Path) -> Path:
    (home / "prompts.jsonl").write_text(PROMPTS)
    edit(home, "pairs: pairs.jsonl", "pairs: pairs.jsonl, rehearsal: {share: 0.1, prompts: prompts.jsonl}")
    return home


def test_a_recipe_with_rehearsal_has_one_stage_more_before_training(rehearsed: Path) -> None:
    names = [*NAMES[:2], "rehearse", *NAMES[2:]]
    assert ran(rehearsed) == names
    assert ran(rehearsed) == []
    assert set(states(rehearsed).values()) == {"up to date"}
    assert (rehearsed / "runs" / "small" / "2b-rehearse" / "rehearsal.jsonl").is_file()


def test_a_recipe_without_rehearsal_has_neither_the_stage_nor_a_key_for_it(home: Path) -> None:
    """So results that were made before there was rehearsal keep their keys."""
    run = opened(home)
    assert "rehearse" not in states(home)
    for stage in stages_of(run.recipe):
        assert "rehearse" not in stage.needs
        for key, value in run.settings(stage).items():
            assert "rehearsal" not in key
            assert "strength" not in key
            assert not isinstance(value, dict) or not {"rehearsal", "strength"} & set(value)
    with pytest.raises(RecipeError, match=r"does not set dataset\.rehearsal"):
        run.run(until="rehearse")
    assert not run.home.exists()
    with pytest.raises(RecipeError, match=r"does not set dataset\.rehearsal"):
        run.plan(redo=("rehearse",))


def test_adding_rehearsal_reruns_training_but_not_the_data_set(rehearsed: Path) -> None:
    edit(rehearsed, ", rehearsal: {share: 0.1, prompts: prompts.jsonl}", "")
    ran(rehearsed)
    edit(rehearsed, "pairs: pairs.jsonl", "pairs: pairs.jsonl, rehearsal: {share: 0.1, prompts: prompts.jsonl}")
    assert ran(rehearsed)[:2] == ["rehearse", "train"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rank: 4", "rank: 8"),
        ("rank: 4", "rank: 4, learning_rate: 1e-5"),
        ("share: 0.1", "share: 0.3"),
        ("folder: papers", "folder: papers, chunk_tokens: 100"),
        ("corpus:", "seed: 7\ncorpus:"),
    ],
)
def test_recipes_with_one_base_share_its_answers(rehearsed: Path, old: str, new: str) -> None:
    ran(rehearsed)
    text = (rehearsed / "small.yaml").read_text()
    assert old in text
    (rehearsed / "other.yaml").write_text(text.replace(old, new))
    assert states(rehearsed, "other.yaml")["rehearse"] == "reuse"
    done = ran(rehearsed, "other.yaml")
    assert "train" in done
    assert "rehearse" not in done


def test_other_prompts_other_lengths_or_another_base_are_answered_again(rehearsed: Path) -> None:
    ran(rehearsed)
    (rehearsed / "prompts.jsonl").write_text(PROMPTS.replace("Hello", "Who"))
    assert why(rehearsed, "rehearse") == "changed: prompts"
    assert ran(rehearsed)[0] == "rehearse"
    edit(rehearsed, "share: 0.1", "share: 0.1, max_tokens: 64")
    assert "max_tokens: 192 → 64" in why(rehearsed, "rehearse")
    assert ran(rehearsed)[0] == "rehearse"
    run = opened(rehearsed)
    run._base_digest = "b2"
    assert next(step for step in run.plan() if step.stage == "rehearse").state == "run"


def test_the_share_is_part_of_training_only(rehearsed: Path) -> None:
    ran(rehearsed)
    edit(rehearsed, "share: 0.1", "share: 0.2")
    assert "dataset.rehearsal.share: 0.1 → 0.2" in why(rehearsed, "train")
    assert ran(rehearsed)[0] == "train"


def test_a_stage_that_stands_apart_is_not_needed_and_says_so(rehearsed: Path) -> None:
    steps = {step.stage: step for step in opened(rehearsed).plan(until="rehearse")}
    assert [name for name, step in steps.items() if step.state == "not needed"] == ["corpus", "dataset"]
    assert steps["corpus"].why == "rehearse does not depend on it"


def test_training_sees_the_share_and_not_the_prompts(rehearsed: Path) -> None:
    seen = view(opened(rehearsed).recipe, stage_named("train"))
    assert seen.dataset.rehearsal is not None
    assert seen.dataset.rehearsal.share == 0.1
    with pytest.raises(AttributeError, match="does not declare it"):
        _ = seen.dataset.rehearsal.prompts
    edit(rehearsed, ", rehearsal: {share: 0.1, prompts: prompts.jsonl}", "")
    assert view(opened(rehearsed).recipe, stage_named("train")).dataset.rehearsal is None


def test_another_strength_exports_the_same_adapter_in_a_run_of_its_own(home: Path) -> None:
    ran(home)
    weaker = variant(home, {"fuse.strength": 0.5})
    done = {outcome.stage: outcome.did for outcome in weaker.run()}
    assert done["train"] == "reused"
    assert next(name for name, did in done.items() if did == "ran") == "fuse"
    assert weaker.home.name == "small+fuse.strength=0.5"
    for stage in ("3-train", "4-fuse"):
        same = (weaker.home / stage).resolve() == (home / "runs" / "small" / stage).resolve()
        assert same == (stage == "3-train")
    assert set(states(home).values()) == {"up to date"}


def test_the_quick_path_asks_again_at_another_strength(home: Path) -> None:
    (home / "small.yaml").write_text(f"{SMALL}evaluate: {{engine: mlx}}\n")
    ran(home)
    done = {outcome.stage: outcome.did for outcome in variant(home, {"fuse.strength": 0.5}).run()}
    assert done["train"] == "reused"
    assert done["evaluate"] == "ran"


def test_choosing_a_strength_retrains_and_overriding_it_does_not(rehearsed: Path) -> None:
    ran(rehearsed)
    edit(rehearsed, "rank: 4", "rank: 4, strength: {max_loss: 0.2}")
    assert "train.strength: None → " in why(rehearsed, "train")
    assert ran(rehearsed)[0] == "train"
    assert variant(rehearsed, {"fuse.strength": 0.5}).run()[3].did == "reused"


def test_optional_keys_added_later_are_keys_of_stages() -> None:
    declared = {key for stage in pipeline.STAGES for key in stage.keys}
    assert {f"train.{name}" for name in NEWER_KEYS} <= set(pipeline.LATER)
    for key in pipeline.LATER:
        assert any(f"{key}.".startswith(f"{name}.") for name in declared), key
