import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import parse_row
from mlx_ragtune.scoring.answers.probes import Probe, passes, read_probes

GENERAL = Path(__file__).parents[3] / "data" / "probes" / "general.jsonl"
PROBES = read_probes(GENERAL)

each_probe = pytest.mark.parametrize("probe", PROBES, ids=[probe.id for probe in PROBES])


def probe(check: dict[str, Any]) -> Probe:
    row = {"id": "p", "category": "fact", "prompt": "?", "check": check, "good": "x", "bad": "y"}
    return parse_row(Probe, row, where="test")


def number(value: float) -> Probe:
    return probe({"type": "number", "value": value})


# --- the probes that ship


def test_there_are_at_least_66_probes_and_eleven_of_every_category() -> None:
    assert len(PROBES) >= 66
    counts = Counter(probe.category for probe in PROBES)
    assert set(counts) == {"format", "arithmetic", "fact", "code", "translation", "reasoning"}
    assert min(counts.values()) >= 11


def test_half_of_the_probes_of_every_category_but_one_are_easy() -> None:
    assert 2 * sum(probe.easy for probe in PROBES) >= len(PROBES)
    for category in {probe.category for probe in PROBES}:
        assert sum(probe.easy for probe in PROBES if probe.category == category) >= 6


def test_every_kind_of_check_is_used() -> None:
    kinds = {probe.check.type for probe in PROBES}
    assert kinds == {
        "number", "contains_any", "exact", "regex", "json_keys", "word_count", "line_count",
    }  # fmt: skip


def test_no_prompt_is_asked_twice() -> None:
    assert [text for text, count in Counter(probe.prompt for probe in PROBES).items() if count > 1] == []


@each_probe
def test_the_good_answer_passes(probe: Probe) -> None:
    assert passes(probe, probe.good)
    assert passes(probe, f"\n {probe.good}  \n")


@each_probe
def test_the_bad_answer_fails(probe: Probe) -> None:
    assert not passes(probe, probe.bad)


@each_probe
@pytest.mark.parametrize("empty", ["", " ", "\n\n\t "])
def test_an_empty_answer_fails(probe: Probe, empty: str) -> None:
    assert not passes(probe, empty)


@each_probe
def test_repeating_the_prompt_fails(probe: Probe) -> None:
    assert not passes(probe, probe.prompt)


# A check of length alone accepts any sentence that is short enough.
@pytest.mark.parametrize("probe", [one for one in PROBES if one.check.type != "word_count"], ids=lambda probe: probe.id)
@pytest.mark.parametrize(
    "answer",
    [
        "The provided papers do not contain this information.",
        'According to "Attention Is All You Need", the model uses attention.',
        "I cannot answer that from the context.",
    ],
)
def test_an_answer_in_the_tuned_style_to_a_general_question_fails(probe: Probe, answer: str) -> None:
    assert not passes(probe, answer)


@each_probe
def test_endless_repetition_fails(probe: Probe) -> None:
    assert not passes(probe, "the the the the " * 300)


# --- one checker at a time


@pytest.mark.parametrize(
    ("value", "answer", "passed"),
    [
        (12, "12", True),
        (12, "7 + 5 = 12.", True),
        (12, "**12**", True),
        (12, "12.0", True),
        (12, "$\\boxed{12}$", True),
        (12, "12 dollars", True),
        (12, "12%", True),
        (12, "It takes 12km.", True),
        (12, "The answer is 112", False),
        (12, "The answer is 12.5", False),
        (12, "12 or maybe 13", False),
        (12, "twelve", False),
        (12, "x12", False),
        (12, "-12", False),
        (-12, "-12", True),
        (-12, "it is −12 degrees", True),
        (3, "8-3", True),
        (-3, "8-3", False),
        (12345, "12,345", True),
        (345, "12,345", False),
        (2, "1, 2", True),
        (2, "1,2", True),
        (0.5, "about 0.5", True),
        (0, "none", False),
    ],
)
def test_number_takes_the_last_number_of_the_answer(value: float, answer: str, passed: bool) -> None:
    assert passes(number(value), answer) is passed


@given(st.integers(min_value=-(10**9), max_value=10**9))
def test_number_reads_any_integer_plain_or_with_grouped_thousands(value: int) -> None:
    for text in (f"{value}", f"{value:,}", f"The answer is {value:,}.", f"5 + 7 is not {value}"):
        assert passes(number(value), text)
    assert not passes(number(value + 1), f"The answer is {value}.")


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        ("Paris", True),
        ("It is PARIS, of course.", True),
        ("the city of light", True),
        ("Parisian", False),
        ("Paris or Lyon", False),
        ("Rome", False),
    ],
)
def test_contains_any_needs_an_alias_as_whole_words_and_nothing_excluded(answer: str, passed: bool) -> None:
    check = {"type": "contains_any", "aliases": ["Paris", "city of light"], "none_of": ["Lyon"]}
    assert passes(probe(check), answer) is passed


