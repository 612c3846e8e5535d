"""Rows that the user brings, one document, and training without validation, through the stages."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlx_ragtune.artifact import Draft
from mlx_ragtune.errors import InputError, RecipeError
from mlx_ragtune.jsonl import read_dicts, read_rows
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.records import Document, Example
from mlx_ragtune.stages import dataset as dataset_stage
from mlx_ragtune.stages import train as train_stage
from tests.clients.test_hub_data import COMMIT, hub
from tests.stages.dataset_run import base, build, corpus, recipe
from tests.stages.project import edit, make_project, ragtune, rows, write_rows

__all__ = ["base", "corpus", "hub", "recipe"]


def trained(recipe: Path, base: Path, dataset: Path) -> dict[str, Any]:
    draft = Draft(recipe.parent / "train")
    draft.folder.mkdir()
    train_stage.train(load_recipe(recipe), {"dataset": dataset, "base": base}, draft)
    result: dict[str, Any] = json.loads((draft / "result.json").read_text())
    assert (draft / "adapters.safetensors").stat().st_size > 0
    return result


def pairs_of(recipe: Path) -> Path:
    return recipe.parents[1] / "pairs.jsonl"


def splits_of(draft: Draft) -> dict[str, list[Example]]:
    return {split: list(read_rows(draft / f"examples-{split}.jsonl", Example)) for split in ("train", "valid")}


def without_validation(recipe: Path) -> None:
    value = yaml.safe_load(recipe.read_text())
    del value["dataset"]["valid_share"]
    value["dataset"]["split"] = "none"
    recipe.write_text(yaml.safe_dump(value))


def only_one_paper(recipe: Path) -> int:
    """Leave the pairs of one paper; returns how many."""
    good = [row for row in rows(pairs_of(recipe)) if row["kind"] == "grounded"]
    papers = [row["papers"][0] for row in good]
    most = max(papers, key=papers.count)
    own = [row for row in good if row["papers"] == [most]]
    write_rows(pairs_of(recipe), own)
    return len(own)


def test_one_paper_is_split_by_row_with_a_warning(recipe: Path, base: Path, corpus: Path) -> None:
    count = only_one_paper(recipe)
    with pytest.raises(InputError, match="0 validation rows") as caught:
        build(recipe, base, corpus)
    assert "dataset.split: row" in caught.value.fix
    edit(recipe, dataset={"split": "row", "valid_share": 0.3})
    draft, said = build(recipe, base, corpus, "by-row")
    splits = splits_of(draft)
    assert sum(map(len, splits.values())) == count
    assert all(splits.values())
    assert any("the validation loss is optimistic" in line for line in said)
    assert trained(recipe, base, draft.folder)["best_valid_loss"] > 0


@pytest.mark.parametrize("engine", ["shared-prefix", "mlx-lm"])
def test_training_without_validation_keeps_the_last_checkpoint(
    recipe: Path, base: Path, corpus: Path, engine: str
) -> None:
    count = only_one_paper(recipe)
    without_validation(recipe)
    edit(recipe, train={"engine": engine, "epochs": 2})
    draft, said = build(recipe, base, corpus)
    assert {split: len(found) for split, found in splits_of(draft).items()} == {"train": count, "valid": 0}
    assert any(line.startswith("no validation (dataset.split: none)") for line in said)
    result = trained(recipe, base, draft.folder)
    assert result["best_valid_loss"] is None
    assert result["valid_rows"] == 0
    assert result["best_update"] == result["updates"] == result["planned_updates"]
    losses = list(read_dicts(recipe.parent / "train" / "losses.jsonl"))
    assert len(losses) == result["updates"] > 1
    assert not any("valid_loss" in row for row in losses)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("dataset", "valid_share", 0.1), ("train", "patience", 1), ("train", "select", "task"),
     ("train", "evals_per_epoch", 2)],
)  # fmt: skip
def test_keys_that_need_a_validation_split_are_refused_without_one(
    recipe: Path, section: str, key: str, value: Any
) -> None:
    without_validation(recipe)
    load_recipe(recipe)
    edit(recipe, **{section: {key: value}})
    with pytest.raises(RecipeError, match=rf"{section}\.{key}: no effect with 'dataset.split: none'"):
        load_recipe(recipe)


def test_a_sweep_without_validation_rows_is_refused_with_the_key(recipe: Path) -> None:
    without_validation(recipe)
    done = ragtune("sweep", recipe, cwd=recipe.parents[1])
    assert done.returncode == 3, done.stderr
    assert "no validation rows to compare trials on" in done.stderr
    assert "set dataset.split: row" in done.stderr


def chat(question: str, answer: str, context: str = "") -> dict[str, Any]:
    user = f"{context}\n\n{question}" if context else question
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]}


def test_chat_rows_are_split_by_context_counted_and_trained(recipe: Path, base: Path, corpus: Path) -> None:
    contexts = [f"{word} is described here at some length. " * 10 for word in ("One", "Two", "Three", "Four", "Five")]
    given = [chat(f"What is it, {n}?", f"It is {n}.", text) for text in contexts for n in range(4)]
    write_rows(pairs_of(recipe), [*given, given[0]])
    draft, said = build(recipe, base, corpus)
    splits = splits_of(draft)
    shown = {split: {row.messages[0].content.split("\n\n")[0] for row in found} for split, found in splits.items()}
    assert not shown["train"] & shown["valid"]
    assert shown["valid"]
    assert (len(splits["train"]) + len(splits["valid"])) == len(given)
    (left,) = read_dicts(draft / "left-out.jsonl")
    assert (left["reason"], left["detail"]) == ("repeats an earlier question", "has the prompt of pairs-1")
    assert any(line.startswith("training rows by kind: grounded 100%") for line in said)
    assert trained(recipe, base, draft.folder)["train_rows"] == len(splits["train"])


def test_rows_of_any_format_teach_nothing_of_the_benchmark(recipe: Path, base: Path, corpus: Path) -> None:
    benchmark = rows(recipe.parents[1] / "benchmark.jsonl")
    papers = {paper for row in benchmark for paper in row["papers"]}
    gold = next(row for row in read_rows(corpus / "documents.jsonl", Document) if row.id in papers)
    given = [
        {"question": f"What is number {n}?", "context": f"Number {n} is {n}.", "answer": f"It is {n}."}
        for n in range(20)
    ]
    asked = {**given[0], "question": benchmark[0]["question"], "id": "asked"}
    shown = {**given[0], "context": gold.text[:1500], "id": "shown"}
    write_rows(pairs_of(recipe), [*given, asked, shown])
    draft, _ = build(recipe, base, corpus)
    left = {row["id"]: row["detail"] for row in read_dicts(draft / "left-out.jsonl")}
    assert left == {"asked": f"asks '{benchmark[0]['question']}'", "shown": f"shows a passage of '{gold.id}'"}


def test_the_format_and_columns_of_the_recipe_are_used(recipe: Path, base: Path, corpus: Path) -> None:
    write_rows(pairs_of(recipe), [{"ask": f"What is {n}?", "reply": f"It is {n}."} for n in range(8)])
    with pytest.raises(InputError, match="the first row has the keys ask, reply"):
        build(recipe, base, corpus)
    edit(recipe, dataset={"columns": {"question": "ask", "answer": "reply"}})
    draft, _ = build(recipe, base, corpus, "mapped")
    assert sum(map(len, splits_of(draft).values())) == 8
    edit(recipe, dataset={"columns": {"reply": "x"}})
    with pytest.raises(RecipeError, match="columns"):
        load_recipe(recipe)


def test_a_data_set_of_the_hub_is_fetched_by_the_check_and_built(
    recipe: Path, base: Path, corpus: Path, hub: list[str]
) -> None:
    without_validation(recipe)
    edit(recipe, dataset={"pairs": "hf:org/rows@v1", "max_loss": 0.5})
    loaded = load_recipe(recipe)
    assert str(loaded.dataset.pairs) == "hf:org/rows@v1"
    validated = ragtune("validate", recipe, cwd=recipe.parents[1])
    assert (
        "data set 'hf:org/rows@v1' is not on this machine yet: 'dataset' fetches it"
        in validated.stdout + validated.stderr
    )
    assert hub == []
    dataset_stage.check(loaded, base)
    asked = len(hub)
    draft, _ = build(recipe, base, corpus)
    assert len(hub) == asked > 0
    (row,) = splits_of(draft)["train"]
    assert row.id.startswith("train-0000")
    (left,) = read_dicts(draft / "left-out.jsonl")
    assert left["reason"] == "repeats an earlier question"
    assert any(COMMIT in path for path in hub)


@pytest.mark.parametrize("name", ["hf:", "hf:a/b/c", "hf:org/rows@", "hf:org rows"])
def test_what_is_no_name_of_a_data_set_is_refused(recipe: Path, name: str) -> None:
    edit(recipe, dataset={"pairs": name})
    with pytest.raises(RecipeError, match="is not hf:ORGANIZATION/NAME, hf:NAME@REVISION or hf:NAME#SPLIT"):
        load_recipe(recipe)


def test_validate_finds_pairs_on_a_paper_of_the_benchmark_once_the_papers_are_read(tmp_path: Path) -> None:
    recipe = make_project(tmp_path)
    trained_on = rows(pairs_of(recipe))[0]["papers"][0]
    question = {"question": "What is written there?", "answer": None, "paper": f"{trained_on}.pdf"}
    with (tmp_path / "benchmark.jsonl").open("a") as stream:
        stream.write(json.dumps(question) + "\n")
    assert ragtune("validate", recipe, cwd=tmp_path).returncode == 0
    assert ragtune("corpus", recipe, cwd=tmp_path).returncode == 0
    done = ragtune("validate", recipe, cwd=tmp_path)
    assert done.returncode == 2
    assert f"pairs use papers of the benchmark ({trained_on}) or repeat its questions" in done.stderr + done.stdout
