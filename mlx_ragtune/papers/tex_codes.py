"""TeX's own character codes as Unicode, for Type 3 fonts without a table of Unicode values.

PDFium gives the codes of such a font as they are: the ligature fi of the T1 encoding is U+001C. The encoding of
each font is found from where its codes stand: a ligature stands next to letters of the same font.
Source of the tables: "LaTeX font encodings" (encguide), tables of OT1, T1, OML and OMS.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from mlx_ragtune.papers.pdf_glyphs import Font, Glyph, GlyphPage
from mlx_ragtune.papers.plain_text import is_control

_LIGATURES = ["ff", "fi", "fl", "ffi", "ffl"]


def _table(first: int, characters: Iterable[str]) -> dict[str, str]:
    """Codes from ``first`` on, each with its characters."""
    return {chr(first + at): char for at, char in enumerate(characters)}


T1 = {
    **_table(0x00, "\u0300\u0301\u0302\u0303\u0308\u030b\u030a\u030c\u0306\u0304\u0307\u0327\u0328"),
    **_table(0x0D, ["‚", "‹", "›", "“", "”", "„", "«", "»", "–", "—", "", "₀", "ı", "ȷ", *_LIGATURES]),
    **{"\x7f": "-", "\xd7": "Œ", "\xdf": "SS", "\xf7": "œ", "\xff": "ß"},
}
"""T1 (EC fonts): accents at 00–0C, quotes and dashes, ligatures at 1B–1F, a hyphen at 7F."""
OT1 = {
    **_table(0x00, "ΓΔΘΛΞΠΣΥΦΨΩ"),
    **_table(0x0B, [*_LIGATURES, "ı", "ȷ", *"\u0300\u0301\u030c\u0306\u0304\u030a\u0327", *"ßæœøÆŒØ"]),
    **{'"': "”", "\\": "“", "<": "¡", ">": "¿", "{": "–", "|": "—"},
    **{"^": "\u0302", "_": "\u0307", "}": "\u030b", "~": "\u0303", "\x7f": "\u0308"},
}
"""OT1 (Computer Modern roman): capital Greek at 00–0A, ligatures at 0B–0F, accents, a dash at ``{``."""
MATH_ITALIC = _table(0x00, "ΓΔΘΛΞΠΣΥΦΨΩαβγδϵζηθικλμνξπρστυϕχ")
"""OML: Greek at 00–1F."""
SYMBOLS = _table(0x00, "−·×∗÷⋄±∓⊕⊖⊗⊘⊙○∘∙≍≡⊆⊇≤≥⪯⪰∼≈⊂⊃≪≫≺≻")
"""OMS: signs at 00–1F; without them a minus would be lost."""
_T1_LIGATURES, _OT1_LIGATURES = "\x1b\x1c\x1d\x1e\x1f", "\x0b\x0c\x0d\x0e\x0f"
_DASH = re.compile(r"(?<=\d)\{(?=\d)")
Encoding = dict[str, str]


def _is_beside(glyph: Glyph, other: Glyph) -> bool:
    """Whether the other glyph follows in the same word."""
    return (
        other.font == glyph.font
        and not other.before
        and not other.text.isspace()
        and abs(other.baseline - glyph.baseline) < 0.2 * glyph.size
    )


def _is_letter(char: str) -> bool:
    return char.isascii() and char.isalpha()


class _Use:
    """How one font's codes are used: counts of letters, of letters beside letters, of ligature codes beside letters."""

    def __init__(self) -> None:
        self.letters = self.neighbors = self.t1 = self.ot1 = self.controls = 0

    def encoding(self, usual: Encoding | None) -> Encoding | None:
        """The font's encoding; ``usual`` is that of the document's other text fonts."""
        if self.t1 or self.ot1:
            return T1 if self.t1 >= self.ot1 else OT1
        if not self.letters:
            return SYMBOLS if self.controls else None
        if self.letters >= 10 and self.neighbors < 0.5 * self.letters:
            return MATH_ITALIC
        return usual


def uses_of(pages: Sequence[GlyphPage], fonts: Sequence[Font]) -> dict[int, _Use]:
    """How the glyphs of each Type 3 font are used in the document, by the number of the font."""
    uses: defaultdict[int, _Use] = defaultdict(_Use)
    coded = {number for number, font in enumerate(fonts) if font.is_type3}
    for page in pages:
        for glyph, following in zip(page.glyphs, [*page.glyphs[1:], None], strict=False):
            if glyph.font not in coded:
                continue
            use = uses[glyph.font]
            beside = following is not None and _is_beside(glyph, following)
            pair = glyph.text + (following.text if following and beside else " ")
            use.letters += _is_letter(glyph.text)
            use.controls += is_control(glyph.text)
            use.neighbors += _is_letter(pair[0]) and _is_letter(pair[1])
            for before, after in ((pair[0], pair[1]), (pair[1], pair[0])):
                use.t1 += before in _T1_LIGATURES and _is_letter(after)
                use.ot1 += before in _OT1_LIGATURES and _is_letter(after)
    return dict(uses)


def encodings(uses: dict[int, _Use]) -> dict[int, Encoding]:
    """The encoding of each Type 3 font, as far as its ``uses`` in the document show it."""
    votes = Counter[bool]()
    for use in uses.values():
        votes[use.t1 >= use.ot1] += use.t1 + use.ot1
    usual = (T1 if votes[True] >= votes[False] else OT1) if votes.total() else None
    named = {number: use.encoding(usual) for number, use in uses.items()}
    return {number: encoding for number, encoding in named.items() if encoding is not None}


def decode(pages: Sequence[GlyphPage], fonts: Sequence[Font]) -> None:
    """Replace the codes of Type 3 fonts by Unicode, in place.

    A font whose own letters show no ligature, such as a typewriter's, keeps its printable characters: ``{`` may be
    a brace there. Between digits it is a dash.
    """
    if not any(font.is_type3 for font in fonts):
        return
    uses = uses_of(pages, fonts)
    tables = encodings(uses)
    for page in pages:
        if tables:
            page.glyphs = [
                glyph._replace(text=_decoded(glyph.text, tables[glyph.font], uses[glyph.font]))
                if glyph.font in tables
                else glyph
                for glyph in page.glyphs
            ]
            _mark_dashes(page, tables)


def _decoded(char: str, table: Encoding, use: _Use) -> str:
    certain = bool(use.t1 or use.ot1) or table in (SYMBOLS, MATH_ITALIC)
    if certain or is_control(char) or char in "\x7f\n\t":
        return table.get(char, char)
    return char


def _mark_dashes(page: GlyphPage, tables: dict[int, Encoding]) -> None:
    for index in range(1, len(page.glyphs) - 1):
        glyph = page.glyphs[index]
        around = page.glyphs[index - 1].text + glyph.text + page.glyphs[index + 1].text
        if glyph.text == "{" and tables.get(glyph.font) is OT1 and _DASH.search(around):
            page.glyphs[index] = glyph._replace(text="–")
