"""A run that starts from the adapter of another, and adapters that leave in PEFT's format and come back."""

import json
from pathlib import Path

import pytest

from mlx_ragtune.models.adapter_files import read_adapter
from mlx_ragtune.stages import report
from tests.stages.project import edit, ragtune


def second(home: Path, start: str, name: str = "second") -> Path:
    """A recipe that differs from the finished one in where its training starts and in its learning rate."""
    recipe = home / "recipes" / f"{name}.yaml"
    recipe.write_text(f"extends: small.yaml\ntrain: {{from_adapter: {start}, learning_rate: 1e-4}}\n")
    return recipe


def first_loss(home: Path, run: str) -> float:
    line = (home / "runs" / run / "3-train" / "losses.jsonl").read_text().splitlines()[0]
    return float(json.loads(line)["train_loss"])


@pytest.fixture
def peft(project: Path) -> Path:
    """The finished run's adapter in PEFT's format, beside the recipes."""
    done = ragtune("adapter", "export", project / "recipes" / "small.yaml", project / "peft", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "tensors" in done.stdout
    return project / "peft"


def test_a_run_starts_from_anothers_adapter_and_runs_again_when_that_changes(project: Path) -> None:
    recipe = second(project, "../runs/small")
    done = ragtune("train", recipe, cwd=project)
    assert done.returncode == 0, done.stderr
    assert first_loss(project, "second") < first_loss(project, "small")
    assert "up to date" in ragtune("train", recipe, cwd=project).stderr
    edit(project / "recipes" / "small.yaml", train={"epochs": 0.5})
    assert ragtune("train", project / "recipes" / "small.yaml", cwd=project).returncode == 0
    states = {row["stage"]: row for row in json.loads(ragtune("status", recipe, "--json", cwd=project).stdout)}
    assert states["train"]["state"] == "run"
    assert "changed: adapter" in states["train"]["why"]


def test_an_adapter_in_pefts_format_starts_the_same_training(project: Path, peft: Path) -> None:
    for start, name in (("../runs/small", "ours"), ("../peft", "theirs")):
        done = ragtune("train", second(project, start, name), cwd=project)
        assert done.returncode == 0, done.stderr
    ours, theirs = ((project / "runs" / name / "3-train" / "adapters.safetensors") for name in ("ours", "theirs"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_an_adapter_is_exported_at_the_recipes_strength(project: Path) -> None:
    """The run's own folder keeps the adapter as it was trained."""
    recipe = project / "recipes" / "small.yaml"
    edit(recipe, fuse={"strength": 0.5})
    done = ragtune("adapter", "export", recipe, project / "half", cwd=project)
    assert done.returncode == 0, done.stderr
    alphas = json.loads((project / "half" / "adapter_config.json").read_text())["lora_alpha"]
    assert alphas == 4  # of 8


def test_an_adapter_is_shown_as_the_keys_of_a_recipe(project: Path, peft: Path) -> None:
    shown = ragtune("adapter", "show", peft, cwd=project)
    assert shown.returncode == 0, shown.stderr
    for line in (
        "  method: lora",
        "  rank: 4",
        "  scale: 2.0",
        "# an adapter of PEFT for a base that it does not name",
    ):
        assert line in shown.stdout
    as_json = json.loads(ragtune("adapter", "show", project / "runs" / "small", "--json", cwd=project).stdout)
    adapter = read_adapter(peft)
    assert (as_json["format"], as_json["rank"], as_json["layers"]) == ("mlx", adapter.rank, adapter.layers)


def test_the_report_tells_the_kl_at_the_update_that_was_kept(tmp_path: Path) -> None:
    rows = [{"update": at, "train_loss": 1.0, "train_kl": at / 10, "valid_loss": 2.0} for at in (1, 2)]
    rows[1]["valid_kl"] = 0.25
    (tmp_path / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    facts = {fact.label: fact.value for fact in report._kl(tmp_path / "losses.jsonl", 2)}
    label = "KL to the base on {} rows (nats per token)"
    assert facts == {label.format("training"): "0.2000", label.format("validation"): "0.2500"}


def test_what_cannot_be_started_from_or_written_to_is_refused_with_the_next_step(project: Path, peft: Path) -> None:
    small = project / "recipes" / "small.yaml"
    again = ragtune("adapter", "export", small, peft, cwd=project)
    assert again.returncode == 3
    assert "adapter_model.safetensors is there already" in again.stderr
    own = ragtune("train", small, "--set", "train.rank=8", "--set", f"train.from_adapter={peft}", cwd=project)
    assert own.returncode == 2
    assert "train.rank: 4 in the adapter, 8 in the recipe" in own.stderr
    edit(small, train={"from_adapter": "../runs/small"})
    circle = ragtune("train", small, cwd=project)
    assert circle.returncode == 2
    assert "the run would start from its own result" in circle.stderr
    edit(small, train={"from_adapter": "../papers"})
    assert "there is no adapter" in ragtune("train", small, cwd=project).stderr
    edit(small, train={"from_adapter": "../nowhere"})
    assert "'../nowhere' does not exist" in ragtune("train", small, cwd=project).stderr
