"""Text without markup: Markdown emphasis, code ticks, LaTeX and HTML say how a text looks, not what it states.

Exponents keep their meaning: ``10⁻⁴``, ``10^{-4}`` and ``10<sup>-4</sup>`` become ``10^-4``. Indices are joined to
their name: ``F_1`` and ``F₁`` become ``F1``. Text that is struck through is removed. Time is linear in the length.
"""

import html
import re

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUPERSCRIPT = re.compile(r"(?<=[\w)])[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ]+")
_VULGAR = re.compile(r"(?<=\d)(?=[¼½¾⅐-⅞])")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
_NARROW_GROUPS = re.compile(r"(?<=\d)[\u00a0\u2007\u2009\u202f_'’](?=\d{3}(?!\d))")

_MARKDOWN = (
    (re.compile(r"~~(?=\S)[^~\n]{1,500}~~"), " "),
    (re.compile(r"\[([^\[\]\n]{1,300})\]\((?:https?:|mailto:|[#/.])[^()\s]{0,500}\)"), r"\1"),
    (re.compile(r"(?<![\w*\\])\*(?![\s*])([^*\n]{1,1000})(?<![\s\\])\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<![*\\])\*\*(?![\s*])([^*\n]{1,1000})(?<![\s\\])\*\*(?!\*)"), r"\1"),
    (re.compile(r"(?<![*\\])\*\*\*(?![\s*])([^*\n]{1,1000})(?<![\s\\])\*\*\*(?!\*)"), r"\1"),
    (re.compile(r"(?<![\w\\])_{1,3}(?![\s_])([^_\n]{1,1000})(?<![\s\\])_{1,3}(?!\w)"), r"\1"),
    (re.compile(r"`+"), ""),
    (re.compile(r"(?<=\d)\*\*(?=[+−-]?\d)"), "^"),
)
_HTML = (
    (re.compile(r"<sup>\s{0,9}([^<>]{1,20}?)\s{0,9}</sup>", re.IGNORECASE), r"^\1"),
    (re.compile(r"<sub>\s{0,9}([^<>]{1,20}?)\s{0,9}</sub>", re.IGNORECASE), r"_\1"),
    (re.compile(r"<(del|s|strike)>[^<>]{0,500}</\1>", re.IGNORECASE), " "),
    (re.compile(r"<(?:br|p|div|li)\s?/?>", re.IGNORECASE), "\n"),
    (re.compile(r"</?(?:b|i|u|em|strong|code|tt|span|mark|small|p|div|li|ul|ol|kbd)>", re.IGNORECASE), ""),
)

