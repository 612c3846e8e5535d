"""How well and how fast passages are found: by full text, by vectors, by both fused, and reranked.

    python benchmarks/retrieval.py --data FOLDER [--embedding MODEL] [--rerank MODEL] [--json FILE]
    python benchmarks/retrieval.py --data FOLDER --embedding MODEL --chunks 100000

FOLDER has ``papers_metadata.json``, ``qa_dataset.json`` and ``questions.jsonl`` of the experiment that this project
repeats, which are not part of this repository: 132 papers, 2,394 passages, and 15 questions, each with the papers that
count as a hit. A sample of the questions that the experiment's training pairs ask about one passage, and the bundled
notes with their benchmark, are a check that nothing fits the 15 alone. MODEL is a GGUF file, a BERT folder, a hub id,
or ollama:NAME. ``--vectors FOLDER`` keeps vectors for the next run.

With ``--chunks``, a corpus of that size is drawn from the passages' sentences, with vectors of passages disturbed at
random: time, memory and recall against brute force in float32, of the exhaustive search and of LanceDB.
"""

import argparse
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_ragtune.artifact import digest_json
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.models.bert_forward import BertForward
from mlx_ragtune.pages.tables import render_table
from mlx_ragtune.papers.chunks import Chunking, split
from mlx_ragtune.papers.folder import document_ids, list_papers
from mlx_ragtune.papers.reading import open_paper
from mlx_ragtune.recipe import EmbeddingSettings, RerankSettings
from mlx_ragtune.records import Chunk, Question
from mlx_ragtune.retrieval.fusion import Hit
from mlx_ragtune.retrieval.index import Index, build_index
from mlx_ragtune.retrieval.lance import LanceIndex, build_lance
from mlx_ragtune.retrieval.retriever import Retriever, Searcher
from mlx_ragtune.retrieval.terms import match_expression
from mlx_ragtune.retrieval.vectors import VectorCache, VectorIndex, build_vectors, unit
from mlx_ragtune.searching.encoders import open_embedder, open_reranker

NOTES = Path(__file__).parents[1] / "data" / "rag_notes"
PUBLISHED = {"vectors": (60, 0.51), "both": (73, 0.52), "both, reranked": (100, 0.82)}
"""Published hit@5 in percent and MRR; the last one with sections deduplicated. A step between had 67%."""
TOP = 5
ASKED_PAIRS = 150
_CONTEXT = re.compile(r"Context from '(.*?)' \((.*?)\):\n(.*?)(?=\n\nContext from '|\n\nQuestion:)", re.DOTALL)
HEADERS = ["corpus", "by", "hit@5 %", "MRR", "published", "ms", "work"]


@dataclass(frozen=True)
class Asked:
    """A question, and the papers that count as a hit."""

    question: str
    papers: frozenset[str]


@dataclass(frozen=True)
class Task:
    """A corpus and questions about it."""

    name: str
    chunks: Sequence[Chunk]
    asked: Sequence[Asked]


def source_tasks(folder: Path) -> Iterator[Task]:
    """The experiment's 15 questions, and a sample of the questions of its pairs, over its passages."""
    papers = json.loads((folder / "papers_metadata.json").read_text(encoding="utf-8"))["papers"]
    ids = {" ".join(paper["title"].split()): paper["arxiv_id"] for paper in papers}
    pairs = json.loads((folder / "qa_dataset.json").read_text(encoding="utf-8"))["data"]
    passages: dict[tuple[str, str, str], Chunk] = {}
    about: list[Asked] = []
    for pair in pairs:
        contexts = [
            (" ".join(title.split()), kind, text.strip()) for title, kind, text in _CONTEXT.findall(pair["input"])
        ]
        for title, kind, text in contexts:
            paper, number = ids[title], len(passages)
            chunk = Chunk(f"{paper}:{number:05}", paper, title, kind.replace("_", " "), 1, 0, len(text), text)
            passages.setdefault((title, kind, text), chunk)
        if pair["type"] == "grounded":
            question = pair["input"].rsplit("Question:", 1)[1].strip()
            about.append(Asked(question, frozenset(ids[title] for title, _, _ in contexts)))
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    fifteen = [Asked(row["question"], frozenset(row["expected_arxiv_ids"])) for row in rows]
    chunks = list(passages.values())
    yield Task("source, 15 questions", chunks, fifteen)
    yield Task("source, its pairs", chunks, random.Random(1).sample(about, ASKED_PAIRS))


