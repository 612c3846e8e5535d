"""Embeddings: whole texts, unit rows, the prefixes that the model was trained with."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mlx_ragtune.clients.embed_ollama import BATCH, OllamaEmbed
from mlx_ragtune.clients.ollama_registry import register_model
from mlx_ragtune.errors import InputError, ToolError
from tests.ollama_server import OllamaStandIn


@pytest.fixture
def embedder(standin: OllamaStandIn, models: Path) -> Iterator[OllamaEmbed]:
    register_model(standin.host, "nomic-embed-text", models / "qwen3.gguf")
    with OllamaEmbed(standin.host, "nomic-embed-text") as backend:
        yield backend


def test_rows_are_of_length_one_and_in_order(embedder: OllamaEmbed) -> None:
    texts = [f"text number {number}" for number in range(BATCH + 3)]
    vectors = embedder.embed(texts, kind="document")
    assert vectors.shape[0] == len(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors[BATCH], embedder.embed([texts[BATCH]], kind="document")[0], atol=1e-6)


def test_a_question_and_a_passage_get_their_own_prefix(embedder: OllamaEmbed, standin: OllamaStandIn) -> None:
    embedder.embed(["x"], kind="query")
    embedder.embed(["x"], kind="document")
    sent = [body for _, path, body in standin.requests if path == "/api/embed"]
    assert [body["input"] for body in sent] == [["search_query: x"], ["search_document: x"]]
    assert all(body["truncate"] is False for body in sent)


def test_a_text_that_is_too_long_is_named_and_not_cut(embedder: OllamaEmbed) -> None:
    with pytest.raises(InputError, match="too long") as error:
        embedder.embed(["short", "word " * 4000], kind="document")
    assert error.value.fix == "lower 'corpus.chunk_tokens'"


def test_a_chat_model_cannot_embed(standin: OllamaStandIn, models: Path) -> None:
    register_model(standin.host, "tinyq", models / "qwen3.gguf")
    with OllamaEmbed(standin.host, "tinyq") as chat, pytest.raises(ToolError, match="501"):
        chat.embed(["x"], kind="document")
