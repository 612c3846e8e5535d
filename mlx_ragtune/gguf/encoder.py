"""Writes a BERT embedding model or cross-encoder, a folder of sentence-transformers or transformers, as GGUF.

Tensor and metadata names are those that llama.cpp reads (``gguf-py/gguf/constants.py``, ``src/llama-vocab.cpp`` of
github.com/ggml-org/llama.cpp): the WordPiece vocabulary marks the beginning of a word with ``▁`` where BERT marks its
continuation with ``##``. Matrices are float16, vectors float32; the cosine with a float32 forward pass is above .9999.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.errors import InputError
from mlx_ragtune.models.vocabulary import read_json
from mlx_ragtune.models.weights import Weights, to_float32

VERSION = 1
"""Raised when the same folder would give another file."""
_CONTROL, _NORMAL = 3, 1
_POOLING = {
    "pooling_mode_mean_tokens": gguf.PoolingType.MEAN,
    "pooling_mode_cls_token": gguf.PoolingType.CLS,
}
_HEAD = {"pooler.dense": "cls", "classifier": "cls.output"}
"""BertForSequenceClassification: pooler (a dense layer and tanh) and classifier, by llama.cpp's names."""
QUERY_PREFIX, DOCUMENT_PREFIX = "ragtune.query_prefix", "ragtune.document_prefix"
"""Where the prefixes that the model's own folder gives are kept."""


@dataclass(frozen=True)
class _Model:
    """A model folder that was checked."""

    folder: Path
    config: dict[str, Any]
    vocabulary: tuple[str, ...]
    special: dict[str, int]
    pooling: gguf.PoolingType


def write_encoder(folder: Path, target: Path) -> None:
    """Write ``target`` from a BERT model folder; a failure leaves nothing behind.

    A folder with a classifier of one output becomes a reranker, one of sentence-transformers an embedding model. Raises
    InputError for any other, ToolError when the file cannot be written.
    """
    model = _checked(folder)
    tensors = dict(_tensors(model))
    size = sum(values.nbytes for values in tensors.values())
    temporary = target.with_name(f".{target.name}.part")
    with disk_writes(target, size, partial=temporary):
        writer = gguf.GGUFWriter(temporary, "bert")
        _add_metadata(writer, model)
        for name, values in tensors.items():
            writer.add_tensor(name, values)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        temporary.replace(target)


def _refuse(folder: Path, what: str) -> InputError:
    return InputError(
        what,
        where=str(folder),
        fix="name a GGUF file of the model in 'model:', or use 'backend: ollama'",
    )


def _checked(folder: Path) -> _Model:
    config = read_json(folder / "config.json")
    if config.get("model_type") != "bert":
        raise _refuse(folder, f"only BERT models are converted, and this is '{config.get('model_type')}'")
    if config.get("hidden_act", "gelu") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
        raise _refuse(folder, "its activation is not 'gelu', or its positions are not absolute")
    vocabulary, special = _vocabulary(folder)
    if len(vocabulary) > int(config["vocab_size"]):
        raise _refuse(folder, f"tokenizer.json has {len(vocabulary)} tokens, the model {config['vocab_size']}")
    fill = tuple(f"[PAD{number}]" for number in range(len(vocabulary), int(config["vocab_size"])))
    return _Model(folder, config, (*vocabulary, *fill), special, _pooling(folder, config))


def _vocabulary(folder: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """The tokens by id as llama.cpp writes them, and the ids of the special ones by their text."""
    tokenizer = read_json(folder / "tokenizer.json")
    if tokenizer["model"].get("type", "WordPiece") != "WordPiece":
        raise _refuse(folder, f"its tokenizer is '{tokenizer['model'].get('type')}', not WordPiece")
    if not (tokenizer.get("normalizer") or {}).get("lowercase", False):
        raise _refuse(folder, "its tokenizer keeps case, and llama.cpp's WordPiece lowers it")
    special = {token["content"]: int(token["id"]) for token in tokenizer.get("added_tokens", ()) if token["special"]}
    if missing := {"[CLS]", "[SEP]", "[PAD]", "[UNK]"} - set(special):
        raise _refuse(folder, f"its tokenizer has no {', '.join(sorted(missing))}")
    pieces = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: int(item[1]))
    if [number for _, number in pieces] != list(range(len(pieces))):
        raise _refuse(folder, "its token ids have gaps")
    return tuple(text if text in special else _phantom(text) for text, _ in pieces), special


def _phantom(piece: str) -> str:
    return piece[2:] if piece.startswith("##") else f"\u2581{piece}"