def notes_task() -> Task:
    """The bundled notes and the answerable questions of their benchmark."""
    papers = list_papers(NOTES / "papers")
    ids = document_ids(paper.name for paper in papers)
    notes = [open_paper(paper.path, id=ids[paper.name]).document for paper in papers]
    rows = read_rows(NOTES / "benchmark.jsonl", Question)
    asked = [Asked(row.question, frozenset(row.papers)) for row in rows if row.answerable and row.papers]
    return Task("bundled notes", [chunk for note in notes for chunk in split(note, Chunking()).chunks], asked)


class Alone:
    """Vectors without a full-text index: nothing is found by words."""

    def search(self, _query: str, _k: int) -> list[Hit]:
        """Nothing."""
        return []


def measured(task: Task, retriever: Retriever, work: Callable[[str], str]) -> dict[str, Any]:
    """Hit rate and mean reciprocal rank of the first ``TOP``, and the median time of a question, in milliseconds."""
    ranks, times = [], []
    for item in task.asked:
        started = time.perf_counter()
        found = retriever.matches(item.question, TOP)
        times.append(1000 * (time.perf_counter() - started))
        hits = [rank for rank, row in enumerate(found, start=1) if row.chunk.document_id in item.papers]
        ranks.append(1 / hits[0] if hits else 0.0)
    return {
        "corpus": task.name,
        "questions": len(ranks),
        "hit": statistics.mean(rank > 0 for rank in ranks),
        "mrr": statistics.mean(ranks),
        "milliseconds": statistics.median(times),
        "work": work(task.asked[0].question),
    }


class Bench:
    """The indexes of one task, and the rows that they give."""

    def __init__(self, task: Task, folder: Path, models: "Models") -> None:
        self.task, self.models = task, models
        path = folder / f"{digest_json(task.name)[:8]}.sqlite"
        build_index(path, task.chunks)
        self.index = Index(path)
        self.vectors = models.index(task.chunks) if models.embedder else None

    def rows(self, dedup: str) -> Iterator[dict[str, Any]]:
        """A row for each way of finding passages that the models allow."""
        options: dict[str, Any] = {"dedup": dedup}
        ways: dict[str, Retriever] = {"full text": Retriever(self.index, self.task.chunks, **options)}
        if self.vectors:
            ways["vectors"] = Retriever(Alone(), self.task.chunks, vectors=self.vectors, **options)
            ways["both"] = Retriever(self.index, self.task.chunks, vectors=self.vectors, **options)
        if self.models.reranker:
            options |= {"vectors": self.vectors, "reranker": self.models.reranker}
            ways["both, reranked"] = Retriever(self.index, self.task.chunks, **options)
        for name, retriever in ways.items():
            if self.vectors:
                self.vectors._scores.cache_clear()  # every way embeds its questions itself
            row = measured(self.task, retriever, lambda question, name=name: self.work(name, question))  # type: ignore[misc]
            yield {"by": name, "dedup": dedup, **row}

    def work(self, way: str, question: str) -> str:
        """What a question costs, counted on the first one."""
        parts = []
        if way != "vectors":
            terms = match_expression(question)
            (rows,) = self.index._connection.execute(
                "SELECT count(*) FROM chunk WHERE chunk MATCH ?", (terms,)
            ).fetchone()
            parts.append(f"{terms.count(' OR ') + 1} terms, {rows:,} rows scored")
        if way != "full text" and self.vectors:
            parts.append("1 text embedded, {:,} × {} products".format(*self.vectors._rows.shape))
        if way == "both, reranked" and self.models.reranker:
            parts.append(f"{self.models.reranker.depth} pairs read")
        return "; ".join(parts)


class Models:
    """The embedding model and the reranker of the command line, loaded; vectors are kept in a folder."""

    def __init__(self, arguments: argparse.Namespace, stack: ExitStack, folder: Path) -> None:
        self.folder = folder
        self.embedder = stack.enter_context(open_embedder(_settings(arguments))) if arguments.embedding else None
        reranker = RerankSettings(model=arguments.rerank) if arguments.rerank else None
        self.reranker = stack.enter_context(open_reranker(reranker)) if reranker else None
        self.seconds = 0.0

    def index(self, chunks: Sequence[Chunk]) -> VectorIndex:
        """The vectors of the chunks, from an earlier run if they were kept."""
        assert self.embedder is not None
        name = digest_json([self.embedder.name, [[chunk.id, chunk.title, chunk.text] for chunk in chunks]])[:16]
        path = self.folder / f"{name}.npy"
        if not path.exists():
            started, count = time.perf_counter(), 0

            def advance(done: int) -> None:
                nonlocal count
                count += done
                print(f"\rembedding {count:,} of {len(chunks):,} chunks", end="", file=sys.stderr, flush=True)

            with VectorCache(self.folder / f"{digest_json(self.embedder.name)[:16]}.sqlite") as cache:
                build_vectors(path, chunks, self.embedder, cache=cache, advance=advance)
            self.seconds = time.perf_counter() - started
            print(f" in {self.seconds:.0f} s", file=sys.stderr)
        return VectorIndex(path, self.embedder)


