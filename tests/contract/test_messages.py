"""Chats that wait, and the one outcome that each of them gets (DESIGN 1)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.core.identity import new_session_id
from sessionctl.models import EnqueueOutcome, EventKind, MessageOutcome, ReleaseOutcome, SessionId, WaitingMessage
from tests.support.sessions import HOLD, make_workspace

if TYPE_CHECKING:
    from tests.support.redis import RedisServer
    from tests.support.table import Table

WEEK = timedelta(days=7)
FAILED = MessageOutcome.FAILED


async def with_chats(store: RedisStore, count: int = 3) -> SessionId:
    workspace = make_workspace()
    await store.ensure_record(workspace)
    for number in range(count):
        await store.enqueue(workspace.session_id, f"m{number}", f'text "ü" {number}', 100, HOLD)
    return workspace.session_id


async def outcomes(store: RedisStore, session_id: SessionId) -> list[tuple[str, MessageOutcome | None, str]]:
    events = await store.list_events(session_id, None, 1000)
    return [(e.message_id, e.outcome, e.detail) for e in events if e.kind is EventKind.MESSAGE_ENDED]


async def queued(store: RedisStore, session_id: SessionId) -> list[str]:
    events = await store.list_events(session_id, None, 1000)
    return [event.message_id for event in events if event.kind is EventKind.MESSAGE_QUEUED]


async def test_waiting_chats_are_listed_in_order_and_nothing_else_is(store: RedisStore, table: Table) -> None:
    session_id = await with_chats(store)
    table.push(session_id, "wake", '{"id": "not ours", "message": "x"}')

    assert list(await store.list_waiting(session_id)) == [
        WaitingMessage(f"m{number}", f'text "ü" {number}') for number in range(3)
    ]
    assert list(await store.list_waiting(new_session_id())) == []


async def test_an_accepted_message_has_its_event_and_a_refused_one_has_none(store: RedisStore) -> None:
    session_id = await with_chats(store, 1)

    assert (await store.enqueue(session_id, "m0", "again", 100, HOLD)).outcome is EnqueueOutcome.KNOWN
    assert (await store.enqueue(session_id, "m1", "too many", 1, HOLD)).outcome is EnqueueOutcome.FULL
    assert await queued(store, session_id) == ["m0"]


async def test_each_gets_its_outcome_and_leaves_the_list(store: RedisStore, table: Table) -> None:
    session_id = await with_chats(store)

    settled = await store.settle_waiting(session_id, FAILED, "it does not start")

    assert list(settled) == ["m0", "m1", "m2"]
    assert await outcomes(store, session_id) == [(f"m{n}", FAILED, "it does not start") for n in range(3)]
    assert table.elements(session_id) == [b"awake"]
    assert not table.admin.smembers(keys.DISPATCH_PENDING)
    assert await store.get_outcome(session_id, "m0") is FAILED


async def test_other_demand_stays(store: RedisStore, table: Table) -> None:
    session_id = await with_chats(store, 1)
    table.push(session_id, "from outside")

    await store.settle_waiting(session_id, FAILED, "")

    assert table.elements(session_id) == [b"awake", b"from outside"]


async def test_a_settled_message_is_not_taken_again(store: RedisStore, table: Table) -> None:
    session_id = await with_chats(store, 1)
    await store.settle_waiting(session_id, FAILED, "")

    assert (await store.enqueue(session_id, "m0", "again", 100, HOLD)).outcome is EnqueueOutcome.KNOWN
    assert table.elements(session_id) == [b"awake"]


async def test_one_outcome_whoever_settles(store: RedisStore, redis: RedisServer) -> None:
    session_id = await with_chats(store, 20)
    async with RedisStore(redis.endpoint()) as other:
        settled = await asyncio.gather(*(one.settle_waiting(session_id, FAILED, "") for one in (store, other) * 3))

    assert sorted(len(ids) for ids in settled) == [0] * 5 + [20]
    assert len(await outcomes(store, session_id)) == 20


async def test_a_session_may_sleep_when_its_chats_are_settled(store: RedisStore) -> None:
    session_id = await with_chats(store)
    assert await store.release(session_id, timedelta(), force=True) is ReleaseOutcome.WAITING

    await store.settle_waiting(session_id, FAILED, "")

    assert await store.release(session_id, timedelta(), force=True) is ReleaseOutcome.RELEASED


async def test_nothing_waits_in_a_session_that_never_was(store: RedisStore, table: Table) -> None:
    before = table.everything()

    assert list(await store.settle_waiting(new_session_id(), FAILED, "")) == []
    assert table.everything() == before


async def test_a_delete_cancels_what_waits(store: RedisStore) -> None:
    session_id = await with_chats(store)

    for _ in range(2):
        await store.bury(session_id, "default", "alice", WEEK)

    assert await outcomes(store, session_id) == [
        (f"m{n}", MessageOutcome.CANCELLED, "the session was deleted") for n in range(3)
    ]
