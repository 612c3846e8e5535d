"""The stages corpus and dataset, called as functions on a small project."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from mlx_ragtune.artifact import Draft
from mlx_ragtune.bases.tokenizer_file import ModelTokenizer
from mlx_ragtune.building.split_files import SPLITS, visible_chunks
from mlx_ragtune.errors import InputError, RecipeError, ToolError
from mlx_ragtune.jsonl import read_dicts, read_rows
from mlx_ragtune.models.prompts import load_tokenizer
from mlx_ragtune.models.toy import toy_tokenizer_json, write_toy_model
from mlx_ragtune.papers.token_counts import TokenizerFile
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.records import Chunk, Document, Example, Pair
from mlx_ragtune.stages import corpus as corpus_stage
from mlx_ragtune.stages import dataset as dataset_stage
from tests.papers.made import PdfPage, page, write_pdf
from tests.stages.project import edit, make_project, rows, write_rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "toy"
    write_toy_model(folder)
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


LEXICAL = "retrieval is by full text alone: 'retrieval.embedding' names no embedding model"


def run_corpus(recipe: Path, name: str = "corpus") -> tuple[Draft, list[str]]:
    said: list[str] = []
    tokenizer = ModelTokenizer("toy:qwen3", toy_tokenizer_json("qwen3").encode()).write(recipe.parent / "tokenizer")
    draft = Draft(recipe.parent / name, say=said.append)
    draft.folder.mkdir()
    corpus_stage.corpus(load_recipe(recipe), {"tokenizer": tokenizer}, draft)
    said.remove(LEXICAL)
    return draft, said


def run_dataset(recipe: Path, base: Path, corpus: Path, name: str = "dataset") -> Draft:
    draft = Draft(recipe.parent / name)
    draft.folder.mkdir(exist_ok=True)
    dataset_stage.dataset(load_recipe(recipe), {"corpus": corpus, "base": base}, draft)
    return draft


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def papers_of(recipe: Path) -> Path:
    return recipe.parents[1] / "papers"


def test_ignored_files_are_shown_and_change_no_file_of_the_corpus(recipe: Path) -> None:
    before, said = run_corpus(recipe)
    assert said == []
    for name in ("library.bib", ".DS_Store", "LICENSE"):
        (papers_of(recipe) / name).write_text("@article{x}")
    after, said = run_corpus(recipe, "again")
    assert content(after.folder) == content(before.folder)
    assert said == [
        "ignored .DS_Store: hidden",
        "ignored LICENSE: no file name suffix",
        "ignored library.bib: '.bib' is not a supported format",
    ]


def test_what_readers_and_the_chunker_leave_out_is_listed(recipe: Path) -> None:
    lines = [f"The {word} sentence of this paper." for word in "abcdefghijklmnop"]
    write_pdf(papers_of(recipe) / "printed.pdf", [page(*lines[:8]), page(*lines[8:], "References", "[1] Cited. 2021.")])
    (papers_of(recipe) / "z.md").write_text("# Empty\n\n# Full\n\nA bell \x07 rings.\n")
    draft, _ = run_corpus(recipe)
    reasons = {(row["document_id"], row["reason"]) for row in read_dicts(draft / "dropped.jsonl")}
    assert reasons == {
        ("printed", "references"),
        ("z", "control characters"),
        ("z", "heading without text"),
    }
    assert sum(draft.facts["dropped"].values()) == 3


def test_what_is_left_out_is_counted_and_a_scan_is_listed_with_the_command_that_reads_it(recipe: Path) -> None:
    write_pdf(papers_of(recipe) / "scan.pdf", [PdfPage()])
    (papers_of(recipe) / "z.md").write_text("# Empty\n\n# Full\n\nA bell \x07 rings.\n")
    with pytest.raises(InputError, match=r"scan\.pdf: no text on its 1 page: it is scanned; run OCR on it: ocrmypdf"):
        run_corpus(recipe)
    edit(recipe, corpus={"on_unreadable": "skip"})
    draft, said = run_corpus(recipe, "skipped")
    assert said == [
        "skipped scan.pdf: no text on its 1 page: it is scanned; run OCR on it: ocrmypdf scan.pdf OUT.pdf",
        "left out, listed in dropped.jsonl: 1 × control characters, 1 × heading without text",
    ]
    assert list(read_dicts(draft / "unreadable.jsonl")) == [
        {
            "path": "scan.pdf",
            "reason": "no text on its 1 page: it is scanned",
            "fix": "run OCR on it: ocrmypdf scan.pdf OUT.pdf",
        }
    ]


def break_papers(papers: Path) -> None:
    (papers / "empty.md").write_text("\n")
    (papers / "latin.txt").write_bytes("café".encode("latin-1"))
    (papers / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    os.mkfifo(papers / "pipe.md")
    (papers.parent / "secret.md").write_text("A secret outside of the folder.")
    (papers / "secret.md").symlink_to("../secret.md")


def test_unreadable_papers_are_refused_all_at_once_or_skipped_and_listed(recipe: Path) -> None:
    break_papers(papers_of(recipe))
    with pytest.raises(InputError, match="5 of 16 papers cannot be used") as caught:
        run_corpus(recipe)
    for name in ("empty.md", "latin.txt", "broken.pdf", "pipe.md", "secret.md"):
        assert name in caught.value.what
    assert caught.value.fix == "remove them, or set corpus.on_unreadable: skip"
    edit(recipe, corpus={"on_unreadable": "skip"})
    draft, _ = run_corpus(recipe, "skipped")
    assert {row["path"]: row["reason"] for row in read_dicts(draft / "unreadable.jsonl")} == {
        "broken.pdf": "not a PDF, or damaged",
        "empty.md": "it contains no text",
        "latin.txt": "not UTF-8 text (byte 0xe9 at position 4)",
        "pipe.md": "not a regular file",
        "secret.md": "symlink that leaves the folder",
    }
    assert (draft.facts["documents"], draft.facts["unreadable"]) == (11, 5)
    assert b"secret outside" not in (draft / "chunks.jsonl").read_bytes()


def test_what_shows_without_reading_is_refused_before_the_first_stage(recipe: Path, base: Path) -> None:
    corpus_stage.check(load_recipe(recipe), base)
    (papers_of(recipe) / "gone.md").symlink_to("nowhere.md")
    with pytest.raises(InputError, match=r"gone\.md: symlink to a missing file"):
        corpus_stage.check(load_recipe(recipe), base)
    edit(recipe, corpus={"on_unreadable": "skip"})
    corpus_stage.check(load_recipe(recipe), base)


def test_a_folder_of_unreadable_papers_only_is_refused_with_the_reasons(recipe: Path) -> None:
    for paper in papers_of(recipe).iterdir():
        paper.write_bytes(b"\xff")
    edit(recipe, corpus={"on_unreadable": "skip"})
    with pytest.raises(InputError, match=r"none of the 11 papers could be read:\n  \w+\.md: not UTF-8 text"):
        run_corpus(recipe)


def test_papers_with_one_title_are_reported(recipe: Path) -> None:
    for name, title in (("one.md", "The  Same Title"), ("two.md", "the same title"), ("three.md", "Another Title")):
        (papers_of(recipe) / name).write_text(f"# {title}\n\nText of {name}.\n")
    _, said = run_corpus(recipe)
    assert said == ["warning: one, two have the same title 'The Same Title': a citation cannot tell them apart"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of the small project, for tests that change nothing in the papers."""
    draft, _ = run_corpus(make_project(tmp_path_factory.mktemp("corpus") / "project"))
    return draft.folder


