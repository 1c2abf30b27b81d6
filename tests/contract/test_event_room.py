"""How much of a session's history is kept, and that whoever follows it from a moment behind misses nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.models import EventKind, ReplyDelta, SessionEvent
from sessionctl.settings import ChatSettings, EventSettings
from tests.contract.chats import DONE, POD, reply, say, take, with_chats

if TYPE_CHECKING:
    from sessionctl.models import Fence, SessionId
    from tests.support.redis import RedisServer
    from tests.support.table import Table

ROOM = EventSettings(max_length=20, max_bytes=8000, recent=timedelta(hours=1), recent_bytes=200_000)
HISTORY = replace(ROOM, recent=timedelta())
"""The same room when the moment is over."""
ENTRY_BYTES = 64
MANY = 700
"""More than one append takes off one by one."""


def opened(redis: RedisServer, events: EventSettings) -> RedisStore:
    """Return the store with so much room; a context manager."""
    return RedisStore(redis.endpoint(), events=events)


def sizes(table: Table, session_id: SessionId) -> tuple[int, int]:
    """Return how many events there are and how large they are, counted one by one."""
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", table.admin.xrange(keys.events(session_id)))
    texts = [len(part) for _, fields in entries for pair in fields.items() for part in pair]
    return len(entries), sum(texts) + ENTRY_BYTES * len(entries)


def counted(table: Table, session_id: SessionId) -> tuple[int, int]:
    """Return the same two numbers as the store has noted them."""
    length, size = cast("list[bytes]", table.admin.hmget(keys.marks(session_id), "length", "bytes"))
    return int(length), int(size)


async def begin(store: RedisStore) -> Fence:
    fence = await take(store, await with_chats(store, 1))
    await store.start_message(fence, "m0", POD)
    return fence


async def nod(store: RedisStore, session_id: SessionId) -> None:
    """Let something happen, as when the session goes to sleep."""
    await store.append_event(SessionEvent(session_id, EventKind.SLEPT))


async def test_a_reply_of_a_moment_ago_is_there_from_its_first_line(redis: RedisServer, table: Table) -> None:
    async with opened(redis, ROOM) as store:
        fence = await begin(store)
        for seq in range(1, 61):
            await say(store, fence, "m0", seq)
        await store.finish_message(fence, "m0", DONE, "")

        assert await reply(store, fence.session_id, "m0") == "".join(f"1.{seq} " for seq in range(1, 61))
        assert counted(table, fence.session_id) == sizes(table, fence.session_id)


async def test_it_becomes_history_step_by_step_while_more_comes(redis: RedisServer, table: Table) -> None:
    async with opened(redis, ROOM) as recent, opened(redis, HISTORY) as later:
        fence = await begin(recent)
        for seq in range(1, 31):
            await say(recent, fence, "m0", seq)
        await say(later, fence, "m0", 31)

        assert sizes(table, fence.session_id)[0] == HISTORY.max_length
        assert await reply(later, fence.session_id, "m0") == "".join(f"1.{seq} " for seq in range(12, 32))
        assert counted(table, fence.session_id) == sizes(table, fence.session_id)


@pytest.mark.parametrize("most_bytes", [8000, 2500])
async def test_all_of_it_is_history_after_one_event_that_comes_later(
    redis: RedisServer, table: Table, most_bytes: int
) -> None:
    """A session that sleeps keeps little, however long its last reply was."""
    async with opened(redis, replace(HISTORY, max_bytes=most_bytes)) as later:
        session_id = await with_chats(later, 0)
        pipeline = table.admin.pipeline()
        for seq in range(MANY):
            pipeline.xadd(keys.events(session_id), {"kind": "message-delta", "text": f"{seq:050d}"})
        pipeline.execute()

        await nod(later, session_id)

        length, size = sizes(table, session_id)
        assert counted(table, session_id) == (length, size)
        assert (length == HISTORY.max_length) if most_bytes == HISTORY.max_bytes else (2000 < size <= most_bytes)


async def test_nothing_exceeds_the_second_bound(redis: RedisServer, table: Table) -> None:
    async with opened(redis, ROOM) as store:
        fence = await begin(store)
        for seq in range(1, 21):
            await store.append_reply(fence, "m0", ReplyDelta(1, seq, "x" * 30_000), seq)
            assert sizes(table, fence.session_id)[1] <= ROOM.recent_bytes

        assert sizes(table, fence.session_id)[0] == 6
        assert counted(table, fence.session_id) == sizes(table, fence.session_id)


async def test_one_event_larger_than_every_bound_is_kept_alone(redis: RedisServer, table: Table) -> None:
    """It has just come: whoever follows waits for it."""
    async with opened(redis, ROOM) as store:
        fence = await begin(store)
        await store.append_reply(fence, "m0", ReplyDelta(1, 1, "x" * 300_000), 1)

        assert sizes(table, fence.session_id)[0] == 1


async def test_where_redis_is_nearly_full_history_gives_way(redis: RedisServer, table: Table) -> None:
    """A message that cannot be accepted is worse than a reply that is forgotten when it has been read."""
    async with opened(redis, ROOM) as store:
        fence = await begin(store)
        for seq in range(1, 61):
            await say(store, fence, "m0", seq)
        table.admin.config_set("maxmemory", int(table.admin.info("memory")["used_memory"] * 1.2))
        try:
            for seq in (61, 62):
                # It asks at every sixteenth event.
                await say(store, fence, "m0", seq)

            assert sizes(table, fence.session_id)[1] <= ROOM.max_bytes / 8
            assert counted(table, fence.session_id) == sizes(table, fence.session_id)
        finally:
            table.admin.config_set("maxmemory", "0")


def test_the_room_holds_a_whole_reply_twice() -> None:
    """Its lines cost more than their text, and a reply may begin before another one is read."""
    assert EventSettings().recent_bytes >= 2 * ChatSettings().max_reply_bytes
