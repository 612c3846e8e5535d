"""Registration: one upload, the right template for the version, a receipt of what the server made of it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from jinja2 import Environment

from mlx_ragtune.clients.file_digests import file_digest
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_registry import (
    Registrar,
    register_folder,
    register_model,
    remove_model,
    require_mlx_engine,
    require_server,
)
from mlx_ragtune.clients.ollama_templates import CHATML, CHATML_THINKING, go_template, require_template
from mlx_ragtune.clients.ollama_versions import era_of, parse_version
from mlx_ragtune.clients.receipts import embedded_receipt, gguf_facts, text_digest
from mlx_ragtune.clients.registered import Registered
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.records import Message
from tests.clients import go_template as go
from tests.clients.ollama_models import Model
from tests.ollama_server import VERSIONS, Fault, OllamaStandIn, _Handler
from tests.served_models import TURNS

PLAIN = [{"role": turn.role, "content": turn.content} for turn in TURNS]


def uploads(standin: OllamaStandIn) -> int:
    return sum(method == "POST" and path.startswith("/api/blobs/") for method, path, _ in standin.requests)


def creates(standin: OllamaStandIn) -> list[dict[str, object]]:
    return [body for _, path, body in standin.requests if path == "/api/create"]


def test_the_receipt_says_what_the_server_holds(standin: OllamaStandIn, models: Path) -> None:
    receipt = register_model(standin.host, "tinyq", models / "qwen3.gguf")
    model = standin.store.get("tinyq", "")
    assert (receipt.name, receipt.server, receipt.version) == ("tinyq", "ollama", "0.33.0-rc2")
    assert receipt.digest == model.digest
    assert receipt.gguf_sha256 == file_digest(models / "qwen3.gguf")
    assert (receipt.type, receipt.capabilities) == ("F16", ("completion", "thinking"))
    assert receipt.template_sha256 == text_digest(gguf_facts(models / "qwen3.gguf").template)


def test_a_template_the_server_would_choose_by_itself_is_replaced_by_an_equal_one(
    standin: OllamaStandIn, models: Path
) -> None:
    """Its ``chatml`` would lose the system text that the file's template writes before a bare user turn."""
    receipt = register_model(standin.host, "smol", models / "smol.gguf")
    assert receipt.parameters == {"stop": ['"<|im_end|>"', '"<|im_start|>"']}
    written = go_template(gguf_facts(models / "smol.gguf").template)
    assert written is not None
    assert written.endswith(CHATML)
    assert receipt.template_sha256 == text_digest(written)


SYSTEM = '<|im_start|>system\nYou are "SmolLM" \U0001f642, {{ made }} in Zürich.<|im_end|>\n'
DEFAULT_SYSTEM = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}" + json.dumps(SYSTEM, ensure_ascii=False).join(
        ("{{ ", " }}")
    ) + "{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)  # fmt: skip
NO_SYSTEM = [{"role": "user", "content": "What is LoRA?"}]
LATER = [*NO_SYSTEM, {"role": "assistant", "content": "A."}, {"role": "user", "content": "And?"}]


@pytest.mark.parametrize("version", sorted(VERSIONS.values()))
@pytest.mark.parametrize("turns", [NO_SYSTEM, LATER, PLAIN], ids=["no system", "no system, later", "system"])
def test_talks_without_a_system_turn_are_served_as_the_file_renders_them(
    version: str, turns: list[dict[str, str]], tmp_path: Path, models: Path
) -> None:
    gguf = models / "smol.gguf"
    expected = Environment(trim_blocks=True, lstrip_blocks=True).from_string(gguf_facts(gguf).template)
    said: list[str] = []
    with OllamaStandIn(tmp_path, version=version) as standin:
        register_model(standin.host, "smol", gguf, registrar=Registrar(say=said.append))
        served = standin.store.get("smol", "").render(turns, None)
    assert served == expected.render(messages=turns, add_generation_prompt=True)
    assert said == []


