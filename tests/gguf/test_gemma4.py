"""Gemma 4 in both layouts and both kinds: llama.cpp's converter, next tokens, the served prompt, what is refused."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, TokenType
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from mlx_ragtune.bases.soundness import check_sound
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.evaluation.served_prompt import check_prompt
from mlx_ragtune.gguf.engine_parity import Parity, check_parity, compare_next_tokens
from mlx_ragtune.gguf.quantize import QuantType, tensor_type
from mlx_ragtune.gguf.sizes import cache_bytes, gguf_bytes
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.architectures import flat_config
from mlx_ragtune.models.model_folder import check_base, read_config
from mlx_ragtune.models.prompts import added_bos, end_of_turn, load_tokenizer, prompt_text, prompt_tokens
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.models.vocabulary import read_vocabulary
from mlx_ragtune.records import ChatRequest, Sampling
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.logits import next_token_logits
from tests.gguf.test_engine import QUESTIONS, strings, turn
from tests.gguf.test_new_families import digests
from tests.models.gemma4_base import MORE_NAMED, NAMED, TEMPLATE, gemma4_base
from tests.toy_models import change
from tests.tuning.made import KEYS_AS_VALUES

KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "gemma4_text": (6, {}),
    "gemma4 with keys as values": (4, KEYS_AS_VALUES),
}
"""Layers and config of a small model with shared keys and values, and of one like the 31B."""
CONVERTED = json.loads((Path(__file__).parent / "converter_gemma4.json").read_text(encoding="utf-8"))
"""What llama.cpp's convert_hf_to_gguf.py (of llama-cpp-python 0.3.36) writes of the toys in Q8_0.

