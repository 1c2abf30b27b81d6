"""Starts that do not end are given up, and nothing else is (DESIGN 5)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest

from sessionctl.core.starts import start_age
from sessionctl.errors import DeadlineExceededError, ForbiddenError
from sessionctl.models import EventKind, MessageOutcome, SessionStatus
from tests.cluster.stage import AWAKE, READY_DELAY
from tests.support.between import Hooks
from tests.support.sessions import HOLD
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sessionctl.models import SessionId, SessionView
    from tests.cluster.stage import Stage

WITH_KEDA: Final = False
"""KEDA may not put a session to sleep, or wake it, in the keeper's place."""
AT_ONCE: Final = timedelta(milliseconds=1)
"""Every start that is seen has taken longer."""
SHORT: Final = timedelta(seconds=3)
"""Longer than a judgement takes."""
LATER: Final = timedelta(hours=1)
REASON_SECONDS: Final = 15.0
SET_UP: Final = "its pod is being set up on its node"
DIED_BY_SIGKILL: Final = -9


@pytest.fixture
async def asleep(stage: Stage) -> AsyncIterator[SessionId]:
    """A session asleep, whose pod will not become ready by itself."""
    found = stage.fleet[0]
    stage.change_pod(found, {"metadata": {"annotations": {READY_DELAY: "1h"}}})
    yield found
    await until(stage.gate(Hooks()).check, "the gate opens")
    await stage.factory.store.settle_waiting(found, MessageOutcome.CANCELLED, "the test is over")
    stage.table.admin.delete(f"queue:{found}")
    await stage.factory.demand.sleep(found, force=True)
    stage.change_pod(found, {"metadata": {"annotations": {READY_DELAY: None}}})


@pytest.fixture
async def session(stage: Stage, asleep: SessionId) -> SessionId:
    """A session that starts and does not become ready."""
    await stage.starting(asleep)

    async def is_on_its_node() -> bool:
        return (await look(stage, asleep)).reason == SET_UP

    await until(is_on_its_node, "a pod on its node")
    # As if nothing had been released just before, which makes every wake a fresh one.
    stage.table.age(asleep, "released_at", 60_000)
    return asleep


async def look(stage: Stage, session: SessionId) -> SessionView:
    return await stage.factory.create_view_service().get_status(session)


def make_ready(stage: Stage, session: SessionId) -> None:
    stage.report(session, {"type": "Ready", "status": "True"}, phase="Running")


async def overdue(stage: Stage, session: SessionId) -> None:
    async def is_overdue() -> bool:
        return start_age(await stage.find(session), stage.table.now()) >= SHORT

    await until(is_overdue, "a start that takes too long")


async def test_it_is_given_up_with_its_reason(stage: Stage, session: SessionId, hooks: Hooks) -> None:
    report = await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(session)])

    assert (report.failed, report.held) == ((session,), frozenset({session}))
    assert await stage.is_asleep(session)
    assert stage.table.elements(session) == []
    assert stage.table.field(session, "status") == "failed"
    view = await look(stage, session)
    assert (view.status, view.reason) == (SessionStatus.FAILED, SET_UP)


async def test_the_next_wake_makes_another_start(stage: Stage, session: SessionId, hooks: Hooks) -> None:
    keeper = stage.start_keeper(hooks, SHORT)
    await overdue(stage, session)
    await keeper.tick([await stage.find(session)])
    assert (await stage.find(session)).failed

    await stage.factory.demand.wake(session)

    again = await stage.find(session)
    assert (again.replicas, again.failed) == (1, None)
    assert (await look(stage, session)).status is SessionStatus.WAKING
    assert (await keeper.tick([again])).failed == ()
    assert await stage.is_awake(session)


async def test_it_is_left_alone_before_its_time(stage: Stage, session: SessionId, hooks: Hooks) -> None:
    report = await stage.start_keeper(hooks, LATER).tick([await stage.find(session)])

    assert (report.failed, report.kept, report.held) == ((), (), frozenset({session}))
    assert hooks.calls["give_up"] == 0
    assert await stage.is_awake(session)


