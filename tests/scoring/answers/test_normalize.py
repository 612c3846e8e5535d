import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_ragtune.scoring.answers.normalize import find_phrase, fold, sentences, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("48 GB", "48GB"),
        ("95 per cent", "95%"),
        ("95 percent", "95 %"),
        ("10,000 rows", "10000 rows"),
        ("65 billion", "65B"),
        ("4-bit", "4 bits"),
        ("quantization", "Quantization"),
        ("optimize", "optimize"),
        ("parameter‑efficient", "parameter efficient"),
        ("“quoted”", '"quoted"'),
    ],
)
def test_spellings_of_one_thing_fold_to_the_same(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"), [("48GB", "48MB"), ("4.5", "45"), ("LoRA", "QLoRA"), ("1,5", "15"), ("5 %", "5")]
)
def test_different_things_stay_different(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@given(st.text(max_size=80))
def test_folding_twice_changes_nothing_for_plain_text(text: str) -> None:
    plain = "".join(letter for letter in text if letter.isascii() and (letter.isalpha() or letter == " "))
    assert fold(fold(plain)) == fold(plain)


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("rank 4 works", "4", True),
        ("rank 45 works", "4", False),
        ("rank 4.5 works", "4", False),
        ("rank 2.4 works", "4", False),
        ("4-bit weights", "4", False),
        ("ends in 4.", "4", True),
        ("QLoRA works", "LoRA", False),
        ("LoRA+ works", "LoRA", False),
        ("LoRA+ works", "LoRA+", True),
        ("the adapters", "adapter", True),
        ("adaptation", "adapt", False),
        ("low-rank\nadaptation", "low rank adaptation", True),
        ("a 48 GB card", "48GB", True),
    ],
)
def test_phrases_are_found_at_word_boundaries(text: str, phrase: str, found: bool) -> None:
    assert bool(find_phrase(fold(text), phrase)) == found


def test_an_empty_phrase_is_found_nowhere() -> None:
    assert find_phrase("some text", " ") == []


def test_sentences_end_at_stops_and_lines_but_not_after_et_al() -> None:
    text = "Hu et al. proposed it. It has 4.5 points!\nA line\n\nAnother (e.g. this)."
    assert sentences(text) == [
        "Hu et al. proposed it.",
        "It has 4.5 points!",
        "A line",
        "Another (e.g. this).",
    ]


def test_words_keep_hyphens_points_and_pluses() -> None:
    assert words("LoRA+ isn't 4-bit, 0.5 of it.") == ["LoRA+", "isn't", "4-bit", "0.5", "of", "it"]


def test_a_han_character_or_a_hiragana_is_a_word_and_a_katakana_run_is_one() -> None:
    assert words("使用BERT模型。") == ["使", "用", "BERT", "模", "型"]
    assert words("モデルを使う") == ["モデル", "を", "使", "う"]
    assert words("48GB를 사용했다.") == ["48GB를", "사용했다"]


def test_decomposed_letters_do_not_split_a_word() -> None:
    assert words("M\u006f\u0308wen") == ["M\u00f6wen"]


def test_sentences_of_chinese_need_no_space_and_german_abbreviations_do_not_end_one() -> None:
    assert sentences("它很好。可以！\u201c好的？\u201d她说。") == ["它很好。", "可以！", "\u201c好的？\u201d", "她说。"]
    assert sentences("Es gilt z. B. hier, d. h. im Hafen, vgl. Nr. 3. Mehr nicht.") == [
        "Es gilt z. B. hier, d. h. im Hafen, vgl. Nr. 3.",
        "Mehr nicht.",
    ]


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("海鸥提前六分钟离开。", "六分钟", True),
        ("海鸥提前十六分钟离开。", "六分钟", False),
        ("大麦增产百分之九十。", "百分之九", False),
        ("一千零五十度烧制的瓦片", "一千零五十", True),
        ("使用LoRA模型", "LoRA", True),
        ("使用QLoRA模型", "LoRA", False),
        ("48GB를 사용한다", "48GB", True),
    ],
)
def test_phrases_are_found_without_spaces_but_not_inside_a_longer_number(text: str, phrase: str, found: bool) -> None:
    assert bool(find_phrase(fold(text), phrase)) == found