def examples(draft: Draft, split: str) -> list[Example]:
    return list(read_rows(draft / f"examples-{split}.jsonl", Example))


def test_papers_that_validate_or_test_are_in_no_context_of_training(recipe: Path, base: Path, corpus: Path) -> None:
    edit(recipe, retrieval={"top_k": 5}, dataset={"valid_share": 0.25, "test_share": 0.25})
    draft = run_dataset(recipe, base, corpus)
    own = {split: {paper for row in examples(draft, split) for paper in row.papers} for split in SPLITS}
    shown = {
        split: {name.rpartition(":")[0] for row in examples(draft, split) for name in row.context_ids}
        for split in SPLITS
    }
    assert all(own.values())
    assert not own["train"] & (own["valid"] | own["test"])
    assert not shown["train"] - own["train"]
    assert not shown["valid"] & own["test"]
    assert shown["valid"] & own["train"], "validation contexts may hold papers of training"


def test_half_of_the_papers_at_least_are_for_training(recipe: Path) -> None:
    edit(recipe, dataset={"valid_share": 0.25, "test_share": 0.25})
    load_recipe(recipe)
    edit(recipe, dataset={"valid_share": 0.26})
    with pytest.raises(RecipeError, match="leave less than half of the papers for training"):
        load_recipe(recipe)


