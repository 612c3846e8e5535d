"""Responses that end their work when the client leaves: a whole answer, and an event stream."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Result = TypeVar("Result")


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result | None:
    """What ``work`` returns or raises; None when the client left first, and ``work`` was stopped and has ended."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left = not task.done()
        task.cancel()
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone
        while not task.done():
            with suppress(asyncio.CancelledError, Exception):  # the result is read below
                await asyncio.wait({task})
    return None if left else task.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Later(Response):
    """A response that is still computed; nothing is sent to a client that left meanwhile."""

    def __init__(self, response: Coroutine[Any, Any, Response]) -> None:
        super().__init__()
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Compute and send the response; raises what its computation raises."""
        response = await unless_gone(receive, self._response)
        if response is not None:
            await response(scope, receive, send)


class EventStream(Response):
    """Events as they come. Nothing is sent before the first one, so that what fails until then has its own status."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (of the interface)
        """Send the events; raises what comes before the first one."""
        await unless_gone(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            started = False
            async for event in events:
                if not started:
                    started = True
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
