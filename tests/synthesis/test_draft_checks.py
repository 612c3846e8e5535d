"""What a drafted question must pass, item by item."""

import pytest

from mlx_ragtune.records import Chunk
from mlx_ragtune.scoring.answers.nuggets import correctness
from mlx_ragtune.synthesis.draft_checks import (
    AS_AUTHORS,
    COPIES_ORDER,
    NAMES_METHOD,
    Library,
    aliases_of,
    marks_reason,
    question_of,
    read_item,
    with_citation,
)
from mlx_ragtune.synthesis.draft_plan import DraftCall, DraftTask
from mlx_ragtune.synthesis.repairs import CITED, LIST, NAMED

TITLE = "QLoRA: Efficient Finetuning of Quantized LLMs"
QUOTE = "The memory that is needed for a 65B model falls from 780 GB to 48 GB while performance is preserved."
CHUNK = Chunk("qlora-0", "qlora", TITLE, "Results", 1, 0, 200, f"Frozen weights have four bits. {QUOTE} It is cheap.")
LIBRARY = Library({"qlora": TITLE, "rag": "Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks"})
ITEM = {
    "evidence": QUOTE,
    "key": "48 GB",
    "question": "How much memory does QLoRA need for a 65B model?",
    "reply": "The need falls to 48 GB while performance is preserved.",
}
HIDDEN = ITEM | {"question": "How much memory does training a 65B model take once its frozen weights are quantized?"}


def reason(task: DraftTask = "named", **changes: str) -> str:
    judged = read_item(DraftCall(task, ("qlora-0",), "x", 1), [CHUNK], ITEM | changes, "id")
    return judged.reason or marks_reason(judged, task, [CHUNK], LIBRARY) or ""


def test_a_sound_item_becomes_a_question_with_quote_facts_and_citation() -> None:
    judged = read_item(DraftCall("named", ("qlora-0",), "x", 1), [CHUNK], ITEM, "id")
    question = question_of(judged, "named", id="qlora-01", writer="qwen3:4b")
    assert reason() == ""
    assert (question.origin, question.writer, question.papers) == ("drafted", "qwen3:4b", ("qlora",))
    assert question.reference.count(f'"{TITLE}"') == 1
    assert "need falls to 48 GB while performance is preserved" in question.reference
    assert judged.repairs == (CITED,)
    assert question.evidence[0].quote == QUOTE
    (nugget,) = question.nuggets
    assert nugget.anchors == (("48 GB", "48GB", "48-GB"),)
    assert correctness("It takes 48,000 MB.", question.nuggets).score == 1
    assert correctness("It takes 780 GB.", question.nuggets).score == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"evidence": "The memory falls to 12 GB for every model that was tried."}, "evidence quote not in the text"),
        ({"evidence": QUOTE.replace("48", "46")}, "evidence quote has other numbers"),
        ({"reply": "The need falls to 46 GB while performance is preserved."}, "number that is not in the source"),
        ({"reply": f"{ITEM['reply']}<|im_end|>"}, "control token"),
        ({"reply": f"{ITEM['reply']}\nUser: And the time?\nAssistant: It doubles."}, "turn of a dialogue"),
        ({"question": "QLoRA needs how much memory, if I may ask."}, "question does not end in a question mark"),
        ({"reply": "We find that our need falls to 48 GB while performance is preserved."}, AS_AUTHORS),
        ({"reply": "The papers do not say how much memory is needed."}, "refusal where an answer is due"),
    ],
)
def test_what_is_wrong_is_rejected_with_its_reason(changes: dict[str, str], expected: str) -> None:
    assert reason("named", **changes) == expected


def test_a_question_that_should_not_name_the_method_is_rejected_when_it_does() -> None:
    assert reason("unnamed") == NAMES_METHOD
    assert reason("unnamed", question=HIDDEN["question"].replace("once", "with Quantized LLMs once")) == NAMES_METHOD
    assert reason("unnamed", question=HIDDEN["question"]) == ""