async def test_a_pod_that_became_ready_is_left_alone(stage: Stage, session: SessionId, hooks: Hooks) -> None:
    stale = await stage.find(session)
    make_ready(stage, session)
    await stage.ready(session)

    report = await stage.start_keeper(hooks, AT_ONCE).tick([stale])

    assert (report.failed, hooks.calls["give_up"]) == ((), 0)
    assert await stage.is_awake(session)
    assert stage.table.elements(session) == AWAKE


async def test_a_pod_that_becomes_ready_at_the_last_moment_keeps_its_demand(
    stage: Stage, session: SessionId, hooks: Hooks
) -> None:
    async def become_ready() -> None:
        make_ready(stage, session)
        await stage.ready(session)

    hooks.before("sleep_workspace", become_ready)

    report = await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(session)])

    assert report.failed == ()
    assert await stage.is_awake(session)
    assert stage.table.elements(session) == AWAKE


class TestWakeInTheMiddle:
    async def test_after_the_release_it_begins_another_start(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        await overdue(stage, session)
        hooks.before("sleep_workspace", lambda: stage.factory.demand.wake(session))

        report = await stage.start_keeper(hooks, SHORT).tick([await stage.find(session)])

        assert report.failed == ()
        assert await stage.is_awake(session)
        assert stage.table.elements(session) == AWAKE

    async def test_one_that_has_yet_to_patch_keeps_its_demand(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        """Its patch comes after everything the keeper does, and starts a pod."""

        async def wake_without_patch() -> None:
            stage.table.admin.delete(f"queue:{session}")
            await stage.factory.store.wake(session)

        hooks.before("give_up", wake_without_patch)

        report = await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(session)])

        assert report.failed == ()
        assert stage.table.elements(session) == AWAKE
        assert await stage.is_awake(session)

    async def test_one_that_died_before_its_patch_has_the_whole_time(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        await overdue(stage, session)
        stage.table.admin.delete(f"queue:{session}")
        await stage.factory.store.wake(session)

        report = await stage.start_keeper(hooks, SHORT).tick([await stage.find(session)])

        assert (report.failed, report.kept) == ((), (session,))
        assert stage.table.elements(session) == AWAKE

    async def test_a_patient_start_is_not_lengthened_by_an_impatient_user(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        await overdue(stage, session)
        await stage.factory.demand.wake(session)
        hooks.before("give_up", lambda: stage.factory.demand.wake(session))

        report = await stage.start_keeper(hooks, SHORT).tick([await stage.find(session)])

        assert report.failed == (session,)


async def test_two_keepers_at_once_give_it_up_once(stage: Stage, session: SessionId, hooks: Hooks) -> None:
    async def other_ticks() -> None:
        report = await stage.start_keeper(Hooks(), AT_ONCE).tick([await stage.find(session)])
        assert report.failed == (session,)

    hooks.before("sleep_workspace", other_ticks)

    report = await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(session)])

    assert report.failed == ()
    assert (await look(stage, session)).status is SessionStatus.FAILED


async def test_a_sweep_killed_between_release_and_patch_is_taken_up(
    stage: Stage, session: SessionId, hooks: Hooks
) -> None:
    died = stage.sweep_dying("before", "sleep_workspace", SESSIONCTL_SESSIONS__START_TIMEOUT="1ms")
    assert (died, stage.table.elements(session)) == (DIED_BY_SIGKILL, [])
    assert await stage.is_awake(session)

    report = await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(session)])

    assert report.failed == (session,)
    assert await stage.is_asleep(session)


async def test_nothing_is_given_up_while_the_gate_is_closed(stage: Stage, session: SessionId, hooks: Hooks) -> None:
    stage.table.admin.set("epoch", "of another run")

    report = await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(session)])

    assert (report.failed, report.kept) == ((), (session,))
    assert await stage.is_awake(session)
    assert stage.table.elements(session) == AWAKE


