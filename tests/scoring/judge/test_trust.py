from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.records import Nugget
from mlx_ragtune.scoring.judge.model_judge import Cache, Judge
from mlx_ragtune.scoring.judge.planted import GoodAnswer
from mlx_ragtune.scoring.judge.trust import Trust, check_judge, families, self_test
from tests.scoring.judge.test_model_judge import Oracle, _literal, _reply
from tests.scoring.made import TITLES, question

FACTS = {
    "lora": "the weights are frozen for 10 rows",
    "qlora": "memory falls to 48GB and is small",
    "ragas": "agreement was 95 in every case",
    "flan": "tuning is done on 62 tasks",
}


def _goods() -> list[GoodAnswer]:
    goods = []
    for paper, fact in FACTS.items():
        anchors = tuple((word,) for word in fact.split()[1:3])
        asked = question(id=paper, papers=(paper,), nuggets=(Nugget(fact, anchors),))
        text = f'According to "{TITLES[paper]}", {fact}. And nothing more is said.'
        goods.append(GoodAnswer(asked, text, f"{TITLES[paper]}: {text}"))
    return goods


def _test(path: Path, says: Callable[[str, str], str], goods: list[GoodAnswer]) -> Trust:
    with Cache(path / "judge.sqlite") as cache:
        return self_test(Judge(Oracle(says).chat, "digest", cache), goods)


def test_a_judge_that_reads_is_trusted(tmp_path: Path) -> None:
    trust = _test(tmp_path, _literal, _goods())
    assert trust.trusted
    assert (trust.tpr, trust.tnr, trust.n_good, trust.n_missing) == (1.0, 1.0, 4, 0)
    assert set(trust.caught) == {
        "number_changed",
        "negated",
        "entity_swapped",
        "other_answer",
        "nugget_dropped",
        "fabricated_title",
        "cut_at_3_words",
    }
    assert str(trust) == "judge trusted (TPR 1.00, TNR 1.00, 0 verdicts missing)"


@pytest.mark.parametrize(("verdict", "tpr", "tnr"), [(True, 0.0, 1.0), (False, 1.0, 0.0)])
def test_a_judge_that_always_says_the_same_is_not(tmp_path: Path, verdict: bool, tpr: float, tnr: float) -> None:
    trust = _test(tmp_path, lambda _kind, _prompt: _reply(verdict), _goods())
    assert (trust.trusted, trust.tpr, trust.tnr) == (False, tpr, tnr)
    assert "not trusted: the deterministic metrics decide" in str(trust)


def test_a_judge_that_babbles_is_not(tmp_path: Path) -> None:
    trust = _test(tmp_path, lambda _kind, _prompt: "Sure!", _goods())
    assert (trust.trusted, trust.tpr, trust.tnr) == (False, None, None)
    assert trust.n_missing == trust.n_verdicts > 0


def test_a_judge_blind_to_one_kind_of_error_shows_it(tmp_path: Path) -> None:
    def blind(kind: str, prompt: str) -> str:
        return _reply(True) if kind == "grounded" else _literal(kind, prompt)

    trust = _test(tmp_path, blind, _goods())
    assert trust.caught["fabricated_title"] == (0, 4)
    assert trust.caught["number_changed"] == (4, 4)


def test_one_good_answer_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs two references whose papers were retrieved, and there are 1"):
        _test(tmp_path, _literal, _goods()[:1])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen/Qwen3-4B", {"qwen"}),
        ("qwen3-4b-rag-tuned", {"qwen"}),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", {"smollm"}),
        ("granite3.3:8b", {"granite"}),
        ("deepseek-r1-distill-qwen:7b", {"deepseek", "qwen"}),
        ("gemma3:12b", {"gemma"}),
        ("acme/Wizard-7B", {"wizard"}),
        ("/models/qwen/llama.gguf", {"llama"}),
        ("../qwen3/gemma/granite-3.3-8b.Q8_0.gguf", {"granite"}),
        ("./models/mistral/SmolLM2-135M/", {"smollm"}),
        ("Qwen-users/wizard.gguf", {"wizard"}),
        ("hf.co/qwen/gemma-3-12b:Q4_K_M", {"gemma"}),
        ("/gpt/7b-mine", {"7b-mine"}),
    ],
)
def test_families_are_read_from_the_name(name: str, expected: set[str]) -> None:
    assert families(name) == expected


def test_relatives_of_contestants_and_of_the_generator_do_not_judge() -> None:
    check_judge("granite3.3:8b", contestants=["Qwen/Qwen3-4B"], generator="gemma3:12b")
    with pytest.raises(ToolError, match=r"same family \(qwen\) as 'Qwen/Qwen3-4B'"):
        check_judge("qwen2.5:14b", contestants=["Qwen/Qwen3-4B"])
    with pytest.raises(ToolError, match="as 'gemma3:4b'"):
        check_judge("gemma3:12b", contestants=["Qwen/Qwen3-4B"], generator="gemma3:4b")


def test_a_folder_that_names_another_family_or_thinking_does_not_matter() -> None:
    check_judge(
        "/reasoning/qwen/granite.gguf", contestants=["/models/granite-runs/qwen3-4b"], generator="/qwen/gemma.gguf"
    )
    with pytest.raises(ToolError, match=r"same family \(llama\)"):
        check_judge("/models/qwen/llama.gguf", contestants=["meta/Llama-3.2-1B"])


@pytest.mark.parametrize("name", ["deepseek-r1:8b", "qwq:32b", "gpt-oss:20b", "qwen3-4b-thinking"])
def test_thinking_models_do_not_judge(name: str) -> None:
    with pytest.raises(ToolError, match="thinking model"):
        check_judge(name, contestants=["smollm2"])


def test_a_judge_that_is_right_when_it_speaks_but_often_mute_is_not_trusted(tmp_path: Path) -> None:
    def mute(kind: str, prompt: str) -> str:
        return "" if kind == "grounded" else _literal(kind, prompt)

    trust = _test(tmp_path, mute, _goods())
    assert (trust.trusted, trust.tpr, trust.tnr) == (False, 1.0, 1.0)
    assert trust.n_missing > 0.2 * trust.n_verdicts
