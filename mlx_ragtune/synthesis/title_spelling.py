"""A title in a text as it is spelled, and in double quotes: ``'Lora: low-rank adaptation,'`` becomes ``"LoRA: …",``.

A text in quotation marks is taken for a title when it is at least 88 % alike (rapidfuzz's ratio of the folded texts)
with the same numbers, or when it is the beginning of the title up to its subtitle. Without quotation marks only a
distinctive title is recognized.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from rapidfuzz import fuzz

from mlx_ragtune.scoring.answers.normalize import fold
from mlx_ragtune.scoring.answers.titles import alias_of, is_distinctive

ALIKE = 88.0
PREFIX_CHARACTERS = 12
"""A shorter beginning of a title is a name: 'QLoRA'."""

_OPEN, _CLOSE = r"[\"“”„«《「『‘'`*_]{1,3}", r"(?:[”“»》」』]|[\"“”»》」』’'`*_]{1,3}(?![^\W_]))"
_LEAD = (
    r"(?P<the>\b(?:[Tt]he|[Tt]his) )?(?:(?:[Ff]irst|[Ss]econd|research|original) )?\b(?:[Pp]aper|[Ss]tudy"
    r"|[Aa]rticle|[Ww]ork)"
    r"(?::? [12])?(?: title)?(?P<comma>,)? ?(?:(?:en)?titled |called |named )?(?P<bracket>\()?"
)


def cites(text: str, title: str) -> bool:
    """Whether the text contains the title, exactly, in double quotes."""
    return any(f'"{title}{stop}"' in text for stop in ("", ",", "."))


def _digits(text: str) -> list[str]:
    return re.findall(r"\d+", text)


@lru_cache(maxsize=4096)
def _pattern(title: str) -> re.Pattern[str]:
    words = re.findall(r"[^\W_]+", title)
    body = r"[\W_]{1,4}".join(re.escape(word) for word in words)
    tail = re.search(r"[^\w\s\"'”’]*$", title)
    end = "".join(f"{re.escape(mark)}?" for mark in tail[0]) if tail else ""
    return re.compile(
        rf"(?P<open>{_OPEN})?(?<![^\W_]){body}(?![^\W_]){end}(?P<stop>[.,])?(?P<close>{_CLOSE})?",
        re.IGNORECASE,
    )


def spelled(text: str, titles: Sequence[str]) -> str:
    """The text with every title spelled exactly and in double quotes; a comma inside the marks moves out of them."""
    for title in sorted(titles, key=len, reverse=True):
        if re.search(r"[^\W_]", title):
            text = _pattern(title).sub(lambda match, title=title: _exact(match, title), text)  # type: ignore[misc]
    for title in titles:
        text = _QUOTED.sub(lambda match, title=title: _nearly(match, title, titles), text)  # type: ignore[misc]
    return text


_QUOTED = re.compile(
    r"(?P<open>[\"“„«《「『])(?P<text>[^\"“”„«»《》「」『』\n]{8,250}?)(?P<stop>[.,])?[\"”“»》」』]"
    r"|(?<!\w)(?P<single>['‘])(?P<inner>(?:[^'’\n]|(?<=\w)['’](?=\w)){8,250}?)(?P<end>[.,])?['’](?!\w)"
)


def _exact(match: re.Match[str], title: str) -> str:
    """The title in place of what spells it, unless it is neither quoted nor distinctive."""
    opened, closed, stop = match["open"], match["close"], match["stop"] or ""
    if not (opened and closed):
        if not is_distinctive(title):
            return match[0]
        if opened or (closed and closed[:1] in "'’" and not opened):
            return match[0] if opened else f'"{title}"{stop}{closed}'
    return f'"{title}"{stop}'


def _nearly(match: re.Match[str], title: str, titles: Sequence[str]) -> str:
    """The title in place of a quoted text that nearly is it and is no other of the titles."""
    quoted, stop = match["text"] or match["inner"], match["stop"] or match["end"] or ""
    if quoted in titles or not is_spelling_of(quoted, title):
        return match[0]
    if max(titles, key=lambda other: fuzz.ratio(fold(quoted), fold(other))) != title:
        return match[0]
    return f'"{title}"{stop}'


def is_spelling_of(quoted: str, title: str) -> bool:
    """Whether a quoted text is a misspelled title, or its beginning up to a colon, a dash or a bracket."""
    said, whole = fold(quoted), fold(title)
    if _digits(said) == _digits(whole) and fuzz.ratio(said, whole) >= ALIKE:
        return True
    if len(said) < PREFIX_CHARACTERS or not whole.startswith(said):
        return False
    return re.match(r"\s*(?:[:(\[?!–—-]|$)", whole[len(said) :]) is not None


def without_lead(text: str, titles: Sequence[str]) -> str:
    """The text with ``the paper titled "T"`` and ``The first paper, "T",`` shortened to ``"T"``."""
    for title in titles:
        if f'"{title}"' not in text:
            continue
        quoted = re.escape(f'"{title}"')
        text = re.sub(rf"{_LEAD}{quoted}(?P<after>,|\))?", _title_alone, text)
    return text


def _title_alone(match: re.Match[str]) -> str:
    title = match[0][match[0].index('"') :].rstrip(",)")
    after = match["after"] or ""
    if match["bracket"]:
        return title if after == ")" else match[0]
    if match["comma"]:
        return title
    return f"{title}{after}"


def named_with_title(text: str, title: str) -> str:
    """The text with the title for the first mention of its alias.

    ``The QLoRA paper`` and ``'QLoRA'`` become the title in quotation marks; ``QLoRA reduces`` becomes ``QLoRA ("QLoRA:
    …") reduces``.
    """
    alias = alias_of(title)
    if not alias or cites(text, title):
        return text
    name = re.escape(alias)
    whole = re.search(
        rf"\b[Tt]he ['\"“‘]?{name}['\"”’]? (?:paper|study|article)\b|(?<!\w)['\"“‘]{name}(?P<stop>,)?['\"”’](?!\w)",
        text,
    )
    if whole:
        return f'{text[: whole.start()]}"{title}"{whole["stop"] or ""}{text[whole.end() :]}'
    match = re.search(rf"(?<![\w\"“'‘-]){name}(?![\w\"”-]|'\w|’\w)", text)
    return f'{text[: match.end()]} ("{title}"){text[match.end() :]}' if match else text
