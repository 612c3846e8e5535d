"""MathML as one line of text."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mlx_ragtune.papers.math_text import ACCENTS, accented, fraction, matrix, root, script

_TOKENS = {"mi", "mn", "mo", "mtext", "ms"}
_INVISIBLE = str.maketrans("", "", "\u2061\u2062\u2063\u2064")
"""Function application, times, separator and plus that are not printed."""
MAX_DEPTH = 100


@dataclass
class MathNode:
    """An element of MathML: its name, its own text and its children."""

    tag: str
    text: str = ""
    children: list["MathNode"] = field(default_factory=list)


def nodes(root: MathNode) -> Iterator[MathNode]:
    """The node and all below it, in their order."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(node.children)


def _several(parts: list[str]) -> str:
    return "".join(parts)


def math_text(node: MathNode, depth: int = 0) -> str:
    """The formula in one line; what nests deeper than ``MAX_DEPTH`` is its bare text."""
    if node.tag.startswith("annotation"):
        return ""
    if depth > MAX_DEPTH:
        return " ".join(part.text.strip() for part in nodes(node))
    if node.tag in _TOKENS:
        return _token(node)
    parts = [math_text(child, depth + 1) for child in node.children]
    first, second, third = (*parts, "", "", "")[:3]
    match node.tag:
        case "mfrac":
            return fraction(first, second)
        case "msup":
            return script(first, sup=second)
        case "msub" | "munder":
            return script(first, sub=second)
        case "msubsup" | "munderover":
            return script(first, sub=second, sup=third)
        case "mover":
            over = second.strip()
            return accented(first, ACCENTS[over]) if over in ACCENTS else script(first, sup=second)
        case "msqrt":
            return root(_several(parts))
        case "mroot":
            return root(first, second)
        case "mtable":
            return matrix([[math_text(cell, depth + 2) for cell in row.children] for row in node.children])
        case "mphantom":
            return ""
        case "mspace":
            return " "
        case _:
            return node.text.translate(_INVISIBLE).strip() + _several(parts)


_RELATIONS = set("=≠≈≡<>≤≥≪≫∈∉⊂⊆→←↔⇒⇔∼≃∝×±+−⋅·∣")


def _token(node: MathNode) -> str:
    text = " ".join(node.text.translate(_INVISIBLE).split())
    if node.tag == "mo" and text in _RELATIONS:
        return f" {text} "
    if node.tag == "mo" and text in (",", ";"):
        return f"{text} "
    if node.tag == "mi" and len(text) > 1:
        return f"{text} " if text.isalpha() else text
    return node.text.translate(_INVISIBLE) if node.tag == "mtext" else text