GREEK = dict(
    zip(
        re.findall(
            r"\w+",
            "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon "
            "phi chi psi omega",
        ),
        "αβγδεζηθικλμνξοπρστυφχψω",
        strict=True,
    )
)
"""The names of the Greek letters, which are also LaTeX commands."""
_SYMBOLS: dict[str, str] = {
    "times": "×", "cdot": "·", "ast": "*", "approx": "≈", "sim": "~", "simeq": "≈", "leq": "≤", "le": "≤",
    "geq": "≥", "ge": "≥", "lt": "<", "gt": ">", "pm": "±", "neq": "≠", "ne": "≠", "to": "→", "rightarrow": "→",
    "infty": "∞", "ldots": "…", "dots": "…", "cdots": "…", "circ": "°", "degree": "°", "textdegree": "°",
    "percent": "%", "textpercent": "%", "textendash": "–", "textemdash": "—", "textminus": "−", "div": "/",
    "textmu": "µ", "quad": " ", "qquad": " ", "enspace": " ", "thinspace": " ", "nobreakspace": " ",
    "ell": "l",
    "left": "", "right": "", "big": "", "Big": "", "bigl": "", "bigr": "", "displaystyle": "", "bf": "", "it": "",
    "em": "", "rm": "", "tt": "", "sf": "", "limits": "", "item": "\n", "newline": "\n", "par": "\n",
    **GREEK, **{f"var{name}": letter for name, letter in GREEK.items()},
    **{name.capitalize(): letter.upper() for name, letter in GREEK.items()},
}  # fmt: skip
_STYLED = re.compile(
    r"\\(?:text(?:bf|it|tt|rm|sf|sc|normal|up)?|math(?:rm|bf|it|tt|sf|bb|cal|frak|normal)|emph|underline|overline"
    r"|hat|bar|tilde|vec|mbox|hbox|operatorname\*?|boldsymbol|bm|pmb|SI|qty|num|unit|si|ensuremath|boxed|textsuperscript"
    r")\s{0,9}(?=\{)"
)
_LATEX = (
    (re.compile(r"\\\\"), " "),
    (re.compile(r"\\(?:,|;|:|>| |thinspace\b)|(?<!\\)~(?!~)"), " "),
    (re.compile(r"\\!|\\[()]|\\/"), ""),
    (re.compile(r"\\[\[\]]"), " "),
    (re.compile(r"\{(,|\\,|\s)\}"), r"\1"),
    (_STYLED, ""),
)
_BRACED = re.compile(r"(?<=[\^_])\{\s{0,9}([^{}]{1,60}?)\s{0,9}\}")
_FRACTION = re.compile(r"\\[dtc]?frac\s?\{\s{0,9}([^{}]{1,60}?)\s{0,9}\}\s?\{\s{0,9}([^{}]{1,60}?)\s{0,9}\}")
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac ?(\d)(\d)")
_COMMAND = re.compile(r"\\([A-Za-z]+)|\\([%$&#_{}*`~-])")
_RAISED_DEGREE = re.compile(r"\^ ?° ?")
_BRACES = re.compile(r"(?<!\\)[{}]")
_COMMAND_AT_END = re.compile(r"\\([A-Za-z]{1,30})()$")
_DISPLAYED = re.compile(r"\$\$")
_INLINE = re.compile(r"(?<![\\$\w])\$(?![\s$])([^$\n]{1,300}?)(?<![\s\\])\$(?![\d$])")
_SPACED = re.compile(r"(?<![\\$\w])\$ ([^$\n]{1,300}) \$(?![\d$])")
_GLUED_INDEX = re.compile(r"(?<=[A-Za-z0-9)])\$([_^]\{?[\w+-]{1,10}\}?)\$")
_FUNCTION = re.compile(r"(?<=\w)\\(?=(?:log|ln|exp|sin|cos|tan|max|min|sqrt)(?![A-Za-z]))")
_INDEX = re.compile(rf"(?<![^\W_])([^\W\d_]{{1,3}}|{'|'.join(GREEK)})_(\d{{1,2}})(?!\d)", re.IGNORECASE)


def _symbol(command: re.Match[str]) -> str:
    """What a LaTeX command or an escaped character shows; of an unknown command its name."""
    name = str(command[1] or command[2])
    return _SYMBOLS.get(name, name)


def _formula(match: re.Match[str]) -> str:
    """What stands between dollar signs; a command at its end does not run into the next letter ("$^\\circ$C")."""
    if match.string[match.end() : match.end() + 1].isalpha():
        return _COMMAND_AT_END.sub(_symbol, match[1])
    return match[1]


def _without_latex(text: str) -> str:
    """``text`` with its LaTeX commands read; without a backslash only ``$…$``, ``^{…}``, ``_{…}`` and ``{,}``."""
    text = _SPACED.sub(r"\1", _INLINE.sub(_formula, _GLUED_INDEX.sub(r"\1", _DISPLAYED.sub(" ", text))))
    has_commands = "\\" in text
    if has_commands:
        text = _FUNCTION.sub(r" \\", text)
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    text = text.replace("{,}", ",").replace("{}", " ")
    text = _BRACED.sub(lambda match: f"{match[1]} " if match[1].startswith("\\") else match[1], text)
    if has_commands:
        text = _SHORT_FRACTION.sub(r"\1/\2", _FRACTION.sub(r" \1/\2", text))
        text = _COMMAND.sub(_symbol, text)
        text = _BRACES.sub("", text)
    return _RAISED_DEGREE.sub("°", text)


def without_markup(text: str) -> str:
    """``text`` as a reader sees it; lines, words and punctuation stay."""
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        for pattern, replacement in _HTML:
            text = pattern.sub(replacement, text)
    text = _INVISIBLE.sub("", text)
    for pattern, replacement in _MARKDOWN:
        text = pattern.sub(replacement, text)
    if "$" in text or "\\" in text or "{" in text:
        text = _without_latex(text)
    text = _NARROW_GROUPS.sub("", text)
    text = _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_SUPERSCRIPTS), _VULGAR.sub(" ", text))
    return _INDEX.sub(r"\1\2", text)
