"""What leaks into an answer: thinking, tokens of the chat template, further turns of a dialogue, the prompt.

An answer may be *about* such things ("the template ends each turn with ``<|im_end|>``"). A token is a mention
and not a leak when it stands in quotation marks or code ticks, or as part of a sentence: after a word that
takes it as its object, before a word such as "token" or "tag", or after any word if the question or the
passages contain the token too. At the edge of a sentence or of the text it is a leak.
"""

import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from mlx_ragtune.records import Passage
from mlx_ragtune.scoring.answers.normalize import fold, sentences, words

QUOTE_CHARACTERS = 200
"""A longer text in quotation marks is not taken for a quote: one of the marks is missing."""
COPIED_WORDS = 50
"""From here on a copy of three or more sentences is no quote. The longest copy in the 472 answers of
``data/rag_notes`` has 32 words; two sentences of its papers have 39 in the median and 84 at most."""
LONG_COPY_WORDS = 100
"""From here on any copy is too long for a quote."""
COPIED_IN_ALL = 150
"""Words of all copies together."""
COPY_STEP = 12
"""Shorter copies are not counted."""
HEADED_WORDS = 6
"""How much of a passage must stand behind its number and title."""
SYSTEM_WORDS = 9
"""Words in a row of the system prompt. "The papers do not contain the answer" has 7."""
SYSTEM_SENTENCE_WORDS = 6
CJK_WORD = 0.6
"""What one Chinese, Japanese or Korean character counts in words."""

_QUOTED = re.compile(
    rf"```[^`]{{1,2000}}```|`[^`\n]{{1,{QUOTE_CHARACTERS}}}`|\"[^\"\n]{{1,{QUOTE_CHARACTERS}}}\"|[“„][^“”„\n]{{1,{QUOTE_CHARACTERS}}}[”“]"
    rf"|«[^«»\n]{{1,{QUOTE_CHARACTERS}}}»|「[^「」\n]{{1,{QUOTE_CHARACTERS}}}」"
    rf"|(?<!\w)['‘][^'’\n]{{1,40}}['’](?!\w)"
)
_CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"

_THINK_TAG = re.compile(
    r"</?(?:\w{1,20}:)?think(?:ing)?\b[^<>\n]{0,20}>?|</?(?:thoughts?|reasoning|scratchpad)>|◁/?think▷", re.IGNORECASE
)
_REASONING = re.compile(
    r"^\s*(?:okay|ok|alright|hmm|wait)[,.]? (?:so,? )?(?:the user|i need to|i should|i have to|let me|let's)\b"
    r"|^\s*let me (?:think|see|check|count|look|re-?read|figure)\b|^\s*let's think\b"
    r"|^\s*(?:(?:analysis)?we (?:need|have) to (?:answer|respond|reply|output|produce|cite)\b"
    r"|the user (?:(?:is asking|asked|asks) (?:me|us|about|how|what|which|why|when|where|whether)"
    r"|wants (?:me|to know))\b)",
    re.IGNORECASE,
)
_TURN_TOKEN = re.compile(
    r"<[|｜][\w/▁ -]{1,40}[|｜]?>|<[\w/▁-]{1,40}[|｜]>|<[|｜]\w{2,40}(?![\w|｜>])|<</?SYS>>|</?s>"
    r"|</?(?i:bos|eos|pad|unk|sop|eop|start_of_turn|end_of_turn|tool_call|tool_response|sep|eot|im_start|im_end"
    r"|extra_id_\d+|unused\d+|eo[a-z]|role|(?:[a-z]{0,20}_)?(?:assistant|user|bot|system)"
    r"|(?:start|end|begin)_of_\w{1,30}|fim_\w{1,20}|reserved_\w{1,40}|[a-z]{1,20}:(?:bos|eos|pad|\w{0,20}call\w{0,20}))>|<0x[0-9A-F]{2}>"
    r"|\[/?(?:INST|THINK|SYSTEM_PROMPT|TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS|gMASK|PAD|BOS|EOS|UNK|BOT|EOT|EOM|EOD)\]"
    r"|\[\|[\w ]{2,40}\|\]|(?<!\w)assistant(?:final|analysis|commentary)(?=[A-Z\W]|$)"
    r"|(?<![\w|<])(?:im_start|im_end|eot_id|start_header_id|end_header_id|endoftext|end_of_turn)\|?>",
)
_THINKING_LINE = re.compile(
    r"^[^\S\n]*(?:Thinking(?:\.\.\.|…)|(?:\.\.\.|…)[^\S\n]?done thinking\.?)[^\S\n]*$", re.MULTILINE
)

