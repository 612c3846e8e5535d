"""Each check rejects what it should, with a fixed reason, and nothing else."""

from dataclasses import replace

import pytest

from mlx_ragtune.records import Evidence, Pair
from mlx_ragtune.synthesis.checks import (
    check_pair,
    length_in,
    names_its_source,
    not_a_copy,
    numbers_shown,
    one_line,
    plain_prose,
    quote_in,
    stands_alone,
    titles_quoted,
)
from mlx_ragtune.synthesis.repairs import repair_pair
from tests.synthesis.corpus import METHODS, grounded, near_miss, off_corpus, synthesis, text_of, title_of

TEXT = "QLoRA reduces the memory of a 65B model from more than 780GB to less than 48GB, on one\n GPU."
SOURCES = {name.lower(): text_of(name) for name in METHODS}
TITLES = {name.lower(): title_of(name) for name in METHODS}


@pytest.mark.parametrize(
    "quote",
    [
        "from more than 780GB to less than 48GB",
        "less than 48GB, on one GPU",
        "  QLoRA   reduces the memory\tof a 65B model ",
        "QLoRA reduces the memory of a 65B model from more then 780GB",
        "65B",
    ],
)
def test_a_quote_is_found_whatever_its_white_space_and_with_a_small_slip(quote: str) -> None:
    assert quote_in(quote, TEXT) is None


@pytest.mark.parametrize(
    ("quote", "reason"),
    [
        ("QLoRA increases the speed of small models by a lot", "evidence quote not in the text"),
        ("33B", "evidence quote not in the text"),
        ("", "evidence quote not in the text"),
        ("...", "evidence quote not in the text"),
        ("QLoRA reduces the memory of a 33B model from more than 780GB", "evidence quote has other numbers"),
        (TEXT + " And then a great deal more that the paper never said.", "evidence quote not in the text"),
    ],
)
def test_a_quote_that_the_text_does_not_hold_is_rejected(quote: str, reason: str) -> None:
    assert quote_in(quote, TEXT) == reason


def test_nothing_is_quoted_from_an_empty_text() -> None:
    assert quote_in("some words that are quoted", "") == "evidence quote not in the text"


def test_composed_and_decomposed_letters_are_the_same() -> None:
    assert one_line("Pe\u0301rez\n  et al.") == "Pérez et al."
    assert quote_in("Pe\u0301rez et al. measured it", "As Pérez et al. measured it, …") is None


def test_every_number_must_be_shown() -> None:
    assert numbers_shown("It needs 48 GB for 65 billion parameters.", [TEXT.replace("\n", " ")]) is None
    assert numbers_shown("It needs 24GB.", [TEXT]) == "number that is not in the source"
    assert numbers_shown("It needs less memory.", [TEXT]) is None


def test_the_full_title_stands_in_double_quotes() -> None:
    title = "QLoRA: Efficient Finetuning of Quantized LLMs"
    assert titles_quoted(f"As “{title}” shows, it fits.", [title]) is None
    assert titles_quoted(f'As shown in "{title.lower()}," it fits.', [title]) is None
    assert titles_quoted(f'As "{title} shows, it fits.', [title]) == "title not cited in double quotes"
    assert titles_quoted("As QLoRA shows, it fits.", [title]) == "title not cited in double quotes"
    assert titles_quoted(f"As {title} shows, it fits.", [title]) == "title not cited in double quotes"


@pytest.mark.parametrize(
    "text",
    [
        "This paper shows it.",
        "It was found by the authors of this study.",
        "The provided context says so.",
        "According to the passage, it is 5.",
        "These papers agree.",
        "As stated in the text, it is 5.",
    ],
)
def test_an_answer_does_not_speak_of_this_paper_or_the_passage(text: str) -> None:
    assert names_its_source(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        'The authors of "LoRA" report it.',
        "The RAGAS paper measures it.",
        "The model reads the passages that were retrieved.",
        "It ranks the text of each document.",
        "It beats approaches that work on vectors in the context of search, and this works well.",
    ],
)
def test_an_answer_may_speak_of_papers_by_name_and_of_passages_as_a_subject(text: str) -> None:
    assert names_its_source(text) is None


