"""The wording of generated refusals: one of a few plain sentences that say what is missing."""

import hashlib
import re

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
TOPIC_WORDS = (1, 14)


def topic_of(text: str) -> str | None:
    """The topic as it is written within a sentence, or None when it is not a short noun phrase."""
    topic = " ".join(text.split()).strip(" .?!:;\"'")
    if not TOPIC_WORDS[0] <= len(topic.split()) <= TOPIC_WORDS[1] or re.search(r"[.?!\n{}]\s", topic):
        return None
    if re.match(r"(?:A|An|The|How|What|Why|When|Where|Which|Who|Whether) ", topic):
        topic = topic[0].lower() + topic[1:]
    return topic


def refusal(topic: str, question: str) -> str:
    """A refusal that names the topic; the wording is chosen by the question's hash."""
    number = int(hashlib.sha256(question.encode()).hexdigest(), 16) % len(WORDINGS)
    return WORDINGS[number].format(topic=topic)
