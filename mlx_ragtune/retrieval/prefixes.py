"""What embedding models were trained to read before a query and before a document, by model family.

Each row is from the card of the models that it names. A model that is in no row needs its prefixes in the recipe: the
wrong ones cost several points of recall without an error.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Prefixes:
    """The text before a query, and the one before a document; "" for none."""

    query: str = ""
    document: str = ""


_PASSAGES = "Represent this sentence for searching relevant passages: "
_INSTRUCT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
FAMILIES: tuple[tuple[str, Prefixes], ...] = (
    ("nomic-embed", Prefixes("search_query: ", "search_document: ")),
    ("multilingual-e5-.*-instruct", Prefixes(f"{_INSTRUCT} ")),
    ("(multilingual-)?e5-(small|base|large)", Prefixes("query: ", "passage: ")),
    ("qwen3-embedding", Prefixes(_INSTRUCT)),
    ("embedding-?gemma", Prefixes("task: search result | query: ", "title: none | text: ")),
    ("mxbai-embed", Prefixes(_PASSAGES)),
    ("bge-(small|base|large)-en", Prefixes(_PASSAGES)),
    ("snowflake-arctic-embed(2|.*v2)", Prefixes("query: ")),
    ("snowflake-arctic-embed", Prefixes(_PASSAGES)),
    ("(bge-m3|all-minilm|all-mpnet|multi-qa|paraphrase-|gte-(small|base|large)|granite-embedding)", Prefixes()),
)
"""The beginning of a model's name without its owner, in lower case, as a regular expression; the first match counts."""


def family_prefixes(name: str) -> Prefixes | None:
    """The prefixes of the family that a model's name belongs to, or None for an unknown one.

    ``name`` may have an owner before it (``nomic-ai/…``) and any ending (``:v1.5``, ``-Q8_0.gguf``).
    """
    bare = re.sub(r"[ _]+", "-", name.rsplit("/", 1)[-1].strip().lower())
    return next((prefixes for pattern, prefixes in FAMILIES if re.match(pattern, bare)), None)
