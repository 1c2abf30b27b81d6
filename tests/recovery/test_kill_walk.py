"""create, delete, restore and purge, killed at every step: after one reconcile there is a whole session or none."""

from __future__ import annotations

import asyncio

import pytest

from sessionctl.core.identity import new_session_id
from sessionctl.models import SessionId
from tests.support.api_proxy import ApiProxy
from tests.support.kill_walk import Walk
from tests.support.redis_proxy import RedisProxy
from tests.support.sessionctl_cli import Cli
from tests.support.steps import Steps

FEWEST_WRITES = 9
"""Of any of the verbs: each object of the chart is one, and so are release, mark and record."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def walk(proxied: Cli, api_proxy: ApiProxy, redis_proxy: RedisProxy) -> Walk:
    return Walk(proxied, api_proxy, redis_proxy)


async def test_a_create_killed_anywhere_leaves_a_whole_session_or_nothing(walk: Walk, steps: Steps) -> None:
    async def fresh() -> SessionId:
        steps.made.append(new_session_id())
        return steps.made[-1]

    walked, killed = await walk.through(["create", "--user", "walker", "--uuid", "{}"], fresh)
    assert killed > FEWEST_WRITES

    await asyncio.to_thread(steps.reconcile, walked)

    left = steps.settle(walked, lambda remains: remains.is_complete or remains.is_gone)
    whole = [SessionId(remains.uuid) for remains in left if remains.is_complete]
    assert 0 < len(whole) < len(left)
    await steps.check_wakes(whole[0])
    assert await asyncio.to_thread(steps.reconcile, walked) == []


async def test_files_outlive_a_delete_and_a_restore_killed_anywhere(walk: Walk, steps: Steps) -> None:
    walked, killed = await walk.through(["delete", "{}"], steps.create)
    assert killed > FEWEST_WRITES
    volume_of = {uuid: remains.volume_uid for uuid, remains in steps.census.take(walked).items()}
    assert None not in volume_of.values()

    await asyncio.to_thread(steps.reconcile, walked)

    # The first one was killed before it wrote anything: it never began.
    left = steps.settle(walked, lambda remains: remains.is_deleted or remains.uuid == walked[0])
    assert left[0].is_complete
    assert {remains.uuid: remains.volume_uid for remains in left} == volume_of
    assert await asyncio.to_thread(steps.reconcile, walked) == []

    deleted = iter(walked[1:])

    async def next_deleted() -> SessionId:
        session_id = next(deleted, None)
        if session_id is None:
            session_id = await steps.create()
            await steps.delete(session_id)
            volume_of[session_id] = steps.census.of(session_id).volume_uid
        return session_id

    restored, killed = await walk.through(["restore", "{}"], next_deleted)
    assert killed > FEWEST_WRITES

    await asyncio.to_thread(steps.reconcile, restored)

    left = steps.settle(restored, lambda remains: remains.is_complete or remains.is_deleted)
    assert {remains.uuid: remains.volume_uid for remains in left} == {uuid: volume_of[uuid] for uuid in restored}
    whole = [SessionId(remains.uuid) for remains in left if remains.is_complete]
    still_deleted = [SessionId(remains.uuid) for remains in left if remains.is_deleted]
    assert whole
    assert still_deleted
    assert await asyncio.to_thread(steps.reconcile, restored) == []
    await steps.restore(still_deleted[0])
    for session_id in (whole[0], still_deleted[0]):
        await steps.check_wakes(session_id)
        assert steps.census.of(session_id).volume_uid == volume_of[session_id]


async def test_a_purge_killed_anywhere_leaves_nothing(walk: Walk, steps: Steps) -> None:
    walked, killed = await walk.through(["delete", "--purge", "{}"], steps.create)
    assert killed > FEWEST_WRITES

    await asyncio.to_thread(steps.reconcile, walked)

    left = steps.settle(walked, lambda remains: remains.is_gone or remains.uuid == walked[0])
    assert left[0].is_complete
    assert await asyncio.to_thread(steps.reconcile, walked) == []
