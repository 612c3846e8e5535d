"""What a tokenizer and a template do is what is trained and served: BOS, spaces, ends of turns, windows."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import InputError, RecipeError
from mlx_ragtune.evaluation.served_prompt import check_prompt
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.model_folder import check_base, read_config
from mlx_ragtune.models.prompts import (
    added_bos,
    answer_tokens,
    check_template,
    context_window,
    end_of_turn,
    load_tokenizer,
    prompt_text,
    prompt_tokens,
    text_tokens,
)
from mlx_ragtune.models.toy import TEMPLATE, write_toy_model
from mlx_ragtune.recipe import DatasetSettings
from mlx_ragtune.records import ChatRequest, Example, Message, Sampling
from mlx_ragtune.tuning.token_rows import tokenize
from mlx_ragtune.tuning.train_checks import check_window
from tests.models.tokenizer_traps import BOS, trapped_base
from tests.toy_models import change

TURNS = (Message("system", "You answer from the papers."), Message("user", "What is it?"))
COMBINATIONS = list(itertools.product((False, True), repeat=3))


def example(answer: str, rejected: str = "") -> Example:
    return Example("a", "grounded", "g", (*TURNS, Message("assistant", answer)), rejected=rejected)


def rows_of(base: Path, *examples: Example) -> Iterator[tuple[list[int], list[int]]]:
    """(prompt, answer with its end) of each example."""
    tokenizer = load_tokenizer(base)
    rows, _ = tokenize(examples, tokenizer, thinking=False, max_tokens=4096, on_too_long="fail")
    for row in rows:
        yield (
            [int(token) for token in row.tokens[: row.prompt_length]],
            [int(n) for n in row.tokens[row.prompt_length :]],
        )


@pytest.mark.parametrize(("adds", "writes", "prepends"), COMBINATIONS)
def test_a_server_reads_the_prompt_that_is_trained(tmp_path: Path, adds: bool, writes: bool, prepends: bool) -> None:
    base = trapped_base(tmp_path / "base", adds_bos=adds, writes_bos=writes, prepends=prepends)
    check_base(base)
    write_gguf(base, tmp_path / "a.gguf", type="F32", name="x")
    tokenizer = load_tokenizer(base)
    bos = tokenizer.convert_tokens_to_ids(BOS)
    ((prompt, _),) = rows_of(base, example("the answer"))
    assert prompt == prompt_tokens(TURNS, tokenizer, thinking=False)
    assert prompt.count(bos) == (1 if adds or writes else 0)
    trained = prompt_text(TURNS, tokenizer, thinking=False)
    request = ChatRequest(TURNS, Sampling(max_tokens=2, context_tokens=512), think=False)
    with LlamaCppServer(tmp_path / "a.gguf", context_tokens=512) as server:
        assert server.tokenize(server.render(TURNS), whole=True) == prompt
        assert server.chat(request).prompt_tokens == len(prompt)
        assert check_prompt(server, "q1", TURNS, trained, think=False)


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("answer", ["the answer", "12.5 %", "a\n\nb  c", "“quoted”", "naïve 日本語 🚀"])
def test_an_answer_has_the_tokens_that_continue_its_prompt(tmp_path: Path, answer: str, adds: bool) -> None:
    base = trapped_base(tmp_path / "base", prepends=True, adds_bos=adds)
    tokenizer = load_tokenizer(base)
    ((prompt, tokens),) = rows_of(base, example(answer))
    whole = text_tokens(prompt_text(TURNS, tokenizer, thinking=False) + answer, tokenizer)
    assert [*prompt, *tokens] == [*whole, *end_of_turn(tokenizer)]
    alone = tokenizer.encode(answer, add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(alone[0]).startswith("▁")  # what was trained before
    assert tokens[: len(alone)] != alone


def test_a_rejected_answer_has_no_space_of_its_own_either(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(trapped_base(tmp_path / "base", prepends=True))
    rows, _ = tokenize(
        [example("the answer", "a paper")], tokenizer, thinking=False, max_tokens=4096, on_too_long="fail"
    )
    assert rows[0].rejected is not None
    start = rows[0].prompt_length
    first = [tokenizer.convert_ids_to_tokens(int(tokens[start])) for tokens in (rows[0].tokens, rows[0].rejected)]
    assert not [token for token in first if token.startswith("▁")]


def test_an_answer_that_merges_with_the_end_of_its_prompt_is_encoded_after_a_line_break(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + '<|im_end|>' }}{% endfor %} t"
    base = trapped_base(tmp_path / "base", prepends=True, template=template)
    tokenizer = load_tokenizer(base)
    text = prompt_text(TURNS, tokenizer, thinking=False)
    prompt = text_tokens(text, tokenizer)
    assert text_tokens(text + "he model", tokenizer)[: len(prompt)] != prompt
    found = answer_tokens("he model", prompt, text, tokenizer)
    assert tokenizer.decode(found).strip() == "he model"
    assert not tokenizer.convert_ids_to_tokens(found[0]).startswith("▁")


def test_byte_level_answers_are_as_before(toys: Path) -> None:
    tokenizer = load_tokenizer(toys / "qwen3")
    ((_, tokens),) = rows_of(toys / "qwen3", example("the answer"))
    assert tokens == [*tokenizer.encode("the answer", add_special_tokens=False), *end_of_turn(tokenizer)]
    assert added_bos(tokenizer) is None


def renamed(base: Path, end: str, **settings: Any) -> Path:
    """The base with another text for ``<|im_end|>`` and these tokenizer settings."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (base / name).read_text(encoding="utf-8")
        (base / name).write_text(text.replace("<|im_end|>", end), encoding="utf-8")
    change(base / "tokenizer_config.json", **settings)
    return base


