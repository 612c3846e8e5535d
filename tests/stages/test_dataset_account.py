"""The data set stage accounts for every row that it reads."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.building.split_files import SPLITS
from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import read_dicts, read_rows
from mlx_ragtune.records import Document
from tests.stages.dataset_run import base, build, corpus, recipe
from tests.stages.project import edit, rows, write_rows

__all__ = ["base", "corpus", "recipe"]


def pairs_of(recipe: Path) -> Path:
    return recipe.parents[1] / "pairs.jsonl"


def kept_ids(folder: Path) -> list[str]:
    return [row["id"] for split in SPLITS for row in read_dicts(folder / f"examples-{split}.jsonl")]


def worse(pair: dict[str, Any], draw: random.Random, texts: dict[str, str]) -> dict[str, Any]:
    """The pair with a defect that the stage leaves out, or the pair itself."""
    fault = draw.choice(("none", "none", "long", "repeat", "apart", "wide"))
    name = f"{pair['id']}-{fault}"
    if fault == "long":
        return {**pair, "id": name, "question": f"{name}? {'long ' * 40}{name}?", "answer": "word " * 3000}
    if fault == "repeat":
        return {**pair, "id": name}
    if pair["kind"] != "grounded" or fault == "none":
        return pair
    (paper,) = pair["papers"]
    if fault == "apart":
        quote = texts[paper][50:-50]
        return {**pair, "id": name, "question": f"{name} {pair['question']}", "evidence": [evidence(paper, quote)]}
    places = range(0, len(texts[paper]) - 60, max(60, len(texts[paper]) // 12))
    quotes = [evidence(paper, texts[paper][at : at + 60]) for at in places]
    return {**pair, "id": name, "question": f"{name} {pair['question']}", "evidence": [*pair["evidence"], *quotes]}


def evidence(paper: str, quote: str) -> dict[str, str]:
    return {"paper": paper, "quote": quote}


@pytest.mark.parametrize("seed", range(4))
def test_no_row_vanishes_whatever_is_wrong_with_the_pairs(recipe: Path, base: Path, corpus: Path, seed: int) -> None:
    draw = random.Random(seed)
    texts = {row.id: row.text for row in read_rows(corpus / "documents.jsonl", Document)}
    good = rows(pairs_of(recipe))
    given = {row["id"]: row for row in [*good, *(worse(pair, draw, texts) for pair in good)]}
    write_rows(pairs_of(recipe), list(given.values()))
    shares = {"grounded": 0.7, "synthesis": draw.choice((0.0, 0.1)), "refusal": 0.3}
    shares["refusal"] = round(1 - shares["grounded"] - shares["synthesis"], 1)
    changes = {"shares": shares, "balance": draw.choice(("keep", "keep", "drop")), "max_loss": 1.0}
    if shares["synthesis"] and not any(row["kind"] == "synthesis" for row in good):
        changes["balance"] = "keep"
    edit(recipe, dataset={**changes, "on_too_long": "drop", "max_tokens": 3000, "test_share": 0.2},
         retrieval={"top_k": draw.choice((1, 2))})  # fmt: skip
    draft, said = build(recipe, base, corpus)
    left = {row["id"]: row["reason"] for row in read_dicts(draft / "left-out.jsonl")}
    kept = kept_ids(draft.folder)
    assert sorted([*left, *kept]) == sorted(given)
    account = json.loads((draft / "statistics.json").read_text())["account"]
    counted = {reason: sum(kinds.values()) for reason, kinds in account["left_out"].items()}
    assert counted == {reason: list(left.values()).count(reason) for reason in set(left.values())}
    assert sum(account["read"].values()) == len(given) == sum(counted.values()) + len(kept)
    assert len(counted) >= 3
    for reason, count in counted.items():
        assert any(line.split()[:2] == ["left", "out:"] and f" {count} " in f"{line} " for line in said), reason
    assert [row["id"] for row in read_dicts(draft / "pairs.jsonl")] == [name for name in given if name in set(kept)]


def only_grounded_but_two(recipe: Path) -> int:
    """Many grounded pairs and two refusals; returns how many."""
    good = rows(pairs_of(recipe))
    few = [row for row in good if row["kind"] == "refusal" and row["refusal_kind"] == "off_corpus"][:2]
    many = [row for row in good if row["kind"] == "grounded"]
    write_rows(pairs_of(recipe), [*many, *few])
    edit(recipe, dataset={"shares": {"grounded": 0.4, "synthesis": 0.2, "refusal": 0.4}})
    return len(many) + 2


def test_shares_are_targets_no_pair_is_dropped_for_them_and_the_gap_is_told(
    recipe: Path, base: Path, corpus: Path
) -> None:
    count = only_grounded_but_two(recipe)
    draft, said = build(recipe, base, corpus)
    assert len(kept_ids(draft.folder)) == count
    (gaps,) = [line for line in said if line.startswith("training rows by kind: ")]
    assert "synthesis 0% (target 20%)" in gaps
    assert gaps.endswith("all are used (dataset.balance: keep)")


def test_a_large_loss_is_an_error_after_the_report_and_names_reasons_and_the_next_command(
    recipe: Path, base: Path, corpus: Path
) -> None:
    good = [row for row in rows(pairs_of(recipe)) if row["kind"] == "grounded"]
    write_rows(pairs_of(recipe), [*good, *({**row, "id": f"again-{row['id']}"} for row in good)])
    with pytest.raises(InputError) as caught:
        build(recipe, base, corpus)
    folder = recipe.parent / "dataset"
    assert f"{len(good)} of {2 * len(good)} rows are left out (50%), dataset.max_loss is 20%" in caught.value.what
    assert f"{len(good)} × repeats an earlier question" in caught.value.what
    assert caught.value.where == str(folder / "left-out.jsonl")
    assert caught.value.fix == "remove the repeated questions; to train on the rest, --set dataset.max_loss=0.5"
    assert len(list(read_dicts(folder / "left-out.jsonl"))) == len(good)
    assert json.loads((folder / "statistics.json").read_text())["account"]["lost_share"] == 0.5
    edit(recipe, dataset={"max_loss": 0.5})
    draft, _ = build(recipe, base, corpus, "allowed")
    assert draft.facts["lost_share"] == 0.5
    assert sorted(kept_ids(draft.folder)) == sorted(row["id"] for row in good)


def test_rows_that_are_too_long_are_refused_after_the_report(recipe: Path, base: Path, corpus: Path) -> None:
    good = rows(pairs_of(recipe))
    long = {**good[0], "id": "long", "question": "Why is this so long?", "answer": "word " * 3000}
    write_rows(pairs_of(recipe), [*good, long])
    with pytest.raises(InputError, match="1 rows do not fit:\n  long: ") as caught:
        build(recipe, base, corpus)
    assert caught.value.where == "dataset.max_tokens"
    (row,) = read_dicts(recipe.parent / "dataset" / "left-out.jsonl")
    assert (row["id"], row["reason"]) == ("long", "longer than dataset.max_tokens")


def test_too_few_validation_rows_are_told_with_the_share_that_helps(recipe: Path, base: Path, corpus: Path) -> None:
    _, said = build(recipe, base, corpus)
    (line,) = [line for line in said if line.startswith("warning: ")]
    assert re.match(r"warning: \d+ validation rows on \d papers? are too few to choose a checkpoint by: ", line)
    assert "set dataset.valid_share to " in line


def test_kept_pairs_are_written_as_authored_pairs_and_give_the_same_rows(
    recipe: Path, base: Path, corpus: Path
) -> None:
    first, _ = build(recipe, base, corpus)
    pairs_of(recipe).write_bytes((first / "pairs.jsonl").read_bytes())
    again, _ = build(recipe, base, corpus, "again")
    for split in ("train", "valid"):
        name = f"examples-{split}.jsonl"
        assert (again / name).read_bytes() == (first / name).read_bytes()