def test_stock_mlx_lm_reads_the_folder_with_and_without_a_test_split(recipe: Path, base: Path, corpus: Path) -> None:
    from mlx_ragtune.clients import runtime_mlx  # noqa: F401 (before mlx_lm)

    datasets = pytest.importorskip("mlx_lm.tuner.datasets")
    tokenizer = load_tokenizer(base)
    for test_share, files in ((0.0, {"train", "valid"}), (0.2, {"train", "valid", "test"})):
        edit(recipe, dataset={"test_share": test_share})
        draft = run_dataset(recipe, base, corpus, f"share-{test_share}")
        assert {file.stem for file in draft.folder.glob("[tv]*.jsonl")} == files
        loaded = datasets.load_local_dataset(draft.folder, tokenizer, SimpleNamespace(mask_prompt=False))
        assert [bool(len(split)) for split in loaded] == [True, True, "test" in files]


def test_scoring_data_of_the_benchmark_changes_no_byte_of_the_data_set(recipe: Path, base: Path, corpus: Path) -> None:
    before = run_dataset(recipe, base, corpus)
    benchmark = recipe.parents[1] / "benchmark.jsonl"
    other = {"topic": "y", "reference": "z", "nuggets": [], "keywords": []}
    write_rows(benchmark, [{**row, **other, "id": f"x-{row['id']}"} for row in rows(benchmark)])
    after = run_dataset(recipe, base, corpus, "again")
    assert content(after.folder) == content(before.folder)


def test_pairs_on_the_benchmarks_papers_or_questions_are_refused(recipe: Path, base: Path, corpus: Path) -> None:
    pairs, benchmark = recipe.parents[1] / "pairs.jsonl", rows(recipe.parents[1] / "benchmark.jsonl")
    first = rows(pairs)[0]
    write_rows(pairs, [{**first, "question": benchmark[0]["question"].upper()}, *rows(pairs)[1:]])
    with pytest.raises(InputError, match=f"1 pairs use papers .*or repeat its questions: {first['id']}"):
        run_dataset(recipe, base, corpus)


def test_a_bad_line_of_the_pairs_is_named(recipe: Path, base: Path, corpus: Path) -> None:
    pairs = recipe.parents[1] / "pairs.jsonl"
    good = rows(pairs)
    for bad, problem in (
        ({**good[1], "answer": "\u200b"}, "answer is empty"),
        ({**good[1], "question": "What \ud83d is this?"}, "lone surrogate"),
        ({"id": "x"}, "not a Pair"),
    ):
        write_rows(pairs, [good[0], bad, *good[2:]])
        with pytest.raises(InputError, match=rf"pairs\.jsonl:2: {problem}"):
            run_dataset(recipe, base, corpus)


def test_pairs_on_one_paper_are_refused_with_a_hint_that_helps(recipe: Path, base: Path, corpus: Path) -> None:
    pairs = recipe.parents[1] / "pairs.jsonl"
    paper = rows(pairs)[0]["papers"]
    write_rows(pairs, [row for row in rows(pairs) if row["papers"] == paper and row["kind"] == "grounded"])
    edit(recipe, dataset={"shares": {"grounded": 1.0, "synthesis": 0.0, "refusal": 0.0}})
    with pytest.raises(InputError, match="0 validation rows, but both are needed") as caught:
        run_dataset(recipe, base, corpus)
    assert caught.value.fix.startswith("write pairs on a second paper")


