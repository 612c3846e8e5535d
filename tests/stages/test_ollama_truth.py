"""What ``run``, ``status`` and ``models`` say of models at a server, after sequences of things done to them there."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ollama_server import OllamaStandIn
from tests.stages.project import Done, edit, ragtune, recipe_of, run_folder


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[OllamaStandIn]:
    with OllamaStandIn(tmp_path / "ollama") as server:
        yield server


@pytest.fixture
def served(project: Path, ollama: OllamaStandIn) -> Path:
    """The finished project, its models registered with the stand-in; nothing asked yet."""
    edit(recipe_of(project), register={"serve": "ollama", "host": ollama.host})
    assert register(project).returncode == 0
    return project


def register(home: Path, *options: str) -> Done:
    return ragtune("register", recipe_of(home), *options, cwd=home)


def status(home: Path) -> dict[str, Any]:
    done = ragtune("status", recipe_of(home), "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    return next(row for row in json.loads(done.stdout) if row["stage"] == "register")


def listed(home: Path) -> dict[str, dict[str, Any]]:
    done = ragtune("models", "list", "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


def digests(server: OllamaStandIn) -> dict[str, str]:
    return {model.name.removesuffix(":latest"): model.digest for model in server.store.models()}


def replace_by_hand(server: OllamaStandIn, name: str) -> None:
    body = {"model": name, "from": "small-base", "system": "Mine, made by hand.", "stream": False}
    httpx.post(f"{server.host}/api/create", json=body).raise_for_status()


def test_a_model_that_was_removed_at_the_server_is_said_and_registered_again(
    served: Path, ollama: OllamaStandIn
) -> None:
    before = digests(ollama)
    assert status(served)["state"] == "up to date"
    ollama.store.delete("small-tuned")
    said = status(served)
    assert said["state"] == "run"
    assert said["why"] == f"Ollama at {ollama.host} no longer has 'small-tuned'"
    rows = listed(served)
    assert (rows["small-base"]["presence"], rows["small-tuned"]["presence"]) == ("present", "removed")
    assert rows["small-tuned"]["fix"] == "ragtune register recipes/small.yaml"
    shown = ragtune("models", "list", cwd=served).stdout
    assert "removed there" in shown
    assert "try: ragtune register recipes/small.yaml" in shown
    assert all(len(line) <= 80 for line in shown.split("\n"))
    assert register(served).returncode == 0
    assert digests(ollama) == before
    assert status(served)["state"] == "up to date"


def test_a_model_that_was_replaced_by_hand_is_kept_until_replace_is_given(served: Path, ollama: OllamaStandIn) -> None:
    before = digests(ollama)
    replace_by_hand(ollama, "small-tuned")
    theirs = digests(ollama)["small-tuned"]
    assert "has another model named 'small-tuned'" in status(served)["why"]
    assert listed(served)["small-tuned"]["presence"] == "replaced"
    refused = ragtune("run", recipe_of(served), cwd=served)
    assert refused.returncode == 4
    assert "was not registered from this runs folder" in refused.stderr
    assert "--replace" in refused.stderr
    assert digests(ollama)["small-tuned"] == theirs
    removed = ragtune("models", "remove", "small", cwd=served)
    assert removed.returncode == 0
    assert "removed small-base" in removed.stdout
    assert f"kept small-tuned at {ollama.host}: it is not the model that was registered" in removed.stdout
    assert f"OLLAMA_HOST={ollama.host} ollama rm small-tuned" in removed.stdout
    assert digests(ollama) == {"small-tuned": theirs}
    assert listed(served) == {}
    assert register(served).returncode == 4
    done = register(served, "--replace")
    assert done.returncode == 0, done.stderr
    assert f"replacing 'small-tuned' ({theirs[:12]})" in done.stderr
    assert digests(ollama) == before


def test_run_takes_replace_too(served: Path, ollama: OllamaStandIn) -> None:
    replace_by_hand(ollama, "small-tuned")
    done = ragtune("evaluate", recipe_of(served), "--replace", cwd=served)
    assert done.returncode == 0, done.stderr
    assert "--replace" in ragtune("run", "--help", cwd=served).stdout


def test_a_taken_name_is_refused_before_anything_is_trained(project: Path, ollama: OllamaStandIn) -> None:
    edit(recipe_of(project), register={"serve": "ollama", "host": ollama.host})
    assert register(project).returncode == 0
    replace_by_hand(ollama, "other-tuned")
    edit(recipe_of(project), register={"name": "other"}, train={"epochs": 2})
    refused = ragtune("run", recipe_of(project), cwd=project)
    assert refused.returncode == 4
    assert "'other-tuned'" in refused.stderr
    assert "3-train" not in refused.stderr


def test_a_server_that_does_not_answer_is_said_and_stops_nothing_that_is_finished(
    served: Path, ollama: OllamaStandIn
) -> None:
    done = ragtune("run", recipe_of(served), cwd=served)
    assert done.returncode == 0, done.stderr
    ollama.stop_listening()
    said = status(served)
    assert said["state"] == "up to date"
    assert said["why"].startswith(f"not checked: {ollama.host}: no Ollama server answers")
    assert said["fix"] == f"OLLAMA_HOST={ollama.host.removeprefix('http://')} ollama serve"
    assert said["fix"] in ragtune("status", recipe_of(served), cwd=served).stdout
    assert listed(served)["small-base"]["presence"] == "unreachable"
    assert ragtune("models", "list", cwd=served).returncode == 0
    again = ragtune("run", recipe_of(served), cwd=served)
    assert again.returncode == 0, again.stderr
    assert "6-register: up to date (not checked" in again.stderr
    removed = ragtune("models", "remove", "small", cwd=served)
    assert removed.returncode == 4
    assert "ollama serve" in removed.stderr
    assert listed(served)  # the receipt is kept


def test_finished_answers_are_reported_and_compared_when_the_models_are_gone(
    served: Path, ollama: OllamaStandIn
) -> None:
    assert ragtune("run", recipe_of(served), cwd=served).returncode == 0
    for name in digests(ollama):
        ollama.store.delete(name)
    assert ragtune("report", recipe_of(served), cwd=served).returncode == 0
    assert digests(ollama) == {}
    compared = ragtune("compare", "small:base", "small:tuned", cwd=served)
    assert compared.returncode == 0, compared.stderr
    again = ragtune("run", recipe_of(served), cwd=served)
    assert again.returncode == 0, again.stderr
    assert set(digests(ollama)) == {"small-base", "small-tuned"}
    assert "7-evaluate: up to date" in again.stderr  # the same models: nothing is asked again


def test_two_recipes_with_one_name_take_turns_and_status_says_whose_it_is(served: Path, ollama: OllamaStandIn) -> None:
    other = served / "recipes" / "other.yaml"
    shutil.copyfile(recipe_of(served), other)
    edit(other, register={"name": "small"}, export={"type": "F16"})
    done = ragtune("register", other, cwd=served)
    assert done.returncode == 0, done.stderr  # both are ours
    assert "has another model named 'small-base'" in status(served)["why"]
    assert listed(served)["small-base"]["presence"] in ("present", "replaced")
    assert register(served).returncode == 0
    assert status(served)["state"] == "up to date"
    kept = ragtune("models", "remove", "other", cwd=served)
    assert kept.returncode == 0
    assert "kept small-base" in kept.stdout
    assert set(digests(ollama)) == {"small-base", "small-tuned"}


def test_what_was_registered_stays_ours_when_its_run_is_pruned(served: Path, ollama: OllamaStandIn) -> None:
    edit(recipe_of(served), export={"type": "F16"})
    assert register(served).returncode == 0
    (run_folder(served) / "6-register").unlink()
    assert ragtune("prune", "--yes", cwd=served).returncode == 0
    edit(recipe_of(served), export={"type": "Q8_0"})
    done = register(served)
    assert done.returncode == 0, done.stderr


def test_another_host_registers_there_and_the_first_one_keeps_its_models(
    served: Path, ollama: OllamaStandIn, tmp_path: Path
) -> None:
    with OllamaStandIn(tmp_path / "second") as second:
        edit(recipe_of(served), register={"host": second.host})
        assert f"server: {ollama.host} → {second.host}" in status(served)["why"]
        assert register(served).returncode == 0
        assert digests(second) == digests(ollama)
        edit(recipe_of(served), register={"host": ollama.host})
        assert status(served)["state"] == "reuse"
        ollama.store.delete("small-base")
        assert status(served)["state"] == "run"
        assert register(served).returncode == 0
        assert set(digests(ollama)) == {"small-base", "small-tuned"}


def test_a_server_that_was_updated_is_said_and_not_mixed_into_old_answers(served: Path, ollama: OllamaStandIn) -> None:
    ollama.version = "0.33.5"
    said = status(served)
    assert (said["state"], said["why"]) == ("up to date", f"Ollama at {ollama.host} is 0.33.5 now, and was 0.33.0-rc2")
    refused = ragtune("evaluate", recipe_of(served), cwd=served)
    assert refused.returncode == 4
    assert "was registered with Ollama 0.33.0-rc2" in refused.stderr
    assert ragtune("register", recipe_of(served), "--redo", cwd=served).returncode == 0
    assert ragtune("evaluate", recipe_of(served), cwd=served).returncode == 0


def test_a_development_build_is_accepted_by_its_key(project: Path, ollama: OllamaStandIn) -> None:
    ollama.version = "0.0.0"
    edit(recipe_of(project), register={"serve": "ollama", "host": ollama.host})
    refused = register(project)
    assert refused.returncode == 4
    assert "'register.development_build: true'" in refused.stderr
    edit(recipe_of(project), register={"development_build": True})
    done = ragtune("evaluate", recipe_of(project), cwd=project)
    assert done.returncode == 0, done.stderr
    gates = json.loads((run_folder(project) / "7-evaluate" / "gates.json").read_text())
    assert gates["served_prompts"].startswith("equal to the training render")
