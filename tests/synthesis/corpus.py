"""A small corpus with a retriever that ranks by shared words, and pairs on it."""

import re
from collections.abc import Collection, Sequence

from mlx_ragtune.records import Chunk, Document, Evidence, Message, Pair, Passage

METHODS = ("LoRA", "QLoRA", "DoRA", "HNSW", "RAGAS", "CRAG", "FLAN", "ARES", "RGB", "Phi", "PPO", "BM25")
FIELDS = ("adapters", "retrieval", "evaluation")


def title_of(name: str) -> str:
    return f"{name}: A Study of {name} Systems"


def sentence_of(name: str) -> str:
    return f"{name} saves {10 + METHODS.index(name)} percent of the memory on its main benchmark."


def text_of(name: str) -> str:
    at = METHODS.index(name)
    filler = " ".join(f"{name.lower()}word{at}x{step}" for step in range(30))
    return f"{name} is a method about {FIELDS[at % 3]}. {sentence_of(name)} {filler}"


def document(name: str, text: str | None = None) -> Document:
    return Document(name.lower(), f"{name.lower()}.md", title_of(name), text or text_of(name))


def chunk(one: Document) -> Chunk:
    return Chunk(f"{one.id}-0", one.id, one.title, "", 1, 0, len(one.text), one.text)


DOCUMENTS = tuple(document(name) for name in METHODS)
CHUNKS = tuple(chunk(one) for one in DOCUMENTS)


def grounded(name: str, number: int = 0) -> Pair:
    return Pair(
        f"g-{name.lower()}-{number}",
        "grounded",
        f"How much memory does {name} save in case {number}?",
        f'According to "{title_of(name)}", {sentence_of(name)}',
        (name.lower(),),
        (Evidence(name.lower(), sentence_of(name)),),
    )


def synthesis(left: str, right: str) -> Pair:
    return Pair(
        f"s-{left.lower()}-{right.lower()}",
        "synthesis",
        f"How do {left} and {right} compare in the memory that they save?",
        f'"{title_of(left)}" reports less than "{title_of(right)}" does.',
        (left.lower(), right.lower()),
        tuple(Evidence(name.lower(), sentence_of(name)) for name in (left, right)),
    )


def near_miss(name: str, number: int = 0) -> Pair:
    return Pair(
        f"n-{name.lower()}-{number}",
        "refusal",
        f"How is {name} trained for {FIELDS[METHODS.index(name) % 3]} in case {number}?",
        f"The passages do not say how {name} is trained.",
        (name.lower(),),
        refusal_kind="near_miss",
    )


def off_corpus(number: int) -> Pair:
    return Pair(
        f"o-{number}",
        "refusal",
        f"What is the capital of country number {number}?",
        "The passages do not mention any capital.",
        refusal_kind="off_corpus",
    )


class WordRetriever:
    """Ranks chunks by how many of the question's words they hold; like the served one, it always finds k."""

    def __init__(self, chunks: Sequence[Chunk] = CHUNKS) -> None:
        self.chunks = chunks

    def search(self, question: str, k: int, *, without_papers: Collection[str] = ()) -> list[Passage]:
        asked = set(re.findall(r"\w+", question.lower())) - {"the", "is", "of", "in", "what", "how"}
        scored = [
            (-len(asked & set(re.findall(r"\w+", one.text.lower()))), one.id, one)
            for one in self.chunks
            if one.document_id not in without_papers
        ]
        return [
            Passage(one.id, one.document_id, one.title, one.text)
            for _, _, one in sorted(scored, key=lambda item: item[:2])
        ][:k]


def build_messages(passages: Sequence[Passage], question: str) -> tuple[Message, Message]:
    shown = "\n\n".join(f"{one.title}\n{one.text}" for one in passages)
    return Message("system", "Answer from the passages."), Message("user", f"{shown}\n\nQuestion: {question}")
