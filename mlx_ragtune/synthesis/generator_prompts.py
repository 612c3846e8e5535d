"""The prompts of the generating model. Any change to them changes ``prompt_version``: old answers are not reused.

The passages come first and the instructions last, so that the calls on one context share a prefix. Servers
write the keys of a schema in alphabetical order (ollama#18717), so the keys are named for it: evidence,
question, reply, topic is also the order in which to reason.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from mlx_ragtune.recipe_data import ANSWER_WORDS
from mlx_ragtune.records import ChatRequest, Chunk, Message, Passage, Sampling
from mlx_ragtune.retrieval.control_tokens import neutral
from mlx_ragtune.scoring.answers.language import SUPPORTED, language_of
from mlx_ragtune.scoring.answers.normalize import sentences, words
from mlx_ragtune.synthesis.call_plan import Call, Task
from mlx_ragtune.synthesis.checks import QUESTION_WORDS, Windows

THOUGHT_TOO_LONG = "max_tokens used up by thinking"
"""Why a reply is unusable that ended inside its thinking."""
SYSTEM = (
    "You write questions and answers about research papers, to train a model that answers from passages it "
    "is shown. You state nothing that the passages do not state. You answer with one JSON object and nothing "
    "else."
)
FIELDS: Mapping[Task, tuple[str, ...]] = {
    "grounded": ("evidence", "question", "reply", "topic"),
    "partial": ("absent", "evidence", "question", "reply", "topic"),
    "synthesis": ("evidence_1", "evidence_2", "question", "reply", "topic"),
    "false_premise": ("absent", "question", "topic"),
    "off_corpus": ("question", "topic"),
}
_ALONE = (
    "question: one question that names its method, model or data set, so that it is understood without the "
    "passage; never 'the paper', 'the passage' or 'the authors'; it ends in a question mark."
)
_REPLY = (
    "reply: one or two sentences of plain prose, no list, no heading; it cites {titles} in full and in "
    "double quotes, and takes every number from the passage."
)
_TOPIC = (
    "topic: what the question asks about, as a noun phrase of at most twelve words without a full stop, "
    "such as 'the memory that LoRA saves on GPT-3'."
)
_EVIDENCE = "evidence: the sentence of the passage that holds the answer, copied letter by letter."
RULES: Mapping[Task, tuple[str, ...]] = {
    "grounded": (_EVIDENCE, _ALONE, _REPLY.format(titles="the title"), _TOPIC),
    "partial": (
        "absent: something closely related that the passage does not state.",
        _EVIDENCE.replace("the answer", "the answer to the first part"),
        _ALONE.replace("one question", "one question in two parts, the second about what is absent,"),
        _REPLY.format(titles="the title") + " It answers the first part and then says that the second is not reported.",
        _TOPIC,
    ),
    "synthesis": (
        "evidence_1: the sentence of passage 1 that is needed, copied letter by letter.",
        "evidence_2: the sentence of passage 2 that is needed, copied letter by letter.",
        _ALONE.replace("one question", "one question that needs both passages,"),
        _REPLY.format(titles="both titles"),
        _TOPIC,
    ),
    "false_premise": (
        "absent: something that a reader might expect of this work and that the passage does not state, "
        "or a wrong assumption about it.",
        _ALONE.replace("one question", "one question that takes this for granted and that the passage cannot answer,"),
        _TOPIC,
    ),
    "off_corpus": (
        "question: one short factual question that a curious person may ask; it ends in a question mark.",
        _TOPIC.replace("LoRA saves on GPT-3", "an elephant has"),
    ),
}
WRITING = Sampling(temperature=0.7, top_p=0.9, max_tokens=4096)
JUDGING = Sampling(temperature=0.0, max_tokens=2048)
"""``max_tokens`` of both is an upper limit: a request asks for what its items can need, so that a reply that runs away
ends soon."""
_FIELD_WORDS: Mapping[str, int] = {
    "absent": QUESTION_WORDS[1], "question": QUESTION_WORDS[1], "reply": 90, "topic": 24, "finding": 60,
    "verdict": 1,
}  # fmt: skip
"""The most words that a field of a pair that passes the checks can have; evidence is a sentence of its passage. The
reply of a pair is as long as its kind's window allows."""
_BYTES_PER_TOKEN = 3.0
"""Fewer than tokenizers reach: English text has about 4.5 bytes to the token, Chinese 3 to 5, German 4."""
_BYTES_PER_WORD = 7.0
"""Of English text, with a space; texts in other scripts are measured on their passage."""
_TOKENS_AROUND = 16
"""Key, quotes, commas and escapes of one field."""