class TestWaitingChats:
    @pytest.fixture
    async def chats(self, stage: Stage, session: SessionId) -> list[str]:
        """Two messages that wait for a start that takes too long."""
        ids = sorted(str(uuid4()) for _ in range(2))
        for message_id in ids:
            await stage.factory.store.enqueue(session, message_id, "hello", 100, HOLD)
        return ids

    async def ends(self, stage: Stage, session: SessionId) -> list[tuple[str, MessageOutcome | None, str]]:
        found = await stage.events(session)
        return [(e.message_id, e.outcome, e.detail) for e in found if e.kind is EventKind.MESSAGE_ENDED]

    async def test_they_fail_with_the_reason_and_the_start_is_given_up(
        self, stage: Stage, session: SessionId, chats: list[str], hooks: Hooks
    ) -> None:
        report = await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(session)])

        assert report.failed == (session,)
        assert await stage.is_asleep(session)
        assert stage.table.elements(session) == []
        assert await self.ends(stage, session) == [(chat, MessageOutcome.FAILED, SET_UP) for chat in chats]
        (failure,) = [e for e in await stage.events(session) if e.kind is EventKind.START_FAILED]
        assert (failure.detail, stage.metrics.counts[EventKind.START_FAILED]) == (SET_UP, 1)
        why = await (await stage.factory.create_why_service()).explain(session)
        assert (why.status, why.reason) == (SessionStatus.FAILED, SET_UP)
        assert any(SET_UP in line for line in why.limits)

    @pytest.mark.parametrize("step", ["settle_waiting", "give_up", "sleep_workspace"])
    async def test_two_keepers_at_once_end_each_of_them_once(
        self, stage: Stage, session: SessionId, chats: list[str], hooks: Hooks, step: str
    ) -> None:
        async def other_ticks() -> None:
            await stage.start_keeper(Hooks(), AT_ONCE).tick([await stage.find(session)])

        hooks.before(step, other_ticks)

        await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(session)])

        assert [chat for chat, _, _ in await self.ends(stage, session)] == chats
        assert (await stage.history(session)).count(EventKind.START_FAILED) == 1
        assert await stage.is_asleep(session)

    async def test_one_for_the_next_start_is_left_alone_by_a_keeper_that_is_late(
        self, stage: Stage, session: SessionId, chats: list[str], hooks: Hooks
    ) -> None:
        """It judged the first start; the other keeper gave it up, and somebody wrote again."""
        await overdue(stage, session)
        third = str(uuid4())

        async def next_start() -> None:
            await stage.start_keeper(Hooks(), AT_ONCE).tick([await stage.find(session)])
            await stage.factory.demand.enqueue(session, third, "again", 100)

        hooks.before("settle_waiting", next_start)

        report = await stage.start_keeper(hooks, SHORT).tick([await stage.find(session)])

        assert report.failed == ()
        assert [chat for chat, _, _ in await self.ends(stage, session)] == chats
        assert [chat.message_id for chat in await stage.factory.store.list_waiting(session)] == [third]
        assert await stage.is_awake(session)

    async def test_while_the_gate_is_closed_they_wait(
        self, stage: Stage, session: SessionId, chats: list[str], hooks: Hooks
    ) -> None:
        async def close() -> None:
            stage.table.admin.set("epoch", "of another run")

        hooks.before("settle_waiting", close)

        await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(session)])

        assert await self.ends(stage, session) == []
        assert await stage.is_awake(session)

    async def test_a_keeper_that_died_after_their_end_is_followed(
        self, stage: Stage, session: SessionId, chats: list[str], hooks: Hooks
    ) -> None:
        died = stage.sweep_dying("after", "settle_waiting", SESSIONCTL_SESSIONS__START_TIMEOUT="1ms")
        assert died == DIED_BY_SIGKILL
        assert await stage.is_awake(session)

        report = await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(session)])

        assert report.failed == (session,)
        assert [chat for chat, _, _ in await self.ends(stage, session)] == chats


