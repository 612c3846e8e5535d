"""Evidence first, for very small models: a rule chooses a sentence, the model asks for it, the answer quotes it.

A model of 135 million parameters does not copy quotes into JSON, but it can often write one question for one sentence.
So nothing of the answer is left to it: the answer is the sentence with its paper's title, and rules decide whether the
question asks for it. The rules for sentences know English verbs; a text in another language gives none or few.
"""

import hashlib
import json
import re
from collections.abc import Sequence

from mlx_ragtune.papers.sentences import units
from mlx_ragtune.records import ChatRequest, Chunk, Message, Sampling
from mlx_ragtune.retrieval.control_tokens import neutral
from mlx_ragtune.scoring.answers.normalize import fold, words
from mlx_ragtune.synthesis.checks import one_line, stands_alone
from mlx_ragtune.synthesis.content_words import content_stems
from mlx_ragtune.synthesis.off_corpus import FIELDS
from mlx_ragtune.synthesis.writable import is_sentence

VERSION = 2
"""Part of the key of every quoted pair: raise it when a rule changes, so that no old verdict is reused."""
SENTENCE_WORDS = (10, 35)
LEAST_STEMS = 6
"""Content words of a sentence that can be asked for."""
QUESTION_TOKENS = 48
TRIES = 3
"""Questions that are asked for on one sentence: greedy, then sampled."""
RETRY_TEMPERATURE = 0.7
SHARED_STEMS = 2
KNOWN_SHARE = 0.75
"""The share of a question's content words that its sentence or title must have."""
LEAST_ADDED, ADDED_SHARE = 3, 0.3
"""How many, and which share, of a sentence's content words its question must leave to the answer."""
TOPIC_WORDS = 10

NO_QUESTION = "no question"
YES_OR_NO = "asks for yes or no"
UNNAMED = "question does not say what it is about"
FROM_EXAMPLE = "question about the example in the prompt"
OFF_SENTENCE = "question is not about its sentence"
OFF_FIELD = "question is not about its field"
GIVES_AWAY = "question holds the whole answer"
NOT_GIVEN = "asks for a number, time, name or reason that its sentence does not give"
NO_DEFINITION = "asks for a definition that its sentence does not give"

SYSTEM = "You write exam questions."
FACTS = (
    ("The library zlib compresses data with the DEFLATE method.",
     "Which method does the library zlib use to compress data?"),
    ("Honey bees dance to tell other bees where flowers are.", "Why do honey bees dance?"),
    ("Trial 7 treated 48 patients with aspirin for two years.",
     "How many patients were treated with aspirin in trial 7?"),
)  # fmt: skip
TOPICS = (
    ("weaving", "How does a loom keep the threads of a cloth apart?"),
    ("stamp collecting", "Which stamp was the first one in the world?"),
    ("diving", "Why must a diver rise slowly to the surface?"),
)
_EXAMPLES = content_stems(" ".join(text for pair in (*FACTS, *TOPICS) for text in pair)) - content_stems(
    "method data library tell other first world years treated slowly surface keep must compress"
)

