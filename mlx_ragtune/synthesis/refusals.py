"""The wording of refusals that are made: one of a few plain sentences that say what is missing.

Refusals of contrast pairs have the wording of the data set's own: sentences and clauses of its refusals that say
nothing of their own question, so that they fit any other.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlx_ragtune.records import Pair
from mlx_ragtune.scoring.answers.language import language_of
from mlx_ragtune.scoring.answers.normalize import fold, sentences, words
from mlx_ragtune.scoring.answers.refusal import is_refusal

WORDINGS = (
    "The papers given here do not say anything about {topic}.",
    "None of these papers reports {topic}, so the question cannot be answered from them.",
    "The passages do not contain information about {topic}.",
    "This cannot be answered from the papers provided: they do not mention {topic}.",
    "The papers shown do not cover {topic}, and I cannot answer from anything else.",
    "There is no information about {topic} in the papers that were given.",
    "The answer is not in the papers provided. They do not discuss {topic}.",
    "I cannot answer this from these papers, because none of them mentions {topic}.",
)
WITHOUT_TOPIC = (
    "The papers given here do not answer this question.",
    "None of these papers says this, so the question cannot be answered from them.",
    "The passages do not contain the answer.",
    "This cannot be answered from the papers provided.",
    "The papers shown do not cover this, and I cannot answer from anything else.",
    "There is no information about this in the papers that were given.",
    "The answer is not in the papers provided.",
    "I cannot answer this from these papers.",
)
OTHER_LANGUAGES: Mapping[str, tuple[str, ...]] = {
    "de": (
        "Die vorliegenden Arbeiten beantworten diese Frage nicht.",
        "Die Arbeiten enthalten dazu keine Angaben.",
        "Anhand der vorliegenden Arbeiten lässt sich die Frage nicht beantworten.",
    ),
    "fr": (
        "Les articles fournis ne répondent pas à cette question.",
        "Les passages ne contiennent pas la réponse.",
        "Aucun de ces articles ne permet de répondre à cette question.",
    ),
    "es": (
        "Los artículos proporcionados no responden a esta pregunta.",
        "Los pasajes no contienen la respuesta.",
        "No se puede responder a esta pregunta con los artículos proporcionados.",
    ),
    "it": (
        "Gli articoli forniti non rispondono a questa domanda.",
        "I passaggi non contengono la risposta.",
        "Non è possibile rispondere a questa domanda con gli articoli forniti.",
    ),
    "zh": ("所提供的论文没有回答这个问题。", "这些论文中没有相关信息。", "根据所提供的论文无法回答这个问题。"),
    "ja": (
        "提供された論文はこの質問に答えていません。",
        "これらの論文には該当する情報がありません。",
        "提供された論文からはこの質問に答えられません。",
    ),
    "ko": (
        "제공된 논문은 이 질문에 답하지 않습니다.",
        "이 논문들에는 해당 정보가 없습니다.",
        "제공된 논문으로는 이 질문에 답할 수 없습니다.",
    ),
}
"""Wordings of refusals of questions that are not in English. They name no topic: its grammar is not known."""
TOPIC_WORDS = (1, 14)
_VERBS = "say|report|mention|contain|describe|state|give|provide|discuss|cover|specify|explain|include"
_FRAME = re.compile(
    rf"(?P<opening>[^,]*(?:, because [^,]*?)?\b(?:not|nor) (?:{_VERBS})) .*?"
    r"(?P<ending>(?:, (?:so|and|therefore|hence)[^,]*)?\.)"
)
"""An English refusal of one sentence: what stands before its topic, and after it."""
OWN_WORDS = (4, 30)
"""Fewest and most words of a wording that is taken from the data set."""
ENOUGH = 3
"""So many own wordings are variety enough."""
COMMON_SHARE, COMMON_LEAST = 0.05, 2
"""A word belongs to the wording, not to a topic, when so many refusals of different questions have it."""


def topic_of(text: str) -> str | None:
    """The topic as it is written within a sentence, or None when it is not a short noun phrase."""
    topic = " ".join(text.split()).strip(" .?!:;\"'")
    if not TOPIC_WORDS[0] <= len(topic.split()) <= TOPIC_WORDS[1] or re.search(r"[.?!\n{}]\s", topic):
        return None
    if re.match(r"(?:A|An|The|How|What|Why|When|Where|Which|Who|Whether) ", topic):
        topic = topic[0].lower() + topic[1:]
    return topic


def refusal(topic: str, question: str) -> str:
    """A refusal in the question's language, chosen by the question's hash; in English it names the topic, if any."""
    named = topic and _plain(question) is WITHOUT_TOPIC
    return _chosen(WORDINGS, question).format(topic=topic) if named else _chosen(_plain(question), question)


def _plain(question: str) -> tuple[str, ...]:
    """The wordings without a topic, in the question's language."""
    return OTHER_LANGUAGES.get(language_of(question) or "", WITHOUT_TOPIC)


def _chosen(wordings: Sequence[str], question: str) -> str:
    return wordings[int(hashlib.sha256(question.encode()).hexdigest(), 16) % len(wordings)]


def _content(text: str) -> set[str]:
    """The words of a text that may be of its topic: of four or more letters, or with a digit."""
    return {word for word in words(fold(text)) if len(word) > 3 or any(char.isdigit() for char in word)}


def _parts(answer: str) -> Iterator[str]:
    """The answer, each of its sentences, and the start of each sentence up to each comma."""
    yield answer
    for sentence in sentences(answer):
        yield sentence
        for comma in re.finditer(r",\s", sentence):
            yield f"{sentence[: comma.start()]}."


def _filled(answer: str) -> Iterator[str]:
    """An English refusal with "this" for its topic: "The papers do not say {which …}, so I cannot tell."."""
    if frame := _FRAME.fullmatch(answer.strip()):
        yield f"{frame['opening']} this{frame['ending']}"


def own_wordings(pairs: Iterable[Pair]) -> tuple[str, ...]:
    """Wordings of refusals that fit any question, sorted: whole ones, sentences, or clauses that refuse by themselves.

    A part is taken when all of its content words are common to refusals of different questions, and none is a word of
    its own question. In an English refusal of one sentence the topic may also be replaced by "this".
    """
    refusals = [pair for pair in pairs if pair.kind == "refusal"]
    spread = Counter(word for pair in refusals for word in _content(pair.answer) - _content(pair.question))
    least = max(COMMON_LEAST, COMMON_SHARE * len(refusals))
    found: set[str] = set()
    for pair in refusals:
        for part in map(str.strip, (*_parts(pair.answer), *_filled(pair.answer))):
            content = _content(part)
            plain = not (content & _content(pair.question)) and all(spread[word] >= least for word in content)
            short = OWN_WORDS[0] <= len(words(part)) <= OWN_WORDS[1]
            if content and plain and short and '"' not in part and is_refusal(part):
                found.add(part if part[-1:] in ".!。！" else f"{part}.")
    return tuple(sorted(found))


@dataclass(frozen=True)
class RefusalWording:
    """The refusals of a data set: ``topics`` are known for some pairs by id, ``own`` are its own wordings."""

    topics: Mapping[str, str]
    own: tuple[str, ...] = ()

    def __call__(self, pair: Pair) -> str:
        """A refusal of the pair's question, chosen by the question's hash; it names the topic where one is known."""
        if topic := self.topics.get(pair.id):
            return refusal(topic, pair.question)
        wordings = self.own if len(self.own) >= ENOUGH else (*self.own, *_plain(pair.question))
        return _chosen(wordings, pair.question)
