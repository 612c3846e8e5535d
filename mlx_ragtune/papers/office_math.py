"""Formulas of Word (Office Math) as one line of text.

Elements: ECMA-376 part 1, section 22.1.
"""

from xml.etree.ElementTree import Element

from mlx_ragtune.papers.archives import local_name
from mlx_ragtune.papers.math_text import ACCENTS, accented, fraction, matrix, root, script

_NARY = "∫"
"""The sign of an n-ary operator that names none."""


def office_math(element: Element) -> str:
    """The formula in one line."""
    parts = {local_name(child): child for child in element}

    def of(name: str) -> str:
        return _content(parts[name]) if name in parts else ""

    match local_name(element):
        case "f":
            return fraction(of("num"), of("den"))
        case "sSup":
            return script(of("e"), sup=of("sup"))
        case "sSub":
            return script(of("e"), sub=of("sub"))
        case "sSubSup":
            return script(of("e"), sub=of("sub"), sup=of("sup"))
        case "sPre":
            return script("", sub=of("sub"), sup=of("sup")) + of("e")
        case "rad":
            return root(of("e"), of("deg"))
        case "nary":
            return script(_property(element, "chr", _NARY), sub=of("sub"), sup=of("sup")) + f" {of('e')}"
        case "limLow":
            return script(of("e"), sub=of("lim"))
        case "limUpp":
            return script(of("e"), sup=of("lim"))
        case "func":
            return f"{of('fName')} {of('e')}"
        case "acc":
            return accented(
                of("e"), ACCENTS.get(_property(element, "chr", "\u0302"), _property(element, "chr", "\u0302"))
            )
        case "bar":
            return accented(of("e"), "\u0304")
        case "d":
            return _delimited(element)
        case "m":
            rows = [child for child in element if local_name(child) == "mr"]
            return matrix([[_content(cell) for cell in row if local_name(cell) == "e"] for row in rows])
        case "eqArr":
            return "; ".join(_content(child) for child in element if local_name(child) == "e")
        case "t":
            return element.text or ""
        case name if name.endswith("Pr"):
            return ""
        case _:
            return _content(element)


def _content(element: Element) -> str:
    return "".join(map(office_math, element))


def _property(element: Element, name: str, default: str) -> str:
    """The value of a property of the element, such as the sign of an operator."""
    for properties in element:
        if local_name(properties).endswith("Pr"):
            for setting in properties:
                if local_name(setting) == name:
                    return next((value for key, value in setting.attrib.items() if key.endswith("val")), "")
    return default


def _delimited(element: Element) -> str:
    parts = [_content(child) for child in element if local_name(child) == "e"]
    between = _property(element, "sepChr", "|")
    return _property(element, "begChr", "(") + between.join(parts) + _property(element, "endChr", ")")