_BEFORE_MENTION = re.compile(
    r"(?:[,:(/&|]|(?<!\w)(?:then|first|finally|also|only|literally|e\.g\.|i\.e\.|a|an|the|its|this|that|each|every"
    r"|both|any|no|special|literal|final|closing|opening|and|or"
    r"|in|inside|with|by|of|to|as|on|at|after|before|between|from|into|within|around|via|per|for|than|like|except"
    r"|is|are|was|were|be|uses?|using|used|emits?|generates?|generated|predicts?|outputs?|produces?|writes?|prints?"
    r"|adds?|appends?|prepends?|inserts?|contains?|includes?|including|until|past|sees?|called|named|reads?|means?"
    r"|strips?|removes?"
    r"|(?:token|tag|marker|symbol|delimiter|separator|sequence|string|block)s?"
    r"|mit|in|und|oder|der|die|das|dem|den|ein|eine|nach|vor|zwischen|avec|dans|et|ou|le|la|les|un|une|entre))[ ]?$",
    re.IGNORECASE,
)
_AFTER_MENTION = re.compile(
    r"^[ -](?:and |or )?(?:special )?(?:tokens?|tags?|markers?|symbols?|delimiters?|separators?|blocks?|strings?)\b",
    re.IGNORECASE,
)
_ITEM_BEFORE = re.compile(r"(?:^|\n)[^\S\n]*(?:[-*+•]|\d{1,2}[.)])[^\S\n]*$")
_ITEM_AFTER = re.compile(r"^ ?[:–—-] [a-z]")
_VERB_AFTER = re.compile(
    r"^ (?:is|are|marks?|ends?|closes?|opens?|starts?|begins?|separates?|signals?|denotes?|means|indicates?|stands"
    r"|and|or|tells?|introduces?|precedes?|follows?)\b"
)
_BETWEEN = re.compile(r"(?: ?(?:\.{3}|…) ?|[\w/]*)$")
_CJK_BEFORE, _CJK_AFTER = re.compile(rf"[{_CJK}]$"), re.compile(rf"[{_CJK}]")

_ROLE = (
    r"(?:user|human|assistant|chatbot|benutzer|nutzer|assistent|utilisateur|用户|助手|助理|ユーザー|アシスタント"
    r"|사용자|어시스턴트)"
)
_START = r"(?:^|(?<=[.!?。！？…]))[^\S\n]*[*_>#\[(-]{0,5}[^\S\n]?"
_ROLE_LABEL = re.compile(
    rf"{_START}(?P<label>{_ROLE}[*_\])]{{0,2}}[^\S\n]?[:：])[*_]{{0,2}}\s{{0,3}}(?=[^\s\d])",
    re.IGNORECASE | re.MULTILINE,
)
_COMPARED = re.compile(r"[^\n]{0,80}[,;] (?!(?:user|human|assistant|ai)\b)[\w-]+: ", re.IGNORECASE)
_ROLE_LINE = re.compile(
    r"^(?:assistant|user)[^\S\n]*\n|(?<=[.!?])[^\S\n]?(?:assistant|user)[^\S\n]*(?:\n|$)", re.MULTILINE
)
_SPEAKER = re.compile(
    rf"{_START}(?:student|teacher|interviewer|person [a-z]|speaker \d|customer|agent|you|me|bot|model|ai)"
    r"[*_]{0,2}: (?P<said>[^\n]{0,300})",
    re.IGNORECASE | re.MULTILINE,
)
_ROLE_HEADING = re.compile(
    rf"^#{{1,6}}[^\S\n]*(?:{_ROLE}|question|instruction|response|input)[^\S\n]*\d{{0,2}}[:：]?[^\S\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_QUESTION_LABEL = re.compile(
    rf"{_START}(?P<label>(?:(?:next|another|new|follow-?[ ]?up|related)[ ])?(?:question|q|问题|問題|質問|질문|frage)"
    r"[^\S\n]?\d{0,2}[*_]{0,2}[^\S\n]?[:：])(?P<rest>[^\n]{0,300})(?P<next>\n{0,3}[^\n]{0,40})",
    re.IGNORECASE | re.MULTILINE,
)
_ANSWER_LABEL = re.compile(
    r"(?:^|[\s*_.?？。])(?:answer|a|答案|答|回答|解答|답변|답|antwort|réponse)[^\S\n]?\d{0,2}[*_]{0,2}[^\S\n]?[:：]",
    re.IGNORECASE,
)
_LINE_BREAKS = re.compile(r"\n\s*")