Left out are the keys and values of layers that share those of others: it writes them where a checkpoint has them.
Metadata by key: types and value, or the digest of a long value as JSON.
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with both layouts of a toy, made once."""
    folders: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp("gemma4")
            layers, changes = KINDS[kind]
            gemma4_base(folders[kind], hidden=128, layers=layers, changes=changes)
        return folders[kind]

    return make


def shown(value: Any) -> Any:
    long = (isinstance(value, str) and len(value) > 60) or (isinstance(value, list) and len(value) > 20)
    return "sha256 " + hashlib.sha256(json.dumps(value).encode()).hexdigest() if long else value


def written_metadata(file: Path) -> dict[str, Any]:
    fields = GGUFReader(file).fields.items()
    own = ("GGUF.", "general.name", "general.size_label")
    return {
        name: [[kind.name for kind in field.types], shown(field.contents())]
        for name, field in fields
        if not name.startswith(own)
    }


@pytest.mark.parametrize("layout", ["mlx", "hub"])
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_and_metadata_are_those_of_llama_cpps_converter(
    tmp_path: Path, made: Callable[[str], Path], kind: str, layout: str
) -> None:
    """But for two keys that are always written here: no EOS after a prompt, and the token that ends a turn."""
    write_gguf(made(kind) / layout, tmp_path / "a.gguf", type="Q8_0", name="toy")
    assert digests(tmp_path / "a.gguf") == CONVERTED[kind]["tensors"]
    found, expected = written_metadata(tmp_path / "a.gguf"), dict(CONVERTED[kind]["metadata"])
    del expected["general.size_label"]  # it counts the tensors that are left out
    assert found.pop("tokenizer.ggml.add_eos_token")[1] is False
    end = read_vocabulary(made(kind) / layout).tokens.index("<turn|>")
    assert found.pop("tokenizer.ggml.eot_token_id")[1] == end
    assert found == expected


def parity(folder: Path, file: Path) -> Parity:
    """Of the whole prompts, with texts longer than the window of 32 tokens."""
    tokenizer = load_tokenizer(folder)
    prompts = [prompt_tokens(turn(question), tokenizer, thinking=False) for question in QUESTIONS]
    assert max(map(len, prompts)) > 500
    write_gguf(folder, file, type="F32", name="toy")
    with LlamaCppServer(file, context_tokens=1024) as server:
        rendered = [server.tokenize(server.render(turn(question)), whole=True) for question in QUESTIONS]
        listed = [server.next_tokens(prompt, 32) for prompt in prompts]
    return compare_next_tokens("F32", next_token_logits(folder, prompts), listed, tokens_equal=rendered == prompts)


@pytest.mark.parametrize("layout", ["mlx", "hub"])
@pytest.mark.parametrize("kind", KINDS)
def test_next_tokens_are_those_of_mlx(tmp_path: Path, made: Callable[[str], Path], kind: str, layout: str) -> None:
    check_parity(parity(made(kind) / layout, tmp_path / "a.gguf"), what=kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quantized", ["BF16", "Q8_0", "Q4_K_M"])
def test_quantized_files_are_within_their_limits(tmp_path: Path, kind: str, quantized: QuantType) -> None:
    layers, changes = KINDS[kind]
    base = gemma4_base(tmp_path, hidden=256, layers=layers, changes=changes)
    tokenizer = load_tokenizer(base)
    prompts = [prompt_tokens(turn(question), tokenizer, thinking=False) for question in QUESTIONS]
    write_gguf(base, tmp_path / "a.gguf", type=quantized, name="toy")
    assert abs((tmp_path / "a.gguf").stat().st_size - gguf_bytes(read_config(base), quantized)) < 100_000
    with LlamaCppServer(tmp_path / "a.gguf", context_tokens=1024) as server:
        listed = [server.next_tokens(prompt, 64) for prompt in prompts]
    check_parity(compare_next_tokens(quantized, next_token_logits(base, prompts), listed, tokens_equal=True), what=kind)


def test_rotating_all_dimensions_would_be_seen(
    tmp_path: Path, made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemma4, "rotary_divisors", lambda _config: (1.0,) * 16)
    with pytest.raises(ArtifactError, match="differs from the model"):
        check_parity(parity(made("gemma4_text") / "hub", tmp_path / "a.gguf"), what="spoiled")


def test_a_base_of_the_hub_is_sound_and_its_config_is_that_of_its_text_model(made: Callable[[str], Path]) -> None:
    for kind in KINDS:
        for layout in ("mlx", "hub"):
            check_sound(made(kind) / layout)
            config = check_base(made(kind) / layout)
            assert config["model_type"] == "gemma4_text"
            assert config["architectures"] == ["Gemma4ForCausalLM"]
            assert not {"text_config", "vision_config", "audio_config"} & set(config)
            assert flat_config(config) == config


def test_thinking_is_refused(made: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="not told apart from answers"):
        check_base(made("gemma4_text") / "hub", thinking=True)


TURN = turn(QUESTIONS[0])


@pytest.mark.parametrize("thinking", [False, True])
def test_the_server_reads_the_prompt_that_is_trained(
    tmp_path: Path, made: Callable[[str], Path], thinking: bool
) -> None:
    """The template writes a BOS, the tokenizer none, and llama.cpp always one: there is one in all."""
    base = made("gemma4_text") / "hub"
    write_gguf(base, tmp_path / "a.gguf", type="F32", name="x")
    tokenizer = load_tokenizer(base)
    text, tokens = prompt_text(TURN, tokenizer, thinking=thinking), prompt_tokens(TURN, tokenizer, thinking=thinking)
    assert tokens[0] == added_bos(tokenizer) == tokenizer.bos_token_id
    assert tokens.count(tokenizer.bos_token_id) == 1
    assert text.startswith("<|turn>system\n")
    assert text.endswith("<|turn>model\n" if thinking else "<|turn>model\n<|channel>thought\n<channel|>")
    loaded = load_base(base, "fp32").tokenizer
    assert prompt_tokens(TURN, loaded, thinking=thinking) == tokens
    request = ChatRequest(TURN, Sampling(max_tokens=4, context_tokens=512), think=thinking)
    with LlamaCppServer(tmp_path / "a.gguf", context_tokens=512) as server:
        assert server.tokenize(server.render(TURN, think=thinking), whole=True) == tokens
        assert check_prompt(server, "q1", TURN, text, think=thinking)
        assert server.chat(request).prompt_tokens == len(tokens)


@pytest.mark.parametrize(
    "answer", ["yes", "<|channel>thought\nhm<channel|>yes", "no<|channel>thought\nhm<channel|>"], ids=repr
)
def test_an_answer_begins_behind_the_prompts_empty_thoughts_and_keeps_its_own(
    tmp_path: Path, made: Callable[[str], Path], answer: str
) -> None:
    """llama.cpp knows Gemma 4 by its template, and repeats the end of the prompt before the answer.

    Thoughts that were not asked for stay in the text, as those of other families do.
    """
    assert "'<|tool_call>call:'" in TEMPLATE
    write_gguf(made("gemma4_text") / "hub", tmp_path / "a.gguf", type="F32", name="x")
    request = ChatRequest(TURN, Sampling(max_tokens=40, context_tokens=512), think=False)
    with LlamaCppServer(tmp_path / "a.gguf", context_tokens=512) as server:
        events, rule = server.events, json.dumps(answer)

        def forced(path: str, body: dict[str, Any]) -> Any:
            return events(path, {**body, "grammar": f"root ::= {rule}"})

        server.events = forced  # type: ignore[method-assign]
        pieces = list(_pieces(server, request))
        reply = server.chat(request)
    assert (reply.text, reply.thinking) == (answer, "")
    assert "".join(pieces) == answer


def _pieces(server: LlamaCppServer, request: ChatRequest) -> Iterator[str]:
    yield from (piece.text for piece in server.stream(request))


def test_a_turn_ends_with_a_token_that_is_not_eos_and_the_server_stops_there(
    tmp_path: Path, made: Callable[[str], Path]
) -> None:
    base = made("gemma4_text") / "hub"
    tokenizer = load_tokenizer(base)
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)) == ["<turn|>"]
    assert tokenizer.eos_token == "<eos>"
    write_gguf(base, tmp_path / "a.gguf", type="F32", name="x")
    with LlamaCppServer(tmp_path / "a.gguf", context_tokens=512) as server:
        body = {"prompt": "a", "n_predict": 5, "temperature": 0, "logit_bias": [[end_of_turn(tokenizer)[0], 1000.0]]}
        reply = server.post("/completion", body)
    assert (reply["stop_type"], reply["tokens_predicted"]) == ("eos", 1)


def test_texts_are_split_alike(tmp_path: Path, made: Callable[[str], Path]) -> None:
    """Of many scripts, with runs of line breaks and spaces, and with the special tokens written out."""
    base = made("gemma4_text") / "hub"
    write_gguf(base, tmp_path / "a.gguf", type="Q8_0", name="x")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    special = [*NAMED.values(), *MORE_NAMED.values()]
    texts = [*strings(300), *(f"a{token}b" for token in special), *("a" + "\n" * n + " " * n + "b" for n in range(9))]
    with LlamaCppServer(tmp_path / "a.gguf", context_tokens=256) as server:
        differing = [text for text in texts if server.tokenize(text) != tokenizer.encode(text).ids]
    assert not differing, f"{len(differing)} differ: {differing[:5]!r}"


def test_tokens_have_the_types_that_llama_cpp_expects(made: Callable[[str], Path]) -> None:
    found = read_vocabulary(made("gemma4_text") / "hub")
    kinds = {token: TokenType(kind) for token, kind in zip(found.tokens, found.types, strict=True)}
    assert (found.model, found.add_bos, found.add_space_prefix) == ("gemma4", True, False)
    assert kinds["<|turn>"] == kinds["<bos>"] == kinds["<unk>"] == TokenType.CONTROL
    assert kinds["<|channel>"] == kinds["<tool_call|>"] == TokenType.USER_DEFINED
    assert kinds["<0x0A>"] == TokenType.BYTE
    assert kinds["\n\n"] == kinds["▁▁"] == kinds["a"] == TokenType.NORMAL
    assert found.specials == {"pad": 0, "eos": 1, "bos": 2, "unk": 3, "mask": 4}


def test_k_quants_leave_the_projection_of_embeddings_as_it_is() -> None:
    """llama-quant.cpp: ``tensor_allows_quantization``, and embeddings of layers are embeddings."""

    def chosen(name: str, shape: tuple[int, int], *, attention: list[int]) -> str:
        return tensor_type(name, shape, "Q4_K_M", layers=35, tied=True, attention=attention).name

    own = list(range(15))
    assert chosen("per_layer_model_proj.weight", (8960, 1536), attention=own) == "BF16"
    assert chosen("per_layer_token_embd.weight", (262144, 8960), attention=own) == "Q6_K"
    assert chosen("token_embd.weight", (262144, 1536), attention=own) == "Q6_K"
    assert chosen("blk.0.inp_gate.weight", (256, 1536), attention=own) == "Q4_K"
    assert [chosen(f"blk.{layer}.attn_v.weight", (256, 1536), attention=own) for layer in (0, 1, 3, 14)] == [
        "Q6_K", "Q4_K", "Q6_K", "Q6_K",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"enable_moe_block": True, "num_experts": 4}, "enable_moe_block: of the mixtures of experts, only Qwen3's"),
        ({"tie_word_embeddings": False}, "an output head of its own"),
        ({"attention_bias": True}, "attention_bias"),
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention"),
        ({"hidden_activation": "silu"}, "activation 'silu'"),
        ({"vocab_size_per_layer_input": 100}, "vocab_size_per_layer_input"),
        ({"num_kv_shared_layers": 1}, "share the keys and values of others than the last two"),
        ({"num_kv_shared_layers": 5}, "share the keys and values of others than the last two"),
        ({"layer_types": ["full_attention"] * 6}, "layer_types"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "layer_types"),
        ({"per_layer_config": {"1": {"head_dim": 64}}}, "per_layer_config"),
        ({"num_global_key_value_heads": 1}, "num_global_key_value_heads without attention_k_eq_v"),
        ({"num_global_key_value_heads": 3, "attention_k_eq_v": True}, "does not divide num_attention_heads"),
        ({"global_head_dim": 31}, "an odd global_head_dim 31"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}, "sliding_attention": {}}}, "rope scaling"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25,
             "factor": 8.0}, "sliding_attention": {"rope_theta": 1e4}}},
            "a scaled proportional rotary embedding",
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25},
             "sliding_attention": {"rope_type": "yarn"}}},
            "in layers with a window",
        ),
        ({"sliding_window": "32"}, "sliding_window is '32'"),
        ({"global_head_dim": 0}, "global_head_dim is 0"),
        ({"num_kv_shared_layers": "two"}, "wrong type"),
        ({"hidden_size_per_layer_input": "many"}, "wrong type"),
        ({"hidden_size_per_layer_input": [32]}, "wrong type"),
        ({"rope_parameters": {"full_attention": 5, "sliding_attention": {}}}, "wrong type"),
        ({"rope_parameters": [1]}, "wrong type"),
    ],
)  # fmt: skip
def test_what_the_two_engines_do_not_compute_alike_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    write_toy_model(tmp_path / "toy", architecture="gemma4_text")
    change(tmp_path / "toy" / "config.json", **changes)
    with pytest.raises(InputError) as caught:
        read_config(tmp_path / "toy")
    assert said in caught.value.what


def test_a_null_count_of_heads_is_named(tmp_path: Path) -> None:
    write_toy_model(tmp_path / "toy", architecture="gemma4_text")
    path = tmp_path / "toy" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_key_value_heads": None}))
    with pytest.raises(InputError, match="num_key_value_heads is None"):
        read_config(tmp_path / "toy")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "gemma4"}, "has no text_config"),
        ({"model_type": "gemma4_unified", "text_config": {}}, "was not checked against llama.cpp"),
        ({"model_type": "gemma4_assistant"}, "only drafts tokens"),
    ],
)
def test_relatives_are_refused_by_name(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError) as caught:
        read_config(tmp_path)
    assert said in caught.value.what


def test_what_config_json_leaves_out_has_transformers_defaults() -> None:
    """mlx-lm has others: it would take the MLPs of some layers to be twice as wide, and 20 layers to share."""
    text = {"hidden_size": 64, "num_hidden_layers": 12, "intermediate_size": 128}
    flat = flat_config({"model_type": "gemma4", "text_config": text, "tie_word_embeddings": True})
    assert (flat["use_double_wide_mlp"], flat["num_kv_shared_layers"]) == (False, 0)
    assert (flat["head_dim"], flat["global_head_dim"]) == (256, 512)
    assert [gemma4.is_full(flat, layer) for layer in range(12)] == [False] * 5 + [True] + [False] * 5 + [True]
    assert flat["rope_parameters"]["full_attention"]["rope_theta"] == 1e6
    assert flat_config({**flat, "num_kv_shared_layers": None})["num_kv_shared_layers"] == 0
    assert gemma4.rotary_divisors(flat) == (1.0,) * 64 + (1e30,) * 192


def test_shared_layers_have_no_cache_and_windows_a_short_one() -> None:
    """llama.cpp keeps a window and one batch of 512 tokens, in steps of 256."""
    toy = {"model_type": "gemma4_text", "hidden_size": 64, "num_hidden_layers": 6, "intermediate_size": 128}
    config = flat_config(toy | {"layer_types": [gemma4.SLIDING, gemma4.FULL] * 3, "num_kv_shared_layers": 2})
    tokens, windowed = 4096, 1024
    assert cache_bytes(config, tokens) == 2 * 2 * 2 * 4 * (256 * windowed + 512 * tokens)
    assert cache_bytes(config, 100) == 2 * 2 * 2 * 4 * (256 + 512) * 100


def test_a_tokenizer_without_bos_is_refused(tmp_path: Path) -> None:
    base = gemma4_base(tmp_path)
    change(base / "tokenizer_config.json", bos_token=None)
    config = json.loads((base / "config.json").read_text())
    del config["text_config"]["bos_token_id"]
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"no bos token, and llama\.cpp puts one before every prompt"):
        read_vocabulary(base)


def test_a_missing_embedding_of_layers_is_told(tmp_path: Path) -> None:
    base = gemma4_base(tmp_path)
    weights = load_file(base / "model.safetensors")
    del weights["model.language_model.embed_tokens_per_layer.weight"]
    save_file(weights, base / "model.safetensors")
    with pytest.raises(InputError, match="embed_tokens_per_layer"):
        check_base(base)


def test_norms_are_stored_as_they_are(tmp_path: Path, made: Callable[[str], Path]) -> None:
    """Unlike those of Gemma 3, which a model folder has minus 1."""
    write_gguf(made("gemma4_text") / "mlx", tmp_path / "a.gguf", type="F32", name="x")
    weights = load_file(made("gemma4_text") / "mlx" / "model.safetensors")
    found = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "a.gguf").tensors}
    for theirs, ours in (
        ("output_norm.weight", "model.norm.weight"),
        ("blk.1.layer_output_scale.weight", "model.layers.1.layer_scalar"),
        ("blk.5.attn_q_norm.weight", "model.layers.5.self_attn.q_norm.weight"),
    ):
        np.testing.assert_array_equal(found[theirs], weights[ours])
