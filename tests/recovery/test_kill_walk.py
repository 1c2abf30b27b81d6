"""create, delete, restore and purge, killed at every step: after one reconcile there is a whole session or none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

import pytest

from sessionctl.core.identity import new_session_id
from sessionctl.core.sessions import NewSession
from sessionctl.factory import Factory
from sessionctl.models import SessionId
from tests.support.api_proxy import ApiProxy
from tests.support.census import Census, Remains
from tests.support.kill_walk import Walk
from tests.support.redis_proxy import RedisProxy
from tests.support.sessionctl_cli import Cli
from tests.support.waiting import wait_for

FEWEST_WRITES = 9
"""Of any of the verbs: each object of the chart is one, and so are release, mark and record."""


@pytest.fixture
def walk(proxied: Cli, api_proxy: ApiProxy, redis_proxy: RedisProxy) -> Walk:
    return Walk(proxied, api_proxy, redis_proxy)


@pytest.fixture
def made(census: Census) -> Iterator[list[SessionId]]:
    """Sessions of the test, to be removed after it."""
    uuids: list[SessionId] = []
    yield uuids
    census.wipe(uuids)


def settle(census: Census, uuids: Iterable[SessionId], settled: Callable[[Remains], bool]) -> list[Remains]:
    """Wait until what is being removed is gone and every session is as it should be; return them."""

    def odd() -> list[str]:
        return [str(remains) for remains in census.take(uuids).values() if not settled(remains)]

    def all_settled() -> bool:
        return not odd()

    try:
        wait_for(all_settled, "every session whole or gone", patience=30)
    except pytest.fail.Exception:
        pytest.fail("neither whole nor gone:\n" + "\n".join(odd()))
    return list(census.take(uuids).values())


def reconcile(cli: Cli, uuids: Iterable[SessionId]) -> list[tuple[str, str]]:
    """Reconcile once and return what it did to these sessions; nothing may fail."""
    known = set(uuids)
    repairs = [row for row in cli.json("reconcile", "--grace", "0s")["repairs"] if row["uuid"] in known]
    assert not [row for row in repairs if row["error"]], json.dumps(repairs, indent=2)
    return [(row["uuid"], row["repair"]) for row in repairs]


async def assert_wakes(factory: Factory, session_id: SessionId) -> None:
    await factory.demand.wake(session_id)
    await factory.create_waiter().wait_awake(session_id, timedelta(minutes=1))
    await factory.demand.sleep(session_id)


async def create(factory: Factory, made: list[SessionId]) -> SessionId:
    service = await factory.create_session_service()
    session_id = await service.create(NewSession(user_id="walker", tenant="default", profile="default"))
    made.append(session_id)
    return session_id


async def test_a_create_killed_anywhere_leaves_a_whole_session_or_nothing(
    walk: Walk, cli: Cli, factory: Factory, census: Census, made: list[SessionId]
) -> None:
    async def fresh() -> SessionId:
        made.append(new_session_id())
        return made[-1]

    walked, killed = await walk.through(["create", "--user", "walker", "--uuid", "{}"], fresh)
    assert killed >= 2 * FEWEST_WRITES

    await asyncio.to_thread(reconcile, cli, walked)

    left = settle(census, walked, lambda remains: remains.is_complete or remains.is_gone)
    whole = [remains.uuid for remains in left if remains.is_complete]
    assert 0 < len(whole) < len(left)
    await assert_wakes(factory, SessionId(whole[0]))
    assert await asyncio.to_thread(reconcile, cli, walked) == []


async def test_files_outlive_a_delete_and_a_restore_killed_anywhere(
    walk: Walk, cli: Cli, factory: Factory, census: Census, made: list[SessionId]
) -> None:
    walked, killed = await walk.through(["delete", "{}"], lambda: create(factory, made))
    assert killed >= 2 * FEWEST_WRITES
    volume_of = {uuid: remains.volume_uid for uuid, remains in census.take(walked).items()}
    assert None not in volume_of.values()

    await asyncio.to_thread(reconcile, cli, walked)

    # The first one was killed before it wrote anything: it never began.
    left = settle(census, walked, lambda remains: remains.is_deleted or remains.uuid == walked[0])
    assert left[0].is_complete
    assert {remains.uuid: remains.volume_uid for remains in left} == volume_of
    assert await asyncio.to_thread(reconcile, cli, walked) == []

    deleted = iter(walked[1:])

    async def next_deleted() -> SessionId:
        session_id = next(deleted, None)
        if session_id is None:
            session_id = await create(factory, made)
            await (await factory.create_session_service()).delete(session_id, purge=False)
            volume_of[session_id] = census.of(session_id).volume_uid
        return session_id

    restored, killed = await walk.through(["restore", "{}"], next_deleted)
    assert killed >= 2 * FEWEST_WRITES

    await asyncio.to_thread(reconcile, cli, restored)

    left = settle(census, restored, lambda remains: remains.is_complete or remains.is_deleted)
    assert {remains.uuid: remains.volume_uid for remains in left} == {uuid: volume_of[uuid] for uuid in restored}
    whole = [SessionId(remains.uuid) for remains in left if remains.is_complete]
    still_deleted = [SessionId(remains.uuid) for remains in left if remains.is_deleted]
    assert whole
    assert still_deleted
    assert await asyncio.to_thread(reconcile, cli, restored) == []
    await (await factory.create_session_service()).restore(still_deleted[0])
    for session_id in (whole[0], still_deleted[0]):
        await assert_wakes(factory, session_id)
        assert census.of(session_id).volume_uid == volume_of[session_id]


async def test_a_purge_killed_anywhere_leaves_nothing(
    walk: Walk, cli: Cli, factory: Factory, census: Census, made: list[SessionId]
) -> None:
    walked, killed = await walk.through(["delete", "--purge", "{}"], lambda: create(factory, made))
    assert killed >= 2 * FEWEST_WRITES

    await asyncio.to_thread(reconcile, cli, walked)

    left = settle(census, walked, lambda remains: remains.is_gone or remains.uuid == walked[0])
    assert left[0].is_complete
    assert await asyncio.to_thread(reconcile, cli, walked) == []
