"""Answers for many clients at a time: each is generated in a thread, as many at once as the server has slots.

The others wait in their order. An answer whose client left is ended at its next token, and only then is its slot free.
"""

import asyncio
import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from functools import partial

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
MAX_AHEAD = 64
"""So many pieces are generated at most before the client has taken them."""
_SEARCH_THREADS = 4
_LOOK_SECONDS = 0.5


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
            if not turn.cancel():  # it has its slot
                self._slots.release()

    async def _pieces(self, stream: Generator[Piece, None, Answered], pause: float) -> AsyncGenerator[Event, None]:
        """What the generator yields and returns. It is run in one thread, and has ended before this one ends."""
        pump = _Pump(stream)
        thread = asyncio.ensure_future(anyio.to_thread.run_sync(pump.run, limiter=self._threads))
        try:
            while True:
                event = await pump.next(pause)
                if event is None:
                    yield Waiting()
                    pause = self._ping_seconds
                    continue
                pause = self._ping_seconds
                yield event
                if isinstance(event, Answered):
                    return
        finally:
            pump.closed.set()
            with anyio.CancelScope(shield=True):  # the client may be gone, and the thread is still at work
                while not thread.done():
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait({thread})


class _Pump:
    """Runs a generator in a thread, at most ``MAX_AHEAD`` pieces ahead of its reader in the event loop.

    A thread that hands over each piece by itself would cost two switches a piece: the reader takes all there are.
    """

    def __init__(self, stream: Generator[Piece, None, Answered]) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._pieces: deque[Piece] = deque()
        self._end: Answered | BaseException | None = None
        self._room = threading.Semaphore(MAX_AHEAD)
        self.closed = threading.Event()

    def run(self) -> None:
        """Everything that the generator yields, until it ends or ``closed`` is set."""
        end: Answered | BaseException | None = None
        try:
            with contextlib.closing(self._stream):
                while not self.closed.is_set():
                    piece = next(self._stream)
                    while not self._room.acquire(timeout=_LOOK_SECONDS) and not self.closed.is_set():
                        pass  # the client reads slowly
                    self._pieces.append(piece)
                    self._wake()
        except StopIteration as stop:
            end = stop.value
        except BaseException as error:  # handed to the reader
            end = error
        self._end = end
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def next(self, seconds: float) -> Piece | Answered | None:
        """The pieces that have arrived as one, or the end; None when nothing comes for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._pieces and self._end is None:
                    self._arrived.clear()
                    await self._arrived.wait()
        if self._pieces:
            return self._taken()
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end

    def _taken(self) -> Piece:
        text, thinking = "", ""
        while self._pieces and not (thinking and self._pieces[0].text):
            piece = self._pieces.popleft()
            self._room.release()
            text, thinking = text + piece.text, thinking + piece.thinking
        return Piece(text, thinking)
