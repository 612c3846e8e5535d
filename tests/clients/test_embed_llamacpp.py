"""Token vectors from the embedded server: one for each token of the text, the same every time."""

from pathlib import Path

import numpy as np
import pytest

from mlx_ragtune.clients.embed_llamacpp import LlamaCppEmbed
from mlx_ragtune.errors import ToolError
from mlx_ragtune.scoring.answers.similarity import bertscore, cosine

TEXT = "The question of the paper is the model."


def test_a_text_has_a_vector_for_each_token(models: Path) -> None:
    with LlamaCppEmbed(models / "qwen3.gguf", context_tokens=256) as engine:
        vectors = engine.token_vectors(TEXT)
        assert vectors.shape == (len(engine.tokenize(TEXT)), 64)
        assert np.array_equal(engine.token_vectors(TEXT), vectors)


def test_a_causal_models_vector_depends_on_what_came_before_only(models: Path) -> None:
    with LlamaCppEmbed(models / "qwen3.gguf", context_tokens=256) as engine:
        whole, start = engine.token_vectors("the question of the"), engine.token_vectors("the question")
    assert np.allclose(whole[: len(start)], start, atol=2e-3)


def test_the_same_text_is_nearest_to_itself(models: Path) -> None:
    with LlamaCppEmbed(models / "qwen3.gguf", context_tokens=256) as engine:
        rows = engine.embed([TEXT, TEXT, "12345 67890"])
        tokens = engine.token_vectors(TEXT)
    assert cosine(rows[0], rows[1]) == pytest.approx(1)
    other = cosine(rows[0], rows[2])
    assert other is not None
    assert other < 0.999
    score = bertscore(tokens, tokens)
    assert score is not None
    assert score.f1 == pytest.approx(1)


def test_a_mean_is_of_vectors_of_length_one(models: Path) -> None:
    with LlamaCppEmbed(models / "qwen3.gguf", context_tokens=256) as engine:
        tokens, mean = engine.token_vectors(TEXT), engine.embed([TEXT])[0]
    unit = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
    assert np.allclose(mean, unit.mean(axis=0), atol=1e-6)


def test_a_text_longer_than_the_context_is_refused(models: Path) -> None:
    with LlamaCppEmbed(models / "qwen3.gguf", context_tokens=64) as engine, pytest.raises(ToolError):
        engine.token_vectors("word " * 2000)
