"""Races of the sweeper with those who use a session, each forced at its step (DESIGN 5)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pytest

from sessionctl.errors import ClusterError, ConflictError, StoreError
from sessionctl.models import Activity, EventKind
from sessionctl.testing.probe import ScriptedProbe
from tests.cluster.stage import AWAKE, HOUR_MS
from tests.support.between import Hooks
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sessionctl.models import SessionId
    from tests.cluster.stage import Stage


WITH_KEDA: Final = False
"""KEDA may not put a session to sleep, or wake it, in the sweeper's place."""


@pytest.fixture
async def session(stage: Stage) -> SessionId:
    """A session that is awake and has been idle for an hour."""
    found = stage.fleet[0]
    await stage.wake(found)
    stage.make_idle(found)
    return found


async def test_an_idle_session_is_put_to_sleep(stage: Stage, session: SessionId, hooks: Hooks) -> None:
    report = await stage.tick(stage.sweeper(hooks), session)

    assert report.slept == (session,)
    assert await stage.is_asleep(session)
    assert stage.table.elements(session) == []
    assert await stage.history(session) == [EventKind.WOKEN, EventKind.SLEPT]
    assert stage.metrics.counts == {EventKind.SLEPT: 1}


async def test_a_session_in_use_is_not_asked_nor_released(stage: Stage, session: SessionId, hooks: Hooks) -> None:
    stage.table.age(session, "last_active", 1000)

    report = await stage.tick(stage.sweeper(hooks), session)

    assert (report.slept, hooks.calls["release"]) == ((), 0)


