"""Every message is on one list that a reviewer can read, in plain English with US spelling."""

import ast
import re

from tests.message_list import NOT_SHOWN, PACKAGE, ROOT, SNAPSHOT, Collector, message_list, page_texts

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "data").glob("*/SOURCE.md")),
    *sorted((ROOT / "recipes").glob("*.yaml")),
    *sorted((ROOT / ".github").rglob("*.yml")),
]

BANNED = {
    r"(?<![Tt]here )\bis no (?!longer\b|more than\b)": "write 'is not a'",
    r"\bcannot be had\b": "write 'cannot load'",
    r"\bgo(es)? on\b|\bgone on\b|\bgoing on\b|\bwent on\b": "write 'resume', 'continue', or 'running'",
    r"\bfell silent\b": "write 'timed out'",
    r"\bBesides\b": "write 'other'",
    r"\bof other work\b": "write 'belong to a different run'",
    r"\bdone before\b": "write 'up to date'",
    r"\bwent well\b": "write 'succeeded'",
    r"\bcame? to\b": "write 'is' or 'total'",
    r"\bof which\b": "make two sentences",
    r"\beffect was lost\b": "write 'quantization noise exceeds the fine-tuning effect'",
    r"\b(Who|Whose) answers\b": "write 'which model'",
    r"\bmay be had\b|\bcan be had\b": "write 'is available'",
    r"\bas begun\b|\bnot said\b": "name the default",
    r"\bper cent\b|\d %|\} %": "write '95%', without a space",
    r"\bmends?\b|\bamiss\b|\bhither\b|\bthereof\b|\btherein\b|\bupon\b|\blest\b|\bnigh\b": "use a common word",
    r"\bdoes not say where\b|\bsays? of\b|\bsaid so\b": "name the field or the value",
    r"\bis there that\b|\bthere is none\b": "say what is missing",
    r"\b(is|are|was) another\b": "write 'differs' or 'different'",
    r"\bin place of\b": "write 'instead of'",
    r"\bso is said\b|\bis said on\b": "write 'is printed'",
}
"""Phrases that read as translated or old-fashioned, as patterns, each with what to write."""

_ISE = (
    "author|capital|categor|character|custom|emphas|final|general|initial|item|local|material|maxim|memor|minim|"
    "normal|optim|organ|parallel|penal|priorit|quant|random|real|recogn|regular|serial|special|stabil|standard|"
    "summar|synchron|synthes|token|util|vector|visual"
)
UK_SPELLING = (
    rf"\b\w*(?:{_ISE})is(?:e|es|ed|er|ers|ing|ation|ations)\b|\banalys(?:e|ed|er|ers|ing)\b|"
    r"\b\w*(?:behaviour|colour|favour|honour|labour|neighbour|rumour)\w*|\bartefacts?\b|\bcatalogues?\b|\bcentred?\b|"
    r"\bcentres\b|\bcancell(?:ed|ing)\b|\blabell(?:ed|ing)\b|\bmodell(?:ed|ing)\b|\bsignall(?:ed|ing)\b|"
    r"\btravell(?:ed|ing)\b|\bgrey\b|\bjudgements?\b|\blearnt\b|\bspelt\b|\bwhilst\b|\bprogrammes?\b|\bdefence\b|"
    r"\blicences?\b|\bmetres?\b"
)
"""UK spellings of words that occur in projects like this one."""


def _hits(pattern: str, text: str) -> list[str]:
    return [
        f"line {number}: {line.strip():.110}"
        for number, line in enumerate(text.split("\n"), 1)
        if re.search(pattern, line)
    ]


def test_the_list_of_messages_is_current() -> None:
    """tests/messages.txt lets a reviewer read every message, and a change of one shows in the diff."""
    assert SNAPSHOT.read_text(encoding="utf-8") == message_list(), "next: make messages"


def _texts() -> dict[str, str]:
    """The list of messages and every page, by name."""
    pages = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
    return {"messages": message_list(), **pages}


def test_messages_and_pages_are_plain_english() -> None:
    hits = [
        f"{name}, {hit} [{advice}]"
        for name, text in _texts().items()
        for phrase, advice in BANNED.items()
        for hit in _hits(phrase, text)
    ]
    assert not hits, "\n".join(hits)


def test_messages_pages_and_code_use_us_spelling() -> None:
    texts = _texts()
    del texts["CHANGELOG.md"]  # it lists the old names
    for module in sorted(PACKAGE.rglob("*.py")):
        # the recipe modules know the old spellings of keys, and those not shown hold words of other languages
        if module.name not in ("recipe.py", "recipe_yaml.py", *NOT_SHOWN):
            texts[module.relative_to(ROOT).as_posix()] = module.read_text(encoding="utf-8")
    hits = [f"{name}, {hit}" for name, text in texts.items() for hit in _hits(UK_SPELLING, text)]
    assert not hits, "\n".join(hits)


def test_a_uk_spelling_and_a_banned_phrase_are_noticed() -> None:
    for word in ("quantised", "initialisation", "behaviour", "artefact", "licence", "analyse"):
        assert re.search(UK_SPELLING, word), word
    for word in ("quantized", "precise", "optimistic", "behavior", "artifact", "license", "analyses", "raised"):
        assert not re.search(UK_SPELLING, word), word
    assert any(re.search(phrase, "base model 'x' cannot be had") for phrase in BANNED)
    assert any(re.search(phrase, "95 % interval") for phrase in BANNED)
    assert not any(re.search(phrase, "it is no longer there, 95% interval") for phrase in BANNED)


SOURCE = '''
"""A module."""
class LostError(RagtuneError): ...
class PassingLostError(LostError): ...

@main.command()
def run(flag: "a type of it"):
    """Run it.

    \\b
    Example:
      ragtune run
    """
    say(f"{name}: reading {len(rows)} rows")
    raise PassingLostError(f"no file {path!r}" if path else "no file at all", where=str(path), fix="make it again")

def why(row):
    """Not shown to anyone, ever."""
    return "not " + "up to date" if row.changed else f"missing: {', '.join(names)}"

QUERY = "SELECT text FROM chunks"
click.option("--x", help="Print more of it.")
'''


def test_every_kind_of_text_is_found_once_and_code_is_not() -> None:
    texts = Collector({"RagtuneError", "LostError", "PassingLostError"}).collect(ast.parse(SOURCE))
    assert sorted((text.kind, text.text) for text in texts) == [
        ("error", "PassingLostError: {path}: (no file {path} | no file at all)\n  try: make it again"),
        ("help", "Print more of it."),
        ("help", "Run it.\n\nExample:\n  ragtune run"),
        ("printed", "{name}: reading {len(rows)} rows"),
        ("text", "missing: {names, …}"),
        ("text", "up to date"),
    ]


def test_a_pages_text_is_found_without_its_code() -> None:
    page = "<p title='How sure'>{% if x %}{{ n }} votes{% endif %}</p><style>p { color: red }</style>"
    assert sorted(text.text for text in page_texts(page)) == ["How sure", "{n} votes"]


def test_every_package_with_messages_is_on_the_list() -> None:
    listed = set(re.findall(r"^## mlx_ragtune/(\w+)", message_list(), re.MULTILINE))
    assert {"artifact", "bases", "cli", "clients", "commands", "pages", "papers", "recipe", "stages"} <= listed
