"""Fields outside a corpus are found by what the corpus retrieves, not assumed."""

from mlx_ragtune.records import Chunk
from mlx_ragtune.synthesis.off_corpus import FIELDS, is_near, off_corpus_fields
from tests.synthesis.corpus import WordRetriever
from tests.synthesis.writer import note_chunks


def chunk(text: str) -> Chunk:
    return Chunk("c-0", "c", "A Title", "", 1, 0, len(text), text)


def test_a_corpus_on_cooking_is_asked_about_computing_and_not_about_bread() -> None:
    bread = chunk("The sourdough is fed with flour. The dough rests, the yeast works, and the loaf bakes in an oven.")
    fields = off_corpus_fields(WordRetriever([bread]), seed=0)
    assert "bread baking" not in fields
    assert {"machine translation", "cryptography"} <= set(fields)


def test_a_corpus_on_machine_learning_is_not_asked_about_what_it_covers() -> None:
    fields = off_corpus_fields(WordRetriever(note_chunks("rag", "lora", "qlora")), seed=0)
    assert {"bread baking", "sailing"} <= set(fields)
    translation = chunk("Machine translation maps a sentence of one language to a sentence of another.")
    assert "machine translation" not in off_corpus_fields(WordRetriever([translation]), seed=0)


def test_the_order_is_seeded_and_the_least_covered_come_first() -> None:
    half = chunk("A knight rode to the castle on a crusade. " * 2)
    wordy = WordRetriever([half, chunk("Rain and humidity.")])
    first, other = (off_corpus_fields(wordy, seed=seed) for seed in (0, 1))
    assert first == off_corpus_fields(wordy, seed=0)
    assert first != other
    assert set(first) == set(other)
    assert "medieval history" not in first
    assert first[-1] == other[-1] == "weather forecasts"


def test_every_field_has_six_words_of_its_own() -> None:
    assert len(FIELDS) > 50
    assert all(len(set(told_by.split())) == 6 for told_by in FIELDS.values())


def test_a_question_that_a_passage_may_answer_is_near_and_others_are_not() -> None:
    retriever = WordRetriever([*note_chunks("lora", "rag"), chunk("The sourdough starter is fed with flour twice.")])
    assert is_near("How often is a sourdough starter fed with flour?", retriever)
    assert is_near("Does low-rank adaptation train two small matrices?", retriever)
    assert not is_near("How long does bread flour keep?", retriever)
    assert not is_near("Who won the football world cup in 1998?", retriever)
    assert not is_near("?", retriever)
