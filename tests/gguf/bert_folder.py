"""A small random BERT as transformers and sentence-transformers save it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

HIDDEN, INNER, LAYERS, HEADS, POSITIONS = 64, 128, 2, 4, 64
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("graph", "vector", "paper", "lo", "##ra", "##s", "is", "what", "?", ".", "+", "neigh", "##bour", *"abcdefgh")


def bert_folder(
    folder: Path, *, second_type: int = 0, rerank: bool = False, config: dict[str, Any] | None = None, seed: int = 5
) -> Path:
    """Write the folder: an embedding model that takes the mean, or a cross-encoder with one output.

    ``second_type`` is the token type of the second text of a pair.
    """
    folder.mkdir(parents=True)
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS] $A [SEP] $B:{second_type} [SEP]:{second_type}",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    kind = "BertForSequenceClassification" if rerank else "BertModel"
    settings = {
        "model_type": "bert", "architectures": [kind], "vocab_size": len(vocabulary), "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "hidden_act": "gelu",
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        **({"id2label": {"0": "LABEL_0"}} if rerank else {}), **(config or {}),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    if not rerank:
        modules = [
            {"idx": n, "type": f"sentence_transformers.models.{name}"}
            for n, name in enumerate(("Transformer", "Pooling", "Normalize"))
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    save_file(_weights(len(vocabulary), seed, rerank=rerank), folder / "model.safetensors")
    return folder


def _weights(tokens: int, seed: int, *, rerank: bool) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)
    before = "bert." if rerank else ""
    shapes = {
        f"{before}embeddings.word_embeddings.weight": (tokens, HIDDEN),
        f"{before}embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        f"{before}embeddings.token_type_embeddings.weight": (2, HIDDEN),
        f"{before}pooler.dense": (HIDDEN, HIDDEN),
    }
    for layer in (f"{before}encoder.layer.{number}" for number in range(LAYERS)):
        shapes |= {f"{layer}.attention.self.{part}": (HIDDEN, HIDDEN) for part in ("query", "key", "value")}
        shapes |= {f"{layer}.attention.output.dense": (HIDDEN, HIDDEN)}
        shapes |= {f"{layer}.intermediate.dense": (INNER, HIDDEN), f"{layer}.output.dense": (HIDDEN, INNER)}
    if rerank:
        shapes["classifier"] = (1, HIDDEN)
    weights = {}
    for name, shape in shapes.items():
        stem = name.removesuffix(".weight")
        weights[f"{stem}.weight"] = random.normal(0, 0.3, shape)
        if stem == name:
            weights[f"{stem}.bias"] = random.normal(0, 0.3, shape[0])
    norms = [f"{before}embeddings.LayerNorm"]
    for number in range(LAYERS):
        layer = f"{before}encoder.layer.{number}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for norm in norms:
        weights |= {f"{norm}.weight": random.normal(1, 0.1, HIDDEN), f"{norm}.bias": random.normal(0, 0.1, HIDDEN)}
    floats = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in weights.items()}
    return {**floats, f"{before}embeddings.position_ids": np.arange(POSITIONS)[None]}