@pytest.mark.parametrize("file", ["statistics.json", "examples-train.jsonl", "valid.jsonl"])
def test_a_file_that_cannot_be_written_is_a_tool_error(recipe: Path, base: Path, corpus: Path, file: str) -> None:
    (recipe.parent / "dataset" / file).mkdir(parents=True)
    with pytest.raises(ToolError, match="cannot be written") as caught:
        run_dataset(recipe, base, corpus)
    assert caught.value.where.endswith(file)


def test_the_generators_server_is_asked_for_its_model_before_the_first_stage(recipe: Path, base: Path) -> None:
    value = yaml.safe_load(recipe.read_text())
    del value["dataset"]["pairs"]
    value["dataset"]["generator"] = {"model": "qwen3:4b", "hosts": ["http://127.0.0.1:9"], "pairs": 10}
    recipe.write_text(yaml.safe_dump(value))
    with pytest.raises(ToolError) as caught:
        dataset_stage.check(load_recipe(recipe), base)
    assert "127.0.0.1:9" in str(caught.value)


def test_visible_chunks_follow_the_splits(corpus: Path) -> None:
    documents = list(read_rows(corpus / "documents.jsonl", Document))[:3]
    pairs = [Pair(document.id, "grounded", "q?", "a", (document.id,)) for document in documents]
    chunks = list(read_rows(corpus / "chunks.jsonl", Chunk))
    splits = dict(zip((pair.id for pair in pairs), SPLITS, strict=True))
    visible = {split: {chunk.document_id for chunk in visible_chunks(chunks, pairs, splits, split)} for split in SPLITS}
    train, valid, test = (pair.id for pair in pairs)
    assert visible == {"train": {train}, "valid": {train, valid}, "test": {train, test}}


COPY_OF_GOLD = "v1"


def add_copy(recipe: Path) -> str:
    """Put a copy of a benchmark paper, printed and with another title, beside it; returns the paper's id."""
    gold = str(rows(recipe.parents[1] / "benchmark.jsonl")[0]["papers"][0])
    text = (papers_of(recipe) / f"{gold}.md").read_text().split("---")[2]
    lines = [line for line in text.replace(". ", ".\n").split("\n") if line]
    write_pdf(papers_of(recipe) / f"{COPY_OF_GOLD}.pdf", [page("Preprint", *lines[:5]), page(*lines[5:])])
    return gold


def test_a_copy_of_a_benchmark_paper_is_held_out_and_listed(recipe: Path, base: Path) -> None:
    gold = add_copy(recipe)
    corpus, _ = run_corpus(recipe)
    said: list[str] = []
    draft = Draft(recipe.parent / "dataset", say=said.append)
    draft.folder.mkdir()
    dataset_stage.dataset(load_recipe(recipe), {"corpus": corpus.folder, "base": base}, draft)
    (copy,) = json.loads((draft / "statistics.json").read_text())["held_out_copies"]
    assert (copy["paper"], copy["original"]) == (COPY_OF_GOLD, gold)
    assert min(copy["of_paper"], copy["of_original"]) > 0.9
    assert said[0].startswith("held out of training: ")
    assert f"'{COPY_OF_GOLD}' is a copy of '{gold}': " in said[0]
    assert said[0].endswith(draft.facts["held_out_copies"][0])


def test_pairs_on_a_copy_of_a_benchmark_paper_are_refused_as_those_on_the_paper(recipe: Path, base: Path) -> None:
    gold = add_copy(recipe)
    pairs = recipe.parents[1] / "pairs.jsonl"
    corpus, _ = run_corpus(recipe)
    document = next(row for row in read_dicts(corpus / "documents.jsonl") if row["id"] == COPY_OF_GOLD)
    quote = document["text"].split("\n")[1]
    own = {"id": "x", "kind": "grounded", "question": "What does it say?", "answer": "That.", "papers": [COPY_OF_GOLD]}
    near = {**own, "id": "y", "kind": "refusal", "refusal_kind": "near_miss", "question": "Why?"}
    before = rows(pairs)
    for pair in ({**own, "evidence": [{"paper": COPY_OF_GOLD, "quote": quote}]}, near):
        write_rows(pairs, [*before, pair])
        with pytest.raises(InputError, match=rf"1 pairs use papers .*\({COPY_OF_GOLD}\)") as caught:
            run_dataset(recipe, base, corpus.folder)
        assert f"'{COPY_OF_GOLD}' is a copy of '{gold}': " in caught.value.what


