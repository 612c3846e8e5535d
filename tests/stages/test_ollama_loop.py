"""The loop with ``serve: ollama`` against the stand-in: same answers, and every planted wrong serving is caught."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_ragtune.clients.ollama_registry import Registrar, register_model
from tests.ollama_server import Fault, OllamaStandIn
from tests.stages.project import answers_of, edit, ragtune, recipe_of, rows, run_folder


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[OllamaStandIn]:
    with OllamaStandIn(tmp_path / "ollama") as server:
        yield server


@pytest.fixture
def served(project: Path, ollama: OllamaStandIn) -> Path:
    """The finished project, its models registered with the stand-in; nothing asked yet."""
    edit(recipe_of(project), register={"serve": "ollama", "host": ollama.host})
    done = ragtune("register", recipe_of(project), cwd=project)
    assert done.returncode == 0, done.stderr
    return project


def answers(home: Path) -> dict[tuple[str, str], str]:
    return {
        (row["model"], row["question_id"]): row["text"] for row in rows(run_folder(home) / "7-evaluate" / "used.jsonl")
    }


def refused(home: Path, *words: str) -> None:
    done = ragtune("evaluate", recipe_of(home), cwd=home)
    assert done.returncode == 4, done.stderr
    for word in words:
        assert word in done.stderr


def test_ollama_answers_as_the_embedded_server_does(finished: Path, served: Path, ollama: OllamaStandIn) -> None:
    done = ragtune("run", recipe_of(served), cwd=served)
    assert done.returncode == 0, done.stderr
    assert answers(served) == answers(finished)
    gates = json.loads((run_folder(served) / "7-evaluate" / "gates.json").read_text())
    assert gates["served_prompts"] == "equal to the training render, byte for byte (16 prompts)"
    asked = [body for _, path, body in ollama.requests if path == "/api/chat" and not body.get("_debug_render_only")]
    assert all(body["think"] is False and body["truncate"] is False and body["shift"] is False for body in asked)
    options = {"num_ctx", "num_predict", "temperature", "top_k", "top_p", "min_p", "seed", "repeat_penalty", "stop"}
    assert all(set(body["options"]) - {"num_thread"} == options for body in asked)
    one_thread = [body for body in asked if "num_thread" in body["options"]]  # asked again, for the noise
    assert one_thread
    assert all(body["options"]["num_thread"] == 1 for body in one_thread)
    listed = json.loads(ragtune("models", "list", "--json", cwd=served).stdout)
    assert {row["server"] for row in listed} == {"ollama"}
    assert ragtune("models", "remove", "small", cwd=served).returncode == 0
    assert ollama.store.models() == []


def test_base_and_tuned_take_turns_and_each_is_unloaded_between(served: Path, ollama: OllamaStandIn) -> None:
    assert ragtune("evaluate", recipe_of(served), cwd=served).returncode == 0
    turns = [
        "unload" if body.get("keep_alive") == 0 else body["model"].removeprefix("small-")
        for _, path, body in ollama.requests
        if path in ("/api/chat", "/api/generate")
    ]
    blocks = [one for at, one in enumerate(turns) if at == 0 or turns[at - 1] != one]
    noise = ["base", "unload", "tuned", "unload"]  # both once more, with one thread
    assert blocks == ["base", "unload", "tuned", "unload", "base", "unload", *noise]


def reregister(home: Path, ollama: OllamaStandIn, gguf: Path, **how: str) -> None:
    """Another model under the tuned one's name, with a receipt that says so."""
    replacing = Registrar(replace=True)
    receipt = register_model(ollama.host, "small-tuned", gguf, template=how.get("template"), registrar=replacing)
    path = run_folder(home) / "6-register" / "receipt.json"
    value = json.loads(path.read_text())
    value["tuned"] = {**value["tuned"], "digest": receipt.digest, "type": receipt.type}
    size = path.stat().st_size
    path.write_text(json.dumps(value, indent=2).ljust(size - 1) + "\n")
    manifest = path.with_name("manifest.json")
    described = json.loads(manifest.read_text())
    described["files"]["receipt.json"]["bytes"] = path.stat().st_size
    manifest.write_text(json.dumps(described))


