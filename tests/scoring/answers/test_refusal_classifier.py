from mlx_ragtune.scoring.answers.refusal import is_refusal, normalized_sentences
from mlx_ragtune.scoring.answers.refusal_classifier import CONSTANT, log_odds, weights
from mlx_ragtune.scoring.answers.refusal_features import features
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