def test_lists_headings_and_thinking_are_not_prose() -> None:
    assert plain_prose("It is plain.") is None
    for text in ("# Answer\nIt is.", "- one\n- two", "<think>\n\n</think>It is.", ""):
        assert plain_prose(text) == "not plain prose"


def test_an_answer_that_only_repeats_the_question_is_rejected() -> None:
    question = "How much memory does QLoRA save?"
    assert not_a_copy("How much memory does QLoRA save.", question) == "answer repeats the question"
    assert not_a_copy("QLoRA does save memory.", question) == "answer repeats the question"
    assert not_a_copy("How much memory does QLoRA really save.", question) == "answer repeats the question"
    assert not_a_copy("QLoRA does save 17 percent memory.", question) is None
    copied = '"A Study of QLoRA" QLoRA does save memory.'
    assert not_a_copy(copied, question, ["A Study of QLoRA"]) == "answer repeats the question"


@pytest.mark.parametrize(
    "question",
    [
        "What does the paper propose?",
        "What do the authors report about memory?",
        "What is shown in this study?",
        "Which gains does the proposed method bring?",
        "According to the text, what is LoRA?",
        "Tell me about LoRA and its memory.",
        "What is LoRA?",
    ],
)
def test_a_question_that_needs_the_passage_to_be_understood_is_rejected(question: str) -> None:
    assert stands_alone(question) is not None


@pytest.mark.parametrize(
    "question",
    [
        'What does the paper "LoRA: Low-Rank Adaptation" propose?',
        "What do the authors of LoRA report about memory?",
        "What do the LoftQ authors report about memory?",
        "How does LoRA encode the update of a weight matrix?",
    ],
)
def test_a_question_that_names_its_subject_stands_alone(question: str) -> None:
    assert stands_alone(question) is None


@pytest.mark.parametrize("pair", [grounded("LoRA"), synthesis("LoRA", "CRAG"), near_miss("LoRA"), off_corpus(1)])
def test_a_sound_pair_passes(pair: object) -> None:
    assert check_pair(pair, SOURCES, TITLES) is None  # type: ignore[arg-type]


def test_each_fault_of_a_pair_has_its_reason() -> None:
    good = grounded("LoRA")
    quoted = f'"{title_of("LoRA")}"'
    faults = {
        "question does not end in a question mark": replace(good, question="Tell me how LoRA saves."),
        "no evidence quote": replace(good, evidence=()),
        "evidence quote not in the text": replace(
            good, evidence=(Evidence("lora", "something that it never says at all"),)
        ),
        "title not cited in double quotes": replace(good, answer="LoRA saves 10 percent of the memory."),
        "number that is not in the source": replace(good, answer=f"{quoted} reports that LoRA saves 99 percent."),
        "speaks of 'this paper' or the passage": replace(good, answer=f"{quoted}: this paper saves 10 percent."),
        "not plain prose": replace(good, answer=f"- {quoted} reports\n- that it saves 10 percent"),
        "answer too short or too long": replace(good, answer=f"{quoted} reports it. " + "So it is. " * 60),
        "answer repeats the question": replace(good, answer=f"{quoted} how much memory does LoRA save in case 0"),
        "answer breaks off": replace(good, answer=f"{quoted} reports that it saves 10 percent of the"),
        "cites a paper that is not its source": replace(
            good, answer=f'{quoted} and "{title_of("CRAG")}: Other Findings on Corpora" report 10 percent.'
        ),
        "answer is not in the words of its source": replace(
            good, answer=f"{quoted} teaches elephants gardening beneath purple waterfalls during thunderstorms."
        ),
        "evidence quote too short": replace(good, evidence=(Evidence("lora", "its main benchmark"),)),
        "speaks as a chat assistant": replace(good, answer=f"Sure! Here is the answer: {good.answer}"),
        "question and answer in different languages": replace(
            good, question="Wie viel Speicher spart das Verfahren LoRA in diesem Versuch?"
        ),
        "repeats itself": replace(good, answer=good.answer.replace("memory", "memory memory memory memory")),
        "link that is not in the source": replace(good, answer=f"{good.answer} See https://example.org/lora."),
        "question about the title": replace(good, question="What is the title of the paper that introduced LoRA?"),
        "refusal where an answer is due": replace(
            good, answer=f"The papers do not mention the memory, {quoted} included."
        ),
    }
    for reason, pair in faults.items():
        assert check_pair(pair, SOURCES, TITLES) == reason


