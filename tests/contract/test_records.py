"""Records, the index of users and tombstones on a real Redis."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.core.identity import new_session_id
from sessionctl.errors import ConflictError, StoreError
from tests.support.sessions import CREATED_AT, HOLD, make_workspace
from tools.localcluster.ports import Ports

if TYPE_CHECKING:
    from tests.support.redis import RedisServer
    from tests.support.table import Table

CREATED_MS = int(CREATED_AT.timestamp() * 1000)
AWKWARD_USER = 'o\'hara "ü"\u2028{{ x }} *\U0001f600'
WEEK = timedelta(days=7)


async def test_a_record_comes_back_as_it_was_written(store: RedisStore, table: Table) -> None:
    workspace = make_workspace(user_id=AWKWARD_USER)

    assert await store.ensure_record(workspace)

    record = await store.get_record(workspace.session_id)
    assert record is not None
    assert (record.owner, record.last_active, record.released_at) == (workspace.owner, CREATED_MS, None)
    assert await store.list_record_ids() == [workspace.session_id]
    index = keys.user_index("default", AWKWARD_USER)
    assert table.admin.smembers(index) == {workspace.session_id.encode()}


async def test_a_record_that_is_there_is_not_touched(store: RedisStore, table: Table) -> None:
    workspace = make_workspace(replicas=1)
    await store.ensure_record(workspace)
    table.age(workspace.session_id, "last_active", 3_600_000)
    before = table.everything(), table.stamp(workspace.session_id, "last_active")

    assert await store.ensure_record(workspace)

    assert (table.everything(), table.stamp(workspace.session_id, "last_active")) == before


async def test_a_running_session_without_a_record_counts_as_in_use(store: RedisStore, table: Table) -> None:
    workspace = make_workspace(replicas=1)
    before = table.now()

    await store.ensure_record(workspace)

    assert table.elements(workspace.session_id) == [b"awake"]
    assert table.stamp(workspace.session_id, "last_active") >= before


async def test_a_sleeping_session_gets_a_record_and_no_demand(store: RedisStore, table: Table) -> None:
    workspace = make_workspace(slept_at=CREATED_MS + 5, woken_at=CREATED_MS + 3)

    await store.ensure_record(workspace)

    assert table.elements(workspace.session_id) == []
    assert table.stamp(workspace.session_id, "last_active") == CREATED_MS + 5
    assert table.field(workspace.session_id, "status") == "sleeping"


async def test_demand_from_outside_survives_the_rebuilding(store: RedisStore, table: Table) -> None:
    workspace = make_workspace(replicas=1)
    table.push(workspace.session_id, "wake")

    await store.ensure_record(workspace)

    assert sorted(table.elements(workspace.session_id)) == [b"awake", b"wake"]


async def test_the_age_of_activity_is_by_the_clock_of_redis(store: RedisStore, table: Table) -> None:
    known, unknown = make_workspace(), new_session_id()
    await store.ensure_record(known)
    table.age(known.session_id, "last_active", 90_000)

    age, none = await store.get_idle_times([known.session_id, unknown])

    assert none is None
    assert age is not None
    assert timedelta(seconds=90) <= age < timedelta(seconds=150)
    assert await store.get_idle_times([]) == []


async def test_bury_takes_all_but_the_events_and_their_end_is_set(store: RedisStore, table: Table) -> None:
    workspace = make_workspace()
    session_id = workspace.session_id
    await store.ensure_record(workspace)
    await store.enqueue(session_id, "m1", "x", 100, HOLD)
    table.admin.xadd(keys.events(session_id), {"a": "b"})

    await store.bury(session_id, "default", "alice", WEEK)

    left = [keys.tombstone(session_id), keys.events(session_id), keys.marks(session_id), keys.ended(session_id, "m1")]
    assert set(table.everything()) == {b"epoch", *(key.encode() for key in left)}
    for key in left:
        assert 0 < table.admin.pttl(key) <= WEEK // timedelta(milliseconds=1)


@pytest.mark.parametrize("replicas", [0, 1])
async def test_nothing_is_written_for_a_session_with_a_tombstone(
    store: RedisStore, table: Table, replicas: int
) -> None:
    workspace = make_workspace(replicas=replicas)
    await store.bury(workspace.session_id, "default", "alice", WEEK)
    before = table.everything()

    assert not await store.ensure_record(workspace)

    assert table.everything() == before


async def test_unbury_brings_the_session_back_asleep(store: RedisStore, table: Table) -> None:
    workspace = make_workspace(slept_at=CREATED_MS + 5)
    session_id = workspace.session_id
    await store.ensure_record(workspace)
    table.admin.xadd(keys.events(session_id), {"a": "b"})
    await store.bury(session_id, "default", "alice", WEEK)

    await store.unbury(workspace)

    record = await store.get_record(session_id)
    assert record is not None
    assert record.owner == workspace.owner
    assert table.elements(session_id) == []
    assert table.admin.ttl(keys.events(session_id)) == -1
    assert (await store.wake(session_id)).fresh


async def test_a_wake_during_a_delete_is_refused_until_the_restore(store: RedisStore) -> None:
    workspace = make_workspace()
    await store.ensure_record(workspace)
    await store.bury(workspace.session_id, "default", "alice", WEEK)

    with pytest.raises(ConflictError):
        await store.wake(workspace.session_id)
    await store.unbury(workspace)

    await store.wake(workspace.session_id)


async def test_a_record_that_cannot_be_read_is_named(store: RedisStore, table: Table) -> None:
    workspace = make_workspace()
    await store.ensure_record(workspace)
    table.admin.hset(keys.record(workspace.session_id), "created_at", "yesterday")

    with pytest.raises(StoreError, match=workspace.session_id):
        await store.get_record(workspace.session_id)


async def test_a_wrong_password_is_told_from_a_redis_that_is_away(redis: RedisServer) -> None:
    endpoint = redis.endpoint()
    async with RedisStore(replace(endpoint, password="wrong")) as refused:
        with pytest.raises(StoreError, match="refuses the user 'default'"):
            await refused.get_epoch()
    with Ports() as ports:
        async with RedisStore(replace(endpoint, port=ports["nobody"])) as away:
            with pytest.raises(StoreError, match="does not answer"):
                await away.get_epoch()