def test_a_wrong_template_at_the_server_stops_the_run(served: Path, ollama: OllamaStandIn) -> None:
    gguf = run_folder(served) / "5-export" / "tuned.gguf"
    reregister(served, ollama, gguf, template="{{ if .Think }}{{ end }}<<{{ .System }}|{{ .Prompt }}>>")
    refused(served, "not served as it was trained", "trained on '<|im_start|>system")


def test_another_quantization_at_the_server_stops_the_run(served: Path, ollama: OllamaStandIn, tmp_path: Path) -> None:
    from mlx_ragtune.gguf.writer import write_gguf

    other = tmp_path / "other.gguf"
    write_gguf(run_folder(served) / "4-fuse" / "model", other, type="F16", name="small-tuned")
    reregister(served, ollama, other)
    refused(served, "quantization: base Q8_0, tuned F16", "--allow quantization")
    assert not [path for _, path, _ in ollama.requests if path == "/api/chat"]  # refused before anything is asked


def test_thinking_that_was_not_trained_stops_the_run(served: Path, ollama: OllamaStandIn) -> None:
    """A server that ignores ``think: false``."""
    ollama.thinks_anyway = True
    refused(served, "not served as it was trained", "<think>")


def test_a_context_shorter_than_a_prompt_is_refused_before_anything_is_asked(
    served: Path, ollama: OllamaStandIn
) -> None:
    edit(recipe_of(served), evaluate={"sampling": {"max_tokens": 8, "context_tokens": 256}})
    done = ragtune("evaluate", recipe_of(served), cwd=served)
    assert done.returncode == 3
    needed = re.search(
        r"needs (\d+) tokens with an answer of 8, but evaluate.sampling.context_tokens is 256", done.stderr
    )
    assert needed
    assert f"set evaluate.sampling.context_tokens: {needed[1]}" in done.stderr
    assert not [path for _, path, _ in ollama.requests if path == "/api/chat"]


def test_a_server_that_cuts_prompts_silently_stops_the_run(served: Path, ollama: OllamaStandIn) -> None:
    ollama.cuts_to = 64
    refused(served, "the server read 64 prompt tokens", "it truncated the prompt")


def test_a_server_that_goes_away_in_the_middle_loses_nothing(
    served: Path, ollama: OllamaStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage fails with the address; with the server back, the same command asks only what is missing."""
    monkeypatch.setattr("mlx_ragtune.clients.http_retries.time.sleep", lambda _seconds: None)
    port = int(ollama.host.rsplit(":", 1)[1])
    before = len(answers_of(served))  # by the embedded server
    chats: list[str] = []

    def refuse_from_the_ninth_on(path: str) -> Fault | None:
        if path == "/api/chat":
            chats.append(path)
        if len(chats) == 9:
            ollama.stop_listening()
        return Fault("refuse") if len(chats) >= 9 else None

    ollama.fault = refuse_from_the_ninth_on
    refused(served, f"127.0.0.1:{port}", "ollama serve")
    kept = answers_of(served)
    assert before < len(kept) < 2 * before
    with OllamaStandIn(tmp_path / "ollama", port=port) as back:
        done = ragtune("evaluate", recipe_of(served), cwd=served)
        assert done.returncode == 0, done.stderr
        asked = [body for _, path, body in back.requests if path == "/api/chat" and not body.get("_debug_render_only")]
    found = answers_of(served)
    assert all(row in found for row in kept)
    assert len(asked) == len(found) - len(kept)


def test_hosts_that_hold_different_models_under_one_name_do_not_write_pairs(
    project: Path, ollama: OllamaStandIn, tmp_path: Path
) -> None:
    export = run_folder(project) / "5-export"
    with OllamaStandIn(tmp_path / "second") as second:
        register_model(ollama.host, "writer", export / "base.gguf")
        register_model(second.host, "writer", export / "tuned.gguf")
        hosts = [ollama.host, second.host]
        edit(recipe_of(project), dataset={"pairs": None, "generator": {"model": "writer", "hosts": hosts, "pairs": 20}})
        done = ragtune("dataset", recipe_of(project), cwd=project)
    assert done.returncode == 4, done.stderr
    assert "the hosts have different models named 'writer'" in done.stderr
    assert "Traceback" not in done.stderr
