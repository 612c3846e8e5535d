import json
from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.scoring.answers.benchmark_rows import require_supported_benchmark
from mlx_ragtune.scoring.answers.language import (
    OTHERS,
    SUPPORTED,
    language_of,
    require_supported,
)
from mlx_ragtune.scoring.answers.refusal_kinds import lexicons

BENCHMARK = Path(__file__).parents[3] / "data" / "rag_notes" / "benchmark.jsonl"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How does QLoRA reduce the memory that is needed?", "en"),
        ("According to the paper, α = 0.3 and β = 0.1 are the best values.", "en"),
        ("Wann verlassen die Möwen den Schlafplatz?", "de"),
        ("Combien de minutes avant le premier ferry partent-elles ?", "fr"),
        ("¿Cuántos minutos antes del primer ferry se van las gaviotas?", "es"),
        ("Quanti minuti prima del primo traghetto partono i gabbiani?", "it"),
        ("海鸥在第一班渡轮之前几分钟离开栖息地？", "zh"),
        ("LoRA 的秩是多少？", "zh"),
        ("カモメは最初のフェリーの何分前に離れますか。", "ja"),
        ("LoRA의 랭크는 얼마입니까?", "ko"),
        ("Ile minut przed promem i kto je liczy na wybrzeżu?", "pl"),
        ("За сколько минут до парома улетают чайки?", "ru"),
        ("Quantos minutos antes da balsa as gaivotas partem?", "pt"),
        ("Hoeveel minuten voor de veerboot vertrekken de meeuwen?", "nl"),
        ("كم دقيقة قبل العبارة؟", "ar"),
        ("48GB.", None),
        ("", None),
    ],
)
def test_the_language_is_read_from_script_and_function_words(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_every_supported_language_but_english_has_a_lexicon_of_refusals_and_no_other() -> None:
    assert {"en", *lexicons()} == set(SUPPORTED)
    assert "en" not in lexicons()
    assert not set(SUPPORTED) & set(OTHERS)


def test_a_benchmark_in_another_language_is_refused_by_name() -> None:
    polish = [(f"b.jsonl:{line}", "Ile minut przed promem i kto je liczy na wybrzeżu?") for line in range(1, 9)]
    with pytest.raises(InputError, match=r"8 of 8 benchmark questions .*\(Polish\)") as error:
        require_supported(polish)
    assert error.value.where == "b.jsonl:1"
    assert "English, German" in (error.value.fix or "")


def test_one_foreign_question_among_many_is_not_a_foreign_benchmark() -> None:
    english = [("b.jsonl:1", "How does QLoRA reduce the memory that is needed?")] * 20
    require_supported([*english, ("b.jsonl:21", "Hoeveel minuten voor de veerboot vertrekken de meeuwen?")])


def test_texts_whose_language_cannot_be_told_do_not_hide_a_foreign_benchmark() -> None:
    unknown = [("b.jsonl:1", "48GB?")] * 50
    with pytest.raises(InputError, match="Russian"):
        require_supported([*unknown, ("b.jsonl:51", "За сколько минут до парома улетают чайки?")])


def test_the_shipped_benchmark_is_english() -> None:
    require_supported_benchmark(BENCHMARK)
    rows = [json.loads(line) for line in BENCHMARK.read_text(encoding="utf-8").splitlines()]
    assert {language_of(row["question"]) for row in rows} == {"en"}
