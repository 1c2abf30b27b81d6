"""Chats of a session, delivered step by step as a dispatcher would; for tests of what is recorded of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sessionctl.models import EventKind, Fence, MessageOutcome, ReplyDelta, SessionId, StoredEvent
from tests.support.sessions import HOLD, make_workspace

if TYPE_CHECKING:
    from sessionctl.adapters.store.redis_store import RedisStore

MINUTE = timedelta(minutes=1)
FAILED, DONE = MessageOutcome.FAILED, MessageOutcome.DONE
INTERRUPTED, CANCELLED = MessageOutcome.INTERRUPTED, MessageOutcome.CANCELLED
POD = "user-a-1"


async def with_chats(store: RedisStore, count: int = 3) -> SessionId:
    """Return an awake session with the chats ``m0``, ``m1``..."""
    workspace = make_workspace(replicas=1)
    await store.ensure_record(workspace)
    for number in range(count):
        await store.enqueue(workspace.session_id, f"m{number}", f'text "ü" {number}', 100, HOLD)
    return workspace.session_id


async def take(store: RedisStore, session_id: SessionId, owner: str = "a") -> Fence:
    """Take the lock, which must be free."""
    fence = await store.take_dispatch(session_id, owner, MINUTE)
    assert fence is not None
    return fence


async def running(store: RedisStore, count: int = 1) -> Fence:
    """Return the fence of whoever delivers ``m0``, of which two lines have come; others wait."""
    fence = await take(store, await with_chats(store, count))
    await store.start_message(fence, "m0", POD)
    await say(store, fence, "m0", 1, 2)
    return fence


async def say(
    store: RedisStore, fence: Fence, message_id: str, first: int, last: int | None = None, *, attempt: int = 1
) -> None:
    """Append some lines of a reply."""
    last = last or first
    text = "".join(f"{attempt}.{seq} " for seq in range(first, last + 1))
    await store.append_reply(fence, message_id, ReplyDelta(attempt, last, text), first)


async def events(store: RedisStore, session_id: SessionId, message_id: str = "") -> list[StoredEvent]:
    """Return all events, or those of one message."""
    found = await store.list_events(session_id, None, 100_000)
    return [event for event in found if message_id in {"", event.message_id}]


async def reply(store: RedisStore, session_id: SessionId, message_id: str) -> str:
    """Return what has been recorded of a reply."""
    found = await events(store, session_id, message_id)
    return "".join(event.text for event in found if event.kind is EventKind.MESSAGE_DELTA)


async def outcomes(store: RedisStore, session_id: SessionId) -> list[tuple[str, MessageOutcome | None, str]]:
    """Return how messages ended, in that order."""
    found = await events(store, session_id)
    return [(e.message_id, e.outcome, e.detail) for e in found if e.kind is EventKind.MESSAGE_ENDED]