@pytest.mark.parametrize("turns", [NO_SYSTEM, LATER, PLAIN], ids=["no system", "no system, later", "system"])
def test_a_default_system_text_is_kept_whatever_characters_it_has(turns: list[dict[str, str]]) -> None:
    written = go_template(DEFAULT_SYSTEM)
    assert written is not None
    rendered = go.render(written, turns, think=None)
    assert rendered.startswith("<|im_start|>system\nAnswer" if turns is PLAIN else SYSTEM)
    assert rendered == Environment().from_string(DEFAULT_SYSTEM).render(messages=turns, add_generation_prompt=True)


@pytest.mark.parametrize(
    "template",
    [
        "{{ broken",
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        DEFAULT_SYSTEM.replace("loop.first and m.role", "m.role"),  # before every turn
        DEFAULT_SYSTEM.replace("You are", "{{ messages|length }} are"),
        DEFAULT_SYSTEM.replace("loop.first and m.role != 'system'", "loop.first"),  # also before a system turn
    ],
)
def test_a_template_that_is_chatml_in_some_talks_only_has_no_equal(template: str) -> None:
    written = go_template(template)
    if written is None:
        return
    for turns in (NO_SYSTEM, LATER, PLAIN):
        expected = Environment().from_string(template).render(messages=turns, add_generation_prompt=True)
        assert go.render(written, turns, think=None) == expected


def test_a_server_that_renders_a_talk_differently_is_said_so(
    standin: OllamaStandIn, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Model.render
    monkeypatch.setattr(
        Model,
        "render",
        lambda self, turns, think: real(self, turns, think).removeprefix(
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        ),
    )
    said: list[str] = []
    register_model(standin.host, "smol", models / "smol.gguf", registrar=Registrar(say=said.append))
    assert [line.split(": ")[1] for line in said if "differently" in line] == [
        "Ollama renders a talk differently from the file's chat template"
    ] * 2


def test_what_the_server_has_is_not_sent_again(standin: OllamaStandIn, models: Path) -> None:
    first = register_model(standin.host, "one", models / "qwen3.gguf")
    second = register_model(standin.host, "two", models / "qwen3.gguf")
    assert uploads(standin) == 1
    assert first.digest == second.digest  # as at a real server: the digest does not depend on the name


def test_the_upload_tells_how_far_it_is(standin: OllamaStandIn, models: Path) -> None:
    seen: list[tuple[int, int]] = []
    registrar = Registrar(progress=lambda done, total: seen.append((done, total)))
    register_model(standin.host, "one", models / "qwen3.gguf", registrar=registrar)
    size = (models / "qwen3.gguf").stat().st_size
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)


def test_an_upload_that_breaks_is_sent_again(standin: OllamaStandIn, models: Path) -> None:
    left = [2]

    def twice(path: str) -> Fault | None:
        if path.startswith("/api/blobs/") and left[0]:
            left[0] -= 1
            return Fault("status", status=503, message="try again")
        return None

    standin.fault = twice
    assert register_model(standin.host, "one", models / "qwen3.gguf").digest


def test_a_digest_that_does_not_fit_is_the_servers_error(standin: OllamaStandIn) -> None:
    with Ollama(standin.host) as server, pytest.raises(ToolError, match="digest mismatch"):
        server.upload("sha256:" + "0" * 64, lambda: iter([b"x"]), 1)


def test_a_disk_that_is_full_there_is_said_so(standin: OllamaStandIn, models: Path) -> None:
    standin.fault = lambda path: (
        Fault("status", message="write blob: no space left on device") if path == "/api/create" else None
    )
    with pytest.raises(ToolError, match="no space left") as error:
        register_model(standin.host, "one", models / "qwen3.gguf")
    assert "disk" in error.value.fix
    assert len([path for _, path, _ in standin.requests if path == "/api/create"]) == 0


def test_an_error_inside_a_create_stream_is_an_error(standin: OllamaStandIn, models: Path) -> None:
    standin.fault = lambda path: Fault("error", after=1, message="no luck") if path == "/api/create" else None
    with pytest.raises(ToolError, match="no luck"):
        register_model(standin.host, "one", models / "qwen3.gguf")