def _pooling(folder: Path, config: dict[str, Any]) -> gguf.PoolingType:
    if any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or ()):
        labels = len(config.get("id2label") or {0: ""})
        if labels != 1:
            raise _refuse(folder, f"its classifier has {labels} outputs, and a reranker has one")
        return gguf.PoolingType.RANK
    path = folder / "modules.json"
    if not path.is_file():
        raise _refuse(folder, "modules.json, which says how the model pools, is missing")
    try:
        kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError):
        raise _refuse(folder, "modules.json is damaged") from None
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise _refuse(folder, f"its modules are {', '.join(kinds)}")
    modes = read_json(folder / "1_Pooling" / "config.json")
    chosen = [name for name, value in modes.items() if name.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in _POOLING:
        raise _refuse(folder, f"it pools by {', '.join(chosen) or 'nothing'}")
    return _POOLING[chosen[0]]


def _add_metadata(writer: gguf.GGUFWriter, model: _Model) -> None:
    config = model.config
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_head_count(int(config["num_attention_heads"]))
    writer.add_layer_norm_eps(float(config.get("layer_norm_eps", 1e-12)))
    writer.add_causal_attention(False)
    writer.add_pooling_type(model.pooling)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_token_type_count(int(config.get("type_vocab_size", 2)))
    if model.pooling == gguf.PoolingType.RANK:
        writer.add_classifier_output_labels(["score"])
        # the engine joins a pair as start, query, end, document, end, with a separator of its own unless told not to
        writer.add_eos_token_id(model.special["[SEP]"])
        writer.add_add_eos_token(True)
        writer.add_add_sep_token(False)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(model.vocabulary))
    special = set(model.special.values())
    writer.add_token_types([_CONTROL if number in special else _NORMAL for number in range(len(model.vocabulary))])
    writer.add_bos_token_id(model.special["[CLS]"])
    writer.add_sep_token_id(model.special["[SEP]"])
    writer.add_pad_token_id(model.special["[PAD]"])
    writer.add_unk_token_id(model.special["[UNK]"])
    if "[MASK]" in model.special:
        writer.add_mask_token_id(model.special["[MASK]"])
    for key, prefix in _own_prefixes(model.folder).items():
        writer.add_string(key, prefix)


def _own_prefixes(folder: Path) -> dict[str, str]:
    """The prefixes in ``config_sentence_transformers.json``, by their key here; empty when it names none."""
    path = folder / "config_sentence_transformers.json"
    prompts = (read_json(path).get("prompts") or {}) if path.is_file() else {}
    if not any(prompts.get(name) for name in ("query", "document", "passage")):
        return {}
    return {
        QUERY_PREFIX: prompts.get("query") or "",
        DOCUMENT_PREFIX: prompts.get("document") or prompts.get("passage") or "",
    }


def _tensors(model: _Model) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and values of each tensor: matrices as float16, vectors and position tables as float32."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, int(model.config["num_hidden_layers"]))
    weights = Weights(model.folder, ignored="position_ids")
    written = set()
    for source in weights:
        name = _target(source, names, rank=model.pooling == gguf.PoolingType.RANK)
        if name is None:
            continue
        stored = weights[source]
        values = to_float32(stored.raw(0, stored.shape[0]))
        matrix = values.ndim == 2 and name.startswith(("blk.", "token_embd."))
        written.add(name)
        yield name, values.astype(np.float16) if matrix else values
    needed = {"token_embd.weight", "position_embd.weight", "token_embd_norm.weight", "token_types.weight"}
    for layer in range(int(model.config["num_hidden_layers"])):
        parts = ("attn_q", "attn_k", "attn_v", "attn_output", "attn_output_norm", "ffn_up", "ffn_down")
        needed |= {f"blk.{layer}.{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    if model.pooling == gguf.PoolingType.RANK:
        needed |= {f"{head}.{kind}" for head in _HEAD.values() for kind in ("weight", "bias")}
    if missing := sorted(needed - written):
        raise _refuse(model.folder, f"it has no tensor for {', '.join(missing[:3])}")


def _target(source: str, names: gguf.TensorNameMap, *, rank: bool) -> str | None:
    """llama.cpp's name of a tensor; None for one that it does not use. Raises InputError for an unknown one."""
    bare = source.removeprefix("bert.")
    module, _, kind = bare.rpartition(".")
    if module in _HEAD and not rank:
        return None
    if module in _HEAD:
        return f"{_HEAD[module]}.{kind}"
    name: str | None = names.get_name(bare, try_suffixes=(".weight", ".bias"))
    if name is None:
        raise InputError(f"the tensor '{source}' is not part of a BERT encoder", fix="name a GGUF file of the model")
    return name
