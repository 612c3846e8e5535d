"""The prompts that draft benchmark questions. Any change to them changes ``draft_version``.

As in ``generator_prompts``, the passages come first, and the keys are in alphabetical order, which is also the order
in which to reason: the sentence, the fact in it, the question about the fact, the answer.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from mlx_ragtune.records import ChatRequest, Chunk, Message
from mlx_ragtune.synthesis.draft_plan import DraftCall, DraftTask
from mlx_ragtune.synthesis.generator_prompts import WRITING, language_rules, rows_schema, shown

SYSTEM = (
    "You write questions with which a language model is tested that answers from research papers. Each question has "
    "one right answer. You state nothing that the passages do not state. You answer with one JSON object and nothing "
    "else."
)
FIELDS: Mapping[DraftTask, tuple[str, ...]] = {
    "named": ("evidence", "key", "question", "reply"),
    "unnamed": ("evidence", "key", "question", "reply"),
    "two_paper": ("evidence_1", "evidence_2", "key_1", "key_2", "question", "reply"),
    "near_miss": ("absent", "question", "topic"),
    "off_corpus": ("question", "topic"),
}
_EVIDENCE = "evidence: one sentence of the passage that states a fact worth knowing, copied letter by letter."
_KEY = (
    "key: the number with its unit, the name or the phrase of at most six words in that sentence without which an "
    "answer would be wrong, copied letter by letter."
)
_NAMED = (
    "question: one question about that fact that names the method, model, data set or subject, so that it is "
    "understood without the passage; it does not hold the key; it ends in a question mark."
)
_UNNAMED = (
    "question: one question about that fact that describes the situation in the words of a reader who does not know "
    "the paper: it holds neither the name of the method, model or data set nor the title; it does not hold the key; "
    "it ends in a question mark."
)
_REPLY = (
    "reply: one or two sentences of plain prose in the third person that answer the question; they cite {titles} in "
    "full and in double quotes, and hold {keys} letter by letter."
)
_TOPIC = (
    "topic: what the question asks about, as a noun phrase of at most twelve words without a full stop, such as "
    "'the memory that {example}'."
)
RULES: Mapping[DraftTask, tuple[str, ...]] = {
    "named": (_EVIDENCE, _KEY, _NAMED, _REPLY.format(titles="the title", keys="the key")),
    "unnamed": (_EVIDENCE, _KEY, _UNNAMED, _REPLY.format(titles="the title", keys="the key")),
    "two_paper": (
        _EVIDENCE.replace("evidence:", "evidence_1:").replace("the passage", "passage 1"),
        _EVIDENCE.replace("evidence:", "evidence_2:").replace("the passage", "passage 2"),
        _KEY.replace("key:", "key_1:").replace("that sentence", "evidence_1"),
        _KEY.replace("key:", "key_2:").replace("that sentence", "evidence_2"),
        _NAMED.replace("about that fact that names the method", "that needs both facts and names each method").replace(
            "the key", "either key"
        ),
        _REPLY.format(titles="both titles", keys="both keys"),
    ),
    "near_miss": (
        "absent: something that a reader would expect in this work and that the passage does not state, or a wrong "
        "assumption about it.",
        "question: one question that asks for it, names the method, model, data set or subject, and cannot be answered "
        "from the paper; it ends in a question mark.",
        _TOPIC.format(example="LoRA saves on GPT-3"),
    ),
    "off_corpus": (
        "question: one short factual question that a curious person may ask; it ends in a question mark.",
        _TOPIC.format(example="an elephant has"),
    ),
}
TOKENS: Mapping[str, int] = {
    "evidence": 160, "key": 32, "question": 80, "reply": 160, "absent": 80, "topic": 40,
}  # fmt: skip
"""Room for one field of one item, in tokens. A longer one does not pass the checks; sentences in scripts with few
characters to the token may be cut off, and the items before them count."""


def draft_request(call: DraftCall, chunks: Sequence[Chunk], *, seed: int) -> ChatRequest:
    """The request for the questions of one call; the reply is a JSON object with the list ``pairs``."""
    fields = FIELDS[call.task]
    rules = "\n".join(f"- {rule}" for rule in (*RULES[call.task], *language_rules(chunks)))
    keys = ", ".join(json.dumps(name) for name in fields)
    what = "different items" if call.count > 1 else "item"
    order = (
        f"Write {call.count} {what} about {call.angle}, as a JSON object "
        f'{{"pairs": [{{{keys}}}, …]}}. The keys of each item, in this order:\n{rules}'
    )
    text = f"{shown(chunks)}\n\n{order}" if chunks else order
    room = sum(TOKENS[name.rstrip("_12")] for name in fields)
    tokens = min(WRITING.max_tokens, 64 + call.count * room)
    item = {"type": "object", "properties": {name: {"type": "string"} for name in fields}, "required": list(fields)}
    return ChatRequest(
        (Message("system", SYSTEM), Message("user", text)),
        replace(WRITING, seed=seed, max_tokens=tokens),
        schema=rows_schema("pairs", item, call.count),
    )


@cache
def draft_version() -> str:
    """A digest of everything that a request says besides passages."""
    probes = [draft_request(DraftCall(task, (), "", 1), (), seed=0) for task in FIELDS]
    return hashlib.sha256(repr(probes).encode()).hexdigest()[:12]
