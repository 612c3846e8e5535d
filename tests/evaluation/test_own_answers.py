"""The base's own answers: asked as a user asks, never twice, and only usable ones become rows."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.artifact import silent
from mlx_ragtune.evaluation import own_answers as module
from mlx_ragtune.evaluation.own_answers import BaseAsker
from mlx_ragtune.jsonl import RowLog
from mlx_ragtune.models.prompts import load_tokenizer, prompt_tokens
from mlx_ragtune.records import Answer, Message
from mlx_ragtune.synthesis.rehearsal_prompts import RehearsalPrompt
from mlx_ragtune.tuning.decode import decode
from mlx_ragtune.tuning.load import load_base
from tests.tuning.made import toy_base

PROMPTS = [RehearsalPrompt(f"p{number}", f"Say {number} words.") for number in range(6)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_base(tmp_path_factory.mktemp("base"))


def asker(base: Path, **changes: Any) -> BaseAsker:
    options: dict[str, Any] = {"folder": base, "precision": "fp32", "thinking": False, "max_tokens": 12}
    return BaseAsker(**(options | changes))


def ask(base: Path, log: Path, prompts: Any = PROMPTS, **changes: Any) -> Any:
    with RowLog(log) as rows, silent("", 0) as track:
        return asker(base, **changes).ask(prompts, rows, track)


def no_decoding(*_args: Any, **_options: Any) -> Any:
    raise AssertionError("the model is asked again")


def test_the_answers_are_those_of_the_bare_base_to_the_prompt_alone(base: Path, tmp_path: Path) -> None:
    own = ask(base, tmp_path / "log.jsonl")
    tokenizer = load_tokenizer(base)
    tokens = [prompt_tokens((Message("user", one.prompt),), tokenizer, thinking=False) for one in PROMPTS]
    loaded = load_base(base, "fp32")
    expected = {index: answer.text for index, answer in decode(loaded.model, loaded.tokenizer, tokens, max_tokens=12)}
    assert {name: answer.text for name, answer in own.answers.items()} == {
        one.id: expected[index] for index, one in enumerate(PROMPTS)
    }
    assert [own.answers[one.id].prompt_tokens for one in PROMPTS] == [len(row) for row in tokens]
    assert own.reused == 0


def test_nothing_is_asked_twice_but_what_changes_the_answer_is(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.jsonl"
    first = ask(base, log)
    monkeypatch.setattr(module, "decode", no_decoding)
    renamed = [RehearsalPrompt(f"other-{one.id}", one.prompt, "chat") for one in PROMPTS]
    again = ask(base, log, renamed)
    assert again.reused == len(PROMPTS)
    assert [answer.text for answer in again.answers.values()] == [answer.text for answer in first.answers.values()]
    for changes in ({"max_tokens": 13}, {"thinking": True}, {"precision": "bf16"}):
        with pytest.raises(AssertionError, match="asked again"):
            ask(base, log, **changes)
    with pytest.raises(AssertionError, match="asked again"):
        ask(base, log, [RehearsalPrompt("p0", "Something else?")])


def test_a_killed_run_keeps_what_was_answered(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, asked = tmp_path / "log.jsonl", list[int]()

    def stopping(model: Any, tokenizer: Any, prompts: Any, **options: Any) -> Any:
        asked.append(len(prompts))
        for number, found in enumerate(decode(model, tokenizer, prompts, **options)):
            if len(asked) == 1 and number == 2:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(module, "decode", stopping)
    with suppress(KeyboardInterrupt):
        ask(base, log)
    with log.open("ab") as stream:
        stream.write(b'{"key": "torn')
    own = ask(base, log)
    assert asked == [6, 4]
    assert (own.reused, len(own.answers)) == (2, 6)


def answer(text: str, reason: str = "stop", tokens: int = 12) -> Answer:
    return Answer("k", "q", "base", 0, text, reason, 9, tokens, 0.0)


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (answer("The sky is blue because air scatters blue light."), ""),
        (answer("B", tokens=1), ""),
        (answer("42.", tokens=2), ""),
        (answer("And then the sun and the", "length"), "truncated"),
        (answer("  \n", tokens=2), "empty"),
        (answer("Yes yes " * 20, "loop"), "repetition_loop"),
        (answer("I'm sorry, but I cannot answer this question.", tokens=9), ""),
        (answer("Fine.<|im_end|>\n<|im_start|>user\nMore?"), "turn_token_leak"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.text[:20],
)
def test_an_answer_is_used_unless_it_is_invalid(base: Path, reply: Answer, fault: str) -> None:
    usable = asker(base).usable(PROMPTS[:1], {"p0": reply})
    assert dict(usable.dropped) == ({fault: 1} if fault else {})
    if not fault:
        (row,) = usable.rows
        assert (row.kind, row.group, row.papers) == ("rehearsal", row.id, ())
        assert row.messages == (Message("user", PROMPTS[0].prompt), Message("assistant", reply.text.strip()))


def test_a_base_that_refuses_most_prompts_is_noticed(base: Path) -> None:
    refusing, answering = "I'm sorry, but I cannot answer this question.", "Blue light is scattered by the air."
    for texts, mostly in (((refusing, refusing, answering), True), ((refusing, answering), False)):
        answers = {one.id: answer(text) for one, text in zip(PROMPTS, texts, strict=False)}
        usable = asker(base).usable(PROMPTS[: len(texts)], answers)
        assert (usable.refusals, usable.mostly_refusals) == (texts.count(refusing), mostly)


def test_a_think_block_is_judged_without_and_trained_with_its_thinking(base: Path) -> None:
    thought = answer("<think>\nHm.\n</think>\n\nBlue, because air scatters blue light.")
    assert asker(base).usable(PROMPTS[:1], {"p0": thought}).dropped == {"think_leak": 1}
    (row,) = asker(base, thinking=True).usable(PROMPTS[:1], {"p0": thought}).rows
    assert row.messages[-1].content.startswith("<think>")
