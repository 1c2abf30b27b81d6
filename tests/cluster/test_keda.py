"""What KEDA does alone, and together with the sweeper: the net under every session (DESIGN 5)."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from sessionctl.core.scalers import PATIENCE_SECONDS, ScalerKeeper
from sessionctl.errors import ClusterError
from sessionctl.labels import FORCE_ACTIVATION
from sessionctl.testing.clock import FakeClock
from tests.cluster.stage import COOLDOWN_SECONDS, IDLE_SECONDS, LONGER_THAN_COOLDOWN_SECONDS, READY_DELAY
from tests.support.between import Hooks
from tests.support.waiting import throughout, until

if TYPE_CHECKING:
    from tests.cluster.stage import Stage
    from tests.support.sessionctl_cli import Cli


async def test_a_push_from_outside_wakes_never_woken_and_long_sleeping_sessions(stage: Stage, cli: Cli) -> None:
    never_woken, slept = await stage.create(), stage.fleet[0]
    await stage.wake(slept)
    await stage.factory.demand.sleep(slept)
    stage.make_idle(slept)
    assert cli.run("sweep").code == 0
    assert (await stage.find(never_woken)).woken_at is None

    stage.push(never_woken)
    stage.push(slept)

    await stage.ready(never_woken, slept)


async def test_a_push_keeps_the_session_awake_for_the_whole_idle_timeout(stage: Stage) -> None:
    session = stage.fleet[1]
    stage.make_idle(session)
    stage.start_sweeping()

    stage.push(session)

    await until(lambda: stage.is_awake(session), "KEDA wakes it")
    assert IDLE_SECONDS > COOLDOWN_SECONDS
    await throughout(lambda: stage.is_awake(session), "awake for the idle timeout", IDLE_SECONDS)
    await until(lambda: stage.is_asleep(session), "put to sleep when it is over")


async def test_a_push_to_a_session_that_is_about_to_sleep_gives_it_another_timeout(stage: Stage) -> None:
    session = stage.fleet[2]
    await stage.wake(session)
    # One second before its release.
    stage.table.age(session, "last_active", IDLE_SECONDS * 1000)
    stage.start_sweeping()
    pods = stage.pods([session])

    stage.push(session)

    await throughout(lambda: stage.pods([session]) == pods, "awake for another idle timeout", IDLE_SECONDS)
    await until(lambda: stage.is_asleep(session), "put to sleep when it is over")


async def test_a_sweep_killed_between_release_and_patch_leaves_the_sleep_to_keda(stage: Stage) -> None:
    session = stage.fleet[3]
    await stage.wake(session)
    stage.make_idle(session)

    assert stage.sweep_dying("before", "sleep_workspace") == -signal.SIGKILL

    assert stage.table.field(session, "status") == "sleeping"
    assert stage.table.elements(session) == []
    await until(lambda: stage.is_asleep(session), "KEDA puts it to sleep")


async def test_a_wake_without_the_api_server_is_met_by_keda(stage: Stage) -> None:
    session, hooks = stage.fleet[4], Hooks()

    async def fail() -> None:
        raise ClusterError("the API server does not answer")

    hooks.before("wake_workspace", fail)

    notice = await stage.hooked(hooks).demand.wake(session)

    assert notice is not None
    await until(lambda: stage.is_awake(session), "KEDA wakes it")


async def test_a_patch_without_demand_would_be_undone(stage: Stage) -> None:
    """Why Redis comes first: KEDA takes back what the list does not ask for."""
    session = stage.fleet[5]
    await stage.factory.cluster.wake_workspace(session, 1)

    await until(lambda: stage.is_asleep(session), "KEDA undoes it")


async def test_keda_back_after_more_than_its_cooldown_ends_no_session_before_its_time(stage: Stage) -> None:
    """What KEDA remembers of the last activity is stale by then; the list is what counts."""
    used, released = stage.fleet[6], stage.fleet[7]
    await stage.wake(used, released)
    await until(lambda: "lastActiveTime" in stage.scaler(used)["status"], "KEDA has seen the demand")
    pods = stage.pods([used])
    stage.arena.kill("keda")
    stage.make_idle(released)
    assert stage.sweep_dying("before", "sleep_workspace") == -signal.SIGKILL
    await throughout(lambda: stage.is_awake(released), "nobody but KEDA sleeps it", LONGER_THAN_COOLDOWN_SECONDS)
    await stage.factory.demand.wake(used)

    stage.start_sweeping()
    stage.arena.start_component("keda")

    await throughout(lambda: stage.pods([used]) == pods, "awake for the idle timeout", IDLE_SECONDS)
    await until(lambda: stage.is_asleep(released), "the released one asleep")
    await until(lambda: stage.is_asleep(used), "the other asleep when its time is over")


async def test_a_released_session_sleeps_at_once_although_keda_was_away(stage: Stage) -> None:
    """The cooldown is not part of the timeout: it is over by the time that KEDA is back, and nothing is added."""
    session = stage.fleet[8]
    await stage.wake(session)
    stage.arena.kill("keda")
    stage.make_idle(session)

    stage.start_sweeping()

    await until(lambda: stage.is_asleep(session), "put to sleep without KEDA")


async def test_a_session_created_while_the_gate_was_closed_is_watched_after_its_opening(stage: Stage) -> None:
    stage.table.admin.flushall()
    await stage.factory.store.shut_out_keda()
    session = await stage.create()
    await until(lambda: "conditions" in stage.scaler(session).get("status", {}), "KEDA has tried")
    assert not stage.scaler_is_ready(session)
    clock = FakeClock()
    keeper = ScalerKeeper(stage.factory.cluster, clock)
    assert await keeper.check(gate_open=False) == []

    # Its own next retry must not come first.
    stage.arena.signal("keda", signal.SIGSTOP)
    try:
        assert await stage.gate(Hooks()).check()
        await keeper.check(gate_open=True)
        await clock.sleep(PATIENCE_SECONDS)
        assert session in await keeper.check(gate_open=True)
        assert FORCE_ACTIVATION in stage.scaler(session)["metadata"]["annotations"]
    finally:
        stage.arena.signal("keda", signal.SIGCONT)

    await until(lambda: stage.scaler_is_ready(session), "KEDA watches it")
    stage.push(session)
    await stage.ready(session)


async def test_a_start_that_is_given_up_stays_down_until_somebody_wants_it(stage: Stage) -> None:
    session = stage.fleet[9]
    stage.change_pod(session, {"metadata": {"annotations": {READY_DELAY: "1h"}}})
    stage.start_sweeping(SESSIONCTL_SESSIONS__START_TIMEOUT="3s")
    try:
        # KEDA starts it, so that nothing on the Deployment says when.
        stage.push(session)
        await until(lambda: stage.is_awake(session), "KEDA wakes it")

        async def has_failed() -> bool:
            return (await stage.find(session)).failed is not None

        await until(has_failed, "its start is given up")
        await throughout(lambda: stage.is_asleep(session), "left asleep", LONGER_THAN_COOLDOWN_SECONDS)
        stage.change_pod(session, {"metadata": {"annotations": {READY_DELAY: None}}})

        stage.push(session)

        await stage.ready(session)

        async def is_forgotten() -> bool:
            return not await has_failed()

        # KEDA's patch leaves it there.
        await until(is_forgotten, "the failure is forgotten")
    finally:
        stage.change_pod(session, {"metadata": {"annotations": {READY_DELAY: None}}})
