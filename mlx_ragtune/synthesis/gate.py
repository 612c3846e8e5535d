"""What must not be trained on, whoever wrote it: parts of prompts, dialogues, control tokens, templates.

    one row        certain: an error with its line in an authored file, a rejection of a generated pair
                   control tokens; a part of a prompt (9 words in a row or a whole sentence); a turn of a dialogue or
                   a further question with its answer; visible thinking
    all rows       printed, and in statistics.json
                   template collapse: more than 20 % of at least 30 answers of a kind begin with the same three words,
                   a title counting as one (refusals, whose wording may be a formula, are left out);
                   length outliers: beyond four times the interquartile range of the logarithms of the answers'
                   lengths, of at least 20; control tokens in the papers, which every prompt shows with spaces

What repeats the benchmark is found by ``benchmark_guard``.
"""

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from mlx_ragtune.records import Chunk, Pair
from mlx_ragtune.retrieval.control_tokens import CONTROL, control_tokens
from mlx_ragtune.retrieval.prompt import SYSTEM
from mlx_ragtune.scoring.answers.leaks import (
    SYSTEM_SENTENCE_WORDS,
    SYSTEM_WORDS,
    has_turn_token,
    repeats_prompt,
    talks_to_itself,
    thinks_aloud,
)
from mlx_ragtune.scoring.answers.normalize import fold, sentences, words
from mlx_ragtune.synthesis.generator_prompts import RULES
from mlx_ragtune.synthesis.generator_prompts import SYSTEM as WRITER

COLLAPSE_SHARE = 0.2
COLLAPSE_ANSWERS = 30
OPENING_WORDS = 3
OUTLIER_RANGES = 4.0
OUTLIER_ANSWERS = 20
SHOWN = 5
"""How many rows or tokens a message names."""

CONTROL_TOKEN = "control token"
PROMPT_TEXT = "part of a prompt"
DIALOGUE = "turn of a dialogue"
THINKING = "visible thinking"
REASONS = (CONTROL_TOKEN, PROMPT_TEXT, DIALOGUE, THINKING)

_PROMPTS = (SYSTEM, WRITER, *dict.fromkeys(rule for rules in RULES.values() for rule in rules))
_NAMES = frozenset(
    re.findall(
        r"\S+",
        "[CLS] [SEP] [MASK] [PAD] [UNK] [IMG] [PREFIX] [SUFFIX] [MIDDLE] [ARGS] <mask> <pad> <unk> <sep> <cls> "
        "<filename> <pr>",
    )
)
"""Tokens that papers on language models speak of and that end no turn: they count for a base that has them."""
_ROLE_AT_START = re.compile(r"^\s*(?:user|human|assistant|system|question|answer|q|a)\s?:\s", re.IGNORECASE)
_QUESTION_AND_ANSWER = re.compile(
    r"\b(?:question|q)\s?\d{0,2}:\s.{3,400}?\b(?:answer|a)\s?\d{0,2}:\s", re.IGNORECASE | re.DOTALL
)
_TASK_TEXT = re.compile(
    r"\bas (?:a )?JSON (?:object )?\{|\{\"pairs\": \[|\"verdicts\": \[|^Papers:\s*$|^Passage \d+, from \"", re.MULTILINE
)
_CITED = "citedtitle"
_TITLE = re.compile(r"[\"“][^\"“”\n]{3,300}[\"”]")


def row_faults(question: str, answer: str, specials: Collection[str] = ()) -> dict[str, str]:
    """Reason → detail of what is certainly wrong with a row. ``specials``: the base's own special tokens."""
    faults: dict[str, str] = {}
    for name, text in (("question", question), ("answer", answer)):
        tokens = _foreign(text)
        tokens += [token for token in specials if token in text]
        if tokens:
            faults.setdefault(CONTROL_TOKEN, f"{tokens[0]!r} in the {name}")
        elif has_turn_token(text):
            faults.setdefault(CONTROL_TOKEN, f"in the {name}")
        if _TASK_TEXT.search(text) or _has_prompt(text) or (words(text) and repeats_prompt(text, "", (), "")):
            faults.setdefault(PROMPT_TEXT, f"in the {name}")
        if talks_to_itself(text) or _ROLE_AT_START.match(text) or _QUESTION_AND_ANSWER.search(text):
            faults.setdefault(DIALOGUE, f"in the {name}")
        if thinks_aloud(text) and CONTROL_TOKEN not in faults:
            faults.setdefault(THINKING, f"in the {name}")
    return faults


def answer_fault(answer: str) -> str:
    """The first reason besides control tokens why an answer alone must not be learned; "" without one."""
    faults = row_faults("", answer)
    return next((reason for reason in REASONS if reason in faults and reason != CONTROL_TOKEN), "")


def _foreign(text: str) -> list[str]:
    """The control tokens in a text that are no names."""
    return [token for token in control_tokens(text) if token not in _NAMES]


