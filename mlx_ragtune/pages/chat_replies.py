"""Answers in the form of OpenAI's chat completions, with the sources in a field of their own."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from mlx_ragtune.answering.paper_answers import Answered, Source
from mlx_ragtune.clients.protocol import Piece
from mlx_ragtune.jsonl import to_json
from mlx_ragtune.pages.chat_requests import ApiError, ChatCall
from mlx_ragtune.records import ChatReply

WAITING = b": waiting\n\n"
"""A comment of an event stream: clients skip it, and it keeps the connection."""
DONE = b"data: [DONE]\n\n"
_EXCERPT_CHARACTERS = 4000


def paper_link(paper: str) -> str:
    """The path of a paper's PDF file on this server."""
    return f"/papers/{quote(paper, safe='')}.pdf"


def pdf_link(source: Source) -> str | None:
    """The path of the PDF page of a passage on this server."""
    if not source.has_pdf:
        return None
    return paper_link(source.paper) + ("" if source.page is None else f"#page={source.page}")


def source_json(source: Source) -> dict[str, Any]:
    """A source as clients see it."""
    return {
        "number": source.number,
        "paper": source.paper,
        "title": source.title,
        "section": source.section,
        "page": source.page,
        "last_page": source.last_page,
        "url": pdf_link(source),
        "found_by": list(source.found_by),
        "text": source.text,
    }


def sources_text(sources: Iterable[Source]) -> str:
    """The sources as text that follows an answer."""
    lines = [f"[{source.number}] {source.title}{f' ({source.place})' if source.place else ''}" for source in sources]
    return "\n\nSources:\n" + "\n".join(lines)


@dataclass
class ReplyForm:
    """One answer on its way out: its id, its model and its time are the same in all of its parts.

    ``base`` is the address of this server as the client wrote it, for links outside of the page.
    """

    id: str
    call: ChatCall
    base: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def _part(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.call.arm,
            "system_fingerprint": None,
            "choices": choices,
            **more,
        }

    def whole(self, answered: Answered) -> dict[str, Any]:
        """The whole answer as one JSON object."""
        text = answered.text + (sources_text(answered.sources) if self.call.append_sources else "")
        message = {"role": "assistant", "content": text, "refusal": None}
        if answered.reply.thinking:
            message["reasoning_content"] = answered.reply.thinking
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _finish(answered.reply),
        }
        return self._part(
            "chat.completion",
            [choice],
            usage=usage(answered.reply),
            **self._about(answered.sources),
            ended=_ended(answered),
        )

    def _about(self, sources: Sequence[Source]) -> dict[str, Any]:
        return {
            "sources": [source_json(source) for source in sources],
            "ignored": list(self.call.ignored),
            "strength": self.call.strength,
        }

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> bytes:
        usage_field = {"usage": None} if self.call.include_usage else {}
        choice = {"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish}
        return _event(self._part("chat.completion.chunk", [choice], **usage_field, **more))

    def beginning(self, sources: Sequence[Source]) -> Iterator[bytes]:
        """The first events: the role and the sources, and one event for each source in Open WebUI's form."""
        yield self._chunk({"role": "assistant", "content": ""}, **self._about(sources))
        for source in sources:
            yield self._chunk({}, event=self._citation(source))

    def _citation(self, source: Source) -> dict[str, Any]:
        """A source as Open WebUI shows it beneath an answer."""
        link = pdf_link(source)
        address = self.base + link if link else source.paper
        name = f"{source.title}, {source.place}" if source.place else source.title
        return {
            "type": "source",
            "data": {
                "source": {"name": name, "url": address} if link else {"name": name},
                "document": [source.text[:_EXCERPT_CHARACTERS]],
                "metadata": [{"source": address, "name": name, "page": source.page}],
            },
        }

    def piece(self, piece: Piece) -> bytes:
        """A piece of the answer."""
        named = {"content": piece.text, "reasoning_content": piece.thinking}
        return self._chunk({name: text for name, text in named.items() if text})

    def ending(self, answered: Answered) -> Iterator[bytes]:
        """The last events."""
        if self.call.append_sources:
            yield self._chunk({"content": sources_text(answered.sources)})
        yield self._chunk({}, _finish(answered.reply), ended=_ended(answered))
        if self.call.include_usage:
            yield _event(self._part("chat.completion.chunk", [], usage=usage(answered.reply)))
        yield DONE

    def failed(self, error: ApiError) -> Iterator[bytes]:
        """The last event of an answer that failed after its first one."""
        yield _event(error.as_json())


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + to_json(value).encode() + b"\n\n"


def usage(reply: ChatReply) -> dict[str, int]:
    """The tokens of a reply as the server counted them."""
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.answer_tokens,
        "total_tokens": reply.prompt_tokens + reply.answer_tokens,
    }


def _finish(reply: ChatReply) -> str:
    return "length" if reply.done_reason == "length" else "stop"


def _ended(answered: Answered) -> dict[str, Any]:
    """How the answer ended and how long it took, for the page."""
    reply = answered.reply
    return {
        "reason": reply.done_reason,
        "seconds": round(reply.latency_seconds, 3),
        "first_token_seconds": None if reply.first_token_seconds is None else round(reply.first_token_seconds, 3),
    }