async def test_a_session_woken_by_keda_has_the_whole_time(stage: Stage, asleep: SessionId, hooks: Hooks) -> None:
    """KEDA's patch says nothing about when."""
    stage.arena.kubectl(
        "-n", "sessions", "annotate", "deployment", f"user-{asleep}", "sessionctl.dev/woken-at=1", "--overwrite"
    )
    stage.push(asleep)
    stage.arena.kubectl("-n", "sessions", "scale", "deployment", f"user-{asleep}", "--replicas=1")

    async def seen() -> bool:
        return (await stage.find(asleep)).unavailable_since is not None

    await until(seen, "a start")
    stage.table.age(asleep, "woken_at", 2 * LATER // AT_ONCE)
    assert (await stage.start_keeper(hooks, LATER).tick([await stage.find(asleep)])).kept == ()

    report = await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(asleep)])

    assert report.failed == (asleep,)
    assert stage.table.elements(asleep) == []


class TestAgentThatAnsweredOnce:
    @pytest.fixture
    async def silent(self, stage: Stage, session: SessionId) -> SessionId:
        """A session whose containers run and have started, and whose agent does not answer."""
        status = {"name": "agent", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "started": True}
        running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        stage.report(session, phase="Running", containerStatuses=[status | {"state": running}])
        return session

    async def test_somebody_may_be_at_work_in_it(self, stage: Stage, silent: SessionId, hooks: Hooks) -> None:
        report = await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(silent)])

        assert (report.failed, report.kept) == ((), (silent,))
        assert (await look(stage, silent)).reason == "its container runs, but its agent does not answer any more"

    async def test_not_knowing_ends_after_the_unknown_limit(
        self, stage: Stage, silent: SessionId, hooks: Hooks
    ) -> None:
        idle = replace(stage.factory.settings.idle, unknown_limit=timedelta())

        report = await stage.start_keeper(hooks, AT_ONCE, idle=idle).tick([await stage.find(silent)])

        assert report.failed == (silent,)

    async def test_its_message_may_have_been_at_work(self, stage: Stage, silent: SessionId, hooks: Hooks) -> None:
        await stage.factory.store.enqueue(silent, str(uuid4()), "hello", 100, HOLD)
        idle = replace(stage.factory.settings.idle, unknown_limit=timedelta())

        await stage.start_keeper(hooks, AT_ONCE, idle=idle).tick([await stage.find(silent)])

        (end,) = [event for event in await stage.events(silent) if event.kind is EventKind.MESSAGE_ENDED]
        assert end.outcome is MessageOutcome.INTERRUPTED


class TestIdleness:
    async def test_a_start_is_not_idle_however_long_it_takes(self, stage: Stage, session: SessionId) -> None:
        stage.make_idle(session)

        done = await (await stage.factory.create_sweep_loop()).once()

        assert (done.report.slept, done.starts.failed) == ((), ())
        assert await stage.is_awake(session)
        assert stage.table.elements(session) == AWAKE

    async def test_who_waited_long_for_a_pod_has_time_to_use_it(self, stage: Stage, session: SessionId) -> None:
        stage.arena.kubectl(
            "-n", "sessions", "annotate", "deployment", f"user-{session}", "sessionctl.dev/woken-at=1", "--overwrite"
        )
        make_ready(stage, session)
        await stage.ready(session)
        ready_at = time.monotonic()
        stage.make_idle(session)
        loop = await stage.factory.create_sweep_loop()

        assert (await loop.once()).report.slept == ()

        async def sleeps() -> bool:
            return session in (await loop.once()).report.slept

        await until(sleeps, "put to sleep")
        # The time of the condition is cut to a whole second.
        assert time.monotonic() - ready_at > (stage.factory.settings.idle.release_after / 2).total_seconds() - 1


async def test_an_old_failure_is_forgotten_by_a_session_that_runs(stage: Stage, hooks: Hooks) -> None:
    session = stage.fleet[1]
    await stage.wake(session)
    stage.arena.kubectl("-n", "sessions", "annotate", "deployment", f"user-{session}", "sessionctl.dev/failed=then")

    await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(session)])

    assert (await stage.find(session)).failed is None


