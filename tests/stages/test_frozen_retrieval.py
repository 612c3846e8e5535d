"""The passages of an evaluated question are those that a search finds now, and those that the next run would show."""

from pathlib import Path

from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.searching.opened import open_retriever
from tests.stages.project import recipe_of, rows, stage_folder


def test_evaluated_contexts_are_what_the_retriever_finds(finished: Path) -> None:
    settings = load_recipe(recipe_of(finished)).retrieval
    evaluated = stage_folder(finished, "7-evaluate")
    questions = {row["id"]: row["question"] for row in rows(evaluated / "questions.jsonl")}
    contexts = rows(evaluated / "contexts.jsonl")
    assert len(contexts) == len(questions) > 5
    with open_retriever(settings, stage_folder(finished, "1-corpus")) as retriever:
        for row in contexts:
            shown = [passage["chunk_id"] for passage in row["passages"]]
            found = retriever.search(questions[row["question_id"]], settings.top_k)
            assert shown == [passage.chunk_id for passage in found]
            deeper = retriever.search(questions[row["question_id"]], 10)
            assert shown == [passage.chunk_id for passage in deeper][: settings.top_k]
