"""A verdict says how many of its questions a person has seen."""

from mlx_ragtune.records import Origin, Question
from mlx_ragtune.scoring.verdict.origins import origin_counts, provenance
from tests.scoring.made import question


def asked(*origins: Origin) -> list[Question]:
    return [question(id=f"q{n}", origin=origin, writer="qwen3:4b") for n, origin in enumerate(origins)]


def test_reviewed_written_and_only_drafted_questions_are_counted() -> None:
    mixed = [*asked("reviewed") * 12, *asked("drafted") * 28]
    assert provenance(mixed) == "12 of 40 questions were reviewed by a person, 28 only drafted by qwen3:4b."
    assert origin_counts(mixed) == {"drafted": 28, "reviewed": 12}
    assert provenance([*mixed, *asked("authored")]) == (
        "12 of 41 questions were reviewed by a person, 1 written by one, 28 only drafted by qwen3:4b."
    )
    assert provenance(asked("reviewed", "reviewed")) == "2 of 2 questions were reviewed by a person."


def test_nothing_is_said_where_people_wrote_every_question() -> None:
    assert provenance(asked("authored", "authored")) == ""