class TestReason:
    async def reason(self, stage: Stage, session: SessionId, text: str) -> None:
        async def says() -> bool:
            return text in str((await look(stage, session)).reason)

        await until(says, text, REASON_SECONDS)

    async def test_no_node_has_the_memory(self, stage: Stage, asleep: SessionId, hooks: Hooks) -> None:
        huge = {"requests": {"memory": "8Ti"}, "limits": {"memory": "8Ti"}}
        before = _resources(stage, asleep)
        stage.change_pod(asleep, {"spec": {"containers": [{"name": "agent", "resources": huge}]}})
        try:
            await stage.starting(asleep)
            await self.reason(stage, asleep, "(Unschedulable): 0/")

            await stage.start_keeper(hooks, AT_ONCE).tick([await stage.find(asleep)])

            view = await look(stage, asleep)
            assert view.status is SessionStatus.FAILED
            assert "Insufficient memory" in str(view.reason)
            assert "preemption" not in str(view.reason)
        finally:
            stage.change_pod(asleep, {"spec": {"containers": [{"name": "agent", "resources": before}]}})

    async def test_a_quota_refuses_the_pod(self, stage: Stage, asleep: SessionId) -> None:
        stage.arena.kubectl("-n", "sessions", "create", "quota", "none", "--hard=pods=0")
        try:
            await stage.factory.demand.wake(asleep)
            await self.reason(stage, asleep, "exceeded quota: none")
        finally:
            stage.arena.kubectl("-n", "sessions", "delete", "quota", "none")

    async def test_without_a_look_at_pods_the_rest_is_answered(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        async def refuse() -> None:
            raise ForbiddenError("pods")

        hooks.before("list_pods", refuse)

        view = await stage.hooked(hooks).create_view_service().get_status(session)

        assert (view.status, view.reason) == (SessionStatus.WAKING, "its pod is not ready yet")

    async def test_a_session_that_runs_is_not_asked_for_its_pods(self, stage: Stage, hooks: Hooks) -> None:
        session = stage.fleet[1]
        await stage.wake(session)

        view = await stage.hooked(hooks).create_view_service().get_status(session)

        assert (view.status, view.reason, hooks.calls["list_pods"]) == (SessionStatus.ACTIVE, None, 0)

    async def test_who_waits_for_a_start_hears_why_it_failed(self, stage: Stage, session: SessionId) -> None:
        waiting = asyncio.create_task(stage.factory.create_waiter().wait_awake(session, LATER))
        await asyncio.sleep(0)

        await stage.start_keeper(Hooks(), AT_ONCE).tick([await stage.find(session)])

        with pytest.raises(DeadlineExceededError, match=f"did not start: {SET_UP}"):
            await waiting

    async def test_a_node_that_cannot_mount_the_volume_says_so(self, stage: Stage, session: SessionId) -> None:
        """What only events tell."""
        (name,) = [i["metadata"]["name"] for i in stage.objects("v1", "pods") if _uuid(i) == session]
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.1", "namespace": "sessions"},
            "involvedObject": {"kind": "Pod", "namespace": "sessions", "name": name},
            "type": "Warning",
            "reason": "FailedMount",
            "message": "MountVolume.SetUp failed:\ntimed out",
            "lastTimestamp": "2026-01-01T00:00:00Z",
        }
        stage.api.create("/api/v1/namespaces/sessions/events", event)

        await self.reason(stage, session, "set up on its node: FailedMount: MountVolume.SetUp failed: timed out")


def _uuid(item: dict[str, Any]) -> str:
    return str(item["metadata"]["labels"].get("uuid", ""))


def _resources(stage: Stage, session: SessionId) -> dict[str, Any]:
    path = f"/apis/apps/v1/namespaces/sessions/deployments/user-{session}"
    found: dict[str, Any] = stage.api.get(path)["spec"]["template"]["spec"]["containers"][0]["resources"]
    return found