_OPENERS = frozenset(
    re.findall(
        r"\w+",
        "it its this that these those they their them he she his her we our i you your such here there however "
        "moreover furthermore therefore thus hence consequently nevertheless nonetheless also additionally finally "
        "first firstly second secondly third next then similarly likewise but and or so note recall see both another "
        "again alternatively instead otherwise indeed clearly obviously now let suppose assume given consider one two "
        "three some most many all none each either neither yet still accordingly conversely specifically "
        "particularly apparently unfortunately interestingly fortunately besides meanwhile overall again further more "
        "where which who what while whereas because since although though if when after before once "
        "details analogously correspondingly typically usually generally naturally only even just compared rather "
        "not other others using setting same first last lastly above below earlier later former latter please thanks",
    )
)
"""Words that begin a sentence which leans on the one before it, or is no statement."""
_LEADING = re.compile(
    r"(?:In (?:addition|contrast|particular|general|fact|summary|other words|short|practice|doing so|order"
    r"|(?:the|a) (?:same|first|next|second|last|simplest|sequel|latter|former) )"
    r"|For (?:example|instance|details|more|further|simplicity|illustration|now)|On the (?:other|one|contrary)"
    r"|At (?:first|last|least|the)|As (?:a|an|before|mentioned|discussed|shown|noted|already|can|usual|such|in|well)"
    r"|To (?:this|do|that)|By (?:default|contrast)|From (?:a|the) |Of course|That is|With (?:regard|respect)"
    r"|The (?:main|only|key|major) (?:difference|advantage|idea|reason|point)s?\b"
    r"|The (?:same|first|second|third|next|last|other|latter|former|result|results|output|plot|remaining|rest|two"
    r"|three|four|both|idea|reason|remainder|only|corresponding|resulting|example|reader|authors?|current|default)\b)"
)
_LEANS = re.compile(
    r"\b(?:we|our|ours|us|i|my|you|your|this|these|those|such|here|above|below|following|previous(?:ly)?|preceding"
    r"|aforementioned|latter|former|figures?|figs?|tables?|tabs?|sections?|sect?|chapters?|appendix|equations?|eqs?"
    r"|examples?|theorem|lemma|vignette|paper|manuscript|article|left|right|panel|solid|dashed|respectively|listing"
    r"|printed|plotted|see|again|therefore|however|hence|thus|therein)\b",
    re.IGNORECASE,
)
_DEBRIS = re.compile(
    r"[=^{}\[\]\\|~<>_$@#∗*∑∫√±∈→←≤≥∼≈×·•…\"“”„«»`´\ufffd\u0370-\u03ff]|\bR>|https?:|www\.|\bdoi\b|\bpp\.|\w- \w"
    r"|\b(?!(?:al|vs|cf|resp)\.)\w{2,}\. [a-z]"
    r"|\b(?:Journal|Proceedings|University|Universität|Press|Springer|Wiley|URL|ISBN)\b|\(\d+\)|\s[.,]|::|\b\w\s\w\s\w\b"
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|can|could|may|might|must|will|would|should|does|do|did|allows?|provides?|uses?"
    r"|requires?|computes?|estimates?|contains?|depends?|leads?|follows?|offers?|returns?|implements?|extends?|supports?"
    r"|includes?|consists?|gives?|makes?|takes?|means?|yields?|shows?|increases?|decreases?|reduces?|improves?"
    r"|describes?|specif(?:y|ies)|represents?|performs?|produces?|assumes?|relies|rely|holds?|captures?|combines?"
    r"|creates?|determines?|ensures?|enables?|facilitates?|remains?|became|becomes?|proposed|introduced|developed"
    r"|suggested|needs?|plays?|seems?|tends?|corresponds?|employs?|exploits?|focus(?:es)?|arises?|occurs?|causes?)\b"
)
_HEADING = re.compile(r"[A-Z][^.:,;()]{2,70}?[^\W_] (?=(?:The|A|An|In|For|When|Various) )|Abstract (?=[A-Z])")
"""A heading that the text layer joined to the sentence after it: "Model frame The basic …"."""
_WH = re.compile(r"(?:\w+ ){0,2}?(?:what|which|how|why|when|where|who|whose|whom)\b", re.IGNORECASE)
_POINTS = re.compile(
    r"\b(?:this|these|those|it|they|them|he|she|we|our|us|you|your|i|my|above|below|following|given|example|passage"
    r"|sentence|fact|statement|paragraph|text|author|authors|paper|the two|former|latter|figure|table|section|here)\b",
    re.IGNORECASE,
)
_TERM_WORD = r"(?!(?:of|for|in|to|on|with|by|from|that|used|when|between|as)\b)[\w-]+"
_DEFINED = re.compile(
    rf"What (?:is|are) (?:(?:the|an?) )?(?P<term>{_TERM_WORD}(?: {_TERM_WORD})*) ?\?",
    re.IGNORECASE,
)
"""A question that asks what something is, and says no more about it."""
_HEAD = re.compile(
    r"What (?:is|are|was|were) the (?:[\w-]+ ){0,2}?(?P<head>[\w-]+) (?:of|for|between|in|behind)\b (?P<of>.+)\?"
)
"""A question for one thing of another: "What is the difference between …?"."""
_PURPOSE = frozenset(("purpo", "role", "goal", "aim"))
"""Every sentence whose subject is a tool tells what it is for."""
_GENERIC = frozenset(("funct", "packa", "argum", "comma"))
"""Words that a model adds to a name: "the function predict()"."""
_SUBJECT_WORDS = 9
_ASKED_FOR = tuple(
    (re.compile(asks, re.IGNORECASE), re.compile(given))
    for asks, given in (
        (
            r"(?:how (?:many|much|often|long|large)|what is the (?:number|size|percentage))\b",
            r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|dozen|hundred|half|twice|once|no|one|all)\b",
        ),
        (r"(?:when|in (?:what|which) year)\b", r"\d{4}|\b(?:when|after|before|during|until|since|if|once|while)\b"),
        (r"why\b", r"\b(?:because|since|due|to|so|as|for|reason|therefore|thus|hence)\b"),
        (r"(?:who|whose|whom)\b", r"\w.* [A-Z][a-z]{2,}"),
        (r"where\b", r"\b(?:in|at|on|from|under|within)\b"),
    )
)
"""What a question begins with, and what a sentence must hold that answers it."""
_STRONG = frozenset(words("most best least worst only first last always never"))
"""Words that a very small model adds to a question although its sentence has none of them."""
_WHAT_IS = re.compile(r"What (?:is|are|was|were) (?P<topic>(?:the|a|an) .+)\?", re.IGNORECASE)