class TestUseInTheMiddleOfASleep:
    async def wake(self, stage: Stage, session: SessionId) -> None:
        await stage.factory.demand.wake(session)

    async def touch(self, stage: Stage, session: SessionId) -> None:
        await stage.factory.demand.touch(await stage.find(session), timedelta())

    @pytest.mark.parametrize("use", [wake, touch])
    @pytest.mark.parametrize("method", ["get_idle_times", "release"])
    async def test_before_the_release_it_keeps_the_session(
        self, stage: Stage, session: SessionId, hooks: Hooks, method: str, use: Callable[..., Awaitable[None]]
    ) -> None:
        sweeper = stage.sweeper(hooks)
        when = hooks.after if method == "get_idle_times" else hooks.before
        when(method, lambda: use(self, stage, session))

        report = await stage.tick(sweeper, session)

        assert report.kept == (session,)
        assert hooks.calls["sleep_workspace"] == 0
        assert await stage.is_awake(session)

    @pytest.mark.parametrize("use", [wake, touch])
    async def test_before_the_patch_it_makes_the_patch_fail(
        self, stage: Stage, session: SessionId, hooks: Hooks, use: Callable[..., Awaitable[None]]
    ) -> None:
        sweeper = stage.sweeper(hooks)
        hooks.before("sleep_workspace", lambda: use(self, stage, session))

        report = await stage.tick(sweeper, session)
        again = await stage.tick(sweeper, session)

        assert (report.refused, again.slept) == ((session,), ())
        assert await stage.is_awake(session)
        assert stage.table.elements(session) == AWAKE

    async def test_after_the_patch_it_wakes_the_session_again(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        sweeper = stage.sweeper(hooks)
        hooks.after("sleep_workspace", lambda: self.wake(stage, session))

        await stage.tick(sweeper, session)

        assert await stage.is_awake(session)
        assert stage.table.elements(session) == AWAKE

    async def test_a_second_wake_patches_for_the_first_that_died(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        """The first put the entry back and died before its patch; the second finds entry and pod in their places."""

        async def two_wakes() -> None:
            await stage.factory.store.wake(session)
            await self.wake(stage, session)

        sweeper = stage.sweeper(hooks)
        hooks.before("sleep_workspace", two_wakes)

        report = await stage.tick(sweeper, session)

        assert report.refused == (session,)
        assert await stage.is_awake(session)


async def test_a_push_from_outside_just_before_the_release_is_adopted(
    stage: Stage, session: SessionId, hooks: Hooks
) -> None:
    async def push() -> None:
        stage.push(session)

    sweeper = stage.sweeper(hooks)
    hooks.before("release", push)

    adopting, next_one = await stage.tick(sweeper, session), await stage.tick(sweeper, session)

    assert (adopting.adopted, next_one.slept) == ((session,), ())
    assert await stage.history(session) == [EventKind.WOKEN, EventKind.ADOPTED]
    assert stage.table.elements(session) == AWAKE
    assert await stage.is_awake(session)


async def test_a_push_between_release_and_patch_survives_for_keda(
    stage: Stage, session: SessionId, hooks: Hooks
) -> None:
    """The patch lands, because nobody moved the Deployment; the list says what was wanted."""

    async def push() -> None:
        stage.push(session)

    hooks.before("sleep_workspace", push)
    await stage.tick(stage.sweeper(hooks), session)
    assert await stage.is_asleep(session)

    asleep = await stage.find(session)
    guards = [stage.guard(hooks) for _ in range(2)]
    assert [await guard.check([asleep]) for guard in guards] == [[session], [session]]

    assert (await stage.history(session)).count(EventKind.GUARD_WOKEN) == 1
    assert stage.metrics.counts[EventKind.GUARD_WOKEN] == 1
    assert await stage.is_awake(session)
    assert stage.table.elements(session) == AWAKE


async def test_a_sweeper_with_a_stale_view_changes_nothing(stage: Stage, session: SessionId, hooks: Hooks) -> None:
    stale = await stage.find(session)
    stage.arena.kubectl("-n", "sessions", "annotate", "deployment", f"user-{session}", "note=changed", "--overwrite")
    sweeper = stage.sweeper(hooks)

    report = await sweeper.tick([stale])

    assert report.refused == (session,)
    assert await stage.is_awake(session)

    async def sleeps_with_a_new_view() -> bool:
        # The note on the Deployment moves its status too.
        return (await stage.tick(sweeper, session)).slept == (session,)

    await until(sleeps_with_a_new_view, "put to sleep")


async def test_a_patch_whose_answer_is_lost_is_not_repeated_alone(
    stage: Stage, session: SessionId, hooks: Hooks
) -> None:
    async def lose_the_answer() -> None:
        # It was carried out, and somebody woke the session meanwhile.
        await stage.factory.demand.wake(session)
        raise ClusterError("no answer")

    sweeper = stage.sweeper(hooks)
    hooks.after("sleep_workspace", lose_the_answer)

    first, second = await stage.tick(sweeper, session), await stage.tick(sweeper, session)

    assert (first.refused, second.slept, second.refused) == ((session,), (), ())
    assert hooks.calls["sleep_workspace"] == 1
    assert await stage.is_awake(session)


async def test_a_released_session_whose_patch_failed_is_judged_anew(
    stage: Stage, session: SessionId, hooks: Hooks
) -> None:
    async def fail() -> None:
        raise ClusterError("timeout")

    probe = ScriptedProbe(Activity())
    sweeper = stage.sweeper(hooks, probe=probe)
    hooks.before("sleep_workspace", fail)

    first, second = await stage.tick(sweeper, session), await stage.tick(sweeper, session)

    assert (first.refused, second.slept) == ((session,), (session,))
    assert probe.asked == [session, session]
    assert hooks.calls["release"] == 2


async def test_two_sweepers_at_once_put_it_to_sleep_once(stage: Stage, session: SessionId, hooks: Hooks) -> None:
    other = stage.sweeper(Hooks())

    async def other_ticks() -> None:
        await stage.tick(other, session)

    hooks.before("sleep_workspace", other_ticks)

    report = await stage.tick(stage.sweeper(hooks), session)

    assert report.refused == (session,)
    assert await stage.is_asleep(session)
    assert (await stage.history(session)).count(EventKind.SLEPT) == 1


async def test_redis_away_in_the_middle_leaves_every_pod(stage: Stage, session: SessionId, hooks: Hooks) -> None:
    async def kill() -> None:
        stage.arena.kill("redis")

    sweeper = stage.sweeper(hooks)
    hooks.before("release", kill)

    assert (await stage.tick(sweeper, session)).refused == (session,)

    with pytest.raises(StoreError):
        await stage.tick(sweeper, session)
    assert await stage.is_awake(session)


@pytest.mark.parametrize("error", [StoreError("of this one"), RuntimeError("a mistake of ours")])
async def test_what_is_wrong_with_one_session_keeps_no_other_awake(
    stage: Stage, session: SessionId, hooks: Hooks, error: Exception
) -> None:
    other = stage.fleet[1]
    await stage.wake(other)
    stage.make_idle(other)

    async def fail() -> None:
        raise error

    hooks.before("release", fail)

    report = await stage.tick(stage.sweeper(hooks), session, other)

    assert (len(report.slept), len(report.refused)) == (1, 1)
    assert {*report.slept, *report.refused} == {session, other}


async def test_a_sleep_that_is_refused_again_and_again_is_told(stage: Stage, session: SessionId, hooks: Hooks) -> None:
    async def fail() -> None:
        raise ClusterError("timeout")

    sweeper = stage.sweeper(hooks)
    for nth in range(1, 6):
        hooks.before("sleep_workspace", fail, nth=nth)

    for _ in range(3):
        await stage.tick(sweeper, session)
    assert stage.metrics.counts == {}
    for _ in range(2):
        await stage.tick(sweeper, session)

    assert await stage.history(session) == [EventKind.WOKEN, EventKind.SLEEP_REFUSED]
    assert stage.metrics.counts == {EventKind.SLEEP_REFUSED: 1}


class TestAgent:
    async def test_no_answer_keeps_it_awake(self, stage: Stage, session: SessionId, hooks: Hooks) -> None:
        stage.table.age(session, "last_active", HOUR_MS // 2)
        probe = ScriptedProbe(None)

        report = await stage.tick(stage.sweeper(hooks, probe=probe), session)

        assert (report.kept, probe.asked) == ((session,), [session])
        assert hooks.calls["release"] == 0
        assert stage.table.elements(session) == AWAKE

    async def test_no_answer_for_the_unknown_limit_ends_it(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        stage.table.age(session, "last_active", HOUR_MS + 1000)

        report = await stage.tick(stage.sweeper(hooks, probe=ScriptedProbe(None)), session)

        assert report.slept == (session,)

    @pytest.mark.parametrize(
        "activity",
        [
            Activity(message_running=True),
            Activity(hold=timedelta(minutes=5)),
            Activity(editor_input=timedelta(seconds=2)),
        ],
    )
    async def test_work_is_remembered_as_activity(
        self, stage: Stage, session: SessionId, hooks: Hooks, activity: Activity
    ) -> None:
        sweeper = stage.sweeper(hooks, probe=ScriptedProbe(activity))

        report = await stage.tick(sweeper, session)

        assert report.kept == (session,)
        assert stage.table.now() - stage.table.stamp(session, "last_active") < HOUR_MS // 2

    async def test_what_the_agent_said_before_a_message_does_not_count(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        """The agent said idle, then a message came: the script judges."""

        class Late(ScriptedProbe):
            async def ask(self, workspace: object) -> Activity:
                await stage.factory.demand.wake(session)
                return Activity()

        report = await stage.tick(stage.sweeper(hooks, probe=Late()), session)

        assert report.kept == (session,)
        assert await stage.is_awake(session)


class TestPatchOfAWake:
    async def test_it_is_left_out_when_the_entry_was_there_and_the_pod_is_seen(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        await stage.hooked(hooks).demand.wake(session)

        assert hooks.calls["wake_workspace"] == 0

    async def test_it_is_made_when_the_session_is_seen_asleep(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        stage.arena.kubectl("-n", "sessions", "scale", "deployment", f"user-{session}", "--replicas=0")

        await stage.hooked(hooks).demand.wake(session)

        assert hooks.calls["wake_workspace"] == 1
        assert await stage.is_awake(session)

    async def test_demand_that_went_with_a_sleep_in_between_comes_back(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        """The script found the entry; before the look at the Deployment somebody released it and put it to sleep."""
        hooks.before("find_workspace", lambda: stage.factory.demand.sleep(session))

        await stage.hooked(hooks).demand.wake(session)

        assert await stage.is_awake(session)
        assert stage.table.elements(session) == AWAKE

    async def test_it_is_made_when_the_entry_is_new_whatever_is_seen(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        stage.table.admin.delete(f"queue:{session}")
        before = (await stage.find(session)).resource_version

        await stage.hooked(hooks).demand.wake(session)

        assert hooks.calls["wake_workspace"] == 1
        assert (await stage.find(session)).resource_version != before

    async def test_a_touch_wakes_nothing_that_is_asleep(self, stage: Stage, hooks: Hooks) -> None:
        asleep = stage.fleet[1]

        await stage.hooked(hooks).demand.touch(await stage.find(asleep), timedelta())

        assert (hooks.calls["touch"], stage.table.elements(asleep)) == (0, [])


class TestExplicitSleep:
    async def test_it_gives_way_to_a_wake_before_its_patch(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        async def wake() -> None:
            await stage.factory.demand.wake(session)

        hooks.before("sleep_workspace", wake)

        with pytest.raises(ConflictError, match="woken or changed meanwhile"):
            await stage.hooked(hooks).demand.sleep(session)

        assert await stage.is_awake(session)
        assert stage.table.elements(session) == AWAKE

    @pytest.mark.parametrize("method", ["get_record", "release"])
    async def test_a_wake_that_has_not_patched_yet_keeps_its_demand(
        self, stage: Stage, hooks: Hooks, method: str
    ) -> None:
        """Its patch comes after the sleep: without its demand a pod would run until KEDA's cooldown is over."""
        asleep = stage.fleet[1]
        wakes = stage.hooked(hooks).demand.wake(asleep)
        asked = asyncio.Event()

        async def wake_script() -> None:
            hooks.before("wake_workspace", asked.wait)
            waking.append(asyncio.create_task(wakes))
            await until(lambda: hooks.calls["wake_workspace"], "its script has run")

        waking: list[asyncio.Task[object]] = []
        hooks.before(method, wake_script)
        with pytest.raises(ConflictError, match="woken or changed meanwhile"):
            await stage.hooked(hooks).demand.sleep(asleep)
        asked.set()
        await waking[0]

        assert await stage.is_awake(asleep)
        assert stage.table.elements(asleep) == AWAKE

    async def test_a_wake_that_never_patches_does_not_keep_it_for_ever(self, stage: Stage) -> None:
        """Whoever died before its patch left it to KEDA, which notes nothing on the Deployment."""
        asleep = stage.fleet[1]
        await stage.factory.store.wake(asleep)
        with pytest.raises(ConflictError, match="woken or changed meanwhile"):
            await stage.factory.demand.sleep(asleep)

        stage.table.age(asleep, "woken_at", 31_000)
        await stage.factory.demand.sleep(asleep)

        assert stage.table.elements(asleep) == []

    async def test_a_record_that_was_rebuilt_just_now_is_no_wake(self, stage: Stage, session: SessionId) -> None:
        stage.table.admin.delete(f"session:{session}")

        for _ in range(2):
            await stage.factory.demand.sleep(session)

        assert await stage.is_asleep(session)
