"""Terms: scripts without spaces in pairs, names with signs, words with hyphens; text and query are cut in one way."""

from pathlib import Path

import pytest

from mlx_ragtune.retrieval.index import Index, build_index
from mlx_ragtune.retrieval.terms import match_expression, terms
from tests.retrieval.made import chunk


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("電池の劣化", ["電池", "池の", "の劣", "劣化", "化"]),
        ("정확도가 높다", ["정확", "확도", "도가", "가", "높다", "다"]),
        ("LoRA+ improves C++ and C#", ["lora", "loraplus", "improves", "c", "cplusplus", "and", "c", "csharp"]),
        ("GPT-4 fine-tuning", ["gpt", "4", "gpt4", "fine", "tuning", "finetuning"]),
        ("10⁹ m²", ["10", "9", "m", "2"]),
        ("ﬁne ＡＢＣ ｶﾞ Straße", ["fine", "abc", "ガ", "strasse"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("1+1=2, a + b, x+y", ["1", "1", "2", "a", "b", "x", "y"]),
        ("snake_case O'Neil", ["snake", "case", "o", "neil"]),
        ("?! … 😀", []),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert list(terms(text)) == expected


def test_hiragana_alone_are_stop_words_unless_nothing_else_is_there() -> None:
    assert match_expression("何ですか 電池") == '"何で" OR "電池"'
    assert match_expression("ですか") == '"です" OR "すか"'


def test_one_character_finds_every_pair_that_it_begins_or_ends(tmp_path: Path) -> None:
    texts = {"first": "池田市", "last": "乾電池", "none": "電気"}
    build_index(tmp_path / "i.sqlite", [chunk(name, text, title="-") for name, text in texts.items()])
    assert {hit.chunk_id for hit in Index(tmp_path / "i.sqlite").search("池", 9)} == {"first", "last"}


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("電池の劣化の主因は何ですか？", "battery"),
        ("稲の収量", "rice"),
        ("夏季气温下降多少？", "zh"),
        ("정확도는 어떤가?", "ko"),
        ("How does LoRA+ differ?", "plus"),
    ],
)
def test_questions_in_their_own_language_find_their_paper(tmp_path: Path, question: str, found: str) -> None:
    papers = {
        "battery": "リチウム電池の劣化機構。劣化の主因は負極表面の被膜成長である。",
        "rice": "塩分濃度が高い条件で、稲の改良品種の収量は従来品種より高かった。",
        "zh": "绿地面积每增加一成，夏季平均气温下降零点四度。",
        "ko": "제안한 모델은 기존 모델보다 정확도가 높았다.",
        "plus": "LoRA+ sets two learning rates.",
        "lora": "LoRA trains low-rank matrices and LoRA is quick.",
    }
    build_index(tmp_path / "i.sqlite", [chunk(name, text, title="-") for name, text in papers.items()])
    assert Index(tmp_path / "i.sqlite").search(question, 3)[0].chunk_id == found
