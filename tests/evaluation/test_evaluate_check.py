"""What would fail after hours of asking is refused before the first stage."""

from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.bases.resolve import resolve_base
from mlx_ragtune.clients.ollama_registry import register_model
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.gguf.reader import import_gguf
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.recipe import BaseModelSettings
from mlx_ragtune.records import Question
from mlx_ragtune.stages.evaluate import check
from tests.evaluation.asked import make_recipe
from tests.ollama_server import OllamaStandIn

GONE = "http://127.0.0.1:9"
QUESTION = Question("q1", "t", "What is LoRA?", True, ("lora",), "It is small.")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_ragtune.clients.http_retries.time.sleep", lambda _seconds: None)


def toy_base() -> Path:
    return resolve_base(BaseModelSettings(model="toy:qwen3"), import_gguf=import_gguf)


def checked(folder: Path, questions: list[Question] | None = None, **sections: Any) -> None:
    if not (folder / "benchmark.jsonl").exists():
        write_rows(folder / "benchmark.jsonl", [QUESTION] if questions is None else questions)
    check(make_recipe(folder, **sections), toy_base())


def test_a_good_benchmark_passes(tmp_path: Path) -> None:
    checked(tmp_path)


def test_a_duplicate_question_id_is_named_with_both_lines_beside_every_other_problem(tmp_path: Path) -> None:
    write_rows(tmp_path / "benchmark.jsonl", [QUESTION, QUESTION])
    with (tmp_path / "benchmark.jsonl").open("a") as stream:
        stream.write("\n\nnot read\n")
    with pytest.raises(InputError, match="duplicate question id 'q1', first used in line 1") as caught:
        checked(tmp_path)
    assert "benchmark.jsonl:2: duplicate question id" in caught.value.what
    assert "benchmark.jsonl:5: not JSON" in caught.value.what


def test_a_benchmark_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no questions"):
        checked(tmp_path, [])


def test_an_unknown_condition_to_allow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown condition: weather"):
        checked(tmp_path, evaluate={"allow": ("weather",)})


def test_broken_probes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "probes.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(InputError) as caught:
        checked(tmp_path, evaluate={"probes": tmp_path / "probes.jsonl"})
    assert caught.value.where.endswith("probes.jsonl:1")


def test_broken_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"question_id": "q1", "base": "good", "tuned": 1}\n')
    judge = {"model": "granite3.3:8b", "host": GONE, "labels": tmp_path / "labels.jsonl"}
    with pytest.raises(InputError) as caught:
        checked(tmp_path, scoring={"judge": judge})
    assert caught.value.where.endswith("labels.jsonl:1")


def test_a_judge_of_a_contestants_family_is_refused_whatever_its_folder_is_called(tmp_path: Path) -> None:
    judge = {"backend": "llamacpp", "model": "/models/granite/Qwen3-8B.gguf"}
    with pytest.raises(ToolError, match=r"same family \(qwen\)"):
        checked(tmp_path, scoring={"judge": judge})


def test_a_judge_of_the_generators_family_is_refused(tmp_path: Path) -> None:
    dataset = {"generator": {"model": "gemma3:12b"}}
    with pytest.raises(ToolError, match=r"same family \(gemma\)"):
        checked(tmp_path, dataset=dataset, scoring={"judge": {"model": "gemma3:27b", "host": GONE}})


@pytest.mark.parametrize(
    "scoring",
    [
        {"judge": {"model": "granite3.3:8b", "host": GONE}},
        {"similarity": {"backend": "ollama", "model": "nomic-embed-text", "host": GONE}},
    ],
)
def test_a_server_that_does_not_answer_is_refused(tmp_path: Path, scoring: dict[str, Any]) -> None:
    with pytest.raises(ToolError) as caught:
        checked(tmp_path, scoring=scoring)
    assert caught.value.where == GONE


def test_a_judge_or_embedding_model_that_its_server_does_not_have_is_refused(
    tmp_path: Path, standin: OllamaStandIn
) -> None:
    for name, scoring in (
        ("granite3.3:8b", {"judge": {"model": "granite3.3:8b", "host": standin.host}}),
        ("nomic-embed-text", {"similarity": {"backend": "ollama", "model": "nomic-embed-text", "host": standin.host}}),
    ):
        with pytest.raises(ToolError) as caught:
            checked(tmp_path, scoring=scoring)
        assert f"ollama pull {name}" in caught.value.fix


def test_a_judge_or_embedding_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    missing = str(tmp_path / "granite.gguf")
    for scoring in (
        {"judge": {"backend": "llamacpp", "model": missing}},
        {"similarity": {"backend": "llamacpp", "model": missing}},
    ):
        with pytest.raises(InputError) as caught:
            checked(tmp_path, scoring=scoring)
        assert missing in caught.value.where


def test_models_that_are_there_pass(tmp_path: Path, standin: OllamaStandIn, models: Path) -> None:
    register_model(standin.host, "granite", models / "smol.gguf")
    register_model(standin.host, "embed", models / "smol.gguf")
    similarity = {"backend": "ollama", "model": "embed", "host": standin.host}
    checked(tmp_path, scoring={"judge": {"model": "granite", "host": standin.host}, "similarity": similarity})


def test_the_default_embedding_model_is_not_looked_for_before_it_is_exported(tmp_path: Path) -> None:
    checked(tmp_path, scoring={"similarity": {}})
