"""What can be mended by rule in a generated pair before it is checked: the source is known, so its title is too.

    list to prose ─► title spelled exactly ─► "the paper" named by its title ─► citation added

Every repair is a pure function of the text and the titles, has a name, and is recorded on the pair. A repair adds
titles and takes away markup and pointers such as "the excerpt"; it never changes a number, a name or a claim. An answer
that cites another paper gets no citation of its own: the checks reject it.
"""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mlx_ragtune.records import Pair
from mlx_ragtune.scoring.answers.language import language_of
from mlx_ragtune.scoring.answers.made_up_titles import title_candidates
from mlx_ragtune.scoring.answers.normalize import sentences
from mlx_ragtune.synthesis.deixis import AUTHORS_OF_THIS, DANGLING, GIVEN, IN_SHOWN, NUMBERED, SHOWN_STATES, THIS
from mlx_ragtune.synthesis.prose import to_prose
from mlx_ragtune.synthesis.title_spelling import cites, named_with_title, spelled, without_lead

LIST = "list to prose"
SPELLED = "title as it is spelled, in double quotes"
NAMED = "title for 'the paper'"
POINTER = "'the paper' for 'the excerpt'"
SUBJECT = "title for a dangling subject"
CITED = "citation added"
BARE_TITLE = "sentence that only gives the title left out"
TRIMMED = "quotation marks off the evidence"

_NOUN = r"(?:paper|study|article)"
_HEADS = (
    r"(?:methods?|approach(?:es)?|frameworks?|models?|results?|findings?|authors?|contributions?|conclusions?"
    r"|evaluation"
    r"|analysis|experiments?|techniques?|systems?|algorithms?|goals?|aims?|focus|objectives?|scope|data ?sets?|survey"
    r"|abstract|introduction|limitations?|claims?|argument|proposal|architecture|methodology|title|discussion"
    r"|proposed"
    r" \w+)"
)
_POSSESSIVE = re.compile(rf"\b[Tt]h(?:e|is) {_NOUN}'s (?P<what>(?:[\w-]+ ){{0,3}}?{_HEADS})\b(?!-)")
_POSSESSIVE_AUTHORS = re.compile(
    r"\b(?P<the>[Tt]he) authors(?:'|’)(?:s)? (?P<what>(?:[\w-]+ ){0,3}?" + _HEADS + r")\b(?!-)"
)
_IN_THIS = re.compile(rf"^In (?:this|the) (?:{_NOUN}|work), (?:the authors|the researchers|we) (?P<verb>[a-z]+)\b")
_AUTHORS = re.compile(r"\b(?P<the>[Tt]he) (?P<who>authors?|researchers)\b(?!['’]| (?:of|behind)\b)")
_THE_WORK = re.compile(
    rf"\b[Tt]h(?:e|is) (?:(?:research|case|present|current) )?{_NOUN}\b(?! (?:[\"“'‘A-Z]|of\b|behind\b|on\b|by\b"
    rf"|called|titled|named"
    r"|that (?:introduces?|proposes?)))(?!-)"
)
_PROPOSED = re.compile(
    r"\b(?P<the>[Tt]he )(?:newly )?proposed (?P<what>(?:[\w-]+ )?(?:methods?|approach(?:es)?|models?|frameworks?"
    r"|systems?"
    r"|techniques?|algorithms?|architectures?|solution|strategy|pipeline))\b(?P<where> (?:in|by) (?:the|this) "
    + _NOUN
    + r"\b)?"
)
_NUMBERED_PART = re.compile(
    r"\b(?P<what>(?:[Tt]able|[Ff]igure|[Ff]ig\.|[Ss]ection|[Aa]lgorithm|[Ee]quation) (?:\d+(?:\.\d+)*|[IVX]+))\b"
    r"(?! (?:of|in)\b)"
)
_DANGLING_ANSWER = re.compile(
    r"^(?P<it>It|They|This (?:paper|study|work|article)|This) (?P<verb>builds? (?:up)?on|extends?|proposes?"
    r"|introduces?|presents?|describes?|reports?"
    r"|argues?|investigates?|examines?|discuss(?:es)?|demonstrates?|concludes?|finds?|suggests?|surveys?|reviews?)\b"
)
_COMPARES = re.compile(r"\b(?:differ|compare|contrast|relate|complement|align|overlap|both|two)", re.IGNORECASE)
_GENERIC = re.compile(
    r"\bthe (?:model|method|approach|framework|system|algorithm|technique|dataset|database|experiments?|evaluation"
    r"|survey"
    r"|participants|respondents|results?|findings|analysis|case study|architecture|benchmark|training)\b"
    r"(?! (?:of|by)\b)"
)
_BOTH = re.compile(
    r"\b(?:the|these|both) (?:two |research |given |provided )*(?:papers|studies|articles|works|documents|passages)\b"
    r"(?! (?:of|on|by|that)\b)|(?<=\bin )each (?:paper|study|article)\b",
    re.IGNORECASE,
)
_BOTHS = re.compile(
    r"\b(?:the|these|both) (?:two )?(?:papers|studies|articles)(?:'|’)s? (?P<what>(?:[\w-]+ ){0,2}?" + _HEADS + r")\b",
    re.IGNORECASE,
)
_TWO_THINGS = re.compile(
    r"\b(?P<the>[Tt]he (?:two )?|[Bb]oth |[Tt]hese (?:two )?)(?P<what>(?:(?!\d)[\w-]+ )?(?:approaches|methods"
    r"|frameworks|systems|models|techniques|methodologies|evaluations|datasets|databases))\b"
    r"(?! (?:in|of|from|used by|proposed by) )"
)
_ORDINAL = re.compile(
    r"\b[Tt]he (?P<which>first|second) (?:paper|study|article|passage|work|excerpt|context|document)\b"
    r"(?!,? [\"“'‘]\w)"
)
_FIRST_WORDS = frozenset(
    re.findall(
        r"\w+",
        "The A An This These Those Such In It Its They Their To For By While When With Both Each Some One Two "
        "Three Using Through After Before During Although As At On From Under Among Most Many Several All Because "
        "Since If There",
    )
)
_KEPT_PAST = frozenset(
    re.findall(
        r"\w+",
        "found showed built chose used made took wrote ran did had was were began gave held kept led left met saw "
        "set sought trained tested",
    )
)


