"""Server-sent events: what has happened, then what happens, until somebody goes or nothing more can come."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from fastapi import Response

from sessionctl.core.reports import event
from sessionctl.errors import RateLimitedError, SessionctlError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from starlette.types import Receive, Scope, Send

    from sessionctl.models import StoredEvent


Item = TypeVar("Item")

MEDIA_TYPE: Final = "text/event-stream"
EVENTS_CONTENT: Final = {MEDIA_TYPE: {"schema": {"type": "string"}}}
"""Of such an answer, as the document says it."""
HEARTBEAT_SECONDS: Final = 15.0
"""Proxies end what is silent; and so often it is seen whether the listener may still listen."""
RECONNECT_MS: Final = 2000
MOST_STREAMS: Final = 4000
MOST_STREAMS_PER_CALLER: Final = 500
"""Each holds a socket; a caller that opens more of them than this has lost count."""


class Streams:
    """The open streams of this process."""

    def __init__(self, most_per_caller: int = MOST_STREAMS_PER_CALLER) -> None:
        self.heartbeat_seconds = HEARTBEAT_SECONDS
        self.most_per_caller = most_per_caller
        self._open: Counter[str] = Counter()

    @contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Hold a place; raises RateLimitedError when there is none."""
        if self._open[caller] >= self.most_per_caller or self._open.total() >= MOST_STREAMS:
            raise RateLimitedError("too many open event streams", retry_after=10, hint="Close some.")
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]


class EventStream(Response, Generic[Item]):
    """An answer of events, for as long as its source has any.

    ``source`` opens an iterator whose next step may be cancelled without losing anything; ``render`` writes its items.
    ``still_allowed`` raises when the caller may no longer listen; ``ending`` is set when the process ends.
    """

    def __init__(
        self,
        *,
        source: Callable[[], AbstractAsyncContextManager[AsyncIterator[Item]]],
        render: Callable[[Item], bytes],
        streams: Streams,
        caller: str,
        still_allowed: Callable[[], Awaitable[object]],
        ending: asyncio.Event,
    ) -> None:
        super().__init__(media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["Content-Length"]
        self._source = source
        self._render = render
        self._streams = streams
        self._caller = caller
        self._still_allowed = still_allowed
        self._ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send until the source or the process ends, the client goes, or the caller may no longer listen."""
        with self._streams.place(self._caller):
            # Whatever is wrong with the store is told before the stream begins.
            async with self._source() as events:
                sending = asyncio.create_task(self._send_all(events, send))
                gone = asyncio.create_task(_disconnect(receive))
                try:
                    await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (sending, gone):
                        task.cancel()
                    await asyncio.gather(sending, gone, return_exceptions=True)

    async def _send_all(self, events: AsyncIterator[Item], send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._chunks(events)) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self, events: AsyncIterator[Item]) -> AsyncGenerator[bytes, None]:
        yield f"retry: {RECONNECT_MS}\n\n".encode()
        loop = asyncio.get_running_loop()
        look_at = loop.time() + self._streams.heartbeat_seconds
        ended = asyncio.create_task(self._ending.wait())
        try:
            while True:
                coming = asyncio.ensure_future(anext(events, None))
                try:
                    patience = look_at - loop.time()
                    await asyncio.wait((coming, ended), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                    if coming.done():
                        item = coming.result()
                        if item is None:
                            return
                        yield self._render(item)
                finally:
                    # What has not been taken is not lost by it: this listener is asked again, or nobody wants it.
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
                if ended.done():
                    return
                if loop.time() >= look_at:
                    await self._still_allowed()
                    look_at = loop.time() + self._streams.heartbeat_seconds
                    yield b": still here\n\n"
        except SessionctlError:
            # Revoked, expired, gone, or nobody can say: whoever may go on comes back with the last id.
            return
        finally:
            ended.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def render(stored: StoredEvent) -> bytes:
    """Return one event as it is sent."""
    return f"id: {stored.event_id}\nevent: {stored.kind}\ndata: {event(stored).model_dump_json()}\n\n".encode()
