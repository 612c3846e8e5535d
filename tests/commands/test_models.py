"""``ragtune models``: what was registered is listed and removed, and nothing else is touched."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlx_ragtune.artifact import Store, set_link
from mlx_ragtune.cli import main
from mlx_ragtune.commands.models import registered, remove
from mlx_ragtune.errors import InputError
from mlx_ragtune.recipe import Recipe, RegisterSettings
from mlx_ragtune.stages.register import model_name


def receipt(name: str) -> dict[str, str]:
    return {"name": name, "server": "llama.cpp", "type": "Q8_0", "host": "", "digest": "d"}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder with one registered run."""
    monkeypatch.setenv("RAGTUNE_RUNS", str(tmp_path / "runs"))
    store = Store(tmp_path / "runs")
    (tmp_path / "runs" / "small").mkdir(parents=True)
    for stage, folder, content in (
        ("export", "5-export", {"tuned.gguf": "x"}),
        ("register", "6-register", {"receipt.json": json.dumps(
            {"base": receipt("small-base"), "tuned": receipt("small-tuned")})}),
    ):  # fmt: skip
        draft = store.open_draft(stage, "a" * 64)
        for name, text in content.items():
            (draft / name).write_text(text)
        artifact = store.finish(draft, stage, {"key": "a" * 64, "described": {}})
        set_link(tmp_path / "runs" / "small" / folder, artifact.folder)
    return tmp_path / "runs"


WRONG = json.dumps({"base": receipt("x") | {"type": None}})


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_registered_models_are_listed_with_their_server_and_type(runs: Path) -> None:
    assert [(row["run"], row["model"], row["name"]) for row in registered()[0]] == [
        ("small", "base", "small-base"),
        ("small", "tuned", "small-tuned"),
    ]
    said = call("models", "list")
    assert said.exit_code == 0
    for word in ("small-base", "small-tuned", "llama.cpp", "Q8_0"):
        assert word in said.stdout
    assert all(len(line) <= 80 for line in said.stdout.split("\n"))
    rows = json.loads(call("models", "list", "--json").stdout)
    assert {row["type"] for row in rows} == {"Q8_0"}


def test_models_alone_lists_them_too(runs: Path) -> None:
    assert call("models").stdout == call("models", "list").stdout


def test_removing_takes_the_receipt_and_leaves_the_other_artifacts(runs: Path) -> None:
    said = call("models", "remove", "small")
    assert said.stdout.split("\n")[:2] == ["removed small-base", "removed small-tuned"]
    assert not (runs / "small" / "6-register").exists()
    assert not list((runs / ".store" / "register").iterdir())  # no recipe may reuse it
    assert (runs / "small" / "5-export" / "tuned.gguf").exists()
    assert "no registered models" in call("models", "list").stdout


def test_an_unknown_run_is_named_with_the_known_ones(runs: Path) -> None:
    with pytest.raises(InputError, match=r"run 'other' has no registered models \(known: small\)"):
        remove("other")
    said = call("models", "remove", "other")
    assert said.exit_code == 3
    assert "ragtune models list" in said.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", '{"base": 3}', '{"base": {"name": "x"}}', WRONG, "\x00"])
def test_a_damaged_receipt_is_named_and_the_others_are_listed(runs: Path, text: str) -> None:
    (runs / "broken" / "6-register").mkdir(parents=True)
    (runs / "broken" / "6-register" / "receipt.json").write_text(text)
    said = call("models", "list")
    assert said.exit_code == 5
    assert "broken/6-register/receipt.json: cannot read the receipt" in said.stderr
    assert "small-tuned" in said.stdout
    assert call("models", "remove", "small").exit_code == 0


def test_no_registered_models_names_the_next_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGTUNE_RUNS", str(tmp_path))
    assert call("models", "list").stdout == "no registered models; next: ragtune register RECIPE\n"
    assert json.loads(call("models", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("name", "chosen", "expected"),
    [
        ("mine", None, "mine-tuned"),
        ("mine", "own", "own-tuned"),
        ("mine+train.rank=8", None, "mine.train.rank-8-tuned"),
        ("mine+train.rank=8", "own", "own.train.rank-8-tuned"),
        ("mine+seed=1", None, "mine.seed-1-tuned"),
        ("mine+train.learning_rate=1e-05+train.target_modules=q_proj,v_proj", None,
         "mine.train.learning_rate-1e-05.train.target_modules-q_proj-v_proj-tuned"),
    ],
)  # fmt: skip
def test_the_models_of_variants_have_names_of_their_own(name: str, chosen: str | None, expected: str) -> None:
    assert model_name(named(name, chosen), "tuned") == expected


def test_long_names_of_variants_are_cut_and_stay_different() -> None:
    names = [model_name(named(f"{'m' * 64}+train.learning_rate=0.00{number}", None), "base") for number in range(9)]
    assert len(set(names)) == 9
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", name) for name in names)


def named(name: str, chosen: str | None) -> Recipe:
    return Recipe.model_construct(name=name, register=RegisterSettings(name=chosen))
