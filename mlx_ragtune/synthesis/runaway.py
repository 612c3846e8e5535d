"""Ends a generator's reply that runs in circles, so that it does not cost all the tokens that it may use."""

import re

from mlx_ragtune.scoring.answers.early_stop import repeats
from mlx_ragtune.scoring.answers.validity import loops

MOST_SPACES = 200
"""White space in a row that no JSON needs: a grammar allows any amount of it."""
PROSE_CHARACTERS = 400
"""A reply with so many characters before its first brace is read as prose."""
LONGEST_WORD = 64
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def runs_away(text: str) -> bool:
    """Whether a reply that begins with ``text`` repeats itself inside a string, or writes white space without end.

    Equal items are not repetition: the verdicts on four pairs may all be the same. ``text`` without JSON is prose,
    judged as a whole.
    """
    if len(text) - len(text.rstrip()) > MOST_SPACES:
        return True
    begin = text.find("{")
    if begin < 0 or begin > PROSE_CHARACTERS:
        return repeats(text)
    _, quote, open_string = _STRINGS.sub("", text[begin:]).partition('"')
    if not quote:
        return False
    last_word = open_string[open_string.rfind(" ") + 1 :]
    return repeats(open_string.replace("\\n", "\n")) or (len(last_word) > LONGEST_WORD and loops(last_word))
