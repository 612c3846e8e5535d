"""What the model is told, in which order, and with which schema."""

import json
from dataclasses import replace

import pytest

from mlx_ragtune.recipe_data import ANSWER_WORDS
from mlx_ragtune.records import Chunk, Passage
from mlx_ragtune.scoring.answers.normalize import sentences, words
from mlx_ragtune.synthesis import generator_prompts as prompts
from mlx_ragtune.synthesis.call_plan import WRITTEN, Call, Task
from mlx_ragtune.synthesis.checks import QUESTION_WORDS
from mlx_ragtune.synthesis.draft_plan import DraftCall
from mlx_ragtune.synthesis.draft_prompts import draft_request
from mlx_ragtune.synthesis.generator_prompts import (
    FIELDS,
    JUDGING,
    THOUGHT_TOO_LONG,
    WRITING,
    absence_request,
    answering_request,
    prompt_version,
    repair_request,
    support_request,
    writing_request,
)
from tests.synthesis.corpus import CHUNKS

TWO = CHUNKS[:2]


def call(task: Task, count: int = 3) -> Call:
    ids = {"off_corpus": (), "synthesis": tuple(chunk.id for chunk in TWO)}.get(task, (CHUNKS[0].id,))
    return Call(task, ids, count, "what was measured")


def chunks_of(one: Call) -> list[object]:
    return [chunk for chunk in CHUNKS if chunk.id in one.chunk_ids]


@pytest.mark.parametrize("task", WRITTEN)
def test_alphabetical_order_of_the_keys_is_the_order_of_thought(task: Task) -> None:
    fields = FIELDS[task]
    assert list(fields) == sorted(fields)
    if "reply" in fields:
        assert fields.index("question") < fields.index("reply")
        assert min(at for at, name in enumerate(fields) if name.startswith("evidence")) < fields.index("question")


@pytest.mark.parametrize("request_", [support_request(TWO, [("q", "a")]), absence_request(TWO, ["q"])])
def test_a_verdict_comes_after_its_finding(request_: object) -> None:
    schema = request_.schema["properties"]["verdicts"]["items"]  # type: ignore[attr-defined]
    assert sorted(schema["properties"]) == ["finding", "verdict"] == schema["required"]


@pytest.mark.parametrize("task", WRITTEN)
def test_the_schema_asks_for_exactly_so_many_pairs_with_all_keys(task: Task) -> None:
    one = call(task, 3)
    request = writing_request(one, [c for c in CHUNKS if c.id in one.chunk_ids], seed=5)
    assert request.schema is not None
    rows = request.schema["properties"]["pairs"]
    assert (rows["minItems"], rows["maxItems"]) == (3, 3)
    assert rows["items"]["required"] == list(FIELDS[task])
    assert request.sampling.seed == 5
    assert not request.think
    text = request.messages[1].content
    assert all(f"- {name}: " in text for name in FIELDS[task])
    assert "Write 3 different items about what was measured" in text


def test_every_request_on_a_context_begins_with_the_same_bytes() -> None:
    one = [CHUNKS[0]]
    texts = [
        writing_request(call("grounded"), one, seed=0).messages[1].content,
        writing_request(call("false_premise"), one, seed=1).messages[1].content,
        support_request(one, [("q", "a")]).messages[1].content,
        answering_request(one, ["q"]).messages[1].content,
        absence_request(one, ["q"]).messages[1].content,
    ]
    beginning = f'Passage 1, from "{CHUNKS[0].title}":\n{CHUNKS[0].text}\n\n'
    assert all(text.startswith(beginning) for text in texts)


def test_without_passages_the_model_is_asked_for_what_it_knows() -> None:
    blind = answering_request((), ["What is LoRA?"]).messages[1].content
    assert "from what you know" in blind
    assert "1. What is LoRA?" in blind
    assert CHUNKS[0].title not in blind
    assert "from what you know" not in answering_request(TWO, ["What is LoRA?"]).messages[1].content


def test_checks_are_greedy_and_writing_is_not() -> None:
    assert absence_request(TWO, ["q"]).sampling.temperature == 0
    assert writing_request(call("grounded"), [CHUNKS[0]], seed=0).sampling.temperature > 0


