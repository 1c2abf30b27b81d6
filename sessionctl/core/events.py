"""Following sessions: one reader for the whole process, any number of listeners.

A listener first pages through the history by itself. Once it has all there is, it is *live*: the reader, which waits
for the news of all such sessions with one call, hands them over. One that does not take them in time stops being live
and pages again, so that nothing is buffered without bound and nobody waits for anybody. The invariant that makes this
exact: whoever is live was handed everything up to the reader's own position in that session.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.errors import SessionctlError
from sessionctl.models import OLDEST_EVENT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
    from typing import Self

    from sessionctl.models import EventPage, SessionId, StoredEvent
    from sessionctl.ports import Clock, EventStore

PATIENCE: Final = timedelta(seconds=5)
PAGE: Final = 64
MOST_UNTAKEN: Final = 256
"""Events handed to a listener that it has not taken; more, and it pages by itself."""
MOST_PAGING: Final = 8
"""Listeners that page at the same moment: the store has other callers too."""
BACKOFF_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
PAUSE_SECONDS: Final = 5e-6
"""Rest after each read, for each session in it: a read of thousands costs milliseconds, and should bring a lot."""

_log = logging.getLogger(__name__)


class EventHub:
    """Hands the events of sessions to whoever listens; see the module."""

    def __init__(self, store: EventStore, clock: Clock, patience: timedelta = PATIENCE) -> None:
        self._store = store
        self._patience = patience
        self._clock = clock
        self._listeners: dict[SessionId, set[Listener]] = {}
        self._positions: dict[SessionId, str] = {}
        """Up to where the reader has read; only sessions with a live listener."""
        self._joined = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._paging = asyncio.Semaphore(MOST_PAGING)
        self._closed = False

    @asynccontextmanager
    async def listen(self, session_id: SessionId, after: str | None = None) -> AsyncGenerator[Listener, None]:
        """Follow one session from just after an event (None: from the oldest there is) to the end of the block.

        An id that the stream has not reached means that the stream was lost: all that is there now is new. While the
        store is away the listener waits. Raises InvalidRequestError for what is no id, and StoreError.
        """
        first = await self._read_page(session_id, after or OLDEST_EVENT)
        listener = Listener(self, session_id, after or OLDEST_EVENT, closed=self._closed)
        listener.take(first.events, first.last)
        self._listeners.setdefault(session_id, set()).add(listener)
        try:
            yield listener
        finally:
            await self._leave(listener)

    async def close(self) -> None:
        """End every listener, now and from now on."""
        self._closed = True
        for listener in self._all():
            listener.close()
        await self._stop_reader()

    def _all(self) -> list[Listener]:
        return [listener for listeners in self._listeners.values() for listener in listeners]

    async def _leave(self, listener: Listener) -> None:
        listener.close()
        listeners = self._listeners[listener.session_id]
        listeners.discard(listener)
        if not any(other.live for other in listeners):
            self._positions.pop(listener.session_id, None)
        if not listeners:
            del self._listeners[listener.session_id]
        if not self._listeners:
            await self._stop_reader()

    async def _stop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def catch_up(self, listener: Listener) -> None:
        """Give the listener its next page, or make it live; or neither, if it has to be called again."""
        noted = self._positions.get(listener.session_id)
        try:
            page = await self._read_page(listener.session_id, listener.fed)
        except SessionctlError as error:
            listener.failures = await self._back_off(listener.failures, error)
            return
        listener.failures = 0
        if page.last != listener.fed:
            listener.take(page.events, page.last)
        elif noted is not None and order_of(page.newest) < order_of(noted):
            # The stream was lost, and what the reader knows of it with it.
            self._detach(listener.session_id)
        elif order_of(page.newest) < order_of(listener.fed):
            listener.fed = OLDEST_EVENT
        else:
            # All up to here was read by this listener, or is gone.
            listener.fed = page.newest
            self._attach(listener)

    async def _read_page(self, session_id: SessionId, after: str) -> EventPage:
        async with self._paging:
            return await self._store.read_events(session_id, after, PAGE)

    def _attach(self, listener: Listener) -> None:
        """Make it live, unless the reader is further already than what the listener has read."""
        position = self._positions.get(listener.session_id)
        if position is None:
            self._positions[listener.session_id] = listener.fed
            self._joined.set()
            if self._reader is None and not self._closed:
                self._reader = asyncio.create_task(self._read())
        elif order_of(position) > order_of(listener.fed):
            return
        listener.live = True

    def _detach(self, session_id: SessionId) -> None:
        self._positions.pop(session_id, None)
        for listener in self._listeners.get(session_id, ()):
            listener.stop()

    async def _read(self) -> None:
        failures = 0
        try:
            while True:
                self._joined.clear()
                asked = dict(self._positions)
                try:
                    self._deliver(asked, await self._wait(asked))
                    failures = 0
                except SessionctlError as error:
                    failures = await self._back_off(failures, error)
                await asyncio.sleep(len(asked) * PAUSE_SECONDS)
        finally:
            if self._reader is asyncio.current_task():
                # It was not told to end: nobody must wait for news that nobody reads.
                self._reader = None
                for listener in self._all():
                    listener.close()

    async def _wait(self, asked: Mapping[SessionId, str]) -> Sequence[StoredEvent]:
        """Return the news of these sessions; nothing as soon as another one joins."""
        if not asked:
            await self._joined.wait()
            return ()
        joined = asyncio.create_task(self._joined.wait())
        reading = asyncio.create_task(self._store.wait_events(asked, self._patience))
        try:
            await asyncio.wait((joined, reading), return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else ()
        finally:
            # A read that is cut off has taken nothing from the streams.
            joined.cancel()
            reading.cancel()
            await asyncio.gather(joined, reading, return_exceptions=True)

    def _deliver(self, asked: Mapping[SessionId, str], news: Sequence[StoredEvent]) -> None:
        by_session: dict[SessionId, list[StoredEvent]] = {}
        for event in news:
            by_session.setdefault(event.session_id, []).append(event)
        for session_id, events in by_session.items():
            # Everybody left and others came meanwhile, who stand somewhere else: it is read again for them.
            if self._positions.get(session_id) != asked[session_id]:
                continue
            self._positions[session_id] = events[-1].event_id
            live = [listener for listener in self._listeners.get(session_id, ()) if listener.live]
            for listener in live:
                listener.hand_over(events)
            if not any(listener.live for listener in live):
                del self._positions[session_id]

    async def _back_off(self, failures: int, error: SessionctlError) -> int:
        _log.debug("events cannot be read: %s", error)
        await self._clock.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
        return failures + 1


class Listener:
    """The events of one session from some point on, without an end; made by ``EventHub.listen``.

    An asynchronous iterator whose next step may be cancelled, by a timeout for example, without losing anything.
    """

    def __init__(self, hub: EventHub, session_id: SessionId, fed: str, *, closed: bool) -> None:
        self._hub = hub
        self._untaken: deque[StoredEvent] = deque()
        self._news = asyncio.Event()
        self._closed = closed
        self.session_id = session_id
        self.fed = fed
        """The id up to which it was handed everything."""
        self.live = False
        self.failures = 0

    def take(self, events: Iterable[StoredEvent], last: str) -> None:
        """Take what follows ``fed``, up to ``last``."""
        self._untaken.extend(events)
        self.fed = last

    def hand_over(self, events: Sequence[StoredEvent]) -> None:
        """Take the news, or stop being live."""
        if len(self._untaken) + len(events) > MOST_UNTAKEN:
            self.stop()
            return
        new = [event for event in events if order_of(event.event_id) > order_of(self.fed)]
        if new:
            self.take(new, new[-1].event_id)
            self._news.set()

    def stop(self) -> None:
        """Stop being live."""
        self.live = False
        self._news.set()

    def close(self) -> None:
        """End the iteration."""
        self._closed = True
        self.stop()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> StoredEvent:
        """Return the next event as soon as there is one."""
        while not self._closed:
            if self._untaken:
                return self._untaken.popleft()
            if self.live:
                self._news.clear()
                await self._news.wait()
            else:
                await self._hub.catch_up(self)
        raise StopAsyncIteration


def order_of(event_id: str) -> tuple[int, int]:
    """Return what ids are compared by."""
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number or 0)