def test_a_key_that_the_question_or_no_quote_holds_is_replaced_by_a_fact_of_the_answer() -> None:
    for key in ("65B model", "52 GB", "", "the whole of a sentence that is much too long to be a key"):
        judged = read_item(DraftCall("named", ("qlora-0",), "x", 1), [CHUNK], ITEM | {"key": key}, "id")
        question = question_of(judged, "named", id="q", writer="")
        assert [nugget.anchors[0][0] for nugget in question.nuggets] == ["48 GB"], key


def test_what_a_rule_can_mend_is_mended_and_recorded() -> None:
    changes = {
        "question": "How much memory does the method of this paper need for a 65B model?",
        "reply": "- The need falls to 48 GB.\n- Performance is preserved.",
    }
    judged = read_item(DraftCall("named", ("qlora-0",), "x", 1), [CHUNK], ITEM | changes, "id")
    assert judged.reason == ""
    assert f'"{TITLE}"' in judged.pair.question
    assert set(judged.repairs) == {NAMED, LIST, CITED}


def test_a_question_that_is_not_to_name_its_paper_gets_no_title() -> None:
    generic = "How much memory does the model take once its frozen weights are quantized?"
    for question in (HIDDEN["question"], generic):
        judged = read_item(DraftCall("unnamed", ("qlora-0",), "x", 1), [CHUNK], ITEM | {"question": question}, "id")
        assert (judged.reason, judged.pair.question) == ("", question)


def test_an_answer_without_any_fact_is_rejected() -> None:
    assert reason(key="x", reply="It is what it is and so on.", question="What is it for a 65B model?") != ""


def test_only_missing_titles_are_added_and_names_keep_their_capital() -> None:
    other = LIBRARY.titles["rag"]
    assert with_citation("LoRA saves it.", [TITLE]) == f'According to "{TITLE}", LoRA saves it.'
    assert with_citation(f'"{TITLE}" saves it.', [TITLE]) == f'"{TITLE}" saves it.'
    assert with_citation(f'"{TITLE}" saves it.', [TITLE, other]) == f'According to "{other}", "{TITLE}" saves it.'


def test_an_unanswerable_item_gets_a_reference_that_refuses() -> None:
    item = {"absent": "x", "question": "How many dollars did QLoRA cost?", "topic": "the cost of QLoRA"}
    judged = read_item(DraftCall("near_miss", ("qlora-0",), "x", 1), [CHUNK], item, "id")
    question = question_of(judged, "near_miss", id="near_miss-01", writer="w")
    assert judged.reason == ""
    assert marks_reason(judged, "near_miss", [CHUNK], LIBRARY) is None
    assert (question.answerable, question.refusal_kind, question.papers) == (False, "near_miss", ("qlora",))
    bad = read_item(DraftCall("near_miss", ("qlora-0",), "x", 1), [CHUNK], item | {"topic": "x. y {z} " * 9}, "id")
    assert bad.reason == "topic is not a short phrase"


def test_a_reply_that_copies_the_instructions_is_rejected() -> None:
    assert reason(question="What is one question about that fact that names the method of QLoRA?") == COPIES_ORDER
    item = {"question": "Which short factual question that a curious person may ask is it?", "topic": "the sea"}
    assert read_item(DraftCall("off_corpus", (), "sailing", 1), [], item, "id").reason == COPIES_ORDER
    item = {"question": "How deep is the North Sea?", "topic": "the memory that an elephant has"}
    assert read_item(DraftCall("off_corpus", (), "sailing", 1), [], item, "id").reason == COPIES_ORDER
    item = {"question": "How deep is the North Sea?", "topic": "the depth of the North Sea", "more": 3}  # type: ignore[dict-item]
    assert read_item(DraftCall("off_corpus", (), "sailing", 1), [], item, "id").reason == ""


@pytest.mark.parametrize(
    ("anchor", "forms"),
    [("48 GB", ("48 GB", "48GB", "48-GB")), ("low-rank", ("low-rank", "low rank")), ("NF4", ("NF4",)),
     ("4-bit", ("4-bit", "4bit", "4 bit")), ("3%", ("3%", "3 %"))],
)  # fmt: skip
def test_an_anchor_has_the_usual_ways_to_write_it(anchor: str, forms: tuple[str, ...]) -> None:
    assert set(aliases_of(anchor)) == set(forms)
    assert aliases_of(anchor)[0] == anchor