def _settings(arguments: argparse.Namespace) -> EmbeddingSettings:
    name = str(arguments.embedding)
    known = {"query_prefix": arguments.query_prefix, "document_prefix": arguments.document_prefix}
    if name.startswith("ollama:"):
        return EmbeddingSettings(backend="ollama", model=name.removeprefix("ollama:"), **known)
    return EmbeddingSettings(model=name, **known)


def conversion(folder: Path, embedder: Any, texts: Sequence[str]) -> float:
    """The smallest cosine between the served vectors of texts and those of a float32 forward pass in numpy."""
    reference = BertForward(folder)
    return min(float(unit(embedder.embed_query(text))[0] @ reference.embedding(text)) for text in texts)


def drawn_corpus(chunks: Sequence[Chunk], count: int, seed: int = 0) -> tuple[list[Chunk], NDArray[np.intp]]:
    """Chunks of sentences drawn from passages at random, and the passage that each begins with."""
    generator = random.Random(seed)
    sentences = [re.split(r"(?<=[.?!]) +", chunk.text) for chunk in chunks]
    rows, origins = [], []
    for number in range(count):
        origin = generator.randrange(len(chunks))
        own = generator.sample(sentences[origin], min(2, len(sentences[origin])))
        other = [generator.choice(generator.choice(sentences)) for _ in range(2)]
        text, paper = " ".join([*own, *other]), f"p{number // 20}"
        rows.append(Chunk(f"{number:07}", paper, chunks[origin].title, "", 1, 0, len(text), text))
        origins.append(origin)
    return rows, np.array(origins)


class Given:
    """An embedder whose queries are given: only the search is measured."""

    name = "given"

    def __init__(self, queries: dict[str, NDArray[np.float32]]) -> None:
        self.queries = queries

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """The vector of a query, ``[1, D]``."""
        return self.queries[query][None]

    def embed_documents(self, documents: Sequence[tuple[str, str]]) -> list[NDArray[np.float32]]:
        """Not used."""
        raise NotImplementedError(len(documents))


