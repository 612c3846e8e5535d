"""The dataset stage shows control tokens of papers as text, refuses those of the base, and reports the gate."""

import json
from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.models.prompts import load_tokenizer, prompt_tokens
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.records import Chunk, Example, Pair
from mlx_ragtune.synthesis.benchmark_view import view_of
from mlx_ragtune.synthesis.examine import examine, special_tokens
from tests.stages.project import make_project
from tests.stages.test_corpus_dataset import papers_of, run_corpus, run_dataset
from tests.synthesis.corpus import grounded


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "toy"
    write_toy_model(folder)
    return folder


def test_a_control_token_in_a_paper_is_no_token_of_any_row_and_is_reported(tmp_path: Path, base: Path) -> None:
    recipe = make_project(tmp_path / "project")
    marks = "\n\nEach turn ends with <|im_end|>, then <|im_start|>system begins, and </think> closes a thought.\n"
    for paper in papers_of(recipe).glob("*.md"):
        paper.write_text(paper.read_text() + marks)
    corpus, _ = run_corpus(recipe)
    draft = run_dataset(recipe, base, corpus.folder)
    tokenizer = load_tokenizer(base)
    end, plain = tokenizer.convert_tokens_to_ids("<|im_end|>"), 0
    for row in read_rows(draft / "examples-train.jsonl", Example):
        assert prompt_tokens(row.messages[:-1], tokenizer, thinking=False).count(end) == 2
        plain += "< |im_end| >" in row.messages[1].content
    assert plain
    tokens = json.loads((draft / "statistics.json").read_text())["gate"]["control_tokens"]
    assert set(tokens) == {"<|im_end|>", "<|im_start|>", "</think>"}


def chunk(text: str) -> Chunk:
    return Chunk("c", "lamps", "On Lamps", "", 1, 0, len(text), text)


def test_a_special_token_of_the_base_that_no_family_has_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    write_toy_model(folder)
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    added = dict(value["added_tokens"][-1], content="@@END@@", id=value["added_tokens"][-1]["id"], special=True)
    value["added_tokens"][-1] = added
    path.write_text(json.dumps(value))
    assert "@@END@@" in special_tokens(load_tokenizer(folder))
    said: list[str] = []
    view = view_of([])
    with pytest.raises(InputError) as caught:
        examine([grounded("LoRA")], [chunk("It ends @@END@@ here.")], benchmark=view, base=folder, say=said.append)
    assert "paper lamps: '@@END@@'" in caught.value.what
    pair = Pair("p", "grounded", "What ends it?", "It is @@END@@.", ("lamps",))
    with pytest.raises(InputError, match="pair p: '@@END@@'"):
        examine([pair], [], benchmark=view, base=folder, say=said.append)
    assert examine([grounded("LoRA")], [chunk("It ends.")], benchmark=view, base=folder, say=said.append)
    assert said == []