@cache
def _prompt_parts() -> tuple[frozenset[tuple[str, ...]], tuple[str, ...]]:
    """The runs of 9 words of all prompts, and their sentences of 6 or more words."""
    spoken = [[words(part) for part in sentences(fold(prompt))] for prompt in _PROMPTS]
    texts = [[word for part in parts for word in part] for parts in spoken]
    runs = frozenset(run for text in texts for run in _runs(text))
    wholes = {" ".join(part) for parts in spoken for part in parts if len(part) >= SYSTEM_SENTENCE_WORDS}
    return runs, tuple(sorted(wholes))


def _runs(spoken: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(spoken[start:] for start in range(SYSTEM_WORDS)), strict=False)


def _has_prompt(text: str) -> bool:
    """Whether a sentence of a prompt, or 9 of its words in a row, are in the text."""
    spoken = words(fold(text))
    runs, wholes = _prompt_parts()
    joined = f" {' '.join(spoken)} "
    return any(run in runs for run in _runs(spoken)) or any(f" {whole} " in joined for whole in wholes)


def row_fault(pair: Pair) -> str | None:
    """The first reason of ``row_faults`` for a generated pair, or None."""
    return next((reason for reason in REASONS if reason in row_faults(pair.question, pair.answer)), None)


def opening(answer: str) -> str:
    """The first three words of an answer, folded; a quoted title counts as one word, ``…``."""
    spoken = re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", fold(_TITLE.sub(f" {_CITED} ", answer)))
    return " ".join("\u2026" if word == _CITED else word for word in spoken[:OPENING_WORDS])


def collapsed_openings(pairs: Iterable[Pair]) -> list[dict[str, Any]]:
    """Openings that more than a fifth of a kind's answers share: kind, opening, answers, of, share.

    Refusals are left out: their wording may be a formula.
    """
    by_kind: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        if pair.kind != "refusal":
            by_kind[pair.kind].append(opening(pair.answer))
    return [
        {"kind": kind, "opening": text, "answers": count, "of": len(texts), "share": round(count / len(texts), 3)}
        for kind, texts in by_kind.items()
        if len(texts) >= COLLAPSE_ANSWERS
        for text, count in Counter(texts).most_common()
        if count > COLLAPSE_SHARE * len(texts)
    ]


def length_outliers(pairs: Iterable[Pair]) -> list[dict[str, Any]]:
    """Answers that are far longer or shorter than those of their kind: id, kind, words, median."""
    by_kind: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for pair in pairs:
        by_kind[pair.kind].append((pair.id, len(words(pair.answer))))
    outliers: list[dict[str, Any]] = []
    for kind, lengths in by_kind.items():
        if len(lengths) < OUTLIER_ANSWERS:
            continue
        logs = [math.log(max(1, length)) for _, length in lengths]
        low, middle, high = statistics.quantiles(logs, n=4)
        margin = OUTLIER_RANGES * max(high - low, 0.1)
        outliers += [
            {"id": name, "kind": kind, "words": length, "median": round(math.exp(middle))}
            for (name, length), log in zip(lengths, logs, strict=True)
            if not low - margin <= log <= high + margin
        ]
    return outliers


def tokens_of_papers(chunks: Iterable[Chunk]) -> dict[str, dict[str, int]]:
    """Control token → paper → how often its passages or its title hold it."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for chunk in chunks:
        if CONTROL.search(chunk.text) or CONTROL.search(chunk.title):
            for token in (*control_tokens(chunk.text), *control_tokens(chunk.title)):
                counts[token][chunk.document_id] += 1
    return {token: dict(papers) for token, papers in sorted(counts.items())}


def corpus_findings(pairs: Sequence[Pair], chunks: Iterable[Chunk]) -> dict[str, Any]:
    """What the rows show together, for ``statistics.json``: ``openings``, ``lengths``, ``control_tokens``."""
    return {
        "openings": collapsed_openings(pairs),
        "lengths": length_outliers(pairs),
        "control_tokens": tokens_of_papers(chunks),
    }


def warnings(findings: Mapping[str, Any]) -> list[str]:
    """The findings of ``corpus_findings`` as lines to print, each with what to do."""
    lines = [
        f"{row['answers']} of {row['of']} {row['kind']} answers ({row['share']:.0%}) begin with '{row['opening']}': "
        "the model will learn it as a template; vary the wording"
        for row in findings["openings"]
    ]
    if rows := findings["lengths"]:
        listing = ", ".join(f"{row['id']} ({row['words']} words, median {row['median']})" for row in rows[:SHOWN])
        lines.append(f"{len(rows)} answers are much longer or shorter than others of their kind: {listing}; read them")
    if tokens := findings["control_tokens"]:
        listing = ", ".join(
            f"'{token}' in {', '.join(list(papers)[:SHOWN])}" for token, papers in list(tokens.items())[:SHOWN]
        )
        lines.append(f"the papers contain control tokens, which prompts show with spaces: {listing}")
    return lines
