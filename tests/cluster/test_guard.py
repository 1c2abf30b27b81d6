"""The watch guard: a session seen asleep against its demand is woken at once (DESIGN 5)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest

from sessionctl.labels import SLEPT_AT, WOKEN_AT
from tests.cluster.stage import HOUR_MS, NEVER_IDLE
from tests.support.between import Hooks
from tests.support.waiting import until

if TYPE_CHECKING:
    from sessionctl.models import SessionId
    from tests.cluster.stage import Stage


WITH_KEDA: Final = False
"""KEDA would wake the sessions too."""


@pytest.fixture
async def session(stage: Stage) -> SessionId:
    """A session asleep."""
    return stage.fleet[0]


async def test_a_message_after_keda_read_an_empty_list_is_met(stage: Stage, session: SessionId) -> None:
    """KEDA's scale to 0 lands after the message and its patch, and meets no conflict; the loop undoes it."""
    stage.start_sweeping(**NEVER_IDLE)
    await stage.wake(session)
    stamp = (await stage.find(session)).woken_at

    stage.arena.kubectl("-n", "sessions", "scale", "deployment", f"user-{session}", "--replicas=0")

    await until(lambda: stage.is_awake(session), "the guard wakes it")
    assert (await stage.find(session)).woken_at != stamp


async def test_demand_from_before_its_start_is_met(stage: Stage, session: SessionId) -> None:
    """After every list all sessions at 0 are checked, not only those that change."""
    stage.push(session)

    stage.start_sweeping(**NEVER_IDLE)

    await until(lambda: stage.is_awake(session), "the guard wakes it")


async def test_the_loop_goes_on_after_redis_was_away(stage: Stage, session: SessionId) -> None:
    stage.start_sweeping(**NEVER_IDLE)
    stage.arena.kill("redis")
    stage.arena.kubectl("-n", "sessions", "annotate", "deployment", f"user-{session}", "note=1", "--overwrite")
    stage.arena.start_component("redis")
    stage.push(session)
    # Whatever it looked at between the two lines above.
    stage.arena.kubectl("-n", "sessions", "annotate", "deployment", f"user-{session}", "note=2", "--overwrite")

    await until(lambda: stage.is_awake(session), "the guard wakes it")


async def test_a_session_that_is_being_deleted_is_left_alone(stage: Stage, session: SessionId) -> None:
    await stage.factory.cluster.mark_workspace_deleted(session, datetime.now(UTC), purge=False)
    stage.push(session)
    try:
        assert await stage.guard().check([await stage.find(session)]) == []
        assert await stage.is_asleep(session)
    finally:
        stage.table.admin.delete(f"queue:{session}")
        stage.arena.kubectl("-n", "sessions", "annotate", "deployment", f"user-{session}", "sessionctl.dev/deleted-at-")


async def test_sessions_without_demand_stay_asleep(stage: Stage, session: SessionId) -> None:
    found = await stage.factory.cluster.list_workspaces()

    assert await stage.guard().check(found) == []


async def test_who_was_put_to_sleep_over_an_empty_redis_is_woken_again(stage: Stage, session: SessionId) -> None:
    """KEDA reads the emptied list of a session it never saw in use, before anybody can keep it out."""
    await stage.wake(session)
    stage.table.admin.flushall()
    stage.arena.kubectl("-n", "sessions", "scale", "deployment", f"user-{session}", "--replicas=0")

    assert await stage.gate(Hooks()).check()

    assert stage.table.elements(session) == [b"awake"]
    assert await stage.is_awake(session)


async def test_who_slept_when_redis_was_lost_is_left_alone(stage: Stage, session: SessionId) -> None:
    slept, long_ago = session, stage.fleet[1]
    await stage.wake(slept, long_ago)
    await stage.factory.demand.sleep(slept)
    path = f"/apis/apps/v1/namespaces/sessions/deployments/user-{long_ago}"
    stamp = str(stage.table.now() - HOUR_MS)
    annotations = {WOKEN_AT: stamp, SLEPT_AT: None}
    stage.api.merge(path, {"metadata": {"annotations": annotations}, "spec": {"replicas": 0}})
    stage.table.admin.flushall()

    assert await stage.gate(Hooks()).check()

    for each in (slept, long_ago):
        assert stage.table.elements(each) == []
        assert await stage.is_asleep(each)
