"""The prompt, the same in training and in serving: the papers first, the question last.

Questions on the same papers share everything up to the question. Shared-prefix training and a server's
prompt cache depend on that.
"""

import unicodedata
from collections.abc import Sequence

from mlx_ragtune.records import Message, Passage
from mlx_ragtune.retrieval.control_tokens import neutral

SYSTEM = (
    "You answer questions from the papers you are given, and from nothing else. Cite the title of each paper "
    "you use, in double quotes. Write plain prose, without lists or headings. If the papers do not contain the "
    "answer, say so."
)


def _line(text: str) -> str:
    return neutral(" ".join(unicodedata.normalize("NFC", text).split()))


def build_messages(passages: Sequence[Passage], question: str, /) -> tuple[Message, Message]:
    """A system and a user message, NFC-normalized; the same arguments give the same bytes.

    Control tokens in titles, passages and question are shown with spaces (``control_tokens.neutral``).
    """
    papers = "\n\n".join(
        f'[{number}] "{_line(passage.title)}"\n{neutral(unicodedata.normalize("NFC", passage.text).strip())}'
        for number, passage in enumerate(passages, start=1)
    )
    return (
        Message("system", SYSTEM),
        Message("user", f"Papers:\n\n{papers or '(none)'}\n\nQuestion: {_line(question)}"),
    )