@dataclass(frozen=True)
class Repaired:
    """A pair after its repairs, and their names in the order in which they were made."""

    pair: Pair
    repairs: tuple[str, ...]


class _Text:
    """A text under repair; remembers which repairs changed it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: dict[str, None] = {}

    def apply(self, name: str, repair: Callable[[str], str]) -> None:
        """Make one repair."""
        after = repair(self.text)
        if after != self.text:
            self.text = after
            self.names[name] = None


def repair_pair(pair: Pair, titles: Sequence[str], sources: Sequence[str] = ()) -> Repaired:
    """The pair with what can be mended by rule, and the names of the repairs.

    ``titles`` are those of the pair's papers, in the order of the passages; of the passages that it was written on
    for a refusal without papers. ``sources`` are the passages' texts. Without titles only markup is mended.
    """
    known = [title for title in titles if '"' not in title and title.strip()]
    question, answer = _Text(pair.question), _Text(pair.answer)
    if len(known) == len(titles) and titles:
        _repair_question(question, known, sources)
    answer.apply(LIST, to_prose)
    if len(known) == len(titles) and titles and pair.kind != "refusal":
        _repair_answer(answer, known, sources)
    evidence = tuple(replace(item, quote=_trimmed(item.quote, sources)) for item in pair.evidence)
    names = {**question.names, **answer.names, **({TRIMMED: None} if evidence != pair.evidence else {})}
    return Repaired(replace(pair, question=question.text, answer=answer.text, evidence=evidence), tuple(names))


def _trimmed(quote: str, sources: Sequence[str]) -> str:
    """The quote without marks around it that its source does not have."""
    inner = quote.strip().strip('"“”').removesuffix("...").removesuffix("…").strip()
    return inner if inner and inner != quote and not any(quote in source for source in sources) else quote


def _joined(titles: Sequence[str]) -> str:
    return " and ".join(f'"{title}"' for title in titles)


def _cased(the: str, text: str) -> str:
    """``text``, which begins with "the", with the capital of what it replaces."""
    return f"T{text[1:]}" if the[:1] == "T" else text


def _repair_question(question: _Text, titles: Sequence[str], sources: Sequence[str]) -> None:
    question.apply(SPELLED, lambda text: without_lead(spelled(text, titles), titles))
    if len(titles) == 1:
        question.apply(NAMED, lambda text: name_once(name_ordinals(text, titles), titles[0], sources))
        question.apply(SUBJECT, lambda text: _name_subject(text, titles[0]))
        question.apply(POINTER, lambda text: without_pointers(text, sources))
    else:
        question.apply(NAMED, lambda text: name_both(text, titles))
        question.apply(POINTER, lambda text: without_pointers(text, sources))


def _repair_answer(answer: _Text, titles: Sequence[str], sources: Sequence[str]) -> None:
    answer.apply(SPELLED, lambda text: without_lead(spelled(text, titles), titles))
    if cites_others(answer.text, titles, sources):
        return
    if len(titles) == 1:
        title = titles[0]
        answer.apply(BARE_TITLE, lambda text: _without_title_sentence(text, title))
        answer.apply(SUBJECT, lambda text: _name_dangling(text, title))
        answer.apply(NAMED, lambda text: name_ordinals(text, titles))
        answer.apply(NAMED, lambda text: text if cites(text, title) else name_once(text, title, sources))
        answer.apply(POINTER, lambda text: without_pointers(text, sources))
        answer.apply(CITED, lambda text: text if cites(text, title) else with_citation(text, title, sources))
    else:
        answer.apply(NAMED, lambda text: name_ordinals(text, titles))
        answer.apply(CITED, lambda text: _with_aliases(text, titles))
        answer.apply(POINTER, lambda text: without_pointers(text, sources))


def cites_others(text: str, titles: Sequence[str], sources: Sequence[str]) -> list[str]:
    """Pieces of the text that look like the title of a paper other than these and are in none of the sources."""
    from mlx_ragtune.scoring.answers.citation import find_citations

    if not title_candidates(text):
        return []
    return list(find_citations(text, dict(enumerate_titles(titles)), sources).fabricated)


def enumerate_titles(titles: Sequence[str]) -> list[tuple[str, str]]:
    """Each title with its position as a name."""
    return [(str(number), title) for number, title in enumerate(titles)]


def name_once(text: str, title: str, sources: Sequence[str] = ()) -> str:
    """The text with its first mention of "the paper", "the authors" or the excerpt replaced by the title in quotes.

    ``In this paper, the authors propose`` becomes ``"T" proposes``, ``the paper's method`` becomes ``the method of
    "T"``, ``the authors`` become ``the authors of "T"``. A text that has the title is returned as it is.
    """
    quoted = f'"{title}"'
    if cites(text, title):
        return text
    if match := _IN_THIS.match(text):
        return f"{quoted} {_third_person(match['verb'])}{text[match.end() :]}"
    choices: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [
        (AUTHORS_OF_THIS, lambda match: f"{match['the'] or ''}authors of {quoted}"),
        (_PROPOSED, lambda match: f"{match['the']}{match['what']} proposed in {quoted}"),
        (_POSSESSIVE, lambda match: _cased(match[0], f"the {match['what']} of {quoted}")),
        (_POSSESSIVE_AUTHORS, lambda match: f"{match['the']} {match['what']} of {quoted}"),
        (re.compile(rf"\b[Tt]h(?:e|is) {_NOUN}(?='s\b)"), lambda _match: quoted),
        (_THE_WORK, lambda _match: quoted),
        (THIS, lambda match: quoted if (match["this"] or "").lower() == "this" else match[0]),
        (IN_SHOWN, lambda match: f"{_kept(match)}{quoted}"),
        (SHOWN_STATES, lambda _match: quoted),
        (GIVEN, lambda match: match[0] if _is_subject(match[0], sources) else quoted),
        (_AUTHORS, lambda match: f"{match['the']} {match['who']} of {quoted}"),
        (_NUMBERED_PART, lambda match: f"{match['what']} of {quoted}"),
    ]
    for pattern, repaired in choices:
        after = pattern.sub(repaired, text, count=1)
        if after != text:
            return after
    return text


def _kept(match: re.Match[str]) -> str:
    """What stands before "the text" and stays."""
    before = match["before"] or match["open"] or match["source"]
    return before or f"{match['end'].split()[0]} "


def _is_subject(phrase: str, sources: Sequence[str]) -> bool:
    return any(phrase.casefold().removeprefix("the ") in source.casefold() for source in sources)


def _third_person(verb: str) -> str:
    """``propose`` as ``proposes``; a past tense stays."""
    if verb.endswith("ed") or verb in _KEPT_PAST:
        return verb
    if verb.endswith(("s", "sh", "ch", "x", "z")):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if re.search(r"[^aeiou]y$", verb) else f"{verb}s"


def _name_subject(question: str, title: str) -> str:
    """A question whose subject is "it", or a model or method that nothing names, with the title."""
    if cites(question, title):
        return question
    if (match := DANGLING.match(question)) and match["it"] == "it":
        return f'{match["ask"]} "{title}"{question[match.end() :]}'
    if _GENERIC.search(question) and not has_name(question) and question.rstrip().endswith("?"):
        return f'{question.rstrip()[:-1].rstrip()} in "{title}"?'
    return question


def has_name(text: str) -> bool:
    """Whether a word after the first has a capital or a digit: a name, an acronym or an identifier."""
    return any(re.search(r"[A-Z]|\d", word) for word in text.split()[1:])


def _without_title_sentence(answer: str, title: str) -> str:
    """The answer without a last sentence ``The paper title is "T".``: it is cited where it speaks of the paper."""
    sentence = rf' (?:[Tt]he|[Tt]his) (?:paper|study|article)(?:\'s)? title is "{re.escape(title)}"\.$'
    shorter = re.sub(sentence, "", answer)
    return shorter if not cites(shorter, title) else answer


def _name_dangling(answer: str, title: str) -> str:
    """``It builds upon …`` as ``"T" builds upon …``, where no sentence before says what "it" is."""
    match = _DANGLING_ANSWER.match(answer)
    if not match or cites(answer, title):
        return answer
    verb = match["verb"]
    single = verb if match["it"] != "They" else f"{_third_person(verb.split()[0])}{verb[len(verb.split()[0]) :]}"
    return f'"{title}" {single}{answer[match.end() :]}'


def without_pointers(text: str, sources: Sequence[str]) -> str:
    """The text with "the paper" for "this paper", "the excerpt" and "the provided text"; for use beside a title."""

    def as_paper(match: re.Match[str]) -> str:
        return _cased(match[0], "the paper")

    text = AUTHORS_OF_THIS.sub(lambda match: f"{match['the'] or 'the '}authors", text)
    text = THIS.sub(lambda match: _cased(match[0], f"the {match['noun'] or match['nouns']}"), text)
    text = IN_SHOWN.sub(lambda match: f"{_kept(match)}the paper", text)
    text = SHOWN_STATES.sub(as_paper, text)
    return GIVEN.sub(lambda match: match[0] if _is_subject(match[0], sources) else as_paper(match), text)


def _lowered(text: str, sources: Sequence[str]) -> str:
    """The text as it is written within a sentence: without the capital of a word that is no name.

    A word that the sources write without a capital, and never with one behind another word, is no name.
    """
    first = next(iter(re.findall(r"^[^\W\d_]+", text)), "")
    shown = "\n".join(sources) if first and first not in _FIRST_WORDS else ""
    small = re.search(rf"(?<!\w){first[:1].lower()}{first[1:]}(?!\w)", shown)
    common = first in _FIRST_WORDS or (small and not re.search(rf"[a-z,;] {first}(?!\w)", shown))
    return text[:1].lower() + text[1:] if common else text


def cited_behind(answer: str, titles: Sequence[str]) -> str:
    """The answer with titles in brackets before the end of its first sentence, which suits any language."""
    parts = sentences(answer)
    first = parts[0] if parts and answer.startswith(parts[0]) else answer
    stop = first[-1:] if first[-1:] in (".", "。", "！", "!") else ""
    cited = ", ".join(f'"{title}"' for title in titles)
    return f"{first.removesuffix(stop)} ({cited}){stop}{answer[len(first) :]}"


def with_citation(answer: str, title: str, sources: Sequence[str] = ()) -> str:
    """The answer with its source named, in one of five wordings that the answer's text chooses.

    Several wordings, because an opening that most answers share is learned as a template. In other languages than
    English the title stands in brackets.
    """
    if language_of(answer) not in ("en", None):
        return cited_behind(answer, [title])
    quoted = f'"{title}"'
    parts = sentences(answer)
    first = parts[0] if parts else answer
    choice = zlib.crc32(answer.encode("utf-8", "replace")) % 5
    if re.match(r"(?:According to|In|As|By|Based on|Yes|No)\b", answer):
        choice = 3
    plain = first.endswith(".") and answer.startswith(first)
    if choice == 3 and plain:
        return f"{first[:-1]} ({quoted}).{answer[len(first) :]}"
    if choice == 2 and re.match(r"(?:The authors|Th(?:e|is)|They|It)\b", answer):
        return f"In {quoted}, {_lowered(answer, sources)}"
    if choice == 1:
        return f"{quoted} reports that {_lowered(answer, sources)}"
    return f"{'As reported in' if choice == 0 else 'According to'} {quoted}, {_lowered(answer, sources)}"


def name_both(question: str, titles: Sequence[str]) -> str:
    """A question on two papers with their titles for "the two papers", "Paper 1" or "the two approaches"."""
    question = name_ordinals(question, titles)
    if all(cites(question, title) for title in titles):
        return question
    if any(cites(question, title) for title in titles):
        return question
    both = _joined(titles)
    if match := _BOTHS.search(question):
        return f"{question[: match.start()]}the {match['what']} of {both}{question[match.end() :]}"
    for pattern, repaired in ((_BOTH, both), (_TWO_THINGS, None)):
        if repaired is None and not (
            _COMPARES.search(question) and not any(map(partial(names_alias, question), titles))
        ):
            return question
        if match := pattern.search(question):
            after = question[match.end() :]
            if repaired is None:
                said = re.match(r" (?:described|proposed|presented|discussed|introduced|used)(?! in\b| by\b)", after)
                end = match.end() + (said.end() if said else 0)
                return f"{question[:end]} {'in' if said else 'of'} {both}{question[end:]}"
            return f"{question[: match.start()]}{repaired}{after}"
    return question


def names_alias(text: str, title: str) -> bool:
    """Whether the text has the title's part before the colon, or the title."""
    alias = title.split(":", 1)[0].strip() if ":" in title else title
    return re.search(rf"(?<!\w){re.escape(alias)}(?!\w)", text, re.IGNORECASE) is not None


