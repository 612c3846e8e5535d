r"""LaTeX formulas as one line of text: ``10^{-4}`` as ``10^-4``, ``\frac{a}{b}`` as ``a/b``, ``\alpha`` as ``α``.

A command without a known meaning stays as it is written.
"""

import re
from collections.abc import Callable

from mlx_ragtune.papers.math_text import BLACKBOARD, accented, fraction, matrix, root, script

_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|[{}^_&~']|\s+|\d+(?:[.,]\d+)*|.", re.DOTALL)
MAX_DEPTH = 60

_GREEK = (
    "alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ vartheta ϑ iota ι kappa κ lambda λ "
    "mu μ nu ν xi ξ pi π varpi ϖ rho ρ varrho ϱ sigma σ varsigma ς tau τ upsilon υ phi ϕ varphi φ chi χ psi ψ omega ω "
    "Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω ell ℓ hbar ℏ partial ∂ nabla ∇ "
    "infty ∞ aleph ℵ emptyset ∅ varnothing ∅ forall ∀ exists ∃ neg ¬ lnot ¬ top ⊤ bot ⊥ angle ∠ prime ′ Re ℜ Im ℑ "
    "imath ı jmath ȷ degree ° circ ∘ bullet • star ⋆ ast ∗ dagger † ddagger ‡ ldots … dots … cdots … dotsc … dotsb … "
    "vdots ⋮ ddots ⋱ sum ∑ prod ∏ coprod ∐ int ∫ iint ∬ oint ∮ bigcup ⋃ bigcap ⋂ bigoplus ⨁ bigotimes ⨂ lceil ⌈ "
    "rceil ⌉ lfloor ⌊ rfloor ⌋ langle ⟨ rangle ⟩ lvert | rvert | vert | lVert ‖ rVert ‖ Vert ‖ "
    "lbrace { rbrace } lbrack [ "
    "rbrack ] backslash \\ checkmark ✓ square □ Box □ blacksquare ■ triangle △ clubsuit ♣ S § colon : percent %"
)
_RELATIONS = (
    "le ≤ leq ≤ leqslant ≤ ge ≥ geq ≥ geqslant ≥ ne ≠ neq ≠ approx ≈ equiv ≡ sim ∼ simeq ≃ cong ≅ propto ∝ ll ≪ gg ≫ "
    "prec ≺ succ ≻ preceq ⪯ succeq ⪰ in ∈ notin ∉ ni ∋ subset ⊂ subseteq ⊆ supset ⊃ supseteq ⊇ to → rightarrow → "
    "leftarrow ← gets ← leftrightarrow ↔ Rightarrow ⇒ implies ⇒ Leftarrow ⇐ Leftrightarrow ⇔ iff ⇔ mapsto ↦ "
    "longrightarrow → longmapsto ↦ longleftarrow ← hookrightarrow ↪ uparrow ↑ downarrow ↓ times × div ÷ pm ± mp ∓ "
    "cdot · otimes ⊗ oplus ⊕ odot ⊙ ominus ⊖ cap ∩ cup ∪ setminus ∖ wedge ∧ land ∧ vee ∨ lor ∨ mid | parallel ∥ perp ⊥ "
    "vdash ⊢ models ⊨ triangleq ≜ coloneqq := doteq ≐ asymp ≍ lesssim ≲ gtrsim ≳ bmod mod"
)


def _pairs(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


SYMBOLS = _pairs(_GREEK)
"""Commands for one character."""
_OPENING = {"lvert", "lVert", "langle", "lceil", "lfloor", "lbrace", "lbrack"}
_CLOSING = {"rvert", "rVert", "rangle", "rceil", "rfloor", "rbrace", "rbrack"}
_NO_SPACE = "\ue002"
"""Stands before what no space precedes."""
_WORD = "\ue003"
"""Stands before the name of a function, which a space separates from a letter or digit."""
_SPACED = _pairs(_RELATIONS)
_FUNCTIONS = {
    "log", "ln", "lg", "exp", "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh",
    "cosh", "tanh", "max", "min", "sup", "inf", "lim", "limsup", "liminf", "arg", "det", "dim", "ker", "deg", "gcd",
    "hom", "Pr", "argmax", "argmin",
}  # fmt: skip
_CONTENT = {
    "text", "textrm", "textit", "textbf", "texttt", "textsf", "textsc", "textnormal", "textup", "mathrm", "mathbf",
    "mathit", "mathsf", "mathtt", "mathcal", "mathscr", "mathfrak", "mathnormal", "boldsymbol", "bm", "bold", "pmb",
    "operatorname", "operatorname*", "mbox", "hbox", "fbox", "boxed", "mathop", "mathbin", "mathrel", "mathord",
    "mathopen", "mathclose", "mathpunct", "mathinner", "ensuremath", "underbrace", "overbrace", "underline",
    "smash", "displaylimits", "cancel", "emph", "textls", "mathds", "bf", "rm",
}  # fmt: skip
_WITHOUT = {
    "left", "right", "middle", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr",
    "Biggl", "Biggr", "bigm", "Bigm", "limits", "nolimits", "displaystyle", "textstyle", "scriptstyle",
    "scriptscriptstyle", "nonumber", "notag", "centering", "scriptsize", "small", "footnotesize", "tiny",
    "normalsize", "bfseries", "itshape", "rm", "bf", "it", "cal", "sf", "tt", "mathstrut", "strut", "allowbreak",
    "nobreak", "protect", "hfill", "relax", "vphantom*", "large",
}  # fmt: skip
_ACCENTS = {
    "hat": "\u0302", "widehat": "\u0302", "tilde": "\u0303", "widetilde": "\u0303", "bar": "\u0304",
    "overline": "\u0304", "vec": "\u20d7", "overrightarrow": "\u20d7", "dot": "\u0307", "ddot": "\u0308",
    "check": "\u030c", "breve": "\u0306", "acute": "\u0301", "grave": "\u0300", "mathring": "\u030a",
}  # fmt: skip
_SPACES = {",", ":", ";", " ", ">", "quad", "qquad", "enspace", "enskip", "thinspace", "medspace", "thickspace", "\n"}
_MATRICES = re.compile(r"(?:[pbvBV]|small)?matrix\*?|array|substack")
_DROPPED_ARGUMENT = {"label", "hspace", "hspace*", "vspace", "vspace*", "color", "phantom", "hphantom", "vphantom"}


class _Formula:
    """Reads tokens of one formula, left to right."""

    def __init__(self, source: str) -> None:
        self.tokens = _TOKEN.findall(source)
        self.at = 0
        self.depth = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def skip_space(self) -> None:
        while self.peek().isspace():
            self.at += 1

    def argument(self) -> str:
        """The text of the next group or token."""
        self.skip_space()
        token = self.peek()
        if token in ("", "}", "&"):
            return ""
        self.at += 1
        if self.depth > MAX_DEPTH:
            return token
        self.depth += 1
        text = self.until("}") if token == "{" else self.one(token)
        self.depth -= 1
        return text

    def raw_argument(self) -> str:
        """The source of the next group."""
        self.skip_space()
        if self.peek() != "{":
            self.at += 1
            return self.tokens[self.at - 1] if self.at <= len(self.tokens) else ""
        start, depth = self.at + 1, 0
        while self.at < len(self.tokens):
            depth += {"{": 1, "}": -1}.get(self.peek(), 0)
            self.at += 1
            if depth == 0:
                break
        return "".join(self.tokens[start : self.at - 1])

    def option(self) -> str:
        """The text of a ``[…]`` argument, if there is one."""
        self.skip_space()
        if self.peek() != "[":
            return ""
        self.at += 1
        return self.until("]")

    def until(self, end: str) -> str:
        """The text up to the token ``end``, which is skipped; all that is left without one."""
        if self.depth > MAX_DEPTH:
            rest = "".join(self.tokens[self.at :])
            self.at = len(self.tokens)
            return rest
        self.depth += 1
        parts: list[str] = []
        while (token := self.peek()) and token != end:
            self.at += 1
            if token in "^_'" and token:
                self.scripts(token, parts)
            else:
                parts.append(self.one(token))
        self.at += 1
        self.depth -= 1
        return "".join(parts)

    def scripts(self, token: str, parts: list[str]) -> None:
        """Add a subscript or superscript, or a prime, to the last part."""
        base = ""
        while parts and not base:
            base = parts.pop().rstrip() if token != "'" else parts.pop()
        if token == "'":
            parts.append(base + "′")
            return
        content = self.argument()
        parts.append(script(base, sup=content) if token == "^" else script(base, sub=content))

    def one(self, token: str) -> str:
        """What a token that is not a script stands for, with its arguments."""
        if token == "{":
            return self.until("}")
        if token in ("}", "$"):
            return ""
        if token == "&" or token == "~" or token.isspace():
            return " "
        if not token.startswith("\\"):
            return token
        return self.command(token[1:], token)

    def command(self, name: str, token: str) -> str:
        plain = name.rstrip("*")
        if plain in SYMBOLS:
            if plain in _OPENING:
                self.skip_space()
            return _NO_SPACE * (plain in _CLOSING) + SYMBOLS[plain]
        if plain in _SPACED:
            return f" {_SPACED[plain]} "
        if name in _SPACES:
            return " "
        if name == "\\" or name == "\\*":
            self.option()
            return "; "
        if name in ("!", "/", "-", "(", ")", "[", "]"):
            return ""
        if name == "|":
            return "‖"
        if not name[0].isalpha():
            return name
        if name in _WITHOUT:
            if self.peek() == "." and name in ("left", "right"):
                self.at += 1
            return ""
        if plain in _FUNCTIONS:
            return self.function(plain)
        return self.with_arguments(name, token)

    def function(self, name: str) -> str:
        self.skip_space()
        after = self.peek()
        return _WORD + name + (" " if after[:1].isalnum() or (after.startswith("\\") and after[1:2].isalpha()) else "")

    def with_arguments(self, name: str, token: str) -> str:
        if name in _CONTENT:
            return self.argument()
        if name == "mathbb":
            return self.argument().translate(BLACKBOARD)
        if name in _ACCENTS:
            return accented(self.argument(), _ACCENTS[name])
        if name in _DROPPED_ARGUMENT:
            self.raw_argument()
            return ""
        binary: dict[str, Callable[[str, str], str]] = {
            "frac": fraction, "dfrac": fraction, "tfrac": fraction, "cfrac": fraction, "nicefrac": fraction,
            "sfrac": fraction, "binom": lambda above, below: f"binom({above}, {below})",
            "overset": lambda over, base: script(base, sup=over),
            "stackrel": lambda over, base: script(base.strip(), sup=over),
            "underset": lambda under, base: script(base, sub=under), "textcolor": lambda _color, content: content,
        }  # fmt: skip
        if name in binary:
            text = binary[name](self.argument(), self.argument())
            return f"{text} " if self.peek()[:1].isalnum() or self.peek()[:1] == "\\" else text
        if name == "sqrt":
            return root(degree=self.option(), radicand=self.argument())
        if name in ("tag", "tag*"):
            return f" ({self.argument()})"
        if name == "not":
            return accented(self.argument(), "\u0338")
        if name == "pmod":
            return f" (mod {self.argument()})"
        if name == "substack":
            return matrix_text(self.raw_argument()).strip("[]")
        if name == "begin":
            return self.environment(self.raw_argument())
        if name == "end":
            self.raw_argument()
            return ""
        return f"{token} " if self.peek()[:1].isalnum() or self.peek() == "{" else token

    def environment(self, name: str) -> str:
        """A matrix or cases; the content of any other environment."""
        if name.startswith("array"):
            self.raw_argument()
        start, depth = self.at, 1
        while self.at < len(self.tokens) and depth:
            token = self.tokens[self.at]
            depth += (token == r"\begin") - (token == r"\end")
            self.at += 1
        inner = "".join(self.tokens[start : max(start, self.at - 1)])
        self.raw_argument()
        if self.depth > MAX_DEPTH:
            return inner
        if _MATRICES.fullmatch(name):
            return matrix_text(inner, self.depth + 1)
        if name in ("cases", "dcases", "rcases"):
            rows = ["  ".join(_formula(cell, self.depth + 1) for cell in cells) for cells in cells_of(inner)]
            return "{ " + "; ".join(row.strip() for row in rows if row.strip()) + " }"
        return _formula(inner, self.depth + 1)


def cells_of(source: str) -> list[list[str]]:
    r"""The rows (``\\``) and cells (``&``) of the source of a matrix or table, outside groups and environments."""
    rows: list[list[list[str]]] = [[[]]]
    depth = 0
    tokens = _TOKEN.findall(source)
    for index, token in enumerate(tokens):
        depth += (token in ("{", r"\begin")) - (token in ("}", r"\end"))
        if depth == 0 and token in ("\\\\", r"\tabularnewline", r"\cr"):
            rows.append([[]])
        elif depth == 0 and token == "&":
            rows[-1].append([])
        else:
            starred = token == "*" and index and tokens[index - 1] == "\\\\"
            rows[-1][-1].append("" if starred else token)
    return [["".join(cell) for cell in cells] for cells in rows]


def matrix_text(source: str, depth: int = 0) -> str:
    """The source of a matrix as ``[a, b; c, d]``."""
    return matrix([[_formula(cell, depth) for cell in cells] for cells in cells_of(source)])


def _formula(source: str, depth: int) -> str:
    formula = _Formula(source)
    formula.depth = depth
    parts: list[str] = []
    while formula.at < len(formula.tokens):
        parts.append(formula.until("\0"))
    return "".join(parts)


def readable_math(source: str) -> str:
    """The formula in one line, without what only arranges it."""
    text = " ".join(_formula(source, 0).split())
    text = re.sub(f" *{_NO_SPACE}", "", text)
    text = re.sub(rf"(?<=[\w)\]}}]){_WORD}", " ", text).replace(_WORD, "")
    text = re.sub(r" +([,;.)\]])", r"\1", text)
    return re.sub(r"([(\[⟨]) +", r"\1", text)
