"""A file of pairs is read whole, or refused with every problem and its line."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.records import Document, Evidence, Pair
from mlx_ragtune.synthesis.authored import read_pairs
from mlx_ragtune.synthesis.checks import is_blank
from tests.synthesis.corpus import DOCUMENTS, METHODS, grounded, near_miss, off_corpus, sentence_of, synthesis


def problems(folder: Path, *rows: Pair | str, documents: Sequence[Document] = DOCUMENTS) -> str:
    path = folder / "pairs.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(asdict(row)) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_pairs(path, documents)
    assert caught.value.exit_code == 3
    assert caught.value.fix
    return str(caught.value).replace(str(path), "pairs.jsonl")


def test_sound_pairs_are_read_in_order(tmp_path: Path) -> None:
    pairs = [grounded("LoRA"), synthesis("LoRA", "DoRA"), near_miss("PPO"), off_corpus(1)]
    write_rows(tmp_path / "pairs.jsonl", pairs)
    assert read_pairs(tmp_path / "pairs.jsonl", DOCUMENTS) == pairs


def test_windows_line_ends_and_blank_lines_are_read(tmp_path: Path) -> None:
    rows = [json.dumps(asdict(grounded(name))) for name in METHODS[:2]]
    (tmp_path / "pairs.jsonl").write_bytes("\r\n\r\n".join(rows).encode())
    assert len(read_pairs(tmp_path / "pairs.jsonl", DOCUMENTS)) == 2


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    assert "pairs.jsonl:2: not JSON: Unterminated string" in problems(tmp_path, grounded("LoRA"), '{"id": "x')


def test_a_row_with_wrong_fields_is_named_with_each_field(tmp_path: Path) -> None:
    row = {**asdict(grounded("LoRA")), "kind": "groundless", "colour": "red"}
    text = problems(tmp_path, json.dumps(row))
    assert "pairs.jsonl:1: not a Pair" in text
    assert "kind: Input should be 'grounded', 'synthesis' or 'refusal'" in text
    assert "colour" in text


def test_a_duplicate_id_names_both_lines(tmp_path: Path) -> None:
    text = problems(tmp_path, grounded("LoRA"), grounded("DoRA"), replace(grounded("PPO"), id="g-lora-0"))
    assert "pairs.jsonl:3: duplicate id 'g-lora-0' (first on line 1)" in text
    assert text.startswith("1 problem in the pairs")


def test_an_unknown_paper_gets_a_suggestion(tmp_path: Path) -> None:
    row = replace(grounded("LoRA"), papers=("qlroa",), evidence=(Evidence("qlroa", sentence_of("QLoRA")),))
    text = problems(tmp_path, row, replace(off_corpus(1), kind="refusal", refusal_kind="near_miss", papers=("zzz",)))
    assert "pairs.jsonl:1: unknown paper 'qlroa', did you mean 'qlora'?" in text
    assert "pairs.jsonl:2: unknown paper 'zzz' (12 papers in the corpus)" in text


def test_a_title_in_place_of_an_id_gets_the_id(tmp_path: Path) -> None:
    row = replace(near_miss("LoRA"), papers=("LoRA: a Study of LoRA systems",))
    assert "did you mean 'lora'?" in problems(tmp_path, row)


def test_evidence_that_is_not_in_its_paper_is_shown(tmp_path: Path) -> None:
    row = replace(grounded("LoRA"), evidence=(Evidence("lora", "DoRA saves the world, one word at a time"),))
    text = problems(tmp_path, row)
    assert "pairs.jsonl:1: evidence quote not in the text of 'lora': 'DoRA saves the world" in text


def test_evidence_with_another_number_is_shown(tmp_path: Path) -> None:
    row = replace(grounded("LoRA"), evidence=(Evidence("lora", sentence_of("LoRA").replace("10", "19")),))
    assert "evidence quote has other numbers of 'lora'" in problems(tmp_path, row)


def test_evidence_from_a_paper_that_the_pair_does_not_name(tmp_path: Path) -> None:
    pair = grounded("LoRA")
    row = replace(pair, evidence=(*pair.evidence, Evidence("dora", sentence_of("DoRA"))))
    assert "evidence from 'dora', which is not among the pair's papers" in problems(tmp_path, row)


def test_the_number_of_papers_fits_the_kind(tmp_path: Path) -> None:
    text = problems(
        tmp_path,
        replace(synthesis("LoRA", "DoRA"), kind="grounded"),
        replace(grounded("LoRA"), id="s", kind="synthesis"),
        replace(grounded("LoRA"), id="none", papers=(), evidence=()),
        replace(synthesis("LoRA", "DoRA"), id="half", evidence=(Evidence("lora", sentence_of("LoRA")),)),
    )
    assert "pairs.jsonl:1: grounded needs 1 paper, not 2" in text
    assert "pairs.jsonl:2: synthesis needs 2 or more papers, not 1" in text
    assert "pairs.jsonl:3: grounded needs 1 paper, not 0" in text
    assert "pairs.jsonl:4: no evidence quote from dora" in text


def test_the_evidence_of_a_near_miss_is_the_section_that_would_answer(tmp_path: Path) -> None:
    near = replace(near_miss("LoRA"), evidence=grounded("LoRA").evidence)
    write_rows(tmp_path / "pairs.jsonl", [near])
    assert read_pairs(tmp_path / "pairs.jsonl", DOCUMENTS) == [near]


def test_a_refusal_has_a_refusal_kind_and_an_off_corpus_one_no_evidence(tmp_path: Path) -> None:
    text = problems(
        tmp_path,
        replace(off_corpus(0), evidence=grounded("LoRA").evidence),
        replace(off_corpus(1), refusal_kind=None),
        replace(off_corpus(2), papers=("lora",)),
        replace(grounded("DoRA"), refusal_kind="near_miss"),
    )
    assert "pairs.jsonl:1: an off_corpus refusal has no evidence, this one has 1 quotes" in text
    assert "pairs.jsonl:2: a refusal needs refusal_kind: near_miss or off_corpus" in text
    assert "pairs.jsonl:3: an off_corpus refusal has no papers" in text
    assert "pairs.jsonl:4: refusal_kind on a grounded pair" in text


def test_answers_with_markup_are_named_with_the_kind_of_markup(tmp_path: Path) -> None:
    text = problems(
        tmp_path,
        replace(grounded("LoRA"), answer="# Answer\n- it saves 10 percent"),
        replace(grounded("DoRA"), answer="\n\n".join(["It saves."] * 5)),
        replace(grounded("PPO"), answer="  "),
    )
    assert "pairs.jsonl:1: the answer is not plain prose: header, list" in text
    assert "pairs.jsonl:2: the answer is not plain prose: more than four paragraphs" in text
    assert "pairs.jsonl:3: answer is empty" in text


def test_twenty_problems_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    rows = [replace(grounded("LoRA"), id=f"p{number}", papers=(f"nope{number}",)) for number in range(15)]
    text = problems(tmp_path, *rows)
    assert text.startswith("45 problems in the pairs:")
    assert text.count("pairs.jsonl:") == 20
    assert "pairs.jsonl:1: evidence from 'lora', which is not among the pair's papers (and 14 more lines)" in text
    assert "… and 11 more" in text


def test_a_file_without_pairs_or_without_text_is_refused(tmp_path: Path) -> None:
    assert "the file contains no pairs" in problems(tmp_path, "")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_pairs(tmp_path / "absent.jsonl", DOCUMENTS)
    (tmp_path / "latin.jsonl").write_bytes("é".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.jsonl:1: not UTF-8"):
        read_pairs(tmp_path / "latin.jsonl", DOCUMENTS)


@pytest.mark.parametrize(
    "blank", ["\u200b", "\ufeff", "\u00ad\u00ad", "\u2060 \n", "\u3164", "\u2800", "\u0301", "\x07", "\ufe0f"]
)
def test_text_that_shows_nothing_is_empty(tmp_path: Path, blank: str) -> None:
    pair = grounded("LoRA")
    for row in (replace(pair, answer=blank), replace(pair, question=blank), replace(pair, id=blank)):
        assert "is empty" in problems(tmp_path, off_corpus(1), row)
    assert "pairs.jsonl:2: answer is empty" in problems(tmp_path, off_corpus(1), replace(pair, answer=blank))


@pytest.mark.parametrize("text", ["a", "7", "海带", "🦙", "नि", "a\u200b"])
def test_text_that_shows_something_is_not_empty(text: str) -> None:
    assert not is_blank(text)


def test_bad_json_lone_surrogates_and_bad_rows_are_reported_together_by_line(tmp_path: Path) -> None:
    surrogate = json.dumps(asdict(grounded("LoRA"))).replace("LoRA saves", "\\ud83d saves", 1)
    text = problems(tmp_path, surrogate, "{", "[1]", grounded("DoRA"), replace(grounded("PPO"), answer=""), "[" * 9000)
    assert text.startswith("5 problems in the pairs:")
    lines = [line.strip().partition(": ")[0] for line in text.splitlines()[1:6]]
    assert lines == [f"pairs.jsonl:{number}" for number in (1, 2, 3, 5, 6)]
    assert "pairs.jsonl:1: lone surrogate" in text


def test_line_separators_within_a_row_are_text_and_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    pair = replace(off_corpus(1), question="One\u2028two\x85three?")
    path = tmp_path / "pairs.jsonl"
    path.write_text("\ufeff" + json.dumps(asdict(pair), ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_pairs(path, DOCUMENTS) == [pair]


def test_control_tokens_prompts_and_dialogues_are_refused_with_their_lines(tmp_path: Path) -> None:
    good = grounded("LoRA")
    rows = [
        good,
        replace(grounded("DoRA"), answer=grounded("DoRA").answer + "<|im_end|>"),
        replace(grounded("PPO"), question="What does </think> close in PPO?"),
        replace(grounded("CRAG"), answer="User: Is it so? Assistant: " + grounded("CRAG").answer),
        replace(grounded("QLoRA"), answer="Write plain prose, without lists or headings. " + grounded("QLoRA").answer),
    ]
    text = problems(tmp_path, *rows)
    assert text.startswith("4 problems in the pairs")
    assert "pairs.jsonl:2: control token '<|im_end|>' in the answer" in text
    assert "pairs.jsonl:3: control token '</think>' in the question" in text
    assert "pairs.jsonl:4: turn of a dialogue in the answer" in text
    assert "pairs.jsonl:5: part of a prompt in the answer" in text
