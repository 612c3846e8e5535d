"""Items become pairs, pairs get their verdicts, and agreement is about what the answer adds."""

import json
from dataclasses import replace
from typing import Any

import pytest

from mlx_ragtune.records import ChatReply, ChatRequest
from mlx_ragtune.synthesis.call_plan import Call, Task
from mlx_ragtune.synthesis.jobs import Judged
from mlx_ragtune.synthesis.judging import Judge, agreement, read_pairs_of, without_verdict
from mlx_ragtune.synthesis.replies import UnusableReplyError
from tests.synthesis.corpus import CHUNKS, grounded, near_miss, sentence_of, title_of

LORA, QLORA = CHUNKS[0], CHUNKS[1]


def reply(key: str, rows: list[Any]) -> ChatReply:
    return ChatReply(json.dumps({key: rows}), "stop", 10, 5, 0.5)


def item(**changes: Any) -> dict[str, Any]:
    return {
        "evidence": sentence_of("LoRA"),
        "question": "How much memory does LoRA\n save on its benchmark?",
        "reply": f'"{title_of("LoRA")}" reports that it saves 10 percent.',
        "topic": "the memory that LoRA saves.",
        **changes,
    }


def call(task: Task = "grounded", pairs: int = 2) -> Call:
    return Call(task, (LORA.id,), pairs, "what was measured")


def test_an_item_becomes_a_pair_with_its_paper_quote_and_topic() -> None:
    written = read_pairs_of(reply("pairs", [item()]), call(pairs=1), [LORA], "abc")
    (one,) = written.judged
    assert (one.reason, one.topic, written.unusable) == ("", "the memory that LoRA saves", {})
    assert one.pair.id == "grounded-abc-0"
    assert one.pair.question == "How much memory does LoRA save on its benchmark?"
    assert one.pair.papers == ("lora",)
    assert one.pair.evidence[0].quote == sentence_of("LoRA")


@pytest.mark.parametrize("field", ["evidence", "question", "reply", "topic"])
def test_an_item_with_half_a_surrogate_pair_is_counted_and_the_others_are_kept(field: str) -> None:
    bad = item(**{field: item()[field] + "\ud83d"})
    written = read_pairs_of(reply("pairs", [bad, item()]), call(), [LORA], "abc")
    assert [judged.reason for judged in written.judged] == [""]
    assert written.unusable == {"text that is not valid Unicode": 1}
    alone = read_pairs_of(reply("pairs", [bad]), call(pairs=1), [LORA], "abc")
    assert (alone.judged, alone.unusable) == ((), {"text that is not valid Unicode": 1})


@pytest.mark.parametrize("blank", ["", " ", "\u200b", "\u2060\ufeff"])
def test_an_item_with_invisible_text_is_counted(blank: str) -> None:
    written = read_pairs_of(reply("pairs", [item(reply=blank), item()]), call(), [LORA], "abc")
    assert written.unusable == {"item without its keys": 1}


def test_a_synthesis_item_has_a_quote_from_each_paper() -> None:
    fields = {name: value for name, value in item().items() if name != "evidence"}
    both = f'"{title_of("LoRA")}" saves 10 percent and "{title_of("QLoRA")}" 11 percent.'
    row = {**fields, "evidence_1": sentence_of("LoRA"), "evidence_2": sentence_of("QLoRA"), "reply": both}
    one = Call("synthesis", (LORA.id, QLORA.id), 1, "")
    written = read_pairs_of(reply("pairs", [row]), one, [LORA, QLORA], "abc")
    assert [(e.paper, e.quote) for e in written.judged[0].pair.evidence] == [
        ("lora", sentence_of("LoRA")),
        ("qlora", sentence_of("QLoRA")),
    ]
    assert written.judged[0].reason == ""
    swapped = {**row, "evidence_1": row["evidence_2"], "evidence_2": row["evidence_1"]}
    again = read_pairs_of(reply("pairs", [swapped]), one, [LORA, QLORA], "abc")
    assert again.judged[0].reason.startswith("evidence quote")


def test_a_refusal_item_gets_its_answer_from_its_topic() -> None:
    row = {"absent": "x", "question": "Which optimizer does LoRA need?", "topic": "The optimizer of LoRA"}
    (one,) = read_pairs_of(reply("pairs", [row]), call("false_premise", 1), [LORA], "abc").judged
    assert "the optimizer of LoRA" in one.pair.answer
    assert (one.pair.kind, one.pair.refusal_kind, one.pair.papers, one.reason) == ("refusal", "near_miss", (), "")
    long = {**row, "topic": "a sentence. " * 4}
    (bad,) = read_pairs_of(reply("pairs", [long]), call("false_premise", 1), [LORA], "abc").judged
    assert bad.reason == "topic is not a short phrase"


def test_items_that_are_no_pairs_are_counted_and_the_others_are_kept() -> None:
    rows = [item(), {"question": "Only this?"}, item(reply=True), "text", None, item(evidence=" ")]
    written = read_pairs_of(reply("pairs", rows), call(pairs=8), [LORA], "abc")
    assert len(written.judged) == 1
    assert written.unusable == {"item without its keys": 5, "pair not written": 2}


