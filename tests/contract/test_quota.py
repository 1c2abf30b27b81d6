"""How many sessions a user may have, on a real Redis."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.core.identity import new_session_id
from tests.support.sessions import make_workspace

if TYPE_CHECKING:
    from sessionctl.models import SessionId
    from tests.support.redis import RedisServer
    from tests.support.table import Table

OWNER = ("default", "alice")
INDEX = keys.user_index(*OWNER)


async def reserve(store: RedisStore, limit: int, session_id: SessionId | None = None) -> bool:
    return await store.reserve_session(session_id or new_session_id(), *OWNER, limit)


async def made(store: RedisStore) -> SessionId:
    workspace = make_workspace()
    await store.ensure_record(workspace)
    return workspace.session_id


async def test_no_more_than_allowed_at_the_same_moment(store: RedisStore, redis: RedisServer) -> None:
    async with RedisStore(redis.endpoint()) as other:
        answers = await asyncio.gather(*(reserve(one, 7) for one in (store, other) * 15))

    assert sum(answers) == 7


async def test_sessions_that_are_there_count(store: RedisStore) -> None:
    for _ in range(2):
        await made(store)

    assert [await reserve(store, 3), await reserve(store, 3)] == [True, False]


async def test_another_user_and_another_tenant_have_their_own(store: RedisStore) -> None:
    await reserve(store, 1)

    assert await store.reserve_session(new_session_id(), "default", "bob", 1)
    assert await store.reserve_session(new_session_id(), "other", "alice", 1)


async def test_the_same_session_again_is_no_other(store: RedisStore) -> None:
    session_id = new_session_id()

    assert [await reserve(store, 1, session_id) for _ in range(3)] == [True] * 3
    await store.ensure_record(make_workspace(session_id))
    assert await reserve(store, 1, session_id)
    assert not await reserve(store, 1)


async def test_a_reservation_taken_back_is_free_again(store: RedisStore, table: Table) -> None:
    session_id = new_session_id()
    await reserve(store, 1, session_id)
    for _ in range(2):
        await store.cancel_reservation(session_id, *OWNER)

    assert not table.admin.exists(INDEX, keys.reservation(session_id))
    assert await reserve(store, 1)


async def test_a_session_that_was_made_cannot_be_taken_back(store: RedisStore) -> None:
    session_id = new_session_id()
    await reserve(store, 1, session_id)
    await store.ensure_record(make_workspace(session_id))
    await store.cancel_reservation(session_id, *OWNER)

    assert not await reserve(store, 1)


async def test_a_reservation_nobody_came_back_for_ends(store: RedisStore, table: Table) -> None:
    session_id = new_session_id()
    await reserve(store, 1, session_id)
    assert 60_000 < table.admin.pttl(keys.reservation(session_id)) <= 600_000
    table.admin.delete(keys.reservation(session_id))

    assert await reserve(store, 1)
    assert session_id.encode() not in table.admin.smembers(INDEX)


async def test_a_deleted_session_does_not_count(store: RedisStore, table: Table) -> None:
    session_id = await made(store)
    await store.bury(session_id, *OWNER, timedelta(days=7))
    assert await reserve(store, 1)

    # Its record came back by a race, beside the tombstone.
    ghost = await made(store)
    table.admin.set(keys.tombstone(ghost), "1")
    assert [await reserve(store, 2), await reserve(store, 2)] == [True, False]


async def test_no_limit_counts_too(store: RedisStore) -> None:
    assert all([await reserve(store, 0) for _ in range(5)])

    assert not await reserve(store, 5)


async def test_a_smaller_limit_takes_nothing_away(store: RedisStore, table: Table) -> None:
    sessions = [await made(store) for _ in range(3)]

    assert not await reserve(store, 1)
    assert await reserve(store, 1, sessions[0])
    assert len(table.admin.smembers(INDEX)) == 3
