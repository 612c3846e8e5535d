"""Answers for many clients at a time: each is generated in a thread, as many at once as the server has slots.

The others wait in their order. An answer whose client left is ended at its next token, and only then is its slot free.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from mlx_ragtune.answering.paper_answers import Answered, PaperAnswers, Source
from mlx_ragtune.clients.protocol import Piece
from mlx_ragtune.pages.chat_requests import ApiError, ChatCall

MAX_WAITING = 256
"""So many questions wait at most; more are refused at once."""
KEPT_ANSWERS = 500
"""So many answers can still be voted on."""
FIRST_SECONDS, PING_SECONDS = 0.5, 10.0
"""After so long without anything Waiting is reported, first and from then on."""
_SEARCH_THREADS = 4
Result = TypeVar("Result")


@dataclass(frozen=True)
class Retrieved:
    """The passages that were found, before the model is asked."""

    sources: tuple[Source, ...]


class Waiting:
    """Nothing has arrived for a while, and more is to come."""


Event = Retrieved | Piece | Answered | Waiting


class Engine:
    """Answers calls with the slots that there are, and remembers the last answers by their ids."""

    def __init__(
        self,
        answers: PaperAnswers,
        *,
        slots: int = 1,
        first_seconds: float = FIRST_SECONDS,
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        self.answers = answers
        self._slots = asyncio.Semaphore(slots)
        self._searching = anyio.CapacityLimiter(_SEARCH_THREADS)
        self._threads = anyio.CapacityLimiter(slots)
        self._first_seconds, self._ping_seconds = first_seconds, ping_seconds
        self._count = 0
        self._kept: OrderedDict[str, Answered] = OrderedDict()

    @property
    def active(self) -> int:
        """How many questions wait or are being answered."""
        return self._count

    def kept(self, name: str) -> Answered | None:
        """A recent answer by its id."""
        return self._kept.get(name)

    def keep(self, name: str, answered: Answered) -> None:
        """Remember an answer, and forget the oldest one."""
        self._kept[name] = answered
        while len(self._kept) > KEPT_ANSWERS:
            self._kept.popitem(last=False)

    async def events(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        """The sources, then the pieces of the answer, then the whole; Waiting where nothing comes for a while.

        Raises ApiError when too many wait, RagtuneError when the question cannot be answered. Must be closed.
        """
        if self._count >= MAX_WAITING:
            raise ApiError(503, "too many questions are waiting; try again later", code="server_busy")
        self._count += 1
        try:
            search = partial(self.answers.search, call.question)
            sources: tuple[Source, ...] = await anyio.to_thread.run_sync(search, limiter=self._searching)
            yield Retrieved(sources)
            async with contextlib.aclosing(self._answer(call, sources)) as rest:
                async for event in rest:
                    yield event
        finally:
            self._count -= 1

    async def _answer(self, call: ChatCall, sources: tuple[Source, ...]) -> AsyncGenerator[Event, None]:
        turn = asyncio.ensure_future(self._slots.acquire())
        try:
            pause = self._first_seconds
            while not (await asyncio.wait({turn}, timeout=pause))[0]:
                yield Waiting()
                pause = self._ping_seconds
            stream = self.answers.stream(
                call.question,
                arm=call.arm,
                sources=sources,
                turns=call.turns,
                sampling=call.sampling,
                strength=call.strength,
            )
            async with contextlib.aclosing(self._pieces(stream, pause)) as pieces:
                async for event in pieces:
                    yield event
        finally:
            if not turn.cancel() and not turn.cancelled():
                self._slots.release()

    async def _pieces(self, stream: Generator[Piece, None, Answered], pause: float) -> AsyncGenerator[Event, None]:
        """What the generator yields and returns, each step in a thread; it is closed before this one ends."""
        step: asyncio.Task[Piece | Answered] | None = None
        try:
            while True:
                step = asyncio.ensure_future(self._run(lambda: _step(stream)))
                while not (await asyncio.wait({step}, timeout=pause))[0]:
                    yield Waiting()
                    pause = self._ping_seconds
                event, pause = step.result(), self._ping_seconds
                yield event
                if isinstance(event, Answered):
                    return
        finally:
            with anyio.CancelScope(shield=True):  # the client may be gone, and the thread is still at work
                if step is not None and not step.done():
                    await asyncio.wait({step})
                if step is not None and not step.cancelled():
                    step.exception()  # seen, whatever it is
                await self._run(stream.close)

    async def _run(self, call: Callable[[], Result]) -> Result:
        return await anyio.to_thread.run_sync(call, limiter=self._threads)


def _step(stream: Generator[Piece, None, Answered]) -> Piece | Answered:
    try:
        return next(stream)
    except StopIteration as end:
        answered: Answered = end.value
        return answered
