"""``EventStore`` on Redis."""

from __future__ import annotations

import asyncio
import re
import secrets
from functools import cached_property
from typing import TYPE_CHECKING, Final, cast

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.base import StorePart, writable
from sessionctl.adapters.store.connection import REPLY_TIMEOUT_SECONDS, connect
from sessionctl.errors import InvalidRequestError
from sessionctl.models import OLDEST_EVENT, EventKind, EventPage, MessageOutcome, StoredEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from redis.asyncio import Redis
    from redis.typing import KeyT, StreamIdT

    from sessionctl.models import SessionEvent, SessionId

    Entry = tuple[str, Mapping[str, str]]

PAGE: Final = 64
"""How many events of one session one read returns: a long history must not keep the news of others waiting."""
_EVENT_ID: Final = re.compile(r"[0-9]{1,18}(-[0-9]{1,18})?")


class RedisEvents(StorePart):
    """The streams of sessions."""

    @cached_property
    def _listening(self) -> Redis:
        return connect(self._endpoint, self._address, blocking=True)

    async def append_event(self, event: SessionEvent) -> str | None:
        """See ``ports.EventStore``."""
        fields = {
            "kind": event.kind,
            "message_id": event.message_id,
            "outcome": event.outcome or "",
            # One event alone must fit.
            "detail": writable(event.detail).encode()[: self._events.max_bytes // 2].decode(errors="ignore"),
        }
        session_id = event.session_id
        event_id = await self._run(
            "append_event",
            [keys.events(session_id), keys.marks(session_id), keys.record(session_id), keys.tombstone(session_id)],
            [
                *self._caps,
                secrets.token_hex(8),
                event.kind,
                event.once,
                *(part for pair in fields.items() if pair[1] for part in pair),
            ],
        )
        return None if event_id is None else str(event_id)

    async def list_events(self, session_id: SessionId, after: str | None, limit: int) -> Sequence[StoredEvent]:
        """See ``ports.EventStore``."""
        at = after or OLDEST_EVENT
        while True:
            page = await self.read_events(session_id, at, limit)
            if page.events or page.last == at:
                return page.events
            at = page.last

    async def read_events(self, session_id: SessionId, after: str, limit: int) -> EventPage:
        """See ``ports.EventStore``."""
        key, after = keys.events(session_id), _checked(after)
        with self._translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.xrevrange(key, "+", "-", 1)
                pipeline.xrange(key, f"({after}", "+", limit)
                newest, entries = cast("list[list[Entry]]", await pipeline.execute())
        return EventPage(
            events=tuple(_decode_all(session_id, entries)),
            last=entries[-1][0] if entries else after,
            newest=newest[0][0] if newest else OLDEST_EVENT,
        )

    async def wait_events(self, after: Mapping[SessionId, str], patience: timedelta) -> Sequence[StoredEvent]:
        """See ``ports.EventStore``."""
        sessions = {keys.events(session_id): session_id for session_id in after}
        at: dict[str, str] = {keys.events(session_id): _checked(event_id) for session_id, event_id in after.items()}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience.total_seconds()
        while (left := deadline - loop.time()) > 0:
            found: list[StoredEvent] = []
            for key, entries in await self._read(at, max(1, int(left * 1000))):
                found += _decode_all(sessions[key], entries)
                at[key] = entries[-1][0]
            if found:
                return found
        return []

    async def _read(self, at: Mapping[str, str], milliseconds: int) -> Sequence[tuple[str, list[Entry]]]:
        with self._translated():
            # A server that is gone without a word must not be waited for.
            async with asyncio.timeout(milliseconds / 1000 + REPLY_TIMEOUT_SECONDS):
                reply = await self._listening.xread(cast("dict[KeyT, StreamIdT]", at), count=PAGE, block=milliseconds)
        return cast("Sequence[tuple[str, list[Entry]]]", reply or [])


def _checked(event_id: str) -> str:
    if not _EVENT_ID.fullmatch(event_id):
        msg = f"{event_id[:40]!r} is not the id of an event"
        raise InvalidRequestError(msg)
    return event_id


def _decode_all(session_id: SessionId, entries: Sequence[Entry]) -> list[StoredEvent]:
    found = (_decode(session_id, event_id, fields) for event_id, fields in entries)
    return [event for event in found if event is not None]


def _decode(session_id: SessionId, event_id: str, fields: Mapping[str, str]) -> StoredEvent | None:
    """Return None for what is not ours, or is of a kind that a newer manager writes."""
    try:
        return StoredEvent(
            session_id=session_id,
            event_id=event_id,
            kind=EventKind(fields["kind"]),
            detail=fields.get("detail", ""),
            message_id=fields.get("message_id", ""),
            outcome=MessageOutcome(fields["outcome"]) if "outcome" in fields else None,
            text=fields.get("text", ""),
            attempt=int(fields.get("attempt", "0")),
            seq=int(fields.get("seq", "0")),
            first_seq=int(fields.get("first", "0")),
        )
    except (KeyError, ValueError):
        return None
