"""The formats that papers may have, by suffix; nothing is imported, so that listing a folder is quick."""

LATEX = (".tex", ".ltx")
ARCHIVES = (".tar.gz", ".tgz", ".gz", ".tar")
"""LaTeX source as arXiv ships it."""
MACROS = (".docm", ".dotm")
SUFFIXES = (".pdf", ".md", ".txt", ".html", ".htm", ".xhtml", ".docx", ".epub", *LATEX, *ARCHIVES)


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case, ``.tar.gz`` as one."""
    lower = name.lower()
    if lower.endswith(".tar.gz"):
        return ".tar.gz"
    stem, dot, suffix = lower.rpartition(".")
    return f".{suffix}" if dot and stem else ""


def bare_stem(name: str) -> str:
    """The file's name without its suffix, where that is one of a paper."""
    suffix = suffix_of(name)
    return name[: -len(suffix)] if suffix else name
