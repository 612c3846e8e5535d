import pytest

from mlx_ragtune.scoring.answers.refusal import is_refusal, normalized_sentences
from mlx_ragtune.scoring.answers.refusal_classifier import CONSTANT, log_odds, weights
from mlx_ragtune.scoring.answers.refusal_features import features
from mlx_ragtune.scoring.answers.refusal_kinds import kind_features, kinds, known_share
from mlx_ragtune.scoring.answers.refusal_words import word_of


def seen(text: str) -> set[str]:
    return features(normalized_sentences(text), weights())


def test_numbers_titles_and_topics_are_not_seen() -> None:
    lora = seen('In 2021, "LoRA: Low-Rank Adaptation" reported 0.37 more blimpwugs.')
    assert lora == seen('In 1998, "A Nothing That Cannot Answer" reported 12 more frobgnaxes.')
    assert not any("blimpwug" in name or "2021" in name for name in lora)


def test_what_an_indirect_question_asks_is_not_seen() -> None:
    assert seen("The papers do not say which won.") == seen("The papers do not say which of 48 teams lost twice.")


def test_words_of_one_kind_are_exchangeable_where_the_word_is_rare() -> None:
    assert word_of("manuscripts").kind == word_of("papers").kind == "SOURCE"
    assert word_of("disclosed").kind == word_of("stated").kind == "SAYed"
    assert word_of("told").stem == "tell"


def test_a_refusal_stays_one_whoever_the_source_and_whatever_the_topic() -> None:
    for source in ("papers", "manuscripts", "snippets", "articles"):
        for topic in ("the price of zinc in 1931", "who won", "the zorbification rate"):
            assert is_refusal(f"The {source} do not mention {topic}.")


def test_an_empty_answer_has_the_constant_term_and_a_few_counts_only() -> None:
    assert not is_refusal("")
    assert log_odds(["zorb"]) < 0
    assert CONSTANT in weights()


@pytest.mark.parametrize(
    "text",
    [
        "I'm doing well, thank you!",
        "Hi! What can I do for you?",
        "I'm sorry to hear that.",
        "I'm here to help.",
        "Mir geht es gut, danke.",
        "Bonjour, que puis-je faire pour vous ?",
        "您好，需要什么帮助？",
        "お役に立ててうれしいです。",
        "도움이 되어 기쁩니다.",
    ],
)
def test_small_talk_is_no_refusal(text: str) -> None:
    assert not is_refusal(text)


def test_words_of_one_kind_are_one_in_every_language_and_topics_are_not_seen() -> None:
    assert kinds(["die arbeiten nennen den preis nicht"], "de") == ["SOURCE", "SAY", "QUANTITY", "NOT"]
    assert kinds(["die studie nennt den preis nicht"], "de") == ["STUDY", "SAY", "QUANTITY", "NOT"]
    assert kinds(["论文没有提到塔斯马尼亚"], "zh") == ["SOURCE", "NOT", "SAY", "x"]
    assert kind_features(["论文没有提到铜"], "zh") == kind_features(["文章没有提到锡矿"], "zh")
    assert kinds(["답할 수 없습니다"], "ko")[:2] == ["ANSWER", "CANNOT"]


def test_traditional_chinese_is_read_as_simplified() -> None:
    assert kinds(["論文沒有說明參與者的數量"], "zh") == kinds(["论文没有说明参与者的数量"], "zh")
    assert is_refusal("所給的段落沒有記載這項資訊，我無法回答。")
    assert not is_refusal("作者沒有發現顯著的差異。")


@pytest.mark.parametrize(
    ("text", "language"), [("unbekannt", "de"), ("inconnu", "fr"), ("not stated", "en"), ("rien trouvé", "fr")]
)
def test_a_fragment_is_read_in_the_language_that_knows_its_words(text: str, language: str) -> None:
    assert max(("en", "de", "fr", "es", "it"), key=lambda code: known_share([text], code)) == language


@pytest.mark.parametrize(
    "text", ["Unbekannt.", "Keine Angabe.", "Inconnu.", "Rien trouvé.", "Not stated.", "N/A", "不明。", "記載なし。"]
)
def test_a_fragment_refuses(text: str) -> None:
    assert is_refusal(text)