def test_a_synthesis_pair_needs_evidence_and_a_title_from_each_paper() -> None:
    good = synthesis("LoRA", "CRAG")
    assert check_pair(replace(good, evidence=good.evidence[:1]), SOURCES, TITLES) == "a paper without evidence"
    one = replace(good, answer=f'"{title_of("LoRA")}" saves less memory than CRAG does.')
    assert check_pair(one, SOURCES, TITLES) == "title not cited in double quotes"


def test_a_refusal_must_refuse() -> None:
    pair = replace(near_miss("LoRA"), answer="LoRA is trained with Adam for a few epochs on text.")
    assert check_pair(pair, SOURCES, TITLES) == "refusal that does not refuse"
    rambling = replace(pair, answer="The papers do not say. " * 5)
    assert check_pair(rambling, SOURCES, TITLES) == "answer too short or too long"


@pytest.mark.parametrize(
    "source",
    ["It fell by 2. 6 points to 10, 000 with gpt - 3. 5.", "It fell by 2.6 points to 10,000 with GPT-3.5."],
)
def test_a_number_may_be_spaced_as_text_layers_space_it(source: str) -> None:
    assert numbers_shown("It fell by 2.6 points to 10,000 with GPT-3.5.", [source]) is None
    assert numbers_shown("It fell by 6.2 points.", [source]) == "number that is not in the source"


def test_a_quote_with_another_negation_is_not_in_the_text() -> None:
    text = "The method does not need any labels, and it is trained on text of the web for a few hours on one GPU."
    quote = "The method does need any labels, and it is trained on text of the web for a few hours on one GPU."
    assert quote_in(quote, text) == "evidence quote not in the text"
    assert quote_in(text.replace("labels,", "labels"), text) is None


@pytest.mark.parametrize(
    "question",
    [
        "How does it compare with LoRA in speed?",
        "How do the two approaches differ in speed?",
        "What does Paper 2 add?",
        "By how much did it raise the acidity of soil?",
        "Which data sets did they use for training?",
        "How many layers of weights does it have?",
        "Does it run on a single GPU?",
        "What is it used for in practice?",
    ],
)
def test_a_question_with_a_dangling_subject_is_rejected(question: str) -> None:
    assert stands_alone(question) == "question does not say which paper or method"


@pytest.mark.parametrize(
    "question",
    [
        "Why is it important to quantize the weights of LoRA?",
        "How much memory does it take to train a 65B model?",
        "Is it possible to train LoRA on one GPU?",
        "How does LoRA save memory, and what does it cost?",
        "What happens to the gradients of LoRA when they vanish?",
    ],
)
def test_a_pronoun_that_the_question_explains_is_no_dangling_subject(question: str) -> None:
    assert stands_alone(question) is None


def test_the_words_of_a_cited_title_are_not_the_length_of_a_question() -> None:
    title = " ".join(f"Word{number}" for number in range(60))
    assert stands_alone(f'Which optimizer does "{title}" use in the paper?', [title]) is None
    assert stands_alone(f'What does "{title}" say?', [title]) == "question too short or too long"


def test_the_window_of_each_kind_comes_from_the_recipe() -> None:
    windows = {"grounded": (6, 8), "synthesis": (1, 9), "refusal": (4, 90)}
    reason = "answer too short or too long"
    assert check_pair(grounded("LoRA"), SOURCES, TITLES, windows) == reason  # type: ignore[arg-type]
    windows["grounded"] = (6, 80)
    assert check_pair(grounded("LoRA"), SOURCES, TITLES, windows) is None  # type: ignore[arg-type]
    assert check_pair(synthesis("LoRA", "CRAG"), SOURCES, TITLES, windows) == reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ("It took 3 sessions with 54 subjects.", False),
        ("It took 54 sessions with 3 subjects.", True),
        ("As Table 2 shows, it took 3 sessions.", False),
        ("As Table 3 shows, it took 3 sessions.", True),
        ("It took 3 sessions [17].", False),
        ("It took 3 sessions [19].", True),
        ("It has 9,991 examples and 24 documents.", False),
    ],
)
def test_a_number_stands_beside_the_same_word_as_in_the_source(answer: str, wrong: bool) -> None:
    between = "The rooms were lit by lamps of the same kind, and nothing was moved while the people were there. "
    source = f"54 subjects took part. {between}There were 3 sessions, see **Table** 2 [ 17 ]. {between}"
    source += f"It has 9 991 examples. {between}The number of documents was set to 24, then to the top 6 documents."
    reason = "number beside another word than in the source" if wrong else None
    assert numbers_shown(answer, [source]) == reason


