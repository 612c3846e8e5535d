"""The examples of the prompted base: one of each kind, never from the benchmark's papers, within the tokens."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_ragtune.errors import InputError
from mlx_ragtune.evaluation.prompted import ExampleChooser, Examples
from mlx_ragtune.models.prompts import load_tokenizer, prompt_text
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.recipe import PromptedSettings
from mlx_ragtune.records import Chunk, Example, Kind, Message, Passage
from mlx_ragtune.retrieval.prompt import SYSTEM, build_messages

TEXT = "{0} studies glue. {0} holds {1} kg on wet wood. Its authors thank the harbor."


def chunk(name: str, number: int) -> Chunk:
    text = TEXT.format(name, number)
    return Chunk(f"{name}#1", name, f"A Study of {name}", "", 1, 0, len(text), text)


NAMES = ["Abe", "Bea", "Cay", "Dee", "Eve", "Fay"]
CHUNKS = {f"{name}#1": chunk(name, number) for number, name in enumerate(NAMES)}


def row(kind: Kind, name: str, *papers: str) -> Example:
    shown = [CHUNKS[f"{paper}#1"] for paper in papers]
    passages = [Passage(one.id, one.document_id, one.title, one.text) for one in shown]
    answer = " ".join(one.text.split(". ")[1] + "." for one in shown)
    if kind == "refusal":
        answer = "The papers do not say."
    messages = (*build_messages(passages, f"What does {name} hold on wet wood?"), Message("assistant", answer))
    own = () if kind == "refusal" else papers
    return Example(name, kind, name, messages, own, tuple(one.id for one in shown))


ROWS = [
    row("grounded", "g1", "Abe"),
    row("grounded", "g2", "Bea"),
    row("synthesis", "s1", "Cay", "Dee"),
    row("refusal", "r1", "Eve"),
    row("refusal", "r2", "Abe"),
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("base")
    write_toy_model(folder, architecture="qwen3")
    return load_tokenizer(folder)


def chosen(tokenizer: Any, *, rows: list[Example] = ROWS, barred: str = "", seed: int = 0, **settings: int) -> Examples:
    chooser = ExampleChooser(rows, CHUNKS, tokenizer, thinking=False)
    wanted = PromptedSettings(**{"examples": 3, "tokens": 4000, **settings})
    return chooser.choose(wanted, seed=seed, barred=frozenset(barred.split()))


def test_each_kind_has_its_turn_and_the_choice_can_be_repeated(tokenizer: Any) -> None:
    examples = chosen(tokenizer)
    assert [example.kind for example in examples.chosen] == ["grounded", "synthesis", "refusal"]
    assert examples == chosen(tokenizer, rows=ROWS[::-1])
    assert len({chosen(tokenizer, seed=seed).chosen[0].id for seed in range(8)}) == 2
    assert [example.kind for example in chosen(tokenizer, examples=5).chosen][3:] == ["grounded", "refusal"]


def test_no_example_uses_or_shows_a_paper_of_the_benchmark(tokenizer: Any) -> None:
    for seed in range(8):
        examples = chosen(tokenizer, barred="Abe Cay", seed=seed)
        assert {example.id for example in examples.chosen} == {"g2", "r1"}
        assert "Abe" not in "".join(message.content for message in examples.messages)
    with pytest.raises(InputError, match="no training row can be an example"):
        chosen(tokenizer, barred="Abe Bea Cay Eve")


def test_a_passage_is_cut_to_the_sentence_that_the_answer_rests_on(tokenizer: Any) -> None:
    user, answer = chosen(tokenizer, barred="Bea").chosen[0].messages
    assert (
        user.content
        == 'Papers:\n\n[1] "A Study of Abe"\nAbe holds 0 kg on wet wood.\n\nQuestion: What does g1 hold on wet wood?'
    )
    assert answer == Message("assistant", "Abe holds 0 kg on wet wood.")


def test_a_row_whose_answer_is_not_in_the_shortened_passage_comes_last(tokenizer: Any) -> None:
    made_up = row("grounded", "g0", "Fay")
    made_up = Example(
        "g0", "grounded", "g0", (*made_up.messages[:2], Message("assistant", "99 kg on ice.")), ("Fay",), ("Fay#1",)
    )
    for seed in range(6):
        assert chosen(tokenizer, rows=[made_up, ROWS[0]], seed=seed, examples=1).chosen[0].id == "g1"


@given(st.integers(32, 2000), st.integers(1, 6), st.integers(0, 3))
def test_the_tokens_that_examples_add_are_counted_exactly_and_stay_within_the_limit(
    tokenizer: Any, tokens: int, count: int, seed: int
) -> None:
    try:
        examples = chosen(tokenizer, tokens=tokens, examples=count, seed=seed)
    except InputError as error:
        fewest = int(error.fix.split("evaluate.prompted.tokens to ")[1].split()[0])
        assert fewest > tokens
        assert len(chosen(tokenizer, tokens=fewest, examples=count, seed=seed).chosen) == 1
        return
    system, question = Message("system", SYSTEM), Message("user", "Papers:\n\n(none)\n\nQuestion: Why?")

    def length(*messages: Message) -> int:
        return len(tokenizer.encode(prompt_text(messages, tokenizer, thinking=False), add_special_tokens=False))

    assert examples.tokens == length(system, *examples.messages, question) - length(system, question) <= tokens
    assert len({example.id for example in examples.chosen}) == len(examples.chosen) <= count