def test_a_file_that_is_no_gguf_is_refused_before_it_is_sent(standin: OllamaStandIn, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"nothing of the kind" * 10)
    with pytest.raises(InputError, match="not a GGUF"):
        register_model(standin.host, "one", tmp_path / "x.gguf")
    assert uploads(standin) == 0


def test_another_quantization_than_the_files_is_refused(standin: OllamaStandIn, models: Path) -> None:
    build = standin.store.build

    def requantizing(body: dict[str, object]) -> object:
        model, said = build(body)
        return replace(model, quantization="Q4_K_M"), said

    standin.store.build = requantizing  # type: ignore[method-assign,assignment]
    with pytest.raises(ToolError, match="as Q4_K_M, but the file is F16"):
        register_model(standin.host, "one", models / "qwen3.gguf")


@pytest.mark.parametrize("version", sorted(VERSIONS.values()))
@pytest.mark.parametrize("think", [False, True])
def test_the_served_prompt_is_the_files_own_in_every_era(
    version: str, think: bool, tmp_path: Path, models: Path
) -> None:
    with OllamaStandIn(tmp_path, version=version) as standin:
        register_model(standin.host, "tinyq", models / "qwen3.gguf")
        served = standin.store.get("tinyq", "").render(PLAIN, think)
        sent = creates(standin)[0].get("template")
    expected = (
        "".join(f"<|im_start|>{turn.role}\n{turn.content}<|im_end|>\n" for turn in TURNS) + "<|im_start|>assistant\n"
    )
    assert served == expected + ("" if think else "<think>\n\n</think>\n\n")
    assert sent == (CHATML_THINKING if version < "0.30" else None)


def test_without_our_template_an_old_server_would_serve_the_bare_question(tmp_path: Path, models: Path) -> None:
    with OllamaStandIn(tmp_path, version=VERSIONS["0.20"]) as standin:
        register_model(standin.host, "tinyq", models / "qwen3.gguf", template="{{ .Prompt }}")
        assert standin.store.get("tinyq", "").render(PLAIN, None) == TURNS[1].content


def test_a_template_that_is_not_chatml_needs_a_newer_server() -> None:
    with pytest.raises(ToolError, match="not ChatML") as error:
        require_template("{{ messages[0]['content'] }}", "here")
    assert "0.30" in error.value.fix


@pytest.mark.parametrize("template", [CHATML, CHATML_THINKING])
def test_our_go_templates_render_every_turn(template: str) -> None:
    turns = [*TURNS, Message("assistant", "A."), Message("user", "And?")]
    rendered = go.render(template, [{"role": turn.role, "content": turn.content} for turn in turns], think=True)
    assert rendered.count("<|im_start|>") == 5
    assert rendered.endswith("And?<|im_end|>\n<|im_start|>assistant\n")


def names(standin: OllamaStandIn) -> set[str]:
    return {model.name for model in standin.store.models()}


