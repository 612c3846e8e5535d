"""The score that a search ranks by rises when the answers become right."""

from pathlib import Path

import pytest

from mlx_ragtune.evaluation import quick_score as module
from mlx_ragtune.evaluation.quick_score import quick_score
from mlx_ragtune.tuning import select
from mlx_ragtune.tuning.workbench import Workbench
from tests.tuning.made import base_settings, dataset_settings, example, examples, toy_base, train_settings


def test_training_on_the_answers_raises_the_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "MAX_TOKENS", 32)
    rows = [*examples(3, 1), example(7, 0, kind="refusal")]
    bench = Workbench(
        toy_base(tmp_path / "base"), base_settings(), dataset=dataset_settings(),
        rows={"train": rows, "valid": rows}, store=tmp_path / "store", say=lambda _text: None,
    )  # fmt: skip
    scores: list[float] = []
    with bench:

        def score(_update: int, _loss: float) -> bool:
            scores.append(quick_score(bench.loaded, rows, thinking=False, seed=1))
            return False

        settings = train_settings(rank=32, alpha=64.0, epochs=24.0, batch_size=4, accumulation=1, learning_rate=1e-2)
        bench.train(
            settings.model_copy(update={"evals_per_epoch": 1, "warmup_ratio": 0.0}),
            folder=tmp_path / "trial", seed=1, progress=lambda *_: None,
            on_validation=lambda update, loss: score(update, loss or 0.0) if update in (1, 24) else False,
        )  # fmt: skip
        with bench.adapted(tmp_path / "trial") as loaded:
            assert 0 <= quick_score(loaded, rows, thinking=False, seed=1, most=2) <= 1
    assert scores[0] < 0.2
    assert scores[1] > 0.5


def test_an_answer_that_repeats_itself_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlx_ragtune.tuning.load import load_base

    loaded = load_base(toy_base(tmp_path / "base"), "fp32")
    monkeypatch.setattr(select, "score_answer", lambda _row, _answer: 1.0)
    monkeypatch.setattr(module, "repeats", lambda _text: False)
    assert quick_score(loaded, examples(2, 1), thinking=False, seed=1) == 1.0
    monkeypatch.setattr(module, "repeats", lambda _text: True)
    assert quick_score(loaded, examples(2, 1), thinking=False, seed=1) == 0.0
    with pytest.raises(ValueError, match="at least one row"):
        quick_score(loaded, [], thinking=False, seed=1)


def test_an_answer_ends_when_it_is_half_as_long_again_as_the_longest_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_ragtune.tuning.load import load_base

    loaded = load_base(toy_base(tmp_path / "base"), "fp32")
    seen: list[int] = []

    def decode(*_given: object, max_tokens: int, **_options: object) -> list[tuple[int, object]]:
        seen.append(max_tokens)
        return []

    monkeypatch.setattr(select, "decode", decode)
    rows = examples(2, 1)
    longest = max(len(loaded.tokenizer.encode(row.messages[-1].content)) for row in rows)
    assert longest * 3 // 2 + 8 < select.MAX_TOKENS
    quick_score(loaded, rows, thinking=False, seed=1)
    quick_score(loaded, rows, thinking=True, seed=1)
    monkeypatch.setattr(select, "MAX_TOKENS", 5)
    quick_score(loaded, rows, thinking=False, seed=1)
    assert seen == [longest * 3 // 2 + 8, 192, 5]
