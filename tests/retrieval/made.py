"""A handful of chunks, and an embedder that counts words."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlx_ragtune.records import Chunk


def chunk(name: str, text: str, *, title: str = "", paper: str = "") -> Chunk:
    return Chunk(name, paper or name, title or name, "", 1, 0, len(text), text)


CHUNKS = (
    chunk("lora", "Low-rank matrices are trained and the weights stay frozen.", title="LoRA: Low-Rank Adaptation"),
    chunk("qlora", "A frozen base in four bits, with adapters in sixteen.", title="QLoRA: Quantized LLMs"),
    chunk("hnsw", "A graph of layers finds near neighbours of a vector.", title="Navigable Small World Graphs"),
    chunk("rag:0", "A retriever finds passages for a generator.", title="Retrieval-Augmented Generation", paper="rag"),
    chunk("rag:1", "Passages come from an index of Wikipedia.", title="Retrieval-Augmented Generation", paper="rag"),
)


class WordEmbedder:
    """Bags of hashed words: texts that share words are near."""

    def __init__(self, dimensions: int = 64, name: str = "words-1") -> None:
        self.dimensions, self.name = dimensions, name
        self.asked: list[int] = []

    def embed_documents(self, documents: Sequence[tuple[str, str]]) -> list[NDArray[np.float32]]:
        self.asked.append(len(documents))
        return list(self.rows([f"{title}\n{text}" for title, text in documents])[:, None, :])

    def embed_query(self, query: str) -> NDArray[np.float32]:
        return self.rows([query])

    def rows(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.zeros((len(texts), self.dimensions), np.float32)
        for at, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                digest = hashlib.sha256(word.encode()).digest()
                rows[at, int.from_bytes(digest[:4]) % self.dimensions] += 1
        return rows
