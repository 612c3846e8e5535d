"""A finished run is served: the answers are those of the evaluation, by the embedded server and through Ollama."""

import hashlib
import json
from contextlib import chdir
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from mlx_ragtune.answering.opened_answers import preview_files
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.commands.review import open_review
from mlx_ragtune.commands.serve import TOKEN_VARIABLE, Served, ServeOptions, serve
from mlx_ragtune.errors import ArtifactError, RecipeError, ToolError
from mlx_ragtune.runner import Run, open_recipe
from tests.ollama_server import OllamaStandIn
from tests.stages.project import edit, ragtune, recipe_of, rows, run_folder


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.setenv("RAGTUNE_OFFLINE", "1")
    monkeypatch.delenv("RAGTUNE_RUNS", raising=False)


@pytest.fixture
def said() -> list[str]:
    return []


def opened(home: Path) -> Run:
    with chdir(home):
        return open_recipe(recipe_of(home).resolve(), {})


def asked(served: Served, model: str, question: str, **more: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": question}], **more}
    reply = httpx.post(f"{served.endpoint}/chat/completions", json=body, timeout=120)
    assert reply.status_code == 200, reply.text
    value: dict[str, Any] = reply.json()
    return value


def check_same_as_evaluated(home: Path, served: Served) -> int:
    evaluated = run_folder(home) / "7-evaluate"
    questions = {row["id"]: row["question"] for row in rows(evaluated / "questions.jsonl")}
    contexts = {row["question_id"]: row["passages"] for row in rows(evaluated / "contexts.jsonl")}
    count = 0
    for row in rows(evaluated / "used.jsonl"):
        if row["question_id"] in questions:
            reply = asked(served, row["model"], questions[row["question_id"]])
            assert reply["choices"][0]["message"]["content"] == row["text"]
            assert reply["usage"]["prompt_tokens"] == row["prompt_tokens"]
            shown = [(source["paper"], source["text"]) for source in reply["sources"]]
            assert shown == [(one["document_id"], one["text"]) for one in contexts[row["question_id"]]]
            count += 1
    return count


def test_served_answers_are_those_of_the_evaluation(finished: Path, said: list[str]) -> None:
    with serve(opened(finished), ServeOptions(), say=said.append) as served:
        assert served.models == ("base", "tuned")
        assert served.token is None
        assert check_same_as_evaluated(finished, served) == 16
        text = httpx.get(served.page).text
        assert "Ask the papers" in text
        state = httpx.get(f"{served.page}api/state").json()
        assert (state["name"], state["strengths"], state["turns"]) == ("small", False, 0)
        assert len(state["papers"]) > 8
    assert len(said) == 16


def test_the_prompted_base_answers_as_in_the_evaluation(project: Path, said: list[str]) -> None:
    edit(recipe_of(project), evaluate={"prompted": {"examples": 2, "tokens": 600}})
    done = ragtune("evaluate", recipe_of(project), cwd=project)
    assert done.returncode == 0, done.stderr
    with serve(opened(project), ServeOptions(slots=2), say=said.append) as served:
        assert served.models == ("base", "prompted", "tuned")
        assert check_same_as_evaluated(project, served) == 24


def test_ollama_serves_the_same(project: Path, tmp_path: Path, said: list[str]) -> None:
    with OllamaStandIn(tmp_path / "ollama") as ollama:
        edit(recipe_of(project), register={"serve": "ollama", "host": ollama.host})
        assert ragtune("register", recipe_of(project), cwd=project).returncode == 0
        with serve(opened(project), ServeOptions(), say=said.append) as served:
            assert check_same_as_evaluated(project, served) == 16


def test_a_preview_serves_strengths_and_the_fused_model_refuses_them(project: Path, said: list[str]) -> None:
    question = "What is LoRA?"
    with serve(opened(project), ServeOptions(), say=said.append) as served:
        body = {"model": "tuned", "messages": [{"role": "user", "content": question}], "strength": 0.5}
        refused = httpx.post(f"{served.endpoint}/chat/completions", json=body)
        assert refused.status_code == 400
        assert "--preview" in refused.json()["error"]["message"]
    with serve(opened(project), ServeOptions(preview=True), say=said.append) as served:
        assert httpx.get(f"{served.page}api/state").json()["strengths"]
        texts = {
            name: asked(served, model, question, **more)["choices"][0]["message"]["content"]
            for name, model, more in (
                ("base", "base", {}),
                ("tuned", "tuned", {}),
                ("0", "tuned", {"strength": 0}),
                ("1", "tuned", {"strength": 1}),
            )
        }
        assert texts["base"] != texts["tuned"]
        assert (texts["0"], texts["1"]) == (texts["base"], texts["tuned"])
        for model, strength in (("tuned", 5), ("base", 0.5)):
            body = {"model": model, "messages": [{"role": "user", "content": question}], "strength": strength}
            assert httpx.post(f"{served.endpoint}/chat/completions", json=body).status_code == 400


def test_a_preview_belongs_to_the_content_of_the_adapter_and_not_to_its_key(project: Path) -> None:
    """Training again under the same key may give other bytes, as on another machine."""
    base, first = preview_files(opened(project))
    before = first.read_bytes()
    assert preview_files(opened(project)) == (base, first)
    weights = run_folder(project) / "3-train" / "adapters.safetensors"
    arrays = cast(dict[str, mx.array], mx.load(str(weights)))
    mx.save_safetensors(str(weights), {name: 2 * array for name, array in arrays.items()})
    path = run_folder(project) / "3-train" / "manifest.json"
    manifest = json.loads(path.read_text())
    content = weights.read_bytes()
    manifest["files"][weights.name] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(manifest))
    _, second = preview_files(opened(project))
    assert second.read_bytes() != before
    assert {file.name for file in second.parent.iterdir()} == {base.name, second.name}


