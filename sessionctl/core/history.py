"""What is kept of a session's events, read once from end to end; whoever wants to follow asks the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sessionctl.models import OLDEST_EVENT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sessionctl.models import SessionId, StoredEvent
    from sessionctl.ports import EventStore

PAGE: Final = 64


async def read_history(
    store: EventStore, session_id: SessionId, after: str | None = None
) -> AsyncGenerator[StoredEvent, None]:
    """Yield the events after one (None: from the oldest there is), oldest first; raises StoreError."""
    position = after or OLDEST_EVENT
    while True:
        page = await store.read_events(session_id, position, PAGE)
        for event in page.events:
            yield event
        if page.last == position:
            return
        position = page.last