_PAPER_HEADER = re.compile(r"^[^\S\n]*\[\d{1,2}\] [\"“][^\"”\n]{1,300}[\"”][^\S\n]*$")
_PAPERS_LINE = re.compile(r"^[^\S\n]*papers:[^\S\n]*\n+[^\S\n]*(?:\[\d|\(none\))", re.IGNORECASE | re.MULTILINE)
_UNIT = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")


def thinks_aloud(text: str, shown: Iterable[str] = ()) -> bool:
    """Whether thinking is visible: a think tag that is no mention, or reasoning as Qwen3 writes it without a tag."""
    return bool(_REASONING.search(text)) or _leaks(_THINK_TAG, text, shown)


def has_turn_token(text: str, shown: Iterable[str] = ()) -> bool:
    """Whether a token of a chat template is used, not mentioned, or a line says "Thinking..."."""
    return bool(_THINKING_LINE.search(text)) or _leaks(_TURN_TOKEN, text, shown)


def _leaks(pattern: re.Pattern[str], text: str, shown: Iterable[str]) -> bool:
    tokens = list(pattern.finditer(text))
    if not tokens:
        return False
    source = "\n".join(shown).casefold()
    quotes = deque(match.span() for match in _QUOTED.finditer(text))
    mentioned_to = -1
    for token in tokens:
        start, end = token.span()
        while quotes and quotes[0][1] < end:
            quotes.popleft()
        quoted = bool(quotes) and quotes[0][0] < start
        if not (
            quoted
            or _follows_mention(text, start, mentioned_to)
            or _is_mention(text, start, end, known=token[0].casefold() in source)
        ):
            return True
        mentioned_to = end
    return False


def _follows_mention(text: str, start: int, mentioned_to: int) -> bool:
    """Whether only dots or one short word separate this token from a mention: ``<think>...</think>``."""
    return 0 <= mentioned_to <= start <= mentioned_to + 12 and bool(_BETWEEN.match(text[mentioned_to:start]))


def _is_mention(text: str, start: int, end: int, *, known: bool) -> bool:
    before, after = text[max(0, start - 30) : start].rstrip("*_"), text[end : end + 30].lstrip("*_")
    if _ITEM_BEFORE.search(before) and _ITEM_AFTER.match(after):
        return True
    if known and text.strip() == text[start:end]:
        return True
    if not before.strip():
        return bool(_VERB_AFTER.search(after) or _AFTER_MENTION.search(after))
    if _BEFORE_MENTION.search(before):
        return True
    named = known or _AFTER_MENTION.search(after) or _VERB_AFTER.search(after)
    if before[-1:] == " " and before[-2:-1].isalnum() and named:
        return True
    if before[-2:] in (". ", "! ", "? ", ".\n"):
        return bool(_VERB_AFTER.search(after) or _AFTER_MENTION.search(after))
    return bool(_CJK_BEFORE.search(before) and _CJK_AFTER.match(after))


def talks_to_itself(text: str, shown: Iterable[str] = ()) -> bool:
    """Whether the answer goes on as a dialogue: labels of user or assistant, or another question and its answer."""
    source = "\n".join(shown).casefold()
    bare = _QUOTED.sub("…", text)
    if _ROLE_HEADING.search(bare) or _ROLE_LINE.search(bare) or _asks_on_its_own_line(bare):
        return True
    speakers = [match["said"] for match in _SPEAKER.finditer(bare)]
    if len(speakers) > 1 and any("?" in said for said in speakers[:-1]):
        return True
    if any(
        match["label"].casefold() not in source and not _COMPARED.match(bare, match.end())
        for match in _ROLE_LABEL.finditer(bare)
    ):
        return True
    return any(
        match["label"].casefold() not in source
        and ("?" in match["rest"] or "？" in match["rest"] or _ANSWER_LABEL.search(match["rest"] + match["next"]))
        for match in _QUESTION_LABEL.finditer(bare)
    )


