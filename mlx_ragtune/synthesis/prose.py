"""Lists, headings and emphasis as plain prose, where that changes no word: what a model writes against its orders."""

import re

from mlx_ragtune.scoring.answers.style import markup

_FENCE = re.compile(r"^[^\S\n]*(?:```|~~~)[^\n]*\n?", re.MULTILINE)
_HEADING = re.compile(
    r"^\s{0,3}#{1,6}\s+(?P<text>[^\n]+)$|^[^\S\n]*\*\*(?P<bold>[^*\n]+?)\*\*:?[^\S\n]*$", re.MULTILINE
)
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3}|_{2,3})(?=\S)([^*_\n]{1,300}?)(?<=\S)\1(?![\w*])")
_CODE = re.compile(r"`([^`\n]{1,200})`")
_ITEM = re.compile(r"^[^\S\n]*(?:[-*+•‣◦]|\d{1,2}[.)]|[a-z]\))\s+(?P<text>\S[^\n]*)$")
_ENDS = re.compile(r"[.!?;:]$")


def to_prose(text: str) -> str:
    """The text without Markdown: items of a list joined by semicolons, headings left out, emphasis and ticks removed.

    A table, and thinking, are left as they are: what a cell says depends on where it stands.
    """
    if "table" in markup(text):
        return text
    plain = _CODE.sub(r"\1", _EMPHASIS.sub(r"\2", _HEADING.sub("", _FENCE.sub("", text))))
    if "list" in markup(plain):
        plain = _joined_items(plain)
    return re.sub(r"\n{3,}", "\n\n", plain).strip() if plain != text else text


def _joined_items(text: str) -> str:
    """Each run of list items as one sentence, behind the line that introduces it."""
    lines: list[str] = []
    items: list[str] = []

    def end_list() -> None:
        if not items:
            return
        whole = all(re.search(r"[.!?]$", item) and item[:1].isupper() for item in items)
        joined = " ".join(items) if whole else "; ".join(item.rstrip(".;,") for item in items)
        joined = joined if _ENDS.search(joined) else f"{joined}."
        while lines and not lines[-1].strip():
            lines.pop()
        if lines:
            lines[-1] = f"{lines[-1].rstrip()} {joined}"
        else:
            lines.append(joined)
        items.clear()

    for line in text.split("\n"):
        if match := _ITEM.match(line):
            items.append(match["text"].strip())
        elif line.strip() or not items:
            end_list()
            lines.append(line)
    end_list()
    return "\n".join(lines)
