"""dataset.no_passages through the dataset stage."""

import json
from pathlib import Path

from mlx_ragtune.retrieval.prompt import SYSTEM
from mlx_ragtune.synthesis.without_passages import BARE
from tests.stages.project import edit, make_project, rows
from tests.stages.test_corpus_dataset import base as base
from tests.stages.test_corpus_dataset import content, run_corpus, run_dataset


def test_rows_without_passages_are_added_counted_and_rejected_as_answers(tmp_path: Path, base: Path) -> None:
    recipe = make_project(tmp_path / "project")
    corpus, _ = run_corpus(recipe)
    plain = content(run_dataset(recipe, base, corpus.folder).folder)
    edit(recipe, dataset={"no_passages": 0.5})
    folder = run_dataset(recipe, base, corpus.folder, "bare").folder
    statistics = json.loads((folder / "statistics.json").read_text())
    written = rows(folder / "examples-train.jsonl")
    added = [row for row in written if row["id"].endswith(BARE)]
    before = [json.loads(line) for line in plain["examples-train.jsonl"].splitlines()]
    assert [row for row in written if row not in added] == before
    assert len(added) == statistics["train"]["no_passages"] > 1
    total = sum(statistics[split]["no_passages"] for split in ("train", "valid", "test"))
    assert statistics["account"]["made"] == {"refusal": total}
    assert {row["messages"][0]["content"] for row in added} == {SYSTEM}
    framed = [row["messages"][1]["content"].startswith("Papers:\n\n(none)\n\nQuestion: ") for row in added]
    assert any(framed)
    assert not all(framed)
    answers = {row["id"]: row["messages"][-1]["content"] for row in written}
    rejected = {row["id"]: row["answer"] for row in rows(folder / "rejected-train.jsonl")}
    assert all(rejected[row["id"]] == answers[row["id"].removesuffix(BARE)] for row in added)
