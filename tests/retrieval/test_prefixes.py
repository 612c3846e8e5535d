"""Prefixes by model family: what the card says, and nothing for a name that is in no family."""

import pytest

from mlx_ragtune.retrieval.prefixes import Prefixes, family_prefixes


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("nomic-embed-text:v1.5", "search_query: ", "search_document: "),
        ("nomic-ai/nomic-embed-text-v2-moe", "search_query: ", "search_document: "),
        ("intfloat/multilingual-e5-small", "query: ", "passage: "),
        ("E5 Large v2", "query: ", "passage: "),
        ("Qwen/Qwen3-Embedding-0.6B", "Instruct: ", ""),
        ("intfloat/multilingual-e5-large-instruct", "Instruct: ", ""),
        ("BAAI/bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("snowflake-arctic-embed:22m", "Represent this sentence for searching relevant passages: ", ""),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
        ("bge-m3:567m", "", ""),
    ],
)
def test_families(name: str, query: str, document: str) -> None:
    prefixes = family_prefixes(name)
    assert prefixes is not None
    assert prefixes.query.startswith(query)
    assert bool(prefixes.query) == bool(query)
    assert prefixes.document == document


@pytest.mark.parametrize("name", ["model", "my-bge-small-en", "llama3.2", "/models/x.gguf", ""])
def test_a_name_of_no_family_is_not_guessed(name: str) -> None:
    assert family_prefixes(name) is None
    assert Prefixes() == Prefixes("", "")
