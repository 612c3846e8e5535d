"""Formulas as one line of text: the forms that all formats share, such as ``a/b``, ``10^-4`` and ``√x``."""

import re
import unicodedata

_SIMPLE = re.compile(r"[^\W_]+(?:\.\d+)?|\S|√[^\W_]+|\([^()]*\)|.[\u0300-\u036f]")
_SCRIPT = re.compile(r"[-−+]?(?:[^\W_]+(?:\.\d+)?)|\S|\([^()]*\)|.[\u0300-\u036f]")
_RAISED = {"∘": "°", "′": "′", "°": "°", "″": "″"}
ACCENTS = {
    "^": "\u0302", "ˆ": "\u0302", "~": "\u0303", "˜": "\u0303", "¯": "\u0304", "‾": "\u0304", "_": "\u0304",
    "→": "\u20d7", "⃗": "\u20d7", "˙": "\u0307", ".": "\u0307", "¨": "\u0308", "ˇ": "\u030c", "˘": "\u0306",
}  # fmt: skip
"""What stands over a letter, and the combining character for it."""
BLACKBOARD = str.maketrans("CHNPQRZ", "ℂℍℕℙℚℝℤ")


def grouped(text: str) -> str:
    """The text, in parentheses where it has several parts."""
    text = " ".join(text.split())
    return text if not text or _SIMPLE.fullmatch(text) else f"({text})"


def fraction(above: str, below: str) -> str:
    """``above/below``."""
    return f"{grouped(above)}/{grouped(below)}"


def script(base: str, sub: str = "", sup: str = "") -> str:
    """``base_sub^sup``; scripts of several parts are in braces."""
    sub, sup = " ".join(sub.split()), " ".join(sup.split())
    if sub:
        base += f"_{sub}" if _SCRIPT.fullmatch(sub) else f"_{{{sub}}}"
    if sup in _RAISED:
        return base + _RAISED[sup]
    if sup:
        base += f"^{sup}" if _SCRIPT.fullmatch(sup) else f"^{{{sup}}}"
    return base


def root(radicand: str, degree: str = "") -> str:
    """``√x``, or ``√[3]x``."""
    return f"√{f'[{degree.strip()}]' if degree.strip() else ''}{grouped(radicand)}"


def accented(text: str, combining: str) -> str:
    """The letter with an accent over it; longer text is unchanged."""
    text = text.strip()
    return unicodedata.normalize("NFC", text + combining) if len(text) == 1 else text


def matrix(rows: list[list[str]]) -> str:
    """``[a, b; c, d]``."""
    lines = [", ".join(" ".join(cell.split()) for cell in cells) for cells in rows]
    return f"[{'; '.join(line for line in lines if line.strip(', '))}]"
