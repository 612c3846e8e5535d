import pytest

from mlx_ragtune.scoring.answers.negation import denied, negated
from mlx_ragtune.scoring.answers.normalize import find_phrase, fold


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is not only X but Y.", False),
        ("It needs no less than X.", False),
        ("It does not change until X.", False),
        ("There is no doubt that X holds.", False),
        ("It does not fail to reach X.", False),
        ("It does not work without X.", False),
        ("Without Y, X is used.", False),
        ("Unlike Y, X is used.", False),
        ("It works without Y or X.", True),
        ("It doesn't and, as all of the authors of the other study say, will X.", False),
        ("It does not fall from more than 780GB of memory all the way down to X.", True),
        ("Es wird nicht X verwendet.", True),
        ("Es ist nicht nur X, sondern Y.", False),
        ("Il n'utilise pas X.", True),
        ("模型没有使用X。", True),
        ("Xではない。", True),
        ("none other than X", False),
    ],
)
def test_what_negates_its_clause(text: str, expected: bool) -> None:
    folded = fold(text)
    assert negated(folded, find_phrase(folded, "X")[0]) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is not true that, as they say, Y is much more than X.", True),
        ("It is not true that Y. It is X.", False),
        ("It is not true that it is Y; it is X.", False),
        ("It is not true that it is Y, but it is X.", False),
        ("It is not false that X.", False),
        ("The claim that X suffices is wrong.", True),
        ("The claim that Y suffices is wrong. It is X.", False),
        ("It is X. This is false.", True),
        ("It is X, which is not correct.", True),
        ("If X is wrong, it searches again.", False),
        ("Nobody denies that X.", False),
        ("The authors deny that X.", True),
        ("Contrary to what the paper claims, it is X.", True),
        ("Contrary to popular belief, it is X.", False),
        ("Contrary to the claim that it is Y, it is X.", False),
        ("It is X, contrary to what the authors report.", True),
        ("Es ist falsch, dass es X ist.", True),
        ("Il est faux que ce soit X.", True),
        ("它是X,这是错误的。", True),
    ],
)
def test_what_denies_a_statement(text: str, expected: bool) -> None:
    folded = fold(text)
    assert denied(folded, find_phrase(folded, "X")[0]) is expected
