"""Ends an answer that provably repeats itself, so that no time is spent on the rest of it."""

import re

from mlx_ragtune.scoring.answers.validity import loops

_SENTENCE_END = re.compile(r"[.!?][\"')\]”]*\s|[。！？]|\n")
_FEWEST_CHARACTERS = 32


def repeats(text: str) -> bool:
    """Whether an answer that begins with ``text`` is a repetition loop, however it goes on.

    By the rule that classifies finished answers (``validity.loops``), applied only to what further text cannot
    change: repeated blocks in the whole words so far, and repeated sentences without the last two.
    """
    if len(text) < _FEWEST_CHARACTERS:
        return False
    whole_words = text[: max(text.rfind(" "), text.rfind("\n"), 0)]
    if loops(_SENTENCE_END.sub(" ", whole_words)):  # without sentence ends only repeated blocks are left
        return True
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return len(ends) > 1 and loops(text[: ends[-2]])
