"""A chat model made of rules that also drafts benchmark questions: what a good model would write."""

import hashlib
import re
from collections.abc import Sequence

from scripted_writer import passages_in

from mlx_ragtune.records import ChatReply, ChatRequest
from mlx_ragtune.scoring.answers.normalize import sentences
from tests.synthesis.writer import Writer


def _plain(sentence: str, title: str) -> list[str]:
    """Lower-case words of a sentence that are no names and not in the title."""
    found = [word for word in re.findall(r"\b[a-z]{5,}\b", sentence) if word not in title.lower()]
    return list(dict.fromkeys(found))


class Drafter(Writer):
    """``Writer`` for training pairs and questions: facts are the last words of a sentence."""

    def _item(self, prompt: str, fields: list[str], at: int, request: ChatRequest) -> dict[str, str]:
        if not {"key", "key_1"} & set(fields):
            return super()._item(prompt, fields, at, request)
        digest = int(hashlib.sha256(f"{prompt}{request.sampling.seed}{at}".encode()).hexdigest()[:6], 16)
        facts = [self._fact(title, text, digest) for title, text in passages_in(prompt)]
        unnamed = "neither the name" in prompt
        names = "studies" if unnamed else " and ".join(title.split(":")[0] for title, *_ in facts)
        verb = "do" if unnamed or len(facts) > 1 else "does"
        topic = " ".join(word for *_, words in facts for word in words[: 4 if len(facts) == 1 else 3])
        values = {
            "question": f"What {verb} {names} report about {topic}?",
            "reply": " ".join(f'"{title}" reports: {sentence}' for title, sentence, *_ in facts),
        }
        for number, (_title, sentence, key, _words) in enumerate(facts, start=1):
            values |= {f"evidence_{number}": sentence, f"key_{number}": key, "evidence": sentence, "key": key}
        return {name: values[name] for name in fields}

    def _fact(self, title: str, text: str, digest: int) -> tuple[str, str, str, Sequence[str]]:
        parts = [one for one in sentences(text) if len(one.split()) > 9]
        sentence = parts[digest % len(parts)]
        key = " ".join(sentence.rstrip(" .)").split()[-2:])
        words = [word for word in _plain(sentence, title) if word not in key]
        return title, sentence, key, words


class Hopeless(Drafter):
    """Writes well-formed JSON that means nothing, as a very small model does."""

    def _item(self, prompt: str, fields: list[str], at: int, request: ChatRequest) -> dict[str, str]:
        return dict.fromkeys(fields, "The paper is about the paper and the paper.")

    def chat(self, request: ChatRequest) -> ChatReply:
        return super().chat(request)