@pytest.mark.parametrize(
    ("question", "answer", "wrong"),
    [
        ("What does Figure 4 show?", "Figure 4 shows the loss.", False),
        ("What does Figure 4 show?", "It shows the loss, as does Figure 5.", True),
        ("What does Figure 4 show?", "It shows the loss.", False),
        ("What changes from Figure 4 to Figure 5?", "Figure 5 has 2 curves.", False),
        ("Where are the results?", "Section 4 presents the results.", False),
        ("Where are the results?", "Section 6 presents the results.", True),
        ("Which sections are there?", "Sections 3 and 4, and Appendix 2.", False),
        ("How does it change?", "From row #7 to row #8 it falls, as Eq. (2) says.", False),
        ("How does it change?", "From row #7 to row #2 it falls.", True),
        ("How does it change?", "It falls as in Eq. (4).", True),
    ],
)
def test_numbered_parts_of_a_paper_are_those_of_source_and_question(question: str, answer: str, wrong: bool) -> None:
    source = (
        "Figure 4: the loss. Figure 5 has 2 curves and 6 points. Section 3 describes the data, and section 4 presents "
        "the results. From row # 7 to row # 8 it falls as in equation ( 2 )."
    )
    reason = "number beside another word than in the source" if wrong else None
    assert numbers_shown(answer, [source], question=question) == reason


CHINESE = "电池在标准光照下的效率达到百分之十七。在四十摄氏度下放置一千小时之后，效率下降了百分之三。"
CHINESE_TITLE = "量子点太阳能电池的研究"


@pytest.mark.parametrize("marks", ["“{}”", "《{}》", '"{}"'])
def test_a_chinese_pair_passes_whatever_its_quotation_marks(marks: str) -> None:
    pair = Pair(
        "p", "grounded", "量子点太阳能电池放置一千小时之后效率下降了多少？",
        f"{marks.format(CHINESE_TITLE)}指出，在四十摄氏度下放置一千小时之后，效率下降了百分之三。", ("zh",),
        (Evidence("zh", "在四十摄氏度下放置一千小时之后，效率下降了百分之三。"),),
    )  # fmt: skip
    assert check_pair(pair, {"zh": CHINESE}, {"zh": CHINESE_TITLE}) is None
    assert repair_pair(pair, [CHINESE_TITLE], [CHINESE]).pair.answer.count(CHINESE_TITLE) == 1
    missing = replace(pair, answer="在四十摄氏度下放置一千小时之后，效率下降了百分之三。")
    repaired = repair_pair(missing, [CHINESE_TITLE], [CHINESE]).pair
    assert repaired.answer == f'在四十摄氏度下放置一千小时之后，效率下降了百分之三 ("{CHINESE_TITLE}")。'
    assert check_pair(repaired, {"zh": CHINESE}, {"zh": CHINESE_TITLE}) is None


def test_a_german_answer_gets_its_title_in_brackets() -> None:
    source = "Die Brote bei 4 Grad schimmelten am neunzehnten Tag der Lagerung, und das Mehl war nicht wichtig."
    evidence = (Evidence("brot", source),)
    pair = Pair("p", "grounded", "Wann schimmelten die Brote bei 4 Grad?", source, ("brot",), evidence)
    repaired = repair_pair(pair, ["Kalt gelagertes Brot"], [source]).pair
    assert repaired.answer == f'{source[:-1]} ("Kalt gelagertes Brot").'
    assert check_pair(repaired, {"brot": source}, {"brot": "Kalt gelagertes Brot"}) is None


def test_a_character_of_chinese_is_a_part_of_a_word_in_the_length_of_a_text() -> None:
    assert length_in("电" * 200, (6, 140), of="answer") is None
    assert length_in("电" * 240, (6, 140), of="answer") == "answer too short or too long"
    assert length_in("电" * 6, (4, 45), of="question") == "question too short or too long"