def resident_bytes() -> int:
    """Memory of this process that is its own (not mapped files), in bytes; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines()) if status.exists() else {}
    return 1024 * int(fields.get("RssAnon", "0 kB").split()[0])


def at_scale(bench: Bench, count: int, folder: Path) -> list[dict[str, Any]]:
    """Time, memory and recall at a corpus of ``count`` chunks, for each index."""
    assert bench.vectors is not None
    chunks, origins = drawn_corpus(bench.task.chunks, count)
    questions = [item.question for item in bench.task.asked]
    rows: list[dict[str, Any]] = []
    path = folder / "scale.sqlite"
    started = time.perf_counter()
    build_index(path, chunks)
    rows.append(_timed("full text", Index(path), questions, built=time.perf_counter() - started, path=path))
    random_rows = np.random.default_rng(0)
    passages = unit(bench.vectors._rows.astype(np.float32))
    width = passages.shape[1]
    vectors = np.empty((count, width), np.float32)
    for start in range(0, count, 50_000):
        part = passages[origins[start : start + 50_000]]
        vectors[start : start + len(part)] = unit(
            part + random_rows.normal(0, 0.6 / width**0.5, part.shape).astype(np.float32)
        )
    given = Given({question: bench.vectors._asked(question)[0] for question in questions})
    target = folder / "scale.npy"
    np.save(target, np.rint(vectors * 127).astype(np.int8))
    described = {"embedder": "given", "chunks": [chunk.id for chunk in chunks]}
    target.with_suffix(".json").write_text(json.dumps(described), encoding="utf-8")
    exact = {
        question: {chunks[row].id for row in np.argsort(-(vectors @ given.queries[question]))[:50]}
        for question in questions
    }
    before = resident_bytes()
    rows.append(
        _timed("vectors, exhaustive", VectorIndex(target, given), questions, exact=exact, path=target, before=before)
    )
    started, before = time.perf_counter(), resident_bytes()
    build_lance(folder / "lance", target)
    built = time.perf_counter() - started
    lance = LanceIndex(target, given, folder / "lance")
    rows.append(
        _timed("vectors, LanceDB", lance, questions, exact=exact, built=built, path=folder / "lance", before=before)
    )
    return rows


def _timed(
    name: str,
    index: Searcher,
    questions: Sequence[str],
    *,
    path: Path,
    built: float = 0.0,
    exact: dict[str, set[str]] | None = None,
    before: int = 0,
) -> dict[str, Any]:
    """Median time of the 50 nearest, recall of the exact ones, memory and disk."""
    times, shares = [], []
    index.search(questions[0], 1)
    for question in questions:
        started = time.perf_counter()
        found = {hit.chunk_id for hit in index.search(question, 50)}
        times.append(1000 * (time.perf_counter() - started))
        if exact:
            shares.append(len(found & exact[question]) / len(exact[question]))
    files = [file for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return {
        "index": name,
        "milliseconds": statistics.median(times),
        "slowest": max(times),
        "recall": statistics.mean(shares) if shares else None,
        "megabytes": max(0, resident_bytes() - before) / 1e6 if before else None,
        "disk_megabytes": sum(file.stat().st_size for file in files) / 1e6,
        "build_seconds": built,
    }


def shown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of quality as a table."""
    cells = []
    for row in rows:
        hit, mrr = PUBLISHED.get(row["by"], (None, None)) if row["corpus"].endswith("15 questions") else (None, None)
        published = f"{hit}% {mrr}" if hit else ""
        figures = [f"{100 * row['hit']:.0f}", f"{row['mrr']:.3f}", published, f"{row['milliseconds']:.1f}"]
        cells.append(
            [row["corpus"], f"{row['by']}{', a section once' * (row['dedup'] == 'section')}", *figures, row["work"]]
        )
    return render_table(HEADERS, cells, width=120)


def shown_scale(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of speed as a table."""

    def number(value: float | None, digits: int = 0) -> str:
        return "" if value is None else f"{value:,.{digits}f}"

    cells = [
        [row["index"], number(row["milliseconds"], 1), number(row["slowest"], 1), number(row["recall"], 3),
         number(row["megabytes"]), number(row["disk_megabytes"]), number(row["build_seconds"])]
        for row in rows
    ]  # fmt: skip
    return render_table(["index", "ms", "slowest", "recall@50", "MB memory", "MB disk", "s to build"], cells, width=120)


def main() -> None:
    """Print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the source experiment's data")
    parser.add_argument("--embedding", help="GGUF file, BERT folder, hub id, or ollama:NAME")
    parser.add_argument("--query-prefix")
    parser.add_argument("--document-prefix")
    parser.add_argument("--rerank", help="GGUF file, BERT folder or hub id of a cross-encoder")
    parser.add_argument("--vectors", type=Path, help="folder where vectors are kept")
    parser.add_argument("--chunks", type=int, help="measure a corpus of so many chunks instead")
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    if arguments.chunks and not (arguments.embedding and arguments.data):
        parser.error("--chunks needs --data and --embedding")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ragtune-")))
        kept = arguments.vectors or folder
        kept.mkdir(parents=True, exist_ok=True)
        models = Models(arguments, stack, kept)
        tasks = list(source_tasks(arguments.data)) if arguments.data else []
        rows: list[dict[str, Any]] = []
        if arguments.chunks:
            rows = at_scale(Bench(tasks[0], folder, models), arguments.chunks, folder)
            print(shown_scale(rows))
        else:
            for task in (*tasks, notes_task()):
                bench = Bench(task, folder, models)
                rows += [row for dedup in ("none", "section") for row in bench.rows(dedup)]
            print(shown(rows))
            if models.embedder and Path(str(arguments.embedding)).is_dir():
                texts = [item.question for item in (tasks[0] if tasks else notes_task()).asked[:15]]
                cosine = conversion(Path(arguments.embedding), models.embedder, texts)
                print(f"smallest cosine with a float32 forward pass in numpy, {len(texts)} texts: {cosine:.6f}")
                rows.append({"conversion_cosine": cosine})
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