def test_chunks_are_counted_with_the_tokenizer_that_is_given_and_the_artifact_says_so(recipe: Path) -> None:
    edit(recipe, corpus={"chunk_tokens": 300, "overlap_tokens": 100})
    counted, said = run_corpus(recipe)
    assert (counted.facts["tokens_counted_by"], said) == ("tokenizer of toy:qwen3", [])
    counter = TokenizerFile(recipe.parent / "tokenizer" / "tokenizer.json")
    sizes = [len(counter.ends(chunk.text)) for chunk in read_rows(counted / "chunks.jsonl", Chunk)]
    assert (min(sizes), max(sizes)) == (counted.facts["chunk_tokens"]["min"], counted.facts["chunk_tokens"]["max"])
    assert 150 < max(sizes) <= 300
    estimated = []
    for name, inputs in (
        ("without", {}),
        ("missing", {"tokenizer": missing_tokenizer().write(recipe.parent / "view")}),
    ):
        draft = Draft(recipe.parent / name, say=said.append)
        draft.folder.mkdir()
        corpus_stage.corpus(load_recipe(recipe), inputs, draft)
        assert draft.facts["tokens_counted_by"] == "estimate"
        assert 2 * draft.facts["chunks"] < len(sizes), "a toy tokenizer has a token for nearly every letter"
        estimated.append(content(draft.folder))
    assert estimated[0] == estimated[1]
    assert [line for line in said if line != LEXICAL] == [
        "warning: tokens of chunks are estimated, without the tokenizer of 'a/b': it is not on this machine; "
        "a run that has it will split the papers again"
    ]


def missing_tokenizer() -> ModelTokenizer:
    return ModelTokenizer("a/b", None, "it is not on this machine")


def test_a_damaged_tokenizer_is_named(recipe: Path) -> None:
    view = ModelTokenizer("a/b", b"{}").write(recipe.parent / "view")
    with pytest.raises(InputError, match="cannot read the tokenizer of 'a/b'"):
        corpus_stage.corpus(load_recipe(recipe), {"tokenizer": view}, Draft(recipe.parent))


def test_a_benchmark_that_names_papers_by_file_or_title_holds_them_out_of_training(recipe: Path, base: Path) -> None:
    corpus, _ = run_corpus(recipe)
    titles = {row["id"]: row["title"] for row in read_dicts(corpus / "documents.jsonl")}
    path = recipe.parents[1] / "benchmark.jsonl"
    asked = rows(path)
    first, other = asked[0]["papers"][0], next(row["papers"][0] for row in asked if row["papers"] != asked[0]["papers"])
    pairs = recipe.parents[1] / "pairs.jsonl"
    on_first = [{**row, "papers": [first], "evidence": [{"paper": first, "quote": quote(corpus, first)}], "id": "leak"}
                for row in rows(pairs) if row["kind"] == "grounded"][:1]  # fmt: skip
    for row in asked:
        row["papers"] = [f"{first}.md" if paper == first else titles[paper] for paper in row["papers"]]
    write_rows(path, asked)
    run_dataset(recipe, base, corpus.folder)
    write_rows(pairs, [*rows(pairs), *on_first])
    with pytest.raises(InputError, match=rf"1 pairs use papers of the benchmark \({first}\)"):
        run_dataset(recipe, base, corpus.folder, "leaking")
    asked[0]["papers"] = [f"{other}x"]
    write_rows(path, asked)
    with pytest.raises(InputError, match=rf"benchmark.jsonl:1: unknown paper '{other}x', did you mean '{other}'\?"):
        run_dataset(recipe, base, corpus.folder, "unknown")


def quote(corpus: Draft, paper: str) -> str:
    text = next(row["text"] for row in read_dicts(corpus / "chunks.jsonl") if row["document_id"] == paper)
    return str(text.split(". ")[0])
