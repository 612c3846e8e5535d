"""``ragtune ab``: the session on a run's answers, and how the command ends."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mlx_ragtune import cli, cli_answers
from mlx_ragtune.commands.ab import open_comparison
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.evaluation.fairness import Conditions
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.records import Answer, Passage, Question, Score


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """A run whose evaluate stage is done: six questions, answers with line separators in them."""
    evaluate = tmp_path / "7-evaluate"
    evaluate.mkdir()
    questions = [Question(f"q{at}", "t", f"What is {at}?", True, (f"p{at}",)) for at in range(6)]
    write_rows(evaluate / "questions.jsonl", questions)
    passage = Passage("c", "p", "Title", "one\u2028two\u0085three")
    write_rows(evaluate / "contexts.jsonl", ({"question_id": one.id, "passages": [passage]} for one in questions))
    answers = [
        Answer(f"{model}{question.id}{seed}", question.id, model, seed, f"{model}\u2028{seed}", "stop", 1, 1, 1.0)
        for model in ("base", "tuned")
        for seed in (1, 0)
        for question in questions
    ]
    write_rows(evaluate / "used.jsonl", answers)
    served = asdict(Conditions("Q8_0", "", 4096, "llama.cpp", {}, (0, 1)))
    (evaluate / "conditions.json").write_text(json.dumps({"base": served, "tuned": served}))
    return SimpleNamespace(home=tmp_path, recipe=SimpleNamespace(name="small"), current="")


def test_the_first_seeds_answers_are_compared_with_their_line_separators(run: Any) -> None:
    session = open_comparison(run, 4)
    assert {trial.left_text for trial in session.trials} <= {"base\u20280", "tuned\u20280"}
    assert session.trials[0].item.passages[0].text == "one\u2028two\u0085three"


def test_a_session_continues_with_its_number_and_a_damaged_one_is_named(run: Any) -> None:
    first = open_comparison(run, 4)
    assert open_comparison(run, None).n == 4
    (first.folder / "session.json").write_text("{")
    with pytest.raises(ArtifactError) as caught:
        open_comparison(run, None)
    assert caught.value.where.endswith("session.json")


def test_too_few_different_answers_are_refused_with_what_helps(run: Any) -> None:
    with pytest.raises(InputError, match="40 comparisons were asked for, and 6 questions") as caught:
        open_comparison(run, 40)
    assert "from 4 to 6 with -n" in caught.value.fix
    used = run.home / "7-evaluate" / "used.jsonl"
    used.write_text(used.read_text().replace("tuned\u2028", "base\u2028"))
    with pytest.raises(InputError) as caught:
        open_comparison(run, None)
    assert "add questions to the benchmark" in caught.value.fix


def test_a_trusted_judges_preferences_are_compared_with_the_votes(run: Any) -> None:
    evaluate = run.home / "7-evaluate"
    (evaluate / "judge.json").write_text(json.dumps({"trusted": True}))
    values = {"q0": (1.0, 0.0), "q1": (0.0, 1.0), "q2": (0.5, 0.5)}
    rows = [
        Score(name, model, 0, "ok", {"judged_correctness": value})  # type: ignore[arg-type]
        for name, pair in values.items()
        for model, value in zip(("base", "tuned"), pair, strict=True)
    ]
    write_rows(evaluate / "scores.jsonl", rows)
    assert open_comparison(run, 4).judge == {
        "base": {"q0": "base", "q1": "tuned", "q2": "tie"},
        "prompted": {},
    }


def invoke(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> Result:
    monkeypatch.setattr(cli_answers, "open_run", lambda *_positional, **_keywords: run)
    (tmp_path / "small.yaml").touch()
    return CliRunner().invoke(cli.main, ["ab", str(tmp_path / "small.yaml"), "-n", "4", "--no-browser", *arguments])


def test_ctrl_c_ends_quietly_and_says_what_is_saved(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def vote_and_stop(session: Any) -> None:
        session.vote(session.trials[0].id, "tie")
        raise KeyboardInterrupt

    monkeypatch.setattr("mlx_ragtune.commands.ab.wait_for_result", vote_and_stop)
    result = invoke(run, monkeypatch, tmp_path)
    assert result.exit_code == 130
    assert "stopped: 1 of 5 comparisons are saved" in result.stderr
    assert "Traceback" not in result.output


def test_a_port_in_use_is_an_error_of_the_machine(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = invoke(run, monkeypatch, tmp_path, "--port", str(port))
    assert result.exit_code == 4
    assert f"cannot listen on port {port}: it is in use" in result.stderr