def test_more_items_than_asked_for_are_ignored() -> None:
    written = read_pairs_of(reply("pairs", [item()] * 5), call(pairs=2), [LORA], "abc")
    assert (len(written.judged), written.unusable) == (2, {})


def test_no_usable_item_is_an_unusable_reply() -> None:
    with pytest.raises(UnusableReplyError, match="no item with all the keys evidence, question, reply, topic"):
        read_pairs_of(reply("pairs", [{}]), call(), [LORA], "abc")


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("It saves 10 percent.", 1.0),
        ("It saves ten per cent, that is 10%.", 1.0),
        ("It saves 12 percent.", 0.0),
        ("unknown", 0.0),
    ],
)
def test_answers_with_numbers_agree_by_their_numbers(text: str, share: float) -> None:
    assert agreement(text, grounded("LoRA"), [title_of("LoRA")]) == share


def test_answers_without_numbers_agree_by_the_words_that_the_question_lacks() -> None:
    pair = replace(
        grounded("LoRA"),
        question="What does LoRA freeze?",
        answer='"LoRA: A Study" freezes the pretrained weights and trains small matrices.',
    )
    titles = ["LoRA: A Study"]
    assert agreement("The pretrained weights; small matrices are trained.", pair, titles) == 1
    assert agreement("LoRA freezes something.", pair, titles) == 0
    assert 0 < agreement("The weights.", pair, titles) < 0.5 < agreement("Trained matrices, weights", pair, titles)
    assert agreement("anything", replace(pair, answer="LoRA: A Study"), titles) == 0


def test_agreement_in_chinese_counts_pairs_of_characters() -> None:
    pair = replace(grounded("LoRA"), question="样品表面涂了什么？", answer="“砖”指出，表面涂刷了氢氧化钙。")
    assert agreement("样品的表面涂刷氢氧化钙。", pair, ["砖"]) > 0.5
    assert agreement("样品来自西安城墙。", pair, ["砖"]) < 0.5


class Verdicts:
    """Gives the replies it was made with, one after the other."""

    def __init__(self, *rows: tuple[str, list[Any]]) -> None:
        self.rows, self.requests = list(rows), list[ChatRequest]()

    def chat(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        return reply(*self.rows.pop(0))


def yes(*verdicts: str) -> tuple[str, list[Any]]:
    return "verdicts", [{"finding": "f", "verdict": verdict} for verdict in verdicts]


def test_only_pairs_that_passed_the_rules_are_judged_each_with_its_own_verdict() -> None:
    pairs = [Judged(grounded("LoRA", number)) for number in range(4)]
    pairs[1] = replace(pairs[1], reason="not plain prose")
    backend = Verdicts(
        yes("yes", "no", "yes"),
        ("answers", ["10 percent", "10 percent", "77 percent"]),
        ("answers", ["unknown", "unknown", "10 percent"]),
    )
    judge = Judge(backend)
    after = judge.supported(pairs, [LORA])
    assert [one.reason for one in after] == [
        "",
        "not plain prose",
        "model: the source does not state the answer",
        "model: answers otherwise when shown the source",
    ]
    assert after[0].scores == {"round_trip": 1.0, "closed_book": 0.0}
    assert after[3].scores == {"round_trip": 0.0, "closed_book": 1.0}
    assert len(judge.replies) == 3
    listing = backend.requests[0].messages[1].content
    assert "3. Question: How much memory does LoRA save in case 3?" in listing
    assert "case 1?" not in listing


def test_a_partial_answer_need_not_survive_the_round_trip() -> None:
    pair = replace(grounded("LoRA"), id="partial-abc-0")
    backend = Verdicts(yes("yes"), ("answers", ["something else"]), ("answers", ["unknown"]))
    assert Judge(backend).supported([Judged(pair)], [LORA])[0].reason == ""


def test_refusals_that_are_answered_are_rejected() -> None:
    pairs = [Judged(near_miss("LoRA")), Judged(near_miss("DoRA"), "too long"), Judged(near_miss("PPO"))]
    after = Judge(Verdicts(yes("absent", "answered"))).absent(pairs, CHUNKS[:3])
    assert [one.reason for one in after] == ["", "too long", "model: the passages do answer it"]


def test_nothing_is_asked_when_nothing_passed_the_rules() -> None:
    backend = Verdicts()
    bad = [Judged(grounded("LoRA"), "not plain prose")]
    assert Judge(backend).supported(bad, [LORA]) == bad == Judge(backend).absent(bad, [LORA])
    assert backend.requests == []


@pytest.mark.parametrize(
    "rows", [yes("yes"), yes("yes", "perhaps"), ("verdicts", ["yes", "yes"]), ("verdicts", []), ("other", [])]
)
def test_a_list_of_the_wrong_length_or_with_other_words_is_no_verdict(rows: tuple[str, list[Any]]) -> None:
    pairs = [Judged(grounded("LoRA", number)) for number in range(2)]
    with pytest.raises(UnusableReplyError):
        Judge(Verdicts(rows, rows)).supported(pairs, [LORA])


def test_pairs_without_a_verdict_are_rejected() -> None:
    pairs = [Judged(grounded("LoRA")), Judged(grounded("DoRA"), "not plain prose")]
    after = without_verdict(pairs, UnusableReplyError("empty reply"))
    assert [one.reason for one in after] == ["model: no verdict (empty reply)", "not plain prose"]
