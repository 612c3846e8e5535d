"""What ``ollama run NAME`` gets: the trained system text, the form of the prompts, the options of the evaluation."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from jinja2 import Environment

from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.ollama_card import Card, card_of, ollama_options, stop_words, trained_frame
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_registry import Registrar, register_model
from mlx_ragtune.clients.ollama_templates import check_talks, framed_template, go_template
from mlx_ragtune.clients.receipts import gguf_facts, text_digest
from mlx_ragtune.clients.registered import Registered
from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.served_prompt import check_prompt
from mlx_ragtune.records import ChatRequest, Message, Passage, Sampling
from mlx_ragtune.retrieval.prompt import SYSTEM, build_messages
from tests.clients import go_template as go
from tests.ollama_server import VERSIONS, OllamaStandIn

SAMPLING = Sampling(max_tokens=24, context_tokens=512)
CARD = card_of(SAMPLING, tuned=True, base="owner/name")
QUESTION = "What is {{ QLoRA }} — in Zürich?"
SHOWN = build_messages((Passage("c", "d", "LoRA", "It trains factors."),), "What does it train?")
TURNS = {
    "bare": [{"role": "user", "content": QUESTION}],
    "bare, later": [
        {"role": "user", "content": "Hm"},  # shorter than the start of a prompt
        {"role": "assistant", "content": "Papers:\n\nA."},
        {"role": "user", "content": QUESTION},
    ],
    "ours": [{"role": turn.role, "content": turn.content} for turn in SHOWN],
    "ours, without its system turn": [{"role": "user", "content": SHOWN[1].content}],
    "another system text": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}],
    "papers without a system turn": [{"role": "user", "content": "Papers: none"}],
}


def by_the_file(gguf: Path, turns: list[dict[str, str]], **more: Any) -> str:
    """The talk in the form of training, as the file's own template renders it."""
    whole = turns if turns[0]["role"] == "system" else [{"role": "system", "content": SYSTEM}, *turns]
    if whole[0]["content"] == SYSTEM:
        whole = [
            {**turn, "content": f"Papers:\n\n(none)\n\nQuestion: {turn['content']}"}
            if turn["role"] == "user" and not turn["content"].startswith("Papers:\n\n")
            else turn
            for turn in whole
        ]
    parsed = Environment(trim_blocks=True, lstrip_blocks=True).from_string(gguf_facts(gguf).template)
    return parsed.render(messages=whole, add_generation_prompt=True, **more)