def name_ordinals(text: str, titles: Sequence[str]) -> str:
    """The text with a title for the first "the first paper" or "Paper 2" of each; later ones are "the first paper".

    Nothing is replaced by a title that the text has already.
    """
    words = ("first", "second")

    def number_of(match: re.Match[str]) -> int:
        found = match.groupdict()
        return words.index(found["which"]) if found.get("which") else int(found["number"]) - 1

    for pattern in (NUMBERED, _ORDINAL) if len(titles) > 1 else (NUMBERED,):
        position = 0
        while match := pattern.search(text, position):
            number = number_of(match)
            if number >= len(titles):
                return text
            title = titles[number]
            if cites(text, title):
                new = _cased("T" if _starts_sentence(text, match.start()) else "t", f"the {words[number]} paper")
            else:
                new = f'"{title}"'
            text = f"{text[: match.start()]}{new}{text[match.end() :]}"
            position = match.start() + len(new)
    return text


def _starts_sentence(text: str, at: int) -> bool:
    return re.search(r"(?:^|[.!?]\s+)$", text[:at]) is not None


def _with_aliases(answer: str, titles: Sequence[str]) -> str:
    """The answer with the title behind the first mention of a paper's short name, for titles it does not have."""
    for title in titles:
        answer = named_with_title(answer, title)
    return answer