def test_a_vote_becomes_a_row_to_review_and_then_a_pair(project: Path, said: list[str]) -> None:
    run = opened(project)
    with pytest.raises(ArtifactError, match="no answer got a vote"):
        open_review(run, "votes")
    with serve(run, ServeOptions(), say=said.append) as served:
        names = [asked(served, "tuned", f"What is LoRA {number}?")["id"] for number in range(3)]
        for name, vote in zip(names, ("up", "down", "up"), strict=True):
            assert httpx.post(f"{served.page}api/vote", json={"id": name, "vote": vote}).status_code == 200
        httpx.post(f"{served.page}api/vote", json={"id": names[2], "vote": "none"})
    session = open_review(run, "both")
    assert list(session.items) == ["benchmark", "pairs", "votes"]
    disliked, liked = session.items["votes"]
    assert (disliked.task, liked.task) == ("disliked, tuned", "liked, tuned")
    assert liked.row.question == "What is LoRA 0?"
    session.log.decide(liked, "accept")
    done = ragtune("review", recipe_of(project), "--what", "votes", cwd=project)
    assert "served answers: 1 of 2 reviewed (1 accepted" in done.stdout
    done = ragtune("review", recipe_of(project), "--what", "votes", "--apply", cwd=project)
    assert done.returncode == 0, done.stderr
    (row,) = rows(recipe_of(project).parent / "small-votes.jsonl")
    assert row["question"] == "What is LoRA 0?"
    assert row["papers"]
    assert "add the rows of small-votes.jsonl to the file of dataset.pairs" in done.stderr


def test_models_of_other_settings_are_not_served(project: Path, said: list[str]) -> None:
    edit(recipe_of(project), train={"rank": 8})
    run, message = opened(project), "stage 'train' is not up to date"
    with pytest.raises(ArtifactError, match=message), serve(run, ServeOptions(), say=said.append):
        pass


def test_a_port_in_use_is_one_message(finished: Path, said: list[str]) -> None:
    with serve(opened(finished), ServeOptions(), say=said.append) as served:
        port = int(served.endpoint.rsplit(":", 1)[1].split("/")[0])
        run, message = opened(finished), f"cannot listen on port {port}: it is in use"
        with pytest.raises(ToolError, match=message), serve(run, ServeOptions(port=port), say=said.append):
            pass


def test_another_address_needs_a_token_which_is_shown_once(finished: Path, said: list[str]) -> None:
    with serve(opened(finished), ServeOptions(host="0.0.0.0"), say=said.append) as served:
        assert served.token is not None
        assert len(served.token) >= 32
        assert served.page.endswith(f"/#token={served.token}")
        assert httpx.get(f"{served.endpoint}/models").status_code == 401
        key = {"Authorization": f"Bearer {served.token}"}
        assert httpx.get(f"{served.endpoint}/models", headers=key).status_code == 200
        assert httpx.get(f"{served.endpoint}/models", headers={**key, "Host": "evil.example"}).status_code == 403
    assert not any(served.token in line for line in said)


def test_a_given_token_is_not_shown_and_a_short_one_refused(
    finished: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "x" * 15)
    with pytest.raises(RecipeError, match="16 or more"), serve(opened(finished), ServeOptions(), say=said.append):
        pass
    monkeypatch.setenv(TOKEN_VARIABLE, "a-token-of-this-test")
    with serve(opened(finished), ServeOptions(), say=said.append) as served:
        assert "token" not in served.page
        assert httpx.get(f"{served.endpoint}/models").status_code == 401
    monkeypatch.delenv(TOKEN_VARIABLE)
    run, options = opened(finished), ServeOptions(allow_hosts=("a/b",))
    with pytest.raises(RecipeError, match="not a host name"), serve(run, options, say=said.append):
        pass
