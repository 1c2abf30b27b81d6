"""Burying a session that nobody wants: of it and a wake, one comes first (decision 14)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pytest

from sessionctl.adapters.store import keys
from sessionctl.errors import ConflictError
from tests.support.sessions import make_workspace

if TYPE_CHECKING:
    from sessionctl.adapters.store.redis_store import RedisStore
    from sessionctl.models import Workspace
    from tests.support.table import Table

WEEK: Final = timedelta(days=7)


@pytest.fixture
async def asleep(store: RedisStore) -> Workspace:
    """A session with a record, without demand."""
    workspace = make_workspace()
    await store.ensure_record(workspace)
    return workspace


async def bury(store: RedisStore, workspace: Workspace) -> bool:
    return await store.bury_unwanted(workspace.session_id, workspace.owner.tenant, workspace.owner.user_id, WEEK)


async def test_nobody_wakes_it_afterwards(store: RedisStore, asleep: Workspace, table: Table) -> None:
    assert await bury(store, asleep)

    with pytest.raises(ConflictError):
        await store.wake(asleep.session_id)
    assert not await store.has_record(asleep.session_id)
    assert 0 < table.admin.pttl(keys.tombstone(asleep.session_id)) <= WEEK // timedelta(milliseconds=1)
    age = await store.get_burial_age(asleep.session_id)
    assert age is not None
    assert timedelta() <= age < timedelta(minutes=1)


async def test_one_that_is_wanted_lives_on(store: RedisStore, asleep: Workspace) -> None:
    await store.wake(asleep.session_id)

    assert not await bury(store, asleep)

    assert await store.has_record(asleep.session_id)
    assert await store.get_burial_age(asleep.session_id) is None
    assert await store.get_lengths([asleep.session_id]) == [1]


async def test_any_demand_counts(store: RedisStore, asleep: Workspace, table: Table) -> None:
    table.admin.set(keys.queue(asleep.session_id), "of another type")

    assert not await bury(store, asleep)

    assert await store.get_lengths([asleep.session_id]) == [1]


async def test_the_second_knows_that_it_is_the_second(store: RedisStore, asleep: Workspace, table: Table) -> None:
    assert await bury(store, asleep)
    # Whatever brings its record back in between.
    table.admin.hset(keys.record(asleep.session_id), "last_active", "1")

    assert not await bury(store, asleep)


async def test_without_a_record_nothing_is_known_of_its_demand(store: RedisStore) -> None:
    assert not await bury(store, make_workspace())


async def test_nothing_is_buried_while_the_gate_is_closed(store: RedisStore, asleep: Workspace, table: Table) -> None:
    table.admin.set(keys.EPOCH, "of another run")

    assert not await bury(store, asleep)
