"""An answer is stopped early only when it is a repetition loop however it goes on."""

from hypothesis import given
from hypothesis import strategies as st

from mlx_ragtune.records import Answer, Sampling
from mlx_ragtune.scoring.answers.early_stop import repeats
from mlx_ragtune.scoring.answers.validity import classify, loops

PIECES = [
    "the ",
    "model ",
    "is ",
    "frozen",
    ". ",
    ".",
    "\n",
    "e.g. ",
    "4",
    ".5 ",
    "! ",
    "A ",
    "不",
    "。",
    "- ",
    "'",
    '" ',
]
SENTENCES = [
    "LoRA keeps the weights frozen. ",
    "It adds two small matrices. ",
    "LoRA keeps the weights frozen, ",
    "So. ",
]


@given(
    st.lists(st.sampled_from(PIECES), max_size=80), st.integers(1, 8), st.lists(st.sampled_from(PIECES), max_size=20)
)
def test_what_is_stopped_is_a_loop_whatever_would_have_followed(some: list[str], times: int, rest: list[str]) -> None:
    text = "".join(some * times)
    if repeats(text):
        assert loops(text)
        assert loops(text + "".join(rest))


@given(st.lists(st.sampled_from(SENTENCES), max_size=12), st.integers(0, 60), st.lists(st.sampled_from(SENTENCES)))
def test_repeated_sentences_are_stopped_only_when_the_whole_is_a_loop(
    some: list[str], cut: int, rest: list[str]
) -> None:
    text = "".join(some)[: -cut or None]
    if repeats(text):
        assert loops("".join(some) + "".join(rest))


def test_an_answer_that_is_not_finished_with_its_third_repetition_goes_on() -> None:
    text = (
        "LoRA keeps all weights frozen. It trains B. LoRA keeps all weights frozen. It adds. LoRA keeps all weights fro"
    )
    assert not repeats(text)
    assert not repeats("LoRA keeps the weights frozen. " * 3 + "LoRA keeps")  # the third may still go on: "frozen. But"
    assert repeats("LoRA keeps the weights frozen. " * 5)
    assert repeats("and the " * 20)


def test_a_stopped_answer_is_classified_as_the_whole_answer_would_be() -> None:
    whole = "The model is frozen and " * 30
    stopped = next(whole[:end] for end in range(len(whole)) if repeats(whole[:end]))
    assert len(stopped) < len(whole) / 2
    for text, reason in ((stopped, "loop"), (whole, "length")):
        answer = Answer("k", "q", "base", 0, text, reason, 10, 128, 1.0)
        assert classify(answer, Sampling(max_tokens=128)) == "repetition_loop"
