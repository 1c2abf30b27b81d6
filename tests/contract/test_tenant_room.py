"""How many bytes of messages may wait for all sessions of a tenant: one tenant must not fill Redis for all."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest

from sessionctl.adapters.store import keys
from sessionctl.core.identity import new_session_id
from sessionctl.models import Cancellation, EnqueueOutcome
from tests.contract.chats import CANCELLED, DONE, POD, take
from tests.support.sessions import HOLD, make_workspace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sessionctl.adapters.store.redis_store import RedisStore
    from sessionctl.models import SessionId
    from tests.support.table import Table

ROOM = 10_000
TEXT = "x" * 4000
"""Two of them have room, three have not."""


async def session_of(store: RedisStore, tenant: str) -> SessionId:
    workspace = make_workspace(replicas=1)
    await store.ensure_record(replace(workspace, owner=replace(workspace.owner, tenant=tenant)))
    return workspace.session_id


async def chat(store: RedisStore, session_id: SessionId, message_id: str, room: int = ROOM) -> str:
    done = await store.enqueue(session_id, message_id, TEXT, 100, HOLD, tenant_bytes=room)
    return done.outcome.value


def counted(table: Table) -> dict[str, int]:
    """What is counted for each tenant."""
    found = cast("dict[bytes, bytes]", table.admin.hgetall(keys.WAITING_BYTES))
    return {tenant.decode(): int(value) for tenant, value in found.items() if not tenant.startswith(b":")}


def really(table: Table, sessions: dict[SessionId, str]) -> dict[str, int]:
    """What waits in the lists."""
    sums: dict[str, int] = {}
    for session_id, tenant in sessions.items():
        size = sum(len(element) for element in table.elements(session_id) if element != b"awake")
        sums[tenant] = sums.get(tenant, 0) + size
    return {tenant: size for tenant, size in sums.items() if size}


async def test_it_is_one_room_for_all_its_sessions_and_nobody_elses(store: RedisStore) -> None:
    first, second, other = [await session_of(store, tenant) for tenant in ("a", "a", "b")]
    assert [await chat(store, first, "m1"), await chat(store, second, "m1")] == ["added", "added"]
    assert await chat(store, first, "m2") == await chat(store, second, "m2") == EnqueueOutcome.TENANT_FULL
    assert await chat(store, first, "m1") == "known"
    assert await chat(store, other, "m1") == "added"
    assert await chat(store, first, "m2", room=0) == "added"


async def test_what_has_ended_makes_room(store: RedisStore, table: Table) -> None:
    first, second = [await session_of(store, "a") for _ in range(2)]
    for session_id in (first, second):
        await chat(store, session_id, "m1")
    fence = await take(store, first)
    await store.get_next(fence)
    await store.start_message(fence, "m1", POD)
    await store.finish_message(fence, "m1", DONE, "")
    await store.finish_message(fence, "m1", DONE, "")
    assert await chat(store, second, "m2") == "added"
    assert await chat(store, second, "m3") == "tenant-full"
    assert counted(table) == really(table, {first: "a", second: "a"})


@pytest.mark.parametrize("seed", range(5))
async def test_it_is_counted_whatever_happens(store: RedisStore, table: Table, seed: int) -> None:
    """Each operation twice, as after a lost reply."""
    chance = random.Random(seed)
    sessions = {await session_of(store, tenant): tenant for tenant in ("a", "a", "b")}
    for number in range(60):
        session_id = chance.choice(list(sessions))
        some = f"m{chance.randrange(number + 1)}"
        act: Callable[[], Awaitable[object]]
        match chance.randrange(8):
            case 0:
                act = partial(store.settle_waiting, session_id, CANCELLED, "")
            case 1:
                act = partial(store.cancel_message, session_id, some)
            case 2:
                act = partial(store.finish_message, await take(store, session_id), some, DONE, "")
            case 3:
                act = partial(store.wake, session_id)
            case 4 if number > 40:
                tenant = sessions.pop(session_id)
                act = partial(store.bury, session_id, tenant, "alice", timedelta(days=1))
                sessions[await session_of(store, tenant)] = tenant
            case _:
                act = partial(chat, store, session_id, f"m{number}", 100_000)
        for _ in range(2):
            await act()
        assert counted(table) == really(table, sessions)


async def test_what_somebody_took_away_does_not_count_for_ever(store: RedisStore, table: Table) -> None:
    first, second = [await session_of(store, "a") for _ in range(2)]
    for session_id in (first, second):
        await chat(store, session_id, "m1")
    table.admin.delete(keys.record(first), keys.queue(first))
    assert await chat(store, second, "m2") == "added"
    assert counted(table) == really(table, {second: "a"})
    table.admin.delete(keys.record(second), keys.queue(second))
    third = await session_of(store, "a")
    # It is counted anew now and then only: it takes Redis time.
    assert await chat(store, third, "m1") == "tenant-full"
    table.admin.hincrby(keys.WAITING_BYTES, ":counted", -10_000)
    assert await chat(store, third, "m1") == "added"
    assert counted(table) == really(table, {third: "a"})


@pytest.mark.parametrize("broken", ["hash", "record"])
async def test_whatever_stands_in_its_place_stops_nothing(store: RedisStore, table: Table, broken: str) -> None:
    session_id = await session_of(store, "a")
    assert await chat(store, session_id, "m1") == "added"
    if broken == "hash":
        table.admin.set(keys.WAITING_BYTES, "somebody's")
    else:
        other = new_session_id()
        table.admin.set(keys.record(other), "somebody's")
        table.admin.sadd(keys.DISPATCH_PENDING, other)
        assert await chat(store, session_id, "m2", room=5000) == "tenant-full"
    assert await chat(store, session_id, "m3") == "added"
    assert await store.cancel_message(session_id, "m3") is Cancellation.CANCELLED