def test_a_turns_end_that_is_not_eos_is_in_the_file_and_stops_the_server(tmp_path: Path) -> None:
    write_toy_model(tmp_path / "base", architecture="llama")
    base = renamed(tmp_path / "base", "<|stop_here|>", eos_token=BOS)
    tokenizer = load_tokenizer(base)
    end, eos = (tokenizer.convert_tokens_to_ids(token) for token in ("<|stop_here|>", BOS))
    assert end_of_turn(tokenizer) == [end]
    ((_, tokens),) = rows_of(base, example("the answer"))
    assert tokens[-1] == end
    write_gguf(base, tmp_path / "a.gguf", type="F32", name="x")
    fields = GGUFReader(tmp_path / "a.gguf").fields
    assert fields["tokenizer.ggml.eot_token_id"].contents() == end
    assert fields["tokenizer.ggml.eos_token_id"].contents() == eos
    with LlamaCppServer(tmp_path / "a.gguf", context_tokens=512) as server:
        body = {"prompt": "a", "n_predict": 5, "temperature": 0, "logit_bias": [[end, 1000.0]]}
        reply = server.post("/completion", body)
    assert (reply["stop_type"], reply["tokens_predicted"]) == ("eos", 1)


def test_a_turns_end_that_is_eos_is_not_written_twice(toys: Path, tmp_path: Path) -> None:
    write_gguf(toys / "llama", tmp_path / "a.gguf", type="F32", name="x")
    assert "tokenizer.ggml.eot_token_id" not in GGUFReader(tmp_path / "a.gguf").fields


@pytest.mark.parametrize("end", ["", "\\n", "### End", "\\n\\nUser:"])
def test_a_turn_that_ends_in_plain_text_ends_with_eos_too(tmp_path: Path, end: str) -> None:
    template = TEMPLATE.replace("<|im_end|>\n", "{{ '" + end + "' }}")
    tokenizer = load_tokenizer(trapped_base(tmp_path / "base", template=template))
    tokens = end_of_turn(tokenizer)
    assert tokens[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(tokens[:-1]).strip() == end.replace("\\n", "\n").strip()


def test_what_a_template_writes_after_the_turns_end_is_not_trained(tmp_path: Path) -> None:
    template = TEMPLATE.replace("<|im_end|>\n", "<|im_end|>\nnext turn")
    tokenizer = load_tokenizer(trapped_base(tmp_path / "base", template=template))
    assert end_of_turn(tokenizer) == [tokenizer.convert_tokens_to_ids("<|im_end|>")]


def test_a_prompt_never_ends_with_an_eos_that_the_tokenizer_adds(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    base = trapped_base(tmp_path / "base")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    end = tokenizer.token_to_id("<|im_end|>")
    tokenizer.post_processor = TemplateProcessing(single="$A <|im_end|>", special_tokens=[("<|im_end|>", end)])
    tokenizer.save(str(base / "tokenizer.json"))
    write_gguf(base, tmp_path / "a.gguf", type="F32", name="x")
    prompt = prompt_tokens(TURNS, load_tokenizer(base), thinking=False)
    with LlamaCppServer(tmp_path / "a.gguf", context_tokens=512) as server:
        assert server.tokenize(server.render(TURNS), whole=True) == prompt
    assert prompt[-1] != end


def test_a_template_that_fails_on_an_answer_is_refused(tmp_path: Path) -> None:
    fails = "{% if messages[-1].role == 'assistant' %}{{ raise_exception('no answers') }}{% endif %}" + TEMPLATE
    base = trapped_base(tmp_path / "base", template=fails)
    for refuse in (
        lambda: check_template(base, thinking=False),
        lambda: write_gguf(base, tmp_path / "a.gguf", type="F32", name="x"),
    ):
        with pytest.raises(InputError, match="no answers"):
            refuse()
    assert not list(tmp_path.glob("*.gguf*"))


def test_rows_beyond_mistrals_sliding_window_are_refused(tmp_path: Path) -> None:
    """Both engines compute Mistral 0.1 without its window."""
    write_toy_model(tmp_path / "base", architecture="mistral")
    change(tmp_path / "base" / "config.json", sliding_window=4096)
    assert context_window(tmp_path / "base") == 4096
    check_window(tmp_path / "base", dataset=DatasetSettings(max_tokens=4096))
    with pytest.raises(RecipeError, match="5000 tokens, but the base model reads at most 4096"):
        check_window(tmp_path / "base", dataset=DatasetSettings(max_tokens=5000))
    change(tmp_path / "base" / "config.json", sliding_window=None)
    check_window(tmp_path / "base", dataset=DatasetSettings(max_tokens=5000))


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_layers_with_a_window_among_others_are_refused(tmp_path: Path, architecture: Any) -> None:
    write_toy_model(tmp_path / "base", architecture=architecture)
    change(tmp_path / "base" / "config.json", layer_types=["sliding_attention", "full_attention"])
    with pytest.raises(InputError, match="sliding-window attention in some layers"):
        read_config(tmp_path / "base")
    assert json.loads((tmp_path / "base" / "config.json").read_text())["model_type"] == architecture
