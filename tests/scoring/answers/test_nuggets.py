import pytest

from mlx_ragtune.records import Nugget
from mlx_ragtune.scoring.answers.negation import negated
from mlx_ragtune.scoring.answers.normalize import find_phrase, fold
from mlx_ragtune.scoring.answers.nuggets import correctness, nugget_state

LATENCY = Nugget("A merged model has no additional inference latency.", (("inference latency",),))
FROZEN = Nugget("The pre-trained weights are frozen.", (("weights",), ("frozen", "fixed")))
HUMAN = Nugget("It needs no human references.", (("human reference", "human annotation"),))
BOTH = (
    Nugget("Memory is 48GB.", (("48GB",),)),
    FROZEN,
    Nugget("It came in 2023.", (("2023",),), vital=False),
)


@pytest.mark.parametrize(
    ("text", "nugget", "expected"),
    [
        ("There is no additional inference latency.", LATENCY, "supported"),
        ("It doesn't add inference latency after merging.", LATENCY, "supported"),
        ("It works without extra inference latency.", LATENCY, "supported"),
        ("Inference latency is not increased.", LATENCY, "supported"),
        ("It adds inference latency.", LATENCY, "contradicted"),
        ("It is quick.", LATENCY, "unsupported"),
        ("The weights stay frozen.", FROZEN, "supported"),
        ("The weights are not frozen.", FROZEN, "contradicted"),
        ("The weights are never kept fixed.", FROZEN, "contradicted"),
        ("The weights are not only frozen but quantized.", FROZEN, "supported"),
        ("It is not slow, and the weights are frozen.", FROZEN, "supported"),
        ("It does not train them; the weights are frozen.", FROZEN, "supported"),
        ("Instead of training the weights, they are frozen.", FROZEN, "contradicted"),
        ("It needs no gold documents, labels or human references.", HUMAN, "supported"),
        ("It requires human annotations.", HUMAN, "contradicted"),
        ("Human references are not needed, unlike in work with human references.", HUMAN, "supported"),
    ],
)
def test_anchors_and_polarity_decide(text: str, nugget: Nugget, expected: str) -> None:
    assert nugget_state(text, nugget) == expected


def test_an_anchor_with_both_polarities_agrees() -> None:
    text = "Adapters add inference latency, while a merged LoRA has no inference latency."
    assert nugget_state(text, LATENCY) == "supported"


def test_an_anchor_that_the_nugget_does_not_spell_has_no_polarity() -> None:
    assert nugget_state("It is not four times slower.", Nugget("It is quick.", (("four times",),))) == "supported"


def test_a_nugget_without_anchors_is_never_supported() -> None:
    assert nugget_state("Anything.", Nugget("Anything.", ())) == "unsupported"


@pytest.mark.parametrize(
    ("text", "score", "label"),
    [
        ("48GB, and the weights are frozen.", 1.0, "CORRECT"),
        ("48GB is enough.", 0.5, "PARTIAL"),
        ("In 2023.", 0.0, "INCORRECT"),
        ("48GB, but the weights are not frozen.", 0.0, "INCORRECT"),
        ("The papers do not say whether 48GB is enough or the weights are frozen.", 0.0, "NOT_ATTEMPTED"),
        ("", 0.0, "INCORRECT"),
    ],
)
def test_correctness_is_the_share_of_vital_nuggets(text: str, score: float, label: str) -> None:
    found = correctness(text, BOTH)
    assert (found.score, found.label) == (score, label)


def test_a_contradicted_okay_nugget_makes_zero_too() -> None:
    nuggets = (BOTH[0], Nugget("It is free.", (("free",),), vital=False))
    assert correctness("48GB, but not free.", nuggets).score == 0.0


def test_length_is_free() -> None:
    short = "48GB; weights frozen."
    long = short + " This sentence adds nothing at all to what was asked." * 5
    assert correctness(short, BOTH).score == correctness(long, BOTH).score == 1.0


def test_without_vital_nuggets_correctness_is_undefined() -> None:
    assert correctness("In 2023.", BOTH[2:]).score is None
    assert correctness("In 2023.", ()).label is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it cannot use X", True),
        ("it uses X rather than Y", False),
        ("it uses Y rather than X", True),
        ("it fails to reach X", True),
        ("no one would have thought that after all these many years of work X", False),
        ("it lacks X", True),
        ("X isn't used", True),
        ("it is not Y but X", False),
    ],
)
def test_the_scope_of_a_negation(text: str, expected: bool) -> None:
    folded = fold(text)
    assert negated(folded, find_phrase(folded, "X")[0]) is expected