def _needed_tokens(
    fields: Sequence[str],
    passages: Sequence[Chunk | Passage],
    *,
    items: int,
    most: int,
    reply_words: int = _FIELD_WORDS["reply"],
) -> int:
    """Tokens that ``items`` of these fields can need, at most ``most``. A longer reply cannot pass the checks."""
    text = "\n".join(passage.text for passage in passages)
    per_word = max(_BYTES_PER_WORD, len(text.encode(errors="replace")) / max(1, len(words(text))))
    longest = max((len(sentence.encode(errors="replace")) for sentence in sentences(text)), default=0)
    most_words = {**_FIELD_WORDS, "reply": reply_words}
    sizes = [longest if name.startswith("evidence") else most_words[name] * per_word for name in fields]
    return min(most, items * sum(round(size / _BYTES_PER_TOKEN) + _TOKENS_AROUND for size in sizes) + _TOKENS_AROUND)


def _strings(names: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": list(names),
    }


def rows_schema(key: str, item: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The JSON schema of an object with one list of ``count`` items."""
    rows = {"type": "array", "items": dict(item), "minItems": count, "maxItems": count}
    return {"type": "object", "properties": {key: rows}, "required": [key]}


def shown(passages: Sequence[Chunk | Passage]) -> str:
    """The passages as they start every prompt: numbered, with their titles, control tokens with spaces."""
    return "\n\n".join(
        f'Passage {number}, from "{neutral(passage.title)}":\n{neutral(passage.text.strip())}'
        for number, passage in enumerate(passages, start=1)
    )


def language_rules(passages: Sequence[Chunk | Passage]) -> tuple[str, ...]:
    """What is added to the rules for passages in another language than English; nothing for English ones."""
    language = language_of("\n".join(passage.text for passage in passages))
    if language not in SUPPORTED or language == "en":
        return ()
    return (f"everything but the keys is in {SUPPORTED[language]}, the language of the passages.",)


def writing_request(call: Call, chunks: Sequence[Chunk], *, seed: int, windows: Windows = ANSWER_WORDS) -> ChatRequest:
    """The request for the pairs of one call. ``windows``: the fewest and the most words of an answer, by kind."""
    fields = FIELDS[call.task]
    about = f"about {call.angle}"
    rules = "\n".join(f"- {rule}" for rule in (*RULES[call.task], *language_rules(chunks)))
    order = (
        f"Write {call.pairs} different items {about}, as a JSON object "
        f'{{"pairs": [{{{", ".join(f"{name!r}".replace(chr(39), chr(34)) for name in fields)}}}, …]}}. '
        f"The keys of each item, in this order:\n{rules}"
    )
    text = f"{shown(chunks)}\n\n{order}" if chunks else order
    longest = windows["synthesis" if call.task == "synthesis" else "grounded"][1]
    needed = _needed_tokens(fields, chunks, items=call.pairs, most=WRITING.max_tokens, reply_words=longest)
    sampling = replace(WRITING, seed=seed, max_tokens=needed)
    schema = rows_schema("pairs", _strings(fields), call.pairs)
    return ChatRequest((Message("system", SYSTEM), Message("user", text)), sampling, schema=schema)


def repair_request(request: ChatRequest, reply: str, problem: str) -> ChatRequest:
    """The same request with the bad reply and what is wrong with it.

    A model that thinks although it is not asked to gets all the tokens that a request may have.
    """
    told = f"That cannot be used: {problem}. Write the whole JSON object again, and nothing else."
    quoted = reply[:4000].encode(errors="replace").decode() or "{}"  # half a surrogate pair cannot be sent
    messages = (*request.messages, Message("assistant", quoted), Message("user", told))
    most = max(request.sampling.max_tokens, WRITING.max_tokens) if problem == THOUGHT_TOO_LONG else None
    sampling = request.sampling if most is None else replace(request.sampling, max_tokens=most)
    return ChatRequest(messages, sampling, request.think, request.schema)


def _judging_request(
    passages: Sequence[Chunk | Passage], order: str, schema: dict[str, Any], fields: Sequence[str], *, items: int
) -> ChatRequest:
    """``fields`` are those of each of the ``items``."""
    needed = _needed_tokens(fields, passages, items=items, most=JUDGING.max_tokens)
    text = f"{shown(passages)}\n\n{order}" if passages else order
    return ChatRequest(
        (Message("system", SYSTEM), Message("user", text)), replace(JUDGING, max_tokens=needed), schema=schema
    )


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def support_request(passages: Sequence[Chunk], answered: Sequence[tuple[str, str]]) -> ChatRequest:
    """Does the source, which is shown, state each answer? One verdict (yes or no) for each."""
    listing = _numbered([f"Question: {question} Answer: {answer}" for question, answer in answered])
    order = (
        "For each answer below: finding: what the passages say about it, in a few words; verdict: 'yes' if "
        "the passages state all of the answer and it answers the question, else 'no'. Answer as JSON "
        f'{{"verdicts": [{{"finding", "verdict"}}, …]}} with {len(answered)} items.\n{listing}'
    )
    item = _strings(("finding", "verdict"))
    item["properties"]["verdict"] = {"type": "string", "enum": ["yes", "no"]}
    schema = rows_schema("verdicts", item, len(answered))
    return _judging_request(passages, order, schema, ("finding", "verdict"), items=len(answered))


def answering_request(passages: Sequence[Chunk | Passage], questions: Sequence[str]) -> ChatRequest:
    """Answers to questions from the passages; without passages, from what the model remembers."""
    source = "from the passages" if passages else "from what you know; write 'unknown' if you do not know"
    language = language_of("\n".join(questions))
    same = f" in {SUPPORTED[language]}" if language in SUPPORTED and language != "en" else ""
    order = (
        f"Answer each question below {source}, in one sentence{same}, as a JSON object "
        f'{{"answers": ["…", …]}} with {len(questions)} items.\n{_numbered(questions)}'
    )
    schema = rows_schema("answers", {"type": "string"}, len(questions))
    return _judging_request(passages, order, schema, ("reply",), items=len(questions))


def absence_request(passages: Sequence[Chunk | Passage], questions: Sequence[str]) -> ChatRequest:
    """Is the answer to each question absent from the passages? One verdict (answered or absent) for each."""
    order = (
        "For each question below: finding: what the passages say that comes closest to an answer, in a few "
        "words; verdict: 'answered' if the passages answer the question, wholly or in part, else 'absent'. "
        f'Answer as JSON {{"verdicts": [{{"finding", "verdict"}}, …]}} with {len(questions)} items.\n'
        f"{_numbered(questions)}"
    )
    item = _strings(("finding", "verdict"))
    item["properties"]["verdict"] = {"type": "string", "enum": ["answered", "absent"]}
    schema = rows_schema("verdicts", item, len(questions))
    return _judging_request(passages, order, schema, ("finding", "verdict"), items=len(questions))


@cache
def prompt_version() -> str:
    """A digest of everything that any request says besides passages, questions and answers."""
    probes = [
        *(writing_request(Call(task, ("x",) if task != "off_corpus" else (), 1, ""), (), seed=0) for task in FIELDS),
        support_request((), [("", "")]),
        answering_request((), [""]),
        answering_request((Passage("", "", "", ""),), [""]),
        absence_request((), [""]),
    ]
    return hashlib.sha256(repr(probes).encode()).hexdigest()[:12]
