"""A GGUF file in a real llama.cpp says what the model says in MLX, and splits text as training does."""

import random
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.gguf.engine_parity import check_parity, compare_next_tokens
from mlx_ragtune.models.prompts import load_tokenizer, prompt_tokens
from mlx_ragtune.models.toy import Architecture
from mlx_ragtune.records import ChatRequest, Message, Sampling
from mlx_ragtune.tuning.logits import next_token_logits
from tests.toy_models import Written

QUESTIONS = (
    "What is the question of the paper?",
    "Which model is it, and with which title?",
    "a",
    "Two\nlines",
    "naïve 日本語 🚀",
    "the the the the the the the the",
    "Does it say 12.5 % or 1,250?",
    "def f(x):\n    return x + 1",
    "A very long question. " * 40,
)


def turn(text: str) -> tuple[Message, ...]:
    return (Message("system", "You answer from the papers."), Message("user", text))


def greedy(model: Path, prompt: Sequence[int], count: int, ends: set[int]) -> list[int]:
    """Greedy ids in MLX, one whole forward pass a token: slow, and with nothing to go wrong."""
    ids = list(prompt)
    for _ in range(count):
        best = int(np.argmax(next_token_logits(model, [ids])[0]))
        if best in ends:
            break
        ids.append(best)
    return ids[len(prompt) :]


def whole(text: str) -> str:
    """The text up to its first half character: a random model ends in one now and then, and a server holds it back."""
    return text.split("\N{REPLACEMENT CHARACTER}")[0].strip()


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "qwen3_5"])
def test_greedy_text_at_float32_is_that_of_mlx(toys: Path, written: Written, architecture: Architecture) -> None:
    folder, tokenizer = toys / architecture, load_tokenizer(toys / architecture)
    ends = {tokenizer.eos_token_id}
    differing, compared = [], 0
    with LlamaCppServer(written(architecture, "F32"), context_tokens=1024) as server:
        for question in QUESTIONS:
            prompt = prompt_tokens(turn(question), tokenizer, thinking=False)
            reply = server.chat(ChatRequest(turn(question), Sampling(max_tokens=8, context_tokens=1024), think=False))
            expected = tokenizer.decode(greedy(folder, prompt, 8, ends))
            said, meant = whole(reply.text), whole(expected)
            compared += len(meant)
            if said != meant:
                differing.append((question, reply.text, expected))
    assert not differing
    assert compared > 20


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "qwen3_5", "lfm2"])
def test_next_tokens_at_float32_are_those_of_mlx(toys: Path, written: Written, architecture: Architecture) -> None:
    tokenizer = load_tokenizer(toys / architecture)
    prompts = [prompt_tokens(turn(question), tokenizer, thinking=False) for question in QUESTIONS]
    logits = next_token_logits(toys / architecture, prompts)
    with LlamaCppServer(written(architecture, "F32"), context_tokens=1024) as server:
        listed = [server.next_tokens(prompt, 32) for prompt in prompts]
        rendered = [server.tokenize(server.render(turn(question))) for question in QUESTIONS]
    assert rendered == [list(prompt) for prompt in prompts]
    check_parity(compare_next_tokens("F32", logits, listed, tokens_equal=True), what=architecture)


def test_gemma_with_a_global_layer_is_that_of_mlx(tmp_path: Path) -> None:
    """Five local layers and a global one, each kind with its own rotary base."""
    from mlx_ragtune.gguf.writer import write_gguf
    from mlx_ragtune.models.toy import write_toy_model

    write_toy_model(tmp_path / "gemma", architecture="gemma3_text", layers=6)
    write_gguf(tmp_path / "gemma", tmp_path / "gemma.gguf", type="F32", name="gemma")
    tokenizer = load_tokenizer(tmp_path / "gemma")
    prompts = [prompt_tokens(turn(question), tokenizer, thinking=False) for question in QUESTIONS]
    logits = next_token_logits(tmp_path / "gemma", prompts)
    with LlamaCppServer(tmp_path / "gemma.gguf", context_tokens=1024) as server:
        listed = [server.next_tokens(prompt, 32) for prompt in prompts]
    check_parity(compare_next_tokens("F32", logits, listed, tokens_equal=True), what="gemma3")


def test_interleaving_left_out_would_be_seen(toys: Path, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate works: the same model without the rotary reordering is not the model."""
    from mlx_ragtune.errors import ArtifactError
    from mlx_ragtune.gguf import convert, writer

    monkeypatch.setattr(convert, "interleave", lambda rows, _heads: rows)
    monkeypatch.setattr(convert, "usable_cores", lambda: 1)
    target = written("llama", "F32").with_name("spoiled.gguf")
    writer.write_gguf(toys / "llama", target, type="F32", name="spoiled")
    tokenizer = load_tokenizer(toys / "llama")
    prompts = [prompt_tokens(turn(question), tokenizer, thinking=False) for question in QUESTIONS]
    with LlamaCppServer(target, context_tokens=1024) as server:
        listed = [server.next_tokens(prompt, 32) for prompt in prompts]
    found = compare_next_tokens("F32", next_token_logits(toys / "llama", prompts), listed, tokens_equal=True)
    with pytest.raises(ArtifactError, match="differs from the model"):
        check_parity(found, what="spoiled.gguf")


ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz ABC 0123456789",
    "àâçéèêëîïôûùüÿñæœ ÀÉÎ",
    "нещо на български ЖЩЮ",
    "日本語中文漢字かなカナ한국어",
    "العربية עברית हिन्दी ไทย ភាសាខ្មែរ",
    "😀🚀👩‍🔬🏳️‍🌈🇩🇪 ✅",
    "{}[]()<>=+-*/%&|^~!?;:,.'\"`@#$_\\",
    " \t\n\r\n\n  \u00a0\u2003\u3000",
    "e\u0301a\u0308o\u0302n\u0303 \u200d\u200b\ufeff",
)
LOOK_ALIKES = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<|im_start|", "< |im_end|>", "<s>", "[INST]",
)  # fmt: skip


def strings(count: int) -> list[str]:
    """Unicode of many scripts, code, combining marks, look-alikes of special tokens, empty, very long."""
    draw = random.Random(11)
    made = {"", " ", "\n", "a", "word " * 2000, "x" * 5000, *LOOK_ALIKES, *(f"a{one}b" for one in LOOK_ALIKES)}
    while len(made) < count:
        parts = [draw.choice(LOOK_ALIKES), *("".join(draw.choices(one, k=draw.randint(1, 30))) for one in ALPHABETS)]
        made.add("".join(draw.sample(parts, draw.randint(1, 4))))
    return [unicodedata.normalize("NFC", one) for one in sorted(made)]


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3_text"])
def test_five_hundred_strings_are_split_alike(toys: Path, written: Written, architecture: Architecture) -> None:
    tokenizer = Tokenizer.from_file(str(toys / architecture / "tokenizer.json"))
    made = strings(500)
    assert len(set(made)) > 450
    with LlamaCppServer(written(architecture, "Q8_0"), context_tokens=256) as server:
        differing = [text for text in made if server.tokenize(text) != tokenizer.encode(text).ids]
    assert not differing, f"{len(differing)} differ: {differing[:5]!r}"
