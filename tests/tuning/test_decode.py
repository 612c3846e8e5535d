"""Batched answers with shared prefixes are those of one prompt at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.models.prompts import end_of_turn, prompt_tokens
from mlx_ragtune.tuning import decode as module
from mlx_ragtune.tuning.decode import Decoded, at_once, decode
from mlx_ragtune.tuning.load import load_base
from tests.tuning.made import adapted, example, toy_base, train_settings

ARCHITECTURES = ["llama", "qwen2", "qwen3", "qwen3_moe", "qwen3_5", "lfm2", "gemma3_text", "gemma4_text"]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """With a strong adapter, so that answers depend on all that was read."""
    base = load_base(toy_base(tmp_path_factory.mktemp("base"), request.param), "fp32")
    adapted(base.model, train_settings()).eval()
    return base


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_base(toy_base(tmp_path_factory.mktemp("base")), "fp32")


def prompts_of(loaded: Any, groups: int, each: int, words: int = 3) -> list[list[int]]:
    rows = [example(group, index, words=words + group) for group in range(groups) for index in range(each)]
    return [prompt_tokens(row.messages[:-1], loaded.tokenizer, thinking=False) for row in rows]


def alone(loaded: Any, prompt: Sequence[int], count: int) -> list[int]:
    """The greedy answer by whole forward passes, without any cache."""
    tokens = list(prompt)
    for _ in range(count):
        best = int(np.argmax(np.array(loaded.model(mx.array([tokens]))[0, -1].astype(mx.float32))))
        if best in loaded.tokenizer.eos_token_ids or best == end_of_turn(loaded.tokenizer)[0]:
            break
        tokens.append(best)
    return tokens[len(prompt) :]


def text_of(loaded: Any, tokens: Sequence[int]) -> str:
    return str(loaded.tokenizer.decode(list(tokens), skip_special_tokens=True)).rstrip("\ufffd")


def answers(loaded: Any, prompts: Sequence[Sequence[int]], count: int, **options: Any) -> list[Decoded]:
    by_index = dict(decode(loaded.model, loaded.tokenizer, prompts, max_tokens=count, **options))
    assert len(by_index) == len(prompts)
    return [by_index[index] for index in range(len(prompts))]


@pytest.mark.parametrize(("most", "step"), [(16, 256), (3, 8)], ids=["all together", "three at a time, in small steps"])
def test_shared_prefixes_give_the_answers_of_one_prompt_at_a_time(
    loaded: Any, most: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", most)
    monkeypatch.setattr(module, "STEP_TOKENS", step)
    prompts = [*prompts_of(loaded, 3, 3), [5, 6, 7], prompts_of(loaded, 1, 1)[0]]
    together = answers(loaded, prompts, 6)
    for prompt, answer in zip(prompts, together, strict=True):
        tokens = alone(loaded, prompt, 6)
        assert answer.text == text_of(loaded, tokens)
        assert answer.tokens == len(tokens)
        assert answer.reason == ("length" if len(tokens) == 6 else "stop")


def test_an_adapter_answers_differently_and_as_alone(qwen: Any, tmp_path: Path) -> None:
    other = load_base(toy_base(tmp_path / "base"), "fp32")
    adapted(other.model, train_settings())
    prompts = prompts_of(other, 2, 2)
    together = answers(other, prompts, 5)
    assert other.model.training
    other.model.eval()
    assert [answer.text for answer in together] == [text_of(other, alone(other, prompt, 5)) for prompt in prompts]
    assert together != answers(qwen, prompts, 5)


def test_what_prompts_share_goes_through_the_layers_once(qwen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, seen = prompts_of(qwen, 2, 4, words=30), []
    kind = type(qwen.model)
    plain = kind.__call__

    def counted(model: Any, tokens: mx.array, *given: Any, **options: Any) -> mx.array:
        seen.append(tokens.size)
        result: mx.array = plain(model, tokens, *given, **options)
        return result

    monkeypatch.setattr(kind, "__call__", counted)
    answers(qwen, prompts, 1)
    distinct = len({tuple(prompt[: at + 1]) for prompt in prompts for at in range(len(prompt))})
    whole = sum(map(len, prompts))
    assert distinct <= sum(seen) <= 1.25 * distinct + 8 * len(prompts)  # groups end at a multiple of 8; padding
    assert sum(seen) < 0.45 * whole


def test_an_answer_ends_as_soon_as_it_is_said_to(qwen: Any) -> None:
    prompts = prompts_of(qwen, 2, 2)
    free = answers(qwen, prompts, 24)
    stopped = answers(qwen, prompts, 24, stop=lambda text: text == free[1].text[: len(text)])
    assert [answer.reason for answer in free] == ["length"] * 4
    assert (stopped[1].reason, stopped[1].tokens) == ("loop", 8)
    assert free[1].text.startswith(stopped[1].text)
    assert [stopped[index] for index in (0, 2, 3)] == [free[index] for index in (0, 2, 3)]


def test_an_answer_ends_with_the_end_of_the_turn(qwen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = prompts_of(qwen, 1, 2)
    first = alone(qwen, prompts[0], 4)
    end = next(place for place, token in enumerate(first) if token not in first[:place] and place)
    monkeypatch.setattr(module, "end_of_turn", lambda _tokenizer: [first[end]])
    answer = answers(qwen, prompts, 4)[0]
    assert (answer.reason, answer.tokens) == ("stop", end)


def test_the_batch_shrinks_with_the_length_of_the_prompts() -> None:
    assert at_once([[1] * 100], 100) == 32
    assert at_once([[1] * 4000, [1]], 96) == 4
    assert at_once([[1] * 40000], 96) == 1


def test_nothing_to_answer_is_no_answer(qwen: Any) -> None:
    assert list(decode(qwen.model, qwen.tokenizer, [], max_tokens=2)) == []


def test_decoding_leaves_the_model_and_the_memory_as_they_were(qwen: Any) -> None:
    qwen.model.train()
    list(decode(qwen.model, qwen.tokenizer, [[5, 6, 7]], max_tokens=2))  # compiled kernels keep some numbers
    held = mx.get_active_memory()
    for _ in decode(qwen.model, qwen.tokenizer, prompts_of(qwen, 2, 2), max_tokens=4):
        break  # the caller stops early
    assert len(list(decode(qwen.model, qwen.tokenizer, [[5, 6, 7]], max_tokens=2))) == 1
    assert qwen.model.training
    assert mx.get_active_memory() == held
    qwen.model.eval()