def quotable(chunk: Chunk, seed: int = 0) -> list[str]:
    """The sentences of a chunk that can be asked for and understood alone, on one line each, in a seeded order."""
    found: dict[str, None] = {}
    for unit in units(chunk.text):
        sentence = one_line(chunk.text[unit.start : unit.end])
        if heading := _HEADING.match(sentence):
            sentence = sentence[heading.end() :]
        if unit.is_sentence and _states_alone(sentence):
            found[sentence] = None
    return sorted(found, key=lambda one: hashlib.sha256(f"{seed}\0{chunk.id}\0{one}".encode()).hexdigest())


def _states_alone(sentence: str) -> bool:
    """Whether a sentence states something, has a verb, and does not lean on what stands around it."""
    said = words(sentence)
    if not SENTENCE_WORDS[0] <= len(said) <= SENTENCE_WORDS[1] or not sentence.endswith("."):
        return False
    first = re.match(r"[^\W\d_][\w-]*", sentence)
    if not first or not sentence[0].isupper() or fold(first[0]) in _OPENERS or _LEADING.match(sentence):
        return False
    if _LEANS.search(sentence) or _DEBRIS.search(sentence) or not _VERB.search(sentence):
        return False
    lone = sum(len(word) == 1 and word not in ("a", "A", "R", "S", "t", "F") for word in said)
    balanced = sentence.count("(") == sentence.count(")")
    return balanced and not lone and is_sentence(sentence, said) and len(content_stems(sentence)) >= LEAST_STEMS


def question_request(sentence: str, *, seed: int | None = None) -> ChatRequest:
    """The request for one question that a sentence answers: greedy, or sampled with a seed for another try."""
    return _request("Fact", FACTS, sentence, seed)


def field_request(field: str, *, seed: int | None = None) -> ChatRequest:
    """The request for one question about a field."""
    return _request("Topic", TOPICS, field, seed)


def _request(name: str, examples: Sequence[tuple[str, str]], given: str, seed: int | None) -> ChatRequest:
    turns = [Message("system", SYSTEM)]
    for shown, question in examples:
        turns += [Message("user", f"{name}: {shown}\nQuestion:"), Message("assistant", question)]
    asked = Message("user", f"{name}: {neutral(given)}\nQuestion:")
    sampling = Sampling(max_tokens=QUESTION_TOKENS)
    if seed is not None:
        sampling = Sampling(temperature=RETRY_TEMPERATURE, seed=seed, max_tokens=QUESTION_TOKENS)
    return ChatRequest((*turns, asked), sampling, shared_turns=len(turns))


def quoting_version() -> str:
    """The first twelve digits of the sha256 of the prompts and the version of the rules."""
    parts = (VERSION, SYSTEM, FACTS, TOPICS, RETRY_TEMPERATURE, TRIES, QUESTION_TOKENS)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def question_in(reply: str) -> str:
    """The first question of a reply, on one line; empty if there is none."""
    line = next((line for line in reply.splitlines() if line.strip()), "")
    text = " ".join(line.split()).removeprefix("Question:").strip()
    return text[: text.index("?") + 1] if "?" in text else ""