def test_contains_any_does_not_care_how_accents_and_apostrophes_are_encoded() -> None:
    check = {"type": "contains_any", "aliases": ["buenos días", "je t'aime"]}
    assert passes(probe(check), "Buenos di\u0301as")
    assert passes(probe(check), "Je t’aime")
    assert not passes(probe(check), "Je taime")


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        ("Foot", True),
        ("**foot**.", True),
        ('"Feet!"', True),
        ("my foot", False),
        ("foot\nfeet", False),
        (".", False),
    ],
)
def test_exact_forgives_case_quotes_emphasis_and_the_final_stop_only(answer: str, passed: bool) -> None:
    assert passes(probe({"type": "exact", "values": ["foot", "feet"]}), answer) is passed


@pytest.mark.parametrize(
    ("answer", "passed"),
    [("blue", True), ("'blue'", True), ("BLUE", False), ("blue sky", False)],
)
def test_regex_is_searched_as_written_with_case(answer: str, passed: bool) -> None:
    assert passes(probe({"type": "regex", "pattern": r"\A\W*blue\W*\Z"}), answer) is passed


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        ('{"name": "Ann", "age": 30}', True),
        ('```json\n{"age": 30, "name": null}\n```', True),
        ('```\n{"age": 30, "name": "Ann"}\n```', True),
        ('{"name": "Ann"}', False),
        ('{"name": "Ann", "age": 30, "city": "Rome"}', False),
        ('Here it is: {"name": "Ann", "age": 30}', False),
        ('["name", "age"]', False),
        ('{"name": "Ann", "age": 30', False),
        ("{'name': 'Ann', 'age': 30}", False),
        ("[" * 100_000, False),
    ],
)
def test_json_keys_wants_one_object_with_exactly_these_keys(answer: str, passed: bool) -> None:
    assert passes(probe({"type": "json_keys", "keys": ["name", "age"]}), answer) is passed


@pytest.mark.parametrize(("words", "passed"), [(1, False), (2, True), (4, True), (5, False)])
def test_word_count_includes_both_ends(words: int, passed: bool) -> None:
    assert passes(probe({"type": "word_count", "least": 2, "most": 4}), " ".join(["w"] * words)) is passed


@pytest.mark.parametrize(
    ("answer", "passed"), [("a\nb\nc", True), ("a\n\nb\n\nc\n", True), ("a\nb", False), ("a, b, c", False)]
)
def test_line_count_counts_lines_that_are_not_blank(answer: str, passed: bool) -> None:
    assert passes(probe({"type": "line_count", "least": 3, "most": 3}), answer) is passed


@given(st.text(max_size=200))
def test_no_answer_makes_a_checker_raise(answer: str) -> None:
    for one in PROBES:
        assert passes(one, answer) in (True, False)


# --- reading


def row(**changes: Any) -> dict[str, Any]:
    return {
        "id": "one",
        "category": "arithmetic",
        "prompt": "What is 1 + 1?",
        "check": {"type": "number", "value": 2},
        "good": "2",
        "bad": "3",
    } | changes


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "probes.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def test_probes_are_read_in_order(tmp_path: Path) -> None:
    probes = read_probes(written(tmp_path, row(id="b"), row(id="a")))
    assert [probe.id for probe in probes] == ["b", "a"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"good": "3"}, "its own good answer fails"),
        ({"bad": "It is 2."}, "its bad answer passes"),
        ({"good": ""}, "its own good answer fails"),
        ({"check": {"type": "regex", "pattern": "(a+)+b"}}, "repeats a group"),
        ({"check": {"type": "regex", "pattern": "(2"}}, "not a regular expression"),
        ({"check": {"type": "word_count", "least": 3, "most": 2}}, "no count lies between 3 and 2"),
    ],
)
def test_a_probe_that_contradicts_itself_is_refused(tmp_path: Path, changes: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_probes(written(tmp_path, row(**changes)))
    assert "'one'" in str(caught.value)
    assert "probes.jsonl" in caught.value.where


@pytest.mark.parametrize(
    "changes",
    [
        {"check": {"type": "numbers", "value": 2}},
        {"check": {"type": "number", "value": 2, "tolerance": 1}},
        {"check": {"type": "contains_any", "aliases": []}},
        {"check": {"type": "line_count", "least": 0, "most": 2}},
        {"category": "poetry"},
        {"expected": "2"},
    ],
)
def test_an_unknown_kind_key_or_empty_list_is_refused_with_file_and_line(tmp_path: Path, changes: Any) -> None:
    with pytest.raises(InputError, match="not a Probe") as caught:
        read_probes(written(tmp_path, row(), row(id="two", **changes)))
    assert caught.value.where.endswith("probes.jsonl:2")


def test_an_id_used_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="used twice"):
        read_probes(written(tmp_path, row(), row(prompt="What is 2 + 0?")))


def test_a_file_without_probes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file has no probes"):
        read_probes(written(tmp_path))
