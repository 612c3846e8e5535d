"""The words that say what a text is about, by their first five letters: "quantized" and "quantization" are one."""

import re

from mlx_ragtune.scoring.answers.normalize import fold, words

STEM = 5
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an the of in on at by for to from with without and or not is are was were be been do does did has have "
        "had can could would should will may might it its this that these those which what who whom whose when "
        "where why how much many often there than then as into over under between about per each any all some "
        "such used use uses using happen happens according paper papers study report reports reported show shows "
        "find finds found give gives say says kind kinds way ways",
    )
)


def content_stems(text: str) -> set[str]:
    """The first five letters of each word that is no function word, nor one that every question on papers uses."""
    return {word[:STEM] for word in words(fold(text)) if word not in _COMMON}