@pytest.mark.parametrize("think", [None, False])
@pytest.mark.parametrize("turns", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize(
    ("file", "version"),
    [("smol.gguf", version) for version in sorted(VERSIONS.values())] + [("qwen3.gguf", VERSIONS["0.20"])],
)
def test_a_plain_question_gets_the_prompt_of_training_and_ours_stay_as_they_are(
    file: str, version: str, turns: list[dict[str, str]], think: bool | None, tmp_path: Path, models: Path
) -> None:
    said: list[str] = []
    with OllamaStandIn(tmp_path, version=version) as standin:
        register_model(standin.host, "small", models / file, card=CARD, registrar=Registrar(say=said.append))
        served = standin.store.get("small", "").render(turns, think)
    assert served == by_the_file(models / file, turns, enable_thinking=False)
    assert said == []


def test_a_server_that_uses_the_files_own_template_gets_the_system_text(standin: OllamaStandIn, models: Path) -> None:
    register_model(standin.host, "tinyq", models / "qwen3.gguf", card=CARD)
    served = standin.store.get("tinyq", "").render(TURNS["bare"], False)
    assert served.startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{QUESTION}<|im_end|>")


def test_the_options_of_the_evaluation_are_stored_and_shown(standin: OllamaStandIn, models: Path) -> None:
    receipt = register_model(standin.host, "tinyq", models / "qwen3.gguf", card=CARD)
    expected = {"temperature": ["0.0"], "top_k": ["0"], "top_p": ["1.0"], "min_p": ["0.0"], "repeat_penalty": ["1.0"],
                "seed": ["0"], "num_predict": ["24"], "num_ctx": ["512"],
                "stop": ['"<|im_end|>"', '"<|im_start|>"']}  # fmt: skip
    assert receipt.parameters == expected
    assert receipt.system_sha256 == text_digest(SYSTEM)
    shown = httpx.post(f"{standin.host}/api/show", json={"model": "tinyq"}).json()
    assert shown["system"] == SYSTEM
    first, second = shown["license"].split("\n")[:2]
    assert "ragtune ask RECIPE" in first
    assert "any answer is unsupported" in second
    assert max(len(first), len(second)) <= 100  # `ollama show` breaks longer ones
    assert "owner/name" in shown["license"]
    assert "ollama run --think=false" in shown["license"]  # this server uses the file's own template, which may think


def test_a_plain_request_is_answered_under_the_stored_options(standin: OllamaStandIn, models: Path) -> None:
    """Greedy and no longer than asked; without the card Ollama samples at 0.8."""
    register_model(standin.host, "tinyq", models / "qwen3.gguf", card=CARD)
    body = {"model": "tinyq", "messages": TURNS["bare"], "stream": False, "think": False}
    replies = [httpx.post(f"{standin.host}/api/chat", json=body, timeout=60).json() for _ in range(2)]
    assert replies[0]["message"] == replies[1]["message"]
    assert replies[0]["eval_count"] <= 24
    assert standin.ps()["models"][0]["context_length"] == 512
    system, question = SHOWN[0], Message("user", QUESTION)
    request = ChatRequest((system, question), SAMPLING)
    with OllamaChat(standin.host, "tinyq", context_tokens=512) as chat:
        assert chat.chat(request).text == replies[0]["message"]["content"]


def test_requests_of_ours_send_every_value_that_is_stored(standin: OllamaStandIn, models: Path) -> None:
    receipt = register_model(standin.host, "tinyq", models / "qwen3.gguf", card=CARD)
    with OllamaChat(standin.host, "tinyq", context_tokens=512) as chat:
        body = chat.chat_body(ChatRequest(SHOWN, replace(SAMPLING, temperature=0.7, seed=3)))
        trained = by_the_file(models / "qwen3.gguf", TURNS["ours"], enable_thinking=False)
        assert check_prompt(chat, "q", SHOWN, trained, think=False)
    assert receipt.parameters.keys() == body["options"].keys()
    assert body["messages"][0]["role"] == "system"
    assert (body["options"]["temperature"], body["options"]["stop"]) == (0.7, [])


@pytest.mark.parametrize(("think", "thinks"), [(True, True), (None, True), (False, False)])
def test_a_model_that_was_tuned_thinking_thinks_unless_told_not_to(
    think: bool | None, thinks: bool, tmp_path: Path, models: Path
) -> None:
    with OllamaStandIn(tmp_path, version=VERSIONS["0.20"]) as standin:
        register_model(standin.host, "tinyq", models / "qwen3.gguf", card=replace(CARD, think=True))
        served = standin.store.get("tinyq", "").render(TURNS["bare"], think)
    assert served == by_the_file(models / "qwen3.gguf", TURNS["bare"], enable_thinking=thinks)


def test_base_and_tuned_of_one_file_differ_in_their_card_only(standin: OllamaStandIn, models: Path) -> None:
    tuned = register_model(standin.host, "a-tuned", models / "qwen3.gguf", card=CARD)
    again = register_model(standin.host, "b-tuned", models / "qwen3.gguf", card=CARD)
    base = register_model(standin.host, "a-base", models / "qwen3.gguf", card=card_of(SAMPLING, tuned=False, base=""))
    assert tuned.digest == again.digest != base.digest
    assert (tuned.parameters, tuned.template_sha256) == (base.parameters, base.template_sha256)


def test_a_model_that_was_registered_without_a_card_is_replaced_as_ours(
    standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    ours = Registrar(Registered(tmp_path / "store"))
    before = register_model(standin.host, "a-tuned", models / "qwen3.gguf", registrar=ours)
    after = register_model(standin.host, "a-tuned", models / "qwen3.gguf", card=CARD, registrar=ours)
    assert before.digest != after.digest == standin.store.get("a-tuned", "").digest
    by_hand = {"model": "a-tuned", "from": "a-tuned", "system": "Mine.", "stream": False}
    httpx.post(f"{standin.host}/api/create", json=by_hand).raise_for_status()
    with pytest.raises(ToolError, match="was not registered from this runs folder"):
        register_model(standin.host, "a-tuned", models / "qwen3.gguf", card=CARD, registrar=ours)


def test_a_server_that_drops_the_system_text_is_refused(
    standin: OllamaStandIn, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = standin.store.build
    monkeypatch.setattr(standin.store, "build", lambda body: build({**body, "system": ""}))
    with pytest.raises(ToolError, match="did not store the system text of 'tinyq'"):
        register_model(standin.host, "tinyq", models / "qwen3.gguf", card=CARD)
    assert standin.store.models() == []


def test_a_template_that_leaves_the_frame_out_is_said(standin: OllamaStandIn, models: Path) -> None:
    register_model(standin.host, "smol", models / "smol.gguf", card=replace(CARD, frame=None))
    template = gguf_facts(models / "smol.gguf").template
    with Ollama(standin.host) as server:
        assert check_talks(server, "smol", template, card=replace(CARD, frame=None)) == ()
        problems = check_talks(server, "smol", template, card=CARD)
    assert len(problems) == 2  # the talks without a system turn
    assert "Papers" in problems[0]
    assert "user text 0" in problems[0]


def test_the_frame_is_that_of_the_prompt_without_passages() -> None:
    system, frame = trained_frame()
    assert build_messages((), "Why?") == (Message("system", system), Message("user", frame.around("Why?")))
    assert frame.around(SHOWN[1].content) == SHOWN[1].content


def test_a_frame_with_quotes_and_braces_is_printed_as_it_is() -> None:
    frame = replace(trained_frame()[1], before='Say "{{ this }}"\n', after=" }} \\")
    card = Card(SYSTEM, {}, (), frame)
    written = framed_template(str(go_template(CHATML_JINJA)), card)
    system = {"role": "system", "content": SYSTEM}
    assert 'user\nSay "{{ this }}"\nWhy? }} \\<|im_end|>' in go.render(
        written, [system, {"role": "user", "content": "Why?"}], think=None
    )


CHATML_JINJA = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (CHATML_JINJA, ("<|im_end|>",)),
        ("{% for m in messages %}<s>{{ m.role }}: {{ m.content }}<|eot_id|>{% endfor %}", ("<|eot_id|>",)),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", ()),
        ("{% for m in messages %}{{ m.content }} next:{% endfor %}", ()),
        ("{{ broken", ()),
        ("{{ raise_exception('no') }}", ()),
    ],
)
def test_the_word_that_ends_a_turn_is_the_templates(template: str, words: tuple[str, ...]) -> None:
    assert stop_words(template) == words


def test_the_options_of_a_model_are_json_numbers() -> None:
    assert json.loads(json.dumps(ollama_options(SAMPLING))) == ollama_options(SAMPLING)
