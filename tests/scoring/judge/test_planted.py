import pytest

from mlx_ragtune.records import Nugget
from mlx_ragtune.scoring.judge.planted import FABRICATED_TITLE, GoodAnswer, Kind, plant
from tests.scoring.made import question

TITLE = '"LoRA 2021: Low-Rank Adaptation"'
GOOD = GoodAnswer(
    question(id="a", nuggets=(Nugget("The weights are frozen.", (("weights",), ("frozen",))),)),
    f"According to {TITLE}, the weights are frozen. It needs 1,000 steps at rank 4.5.",
    "contexts",
)
OTHER = GoodAnswer(
    question(id="b", nuggets=(Nugget("Faithfulness is checked.", (("faithfulness",),)),)),
    "RAGAS checks faithfulness.",
    "contexts",
)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("number_changed", f"According to {TITLE}, the weights are frozen. It needs 14,000 steps at rank 17.5."),
        ("negated", f"According to {TITLE}, the weights are not frozen. It needs 1,000 steps at rank 4.5."),
        ("entity_swapped", f"According to {TITLE}, the faithfulness are frozen. It needs 1,000 steps at rank 4.5."),
        ("other_answer", "RAGAS checks faithfulness."),
        ("nugget_dropped", "It needs 1,000 steps at rank 4.5."),
        (
            "fabricated_title",
            f'According to "{FABRICATED_TITLE}", the weights are frozen. It needs 1,000 steps at rank 4.5.',
        ),
        ("cut_at_3_words", "According to LoRA"),
    ],
)
def test_each_error_is_planted_and_titles_are_left_alone(kind: Kind, expected: str) -> None:
    assert plant(GOOD, OTHER)[kind] == expected


def test_what_cannot_be_spoilt_that_way_is_absent() -> None:
    bare = GoodAnswer(question(id="c", nuggets=()), "Yes indeed.", "")
    assert set(plant(bare, OTHER)) == {"negated", "other_answer"}
    assert "other_answer" not in plant(bare, bare)


def test_a_negation_is_taken_away_or_put_in_front() -> None:
    def negated(text: str) -> str:
        return plant(GoodAnswer(question(nuggets=()), text, ""), OTHER)["negated"]

    assert negated("It is not slow.") == "It is slow."
    assert negated("It runs fast.") == "It is not true that it runs fast."
