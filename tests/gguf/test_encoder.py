"""A BERT folder as GGUF: llama.cpp computes from the file what numpy computes from the folder."""

import json
from pathlib import Path

import numpy as np
import pytest

from mlx_ragtune.clients.encode_llamacpp import LlamaCppEncoder
from mlx_ragtune.clients.gguf_header import read_header
from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.encoder import DOCUMENT_PREFIX, QUERY_PREFIX, write_encoder
from mlx_ragtune.models.bert_forward import BertForward
from tests.gguf.bert_folder import POSITIONS, bert_folder

TEXTS = ("What is LoRA+?", "graphs of neighbours.", "a b c d e f g h unknownword", "Vector", "")


def test_vectors_are_those_of_the_folders_weights(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "bert")
    write_encoder(folder, tmp_path / "bert.gguf")
    reference = BertForward(folder)
    with LlamaCppEncoder(tmp_path / "bert.gguf") as engine:
        rows = engine.vectors(TEXTS)
    cosines = [float(row @ reference.embedding(text)) for row, text in zip(rows, TEXTS, strict=True)]
    assert min(cosines) > 0.9995
    assert abs(float(rows[0] @ rows[1])) < 0.99  # texts are told apart


def test_a_cross_encoders_scores_are_those_of_the_folders_weights(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "cross", rerank=True)
    write_encoder(folder, tmp_path / "cross.gguf")
    reference = BertForward(folder)
    pairs = [("what is lora?", text) for text in TEXTS[:4]]
    with LlamaCppEncoder(tmp_path / "cross.gguf", rank=True) as engine:
        scores = [engine.score(*pair) for pair in pairs]
    expected = [reference.score(*pair) for pair in pairs]
    assert np.ptp(expected) > 0.05
    assert scores == pytest.approx(expected, abs=0.02)


def test_a_pair_that_fills_the_window_is_scored_and_a_longer_one_is_an_overflow(tmp_path: Path) -> None:
    write_encoder(bert_folder(tmp_path / "cross", rerank=True), tmp_path / "cross.gguf")
    with LlamaCppEncoder(tmp_path / "cross.gguf", rank=True) as engine:
        for words in range(POSITIONS - 12, POSITIONS + 3):
            try:
                engine.score("a b c d", " ".join("efgh"[number % 4] for number in range(words)))
            except PromptOverflowError:
                assert words > POSITIONS - 9
            else:
                assert words < POSITIONS - 4


def test_prefixes_of_the_models_own_folder_are_kept(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "bert")
    prompts = {"prompts": {"query": "Q: ", "passage": "P: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    write_encoder(folder, tmp_path / "bert.gguf")
    header = read_header(tmp_path / "bert.gguf")
    assert (header[QUERY_PREFIX], header[DOCUMENT_PREFIX]) == ("Q: ", "P: ")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "xlm-roberta"}, "only BERT models are converted, and this is 'xlm-roberta'"),
        ({"hidden_act": "relu"}, "its activation is not 'gelu'"),
        ({"num_hidden_layers": 3}, "it has no tensor for blk.2"),
        ({"vocab_size": 3}, "tokenizer.json has 26 tokens, the model 3"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    tmp_path: Path, config: dict[str, object], says: str
) -> None:
    folder = bert_folder(tmp_path / "bert", config=config)
    with pytest.raises(InputError, match=says):
        write_encoder(folder, tmp_path / "bert.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


def test_pooling_that_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "bert")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(InputError, match="it pools by pooling_mode_max_tokens"):
        write_encoder(folder, tmp_path / "bert.gguf")
    (folder / "modules.json").unlink()
    with pytest.raises(InputError, match=r"modules\.json, which says how the model pools, is missing"):
        write_encoder(folder, tmp_path / "bert.gguf")


def test_an_embedding_model_is_no_reranker_and_the_other_way_round(tmp_path: Path) -> None:
    write_encoder(bert_folder(tmp_path / "bert"), tmp_path / "bert.gguf")
    write_encoder(bert_folder(tmp_path / "cross", rerank=True), tmp_path / "cross.gguf")
    with pytest.raises(InputError, match="this is an embedding model, not a reranker"):
        LlamaCppEncoder(tmp_path / "bert.gguf", rank=True)
    with pytest.raises(InputError, match="this is a reranker, not an embedding model"):
        LlamaCppEncoder(tmp_path / "cross.gguf")