def test_passages_and_chunks_are_shown_alike() -> None:
    first = CHUNKS[0]
    passage = Passage(first.id, first.document_id, first.title, first.text)
    assert absence_request([first], ["q"]) == absence_request([passage], ["q"])


def test_a_repair_shows_the_bad_reply_cut_short_and_the_problem() -> None:
    request = writing_request(call("grounded"), [CHUNKS[0]], seed=0)
    repair = repair_request(request, "x" * 9000, "empty reply")
    assert repair.messages[:2] == request.messages
    assert [message.role for message in repair.messages] == ["system", "user", "assistant", "user"]
    assert len(repair.messages[2].content) == 4000
    assert "That cannot be used: empty reply." in repair.messages[3].content
    assert (repair.schema, repair.sampling) == (request.schema, request.sampling)


def test_another_wording_is_another_prompt_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompt_version()
    monkeypatch.setattr(prompts, "SYSTEM", prompts.SYSTEM + " Please.")
    prompt_version.cache_clear()
    try:
        assert prompt_version() != before
    finally:
        monkeypatch.undo()
        prompt_version.cache_clear()
    assert prompt_version() == before


WORD_LIMITS = {"question": QUESTION_WORDS[1], "reply": ANSWER_WORDS["grounded"][1], "topic": 12}
TEXTS = {
    "English": "LoRA adds trainable low-rank matrices to frozen weights, which saves memory on large models. " * 6,
    "German": "Aufmerksamkeitsmechanismen verringern den Speicherbedarf großer Sprachverarbeitungsmodelle. " * 6,
    "Chinese": "低秩适配在冻结的权重上增加可训练的低秩矩阵，从而节省大型模型的内存。" * 6,
}


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("pairs", [1, 4, 8])
def test_a_request_has_the_tokens_that_its_longest_acceptable_pairs_need_and_not_many_more(
    language: str, pairs: int
) -> None:
    chunk = Chunk("a", "a", "A", "", 1, 0, len(TEXTS[language]), TEXTS[language])
    asked = writing_request(Call("grounded", ("a",), pairs, "x"), (chunk,), seed=0).sampling.max_tokens
    evidence = max(sentences(chunk.text), key=len)
    units = words(chunk.text)
    texts = [" ".join((units * limit)[:limit]) for limit in WORD_LIMITS.values()]
    longest = json.dumps({"pairs": [dict(zip(("q", "r", "t"), texts, strict=True), evidence=evidence)] * pairs},
                         ensure_ascii=False)  # fmt: skip
    needed = len(longest.encode()) / (3.0 if language == "Chinese" else 4.0)  # at least so many bytes to a token
    assert min(needed, WRITING.max_tokens) <= asked <= WRITING.max_tokens
    if pairs == 1 and language != "Chinese":  # whose words are not all told apart
        assert asked < WRITING.max_tokens / 3


def test_a_model_that_thinks_too_long_gets_all_tokens_for_its_second_try() -> None:
    request = writing_request(Call("off_corpus", (), 1, "x"), (), seed=0)
    assert request.sampling.max_tokens < 400
    assert repair_request(request, "", THOUGHT_TOO_LONG).sampling.max_tokens == WRITING.max_tokens
    assert repair_request(request, "", "empty reply").sampling == request.sampling


def test_a_verdict_on_eight_answers_is_bounded_too() -> None:
    assert support_request((), [("q", "a")]).sampling.max_tokens < 300
    assert support_request((), [("q", "a")] * 8).sampling.max_tokens <= JUDGING.max_tokens


def test_passages_in_another_language_ask_for_it_and_english_ones_for_nothing() -> None:
    german = replace(
        TWO[0], text="Die Brote bei 4 Grad schimmelten am neunzehnten Tag, und das Mehl war nicht wichtig."
    )
    asked = writing_request(call("grounded"), [german], seed=0).messages[1].content
    assert asked.endswith("- everything but the keys is in German, the language of the passages.")
    assert "German" in draft_request(DraftCall("named", (german.id,), "x", 1), [german], seed=0).messages[1].content
    assert (
        "in one sentence in German"
        in answering_request((), ["Wann und wie ist das Brot gelagert?"]).messages[1].content
    )
    english = writing_request(call("grounded"), [TWO[0]], seed=0).messages[1].content
    assert "language" not in english