def _form_problem(question: str, title: str = "", source: str = "") -> str:
    """Why a text is no question that stands alone, whatever it is about; empty if it is one."""
    if not question or re.search(r"[.!] [A-Z]", question):
        return NO_QUESTION
    if not _WH.match(question):
        return YES_OR_NO
    if _POINTS.search(question.replace(title, "") if title else question):
        return UNNAMED
    return stands_alone(question, [title] if title else (), [source]) or ""


def question_problem(question: str, sentence: str, title: str) -> str:
    """Why a question is not one that the sentence answers; empty if it is. The reasons are a fixed few."""
    if problem := _form_problem(question, title, sentence):
        return problem
    asked, said = content_stems(question), content_stems(sentence)
    if (asked & _EXAMPLES) - said - content_stems(title):
        return FROM_EXAMPLE
    if _STRONG & (set(words(fold(question))) - set(words(fold(sentence)))):
        return OFF_SENTENCE
    if head := _HEAD.fullmatch(question):
        subject = content_stems(" ".join(words(sentence)[:_SUBJECT_WORDS]))
        thing = content_stems(head["of"]) - _GENERIC
        if content_stems(head["head"]) & _PURPOSE and thing <= subject and any(len(stem) > 2 for stem in thing):
            return GIVES_AWAY if len(said - asked) < max(LEAST_ADDED, ADDED_SHARE * len(said)) else ""
        if not content_stems(head["of"]) <= said | content_stems(title) or not _gives(sentence, head["head"]):
            return OFF_SENTENCE
    if any(asks.match(question) and not given.search(sentence) for asks, given in _ASKED_FOR):
        return NOT_GIVEN
    if len(asked & said) < SHARED_STEMS or len(asked & (said | content_stems(title))) < KNOWN_SHARE * len(asked):
        return OFF_SENTENCE
    if (match := _DEFINED.fullmatch(question)) and not _defines(sentence, match["term"]):
        return NO_DEFINITION
    return GIVES_AWAY if len(said - asked) < max(LEAST_ADDED, ADDED_SHARE * len(said)) else ""


def _defines(sentence: str, term: str) -> bool:
    """Whether a sentence says what the term is: "A mosaic plot (Hartigan 1984) is …", or "… is the term"."""
    name = re.escape(fold(term.strip()))
    is_one = (
        r"(?: ?\([^)]*\))? (?:(?:is|are|was|were)(?: \w+ly| basically)? (?:an?|the|one|any)\b|refers?|means?|denotes?)"
    )
    return bool(re.search(rf"\b{name}{is_one}|\b(?:is|are|was|were) (?:the |an? )?{name}\b", fold(sentence)))


def _gives(sentence: str, head: str) -> bool:
    """Whether a sentence says what the head of "What is the HEAD of …" is: "the head … is", or "… is the head"."""
    name, verb = re.escape(fold(head)), r"\b(?:is|are|was|were|consists?|depends?|includes?|requires?)\b"
    return bool(re.search(rf"\b{name}\b.{{0,60}}{verb}|{verb}.{{0,30}}\b{name}\b", fold(sentence)))


def field_problem(question: str, field: str) -> str:
    """Why a question is not one about the field; empty if it is."""
    if problem := _form_problem(question):
        return problem
    asked, own = content_stems(question), content_stems(f"{field} {FIELDS.get(field, '')}")
    if (asked & _EXAMPLES) - own:
        return FROM_EXAMPLE
    return "" if asked & own else OFF_FIELD


def topic_in(question: str, sentence: str) -> str:
    """The noun phrase that a refusal of the question would name; empty if no rule finds one.

    What follows "What is", if it is short; else the longest run of words that question and sentence share.
    """
    if (match := _WHAT_IS.fullmatch(question)) and len(match["topic"].split()) <= TOPIC_WORDS:
        topic: str = match["topic"]
        return topic[0].lower() + topic[1:]
    asked, said = words(question), f" {' '.join(words(fold(sentence)))} "
    best: list[str] = []
    for start in range(len(asked)):
        for end in range(start + 1, len(asked) + 1):
            run = asked[start:end]
            whole = content_stems(run[-1]) and (content_stems(run[0]) or run[0].lower() in ("the", "a", "an"))
            if whole and len(run) > len(best) and f" {' '.join(words(fold(' '.join(run))))} " in said:
                best = run
    return " ".join(best) if len(content_stems(" ".join(best))) >= SHARED_STEMS else ""