def test_a_model_that_is_not_ours_is_not_replaced_unless_asked(
    standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    register_model(standin.host, "source", models / "qwen3.gguf")
    by_hand = {"model": "demo-tuned", "from": "source", "system": "Mine.", "stream": False}
    httpx.post(f"{standin.host}/api/create", json=by_hand).raise_for_status()
    theirs = standin.store.get("demo-tuned", "").digest
    ours = Registrar(Registered(tmp_path / "store"))
    with pytest.raises(ToolError, match=r"'demo-tuned'.*was not registered from this runs folder") as error:
        register_model(standin.host, "demo-tuned", models / "other.gguf", registrar=ours)
    assert "--replace" in error.value.fix
    assert standin.store.get("demo-tuned", "").digest == theirs
    assert uploads(standin) == 1  # refused before anything is sent
    said: list[str] = []
    forced = replace(ours, replace=True, say=said.append)
    receipt = register_model(standin.host, "demo-tuned", models / "other.gguf", registrar=forced)
    assert standin.store.get("demo-tuned", "").digest == receipt.digest
    assert said == [f"replacing 'demo-tuned' ({theirs[:12]}) at {standin.host}"]
    again = register_model(standin.host, "demo-tuned", models / "qwen3.gguf", registrar=ours)  # ours now
    assert again.digest != receipt.digest
    assert names(standin) == {"demo-tuned:latest", "source:latest"}


def test_a_copy_of_ours_under_another_name_is_not_replaced(
    standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    ours = Registrar(Registered(tmp_path / "store"))
    register_model(standin.host, "demo-tuned", models / "qwen3.gguf", registrar=ours)
    httpx.post(f"{standin.host}/api/copy", json={"source": "demo-tuned", "destination": "best-tuned"})
    with pytest.raises(ToolError, match="'best-tuned'"):
        register_model(standin.host, "best-tuned", models / "other.gguf", registrar=ours)


@pytest.mark.parametrize("path", ["/api/create", "/api/show"])
def test_a_registration_that_fails_leaves_the_model_of_that_name(
    path: str, standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    ours = Registrar(Registered(tmp_path / "store"))
    before = register_model(standin.host, "demo-tuned", models / "qwen3.gguf", registrar=ours)
    standin.fault = lambda asked: Fault("status", message="no luck") if asked == path else None
    with pytest.raises(ToolError, match="no luck"):
        register_model(standin.host, "demo-tuned", models / "other.gguf", registrar=ours)
    standin.fault = lambda _path: None
    assert names(standin) == {"demo-tuned:latest"}
    assert standin.store.get("demo-tuned", "").digest == before.digest
    after = register_model(standin.host, "demo-tuned", models / "other.gguf", registrar=ours)
    assert after.digest != before.digest
    assert names(standin) == {"demo-tuned:latest"}


def test_removing_takes_what_is_ours_and_only_that(standin: OllamaStandIn, models: Path) -> None:
    ours = register_model(standin.host, "tinyq", models / "qwen3.gguf")
    register_model(standin.host, "theirs", models / "smol.gguf")
    assert remove_model(standin.host, "tinyq", digest=ours.digest) == "present"
    assert remove_model(standin.host, "tinyq", digest=ours.digest) == "removed"
    assert remove_model(standin.host, "theirs", digest=ours.digest) == "replaced"
    assert [model.name for model in standin.store.models()] == ["theirs:latest"]


@pytest.mark.parametrize(
    ("text", "version", "era"),
    [
        ("0.9.0", (0, 9, 0), "in-process engine"),
        ("0.29.9", (0, 29, 9), "in-process engine"),
        ("0.30.0", (0, 30, 0), "llama-server"),
        ("0.33.0-rc2", (0, 33, 0), "llama-server"),
        ("0.34.0", (0, 34, 0), "llama-server"),
        ("0.34.1", (0, 34, 1), "llama-server and MLX"),
        ("v1.2.3", (1, 2, 3), "llama-server and MLX"),
    ],
)
def test_a_version_belongs_to_one_era(text: str, version: tuple[int, int, int], era: str) -> None:
    assert parse_version(text, where="here") == version
    assert era_of(version).name == era


@pytest.mark.parametrize("text", ["0.0.0", "dev", ""])
def test_a_build_without_a_version_is_refused(text: str) -> None:
    with pytest.raises(ToolError, match="is a development build"):
        parse_version(text, where="here")


def test_a_server_too_old_to_stop_thinking_is_refused(tmp_path: Path) -> None:
    with OllamaStandIn(tmp_path, version="0.8.0") as old, pytest.raises(ToolError, match="too old"):
        require_server(old.host)


def test_the_server_is_named_by_version_and_era(standin: OllamaStandIn) -> None:
    assert require_server(standin.host) == "0.33.0-rc2 (llama-server)"


def test_the_embedded_receipt_has_the_files_facts(models: Path) -> None:
    receipt = embedded_receipt("base", models / "qwen3-q8.gguf")
    assert (receipt.server, receipt.type, receipt.host) == ("llama.cpp", "Q8_0", "")
    assert receipt.digest == receipt.gguf_sha256 == file_digest(models / "qwen3-q8.gguf")


def test_a_folder_for_the_mlx_engine_is_refused_where_there_is_none(tmp_path: Path, standin: OllamaStandIn) -> None:
    with pytest.raises(ToolError, match="runs on macOS only, and this is Linux"):
        require_mlx_engine(standin.host, "BF16", system="Linux")
    with pytest.raises(ToolError, match=r"0\.33\.0-rc2 does not import model folders"):
        require_mlx_engine(standin.host, "BF16", system="Darwin")
    with OllamaStandIn(tmp_path / "new", version=VERSIONS["0.35"]) as new:
        require_mlx_engine(new.host, "BF16", system="Darwin")
        with pytest.raises(ToolError, match="no type like Q6_K"):
            require_mlx_engine(new.host, "Q6_K", system="Darwin")


class Folders(OllamaStandIn):
    """A stand-in that takes model folders, as far as registering goes; ``renderer`` is what it makes of them."""

    renderer = ""

    def __init__(self, home: Path) -> None:
        super().__init__(home, version=VERSIONS["0.35"])
        self.created: list[dict[str, Any]] = []
        self.names: list[str] = []


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    """Its create, show, tags and delete answer for a folder; blobs are kept and checked as ever."""
    with Folders(tmp_path / "mac") as server:

        def create(handler: Any, body: Any, _fault: object) -> None:
            missing = [digest for digest in body["files"].values() if not server.store.blob(digest).exists()]
            assert not missing
            server.created.append(body)
            server.names.append(body["model"])
            handler._lines((line for line in [{"status": "success"}]), None)

        def show(handler: Any, _body: Any, _fault: object) -> None:
            about = {"details": {"quantization_level": "bf16"}, "template": "", "renderer": server.renderer}
            handler._json({**about, "parser": "qwen3", "capabilities": ["completion", "thinking"]})

        def delete(handler: Any, body: Any, _fault: object) -> None:
            server.names.remove(body["model"])
            handler._send(b"")

        def copy(handler: Any, body: Any, _fault: object) -> None:
            server.names.append(f"{body['destination']}:latest")
            handler._send(b"")

        for name, route in (("_create", create), ("_show", show), ("_delete", delete), ("_copy", copy)):
            monkeypatch.setattr(_Handler, name, route)
        monkeypatch.setattr(
            server, "tags", lambda: {"models": [{"name": n, "model": n, "digest": "d" * 64} for n in server.names]}
        )
        yield server


def test_a_model_folder_is_sent_whole_and_its_receipt_says_by_which_route(folders: Folders, tmp_path: Path) -> None:
    write_toy_model(tmp_path / "toy")
    done: list[tuple[int, int]] = []
    receipt = register_folder(
        folders.host, "tiny", tmp_path / "toy", kind="Q8_0", registrar=Registrar(progress=lambda *how: done.append(how))
    )
    [body] = folders.created
    assert set(body["files"]) == {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json",
                                  "tokenizer_config.json"}  # fmt: skip
    assert body["quantize"] == "int8"
    assert folders.names == ["tiny:latest"]
    assert (receipt.route, receipt.digest, receipt.parser) == ("mlx", "d" * 64, "qwen3")
    assert done[-1][0] == done[-1][1] == sum(file.stat().st_size for file in (tmp_path / "toy").iterdir())


def test_a_renderer_that_ignores_think_is_refused_and_taken_back(folders: Folders, tmp_path: Path) -> None:
    write_toy_model(tmp_path / "toy")
    folders.renderer = "qwen3-coder"
    with pytest.raises(ToolError, match="with 'qwen3-coder', which ignores 'think'"):
        register_folder(folders.host, "tiny", tmp_path / "toy", kind="BF16")
    assert folders.names == []
    assert "quantize" not in folders.created[0]
