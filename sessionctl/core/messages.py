"""The events of one message, from its beginning to its outcome.

Both are asynchronous iterators whose next step may be cancelled without losing anything, as ``Listener`` is.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from sessionctl.core.events import order_of
from sessionctl.models import OLDEST_EVENT, EventKind, StoredEvent

if TYPE_CHECKING:
    from typing import Self

    from sessionctl.core.events import Listener
    from sessionctl.models import MessageOutcome, SessionId
    from sessionctl.ports import EventStore

PAGE: Final = 64
_LAST_NUMBER: Final = 10**18 - 1


def just_before(event_id: str) -> str:
    """Return an id that comes before this event and after all others before it."""
    milliseconds, _, number = event_id.partition("-")
    if int(number or 0):
        return f"{milliseconds}-{int(number) - 1}"
    return f"{int(milliseconds) - 1}-{_LAST_NUMBER}" if int(milliseconds) else OLDEST_EVENT


class ComingEvents:
    """Those of a message that has no outcome yet, as they happen; ends early when its listener does."""

    def __init__(self, listener: Listener, message_id: str) -> None:
        self._listener = listener
        self._message_id = message_id
        self._ended = False

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> StoredEvent:
        """Return the next event as soon as there is one."""
        while not self._ended:
            event = await anext(self._listener)
            if event.message_id == self._message_id:
                self._ended = event.kind is EventKind.MESSAGE_ENDED
                return event
        raise StopAsyncIteration


class KeptEvents:
    """Those of a message that has its outcome, page by page; the last one is always its end, though others be gone."""

    def __init__(
        self, store: EventStore, session_id: SessionId, message_id: str, after: str, outcome: MessageOutcome
    ) -> None:
        self._store = store
        self._session_id = session_id
        self._message_id = message_id
        self._at = after
        self._outcome = outcome
        self._page: deque[StoredEvent] = deque()
        self._ended = False

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> StoredEvent:
        """Return the next event."""
        while not self._ended:
            while self._page:
                event = self._page.popleft()
                if event.message_id == self._message_id:
                    self._ended = event.kind is EventKind.MESSAGE_ENDED
                    return event
            page = await self._store.read_events(self._session_id, self._at, PAGE)
            if page.last == self._at:
                self._ended = True
                return self._end(page.newest)
            self._page.extend(page.events)
            self._at = page.last
        raise StopAsyncIteration

    def _end(self, newest: str) -> StoredEvent:
        # It is not kept any more; whoever has seen everything before it must hear the outcome all the same.
        milliseconds, _, number = max(newest, self._at, key=order_of).partition("-")
        return StoredEvent(
            session_id=self._session_id,
            event_id=f"{milliseconds}-{int(number or 0) + 1}",
            kind=EventKind.MESSAGE_ENDED,
            message_id=self._message_id,
            outcome=self._outcome,
            partial=True,
        )
