"""A fact and a sentence that states it in another notation, or states something else; only the notation is tried."""

import pytest

from mlx_ragtune.records import Nugget
from mlx_ragtune.scoring.answers.normalize import fold
from mlx_ragtune.scoring.answers.nuggets import nugget_state

SAME = [
    ("95%", "Accuracy is 95 pct overall."),
    ("10 µm", "Dust was ground to 10 micrometres."),
    ("half", "It is 50% of the first."),
    ("half", "It is half the size."),
    ("40 km/h", "It runs at 40 km h⁻¹."),
    ("40 km/h", "It runs at 40 kilometers per hour."),
    ("30 tokens per second", "It decodes 30 tokens/s."),
    ("20 tonnes per hectare", "They spread 20 t/ha."),
    ("first", "It is the 1st one."),
    ("3rd", "It is the third layer."),
    ("21st", "It is the twenty-first layer."),
    ("CO2", "The gas is CO$_2$."),
    ("O(n log n)", r"It runs in \(\mathcal{O}(n\log n)\)."),
    ("5 ± 0.2", "It is 5 +/- 0.2."),
    ("pre-trained", "It is pretrained."),
    ("fine-tuning", "Finetuning takes a week."),
    ("> 48 GB", "It needs more than 48 GB."),
    ("at most 5", "It has at most 5 layers."),
    ("p < 0.05", "The effect is significant (p<.05)."),
    ("10⁻³", "A rate of one thousandth is used."),
    ("γ = 0.99", "With gamma equal to 0.99 it learns."),
    ("γ = 0.99", "With a γ of 0.99 it learns."),
    ("R²", "The R2 is high."),
    ("L2", r"The $\ell_2$ norm is used."),
    ("$1,000", "It costs USD 1,000."),
    ("£20", "It costs 20 pounds."),
    ("vingt et un", "Il y a 21 toits et une maison."),
    ("quatre-vingt-dix", "Il y a 90 toits et une maison."),
    ("육 분", "갈매기는 6분 전에 떠난다."),
    ("6분", "갈매기는 여섯 분 전에 떠난다."),
    ("10% to 20%", "Between 10 and 20 percent."),
    ("x ≥ 0", "Only when x >= 0 holds."),
    ("less than 1%", "It is <1%."),
]
OTHER = [
    ("p < 0.05", "The effect is not significant (p > 0.05)."),
    ("> 48 GB", "It needs less than 48 GB."),
    ("more than 48 GB", "It needs no more than 48 GB."),
    ("half", "It is 5% of the first."),
    ("first", "It is the 2nd one."),
    ("21st", "It is the twenty-second layer."),
    ("40 km/h", "It runs at 40 m/s."),
    ("30 tokens/s", "It decodes 30 tokens per minute."),
    ("p < 0.05", "The effect has p = 0.05."),
    ("γ = 0.99", "With a γ of 0.9 it learns."),
    ("less than 1%", "It is >1%."),
    ("육 분", "갈매기는 16분 전에 떠난다."),
    ("quatre-vingt-dix", "Il y a 80 toits et une maison."),
    ("95%", "The accuracy was supposed to be 95%, but it was not."),
]


@pytest.mark.parametrize(("fact", "sentence"), SAME)
def test_another_notation_states_the_fact(fact: str, sentence: str) -> None:
    assert nugget_state(sentence, Nugget(fact, ((fact,),))) == "supported"


@pytest.mark.parametrize(("fact", "sentence"), OTHER)
def test_another_value_or_limit_does_not(fact: str, sentence: str) -> None:
    assert nugget_state(sentence, Nugget(fact, ((fact,),))) != "supported"


def test_a_limit_of_the_fact_holds_for_an_anchor_without_it() -> None:
    nugget = Nugget("Training needs more than 48 GB.", (("48 GB",),))
    assert nugget_state("Training needs over 48 GB.", nugget) == "supported"
    assert nugget_state("Training needs 48 GB.", nugget) == "supported"
    assert nugget_state("Training needs less than 48 GB.", nugget) != "supported"


def test_an_ordinal_is_a_word_up_to_twentieth_and_a_figure_above() -> None:
    assert fold("the 3rd and the 20th") == "the third and the twentieth"
    assert fold("the twenty-first and the Ninety-Ninth") == "the 21st and the 99th"