def _asks_on_its_own_line(text: str) -> bool:
    """Whether a line between other lines is a question of four or more words."""
    lines = [line.strip() for line in _LINE_BREAKS.split(text.strip())]
    return any(line[-1:] in ("?", "？") and _units(line) >= 4 for line in lines[1:-1])


def repeats_prompt(text: str, question: str, passages: Sequence[Passage], system: str) -> bool:
    """Whether the answer is the question, or repeats the system prompt, headings, or passages beyond a quote."""
    return (
        _PAPERS_LINE.search(text) is not None
        or _has_passage(text)
        or _repeats(text, [passage.text for passage in passages], system)
        or _has_numbered_passage(text, passages)
        or words(fold(text)) == words(fold(question))
    )


def _has_numbered_passage(text: str, passages: Iterable[Passage]) -> bool:
    """Whether number, title and first words of a passage follow each other, whatever the layout."""
    spoken = f" {' '.join(words(fold(text)))} "
    heads = ((words(fold(passage.title)), words(fold(passage.text))[:HEADED_WORDS]) for passage in passages)
    starts = (title + first for title, first in heads if len(first) == HEADED_WORDS)
    return any(re.search(rf" \d{{1,2}} {re.escape(' '.join(start))} ", spoken) for start in starts)


def _has_passage(text: str) -> bool:
    """Whether a line is the heading of a passage (``[1] "Title"``) and text follows instead of the next heading."""
    lines = [line for line in text.split("\n") if line.strip()]
    return any(
        _PAPER_HEADER.match(line) and not _PAPER_HEADER.match(following) and _units(following) >= 4
        for line, following in itertools.pairwise(lines)
    )


def _repeats(text: str, passages: Iterable[str], system: str) -> bool:
    folded = fold(text)
    if system and _repeats_system(folded, fold(system)):
        return True
    total = 0.0
    seen: set[str] = set()
    for copy in _copies(folded, [fold(passage) for passage in passages]):
        length = _units(copy)
        if length >= LONG_COPY_WORDS or (length >= COPIED_WORDS and len(sentences(copy)) >= 3):
            return True
        total += 0 if copy in seen else length
        seen.add(copy)
    return total >= COPIED_IN_ALL


def _units(text: str) -> float:
    """The length of a text in words, where a Chinese, Japanese or Korean character is part of one."""
    return sum(CJK_WORD if re.match(rf"[{_CJK}]", unit) else 1 for unit in _UNIT.findall(text))


def _repeats_system(folded: str, system: str) -> bool:
    """Whether a whole sentence of the system prompt or ``SYSTEM_WORDS`` of its words in a row occur in the text."""
    spoken, prompt = words(folded), words(system)
    runs = set(_runs(prompt, SYSTEM_WORDS))
    if any(run in runs for run in _runs(spoken, SYSTEM_WORDS)):
        return True
    joined = f" {' '.join(spoken)} "
    wholes = (words(sentence) for sentence in sentences(system))
    return any(len(whole) >= SYSTEM_SENTENCE_WORDS and f" {' '.join(whole)} " in joined for whole in wholes)


def _runs(units: list[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(units[start:] for start in range(size)), strict=False)


def _copies(folded: str, passages: Iterable[str]) -> Iterator[str]:
    """The parts of the text of ``COPY_STEP`` or more words that a passage contains word by word."""
    known = {run for passage in passages for run in _runs(_UNIT.findall(passage), COPY_STEP)}
    if not known:
        return
    units = list(_UNIT.finditer(folded))
    names = [unit[0] for unit in units]
    first = None
    for position, run in enumerate([*_runs(names, COPY_STEP), ()]):
        if run in known:
            first = position if first is None else first
        elif first is not None:
            yield folded[units[first].start() : units[position + COPY_STEP - 2].end()]
            first = None
