"""Two managers at once on one cluster: together they do each thing once, and neither complains of the other."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pytest

from sessionctl.core.journal import Journal
from sessionctl.factory import DirectOptions, open_factory
from sessionctl.models import Dependency, EventKind, Loop, SessionStatus
from sessionctl.settings import ReconcileSettings, SweepSettings
from sessionctl.testing.metrics import CountingMetrics
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from sessionctl.factory import Factory
    from sessionctl.models import SessionId
    from tests.cluster.stage import Stage

WITH_KEDA: Final = False
"""KEDA may not do what the managers have to be seen doing."""
REPAIRS: Final = ReconcileSettings(grace=timedelta(seconds=4), interval=timedelta(milliseconds=500))
OFTEN: Final = SweepSettings(interval=timedelta(milliseconds=200), gate_interval=timedelta(milliseconds=500))


@pytest.fixture
async def managers(
    stage: Stage, options: DirectOptions, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Sequence[CountingMetrics]]:
    """Two of them run, each with connections of its own."""
    caplog.set_level(logging.INFO, "sessionctl")
    found = [CountingMetrics(), CountingMetrics()]
    async with AsyncExitStack() as stack:
        tasks = []
        for metrics in found:
            factory = await stack.enter_async_context(open_factory(options))
            tasks.append(asyncio.create_task(_run(factory, metrics)))
        yield found
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def _run(factory: Factory, metrics: CountingMetrics) -> None:
    settings = replace(factory.settings, sweep=OFTEN)
    journal = Journal(factory.store, metrics)
    measured = replace(factory, metrics=metrics, journal=journal, managing=True, settings=settings)
    manager = await measured.create_manager()
    # Settings that look at each other would not allow repairs so soon.
    manager._settings = REPAIRS
    await manager.run()


async def told(stage: Stage, session: SessionId, *kinds: EventKind) -> None:
    """Return when this is the history of a session, apart from wakes; the guard may be faster than whoever wakes.

    It writes of its wake when the cluster has taken it: the other manager may have seen the pod ready by then.
    """
    left_out = {EventKind.WOKEN, EventKind.GUARD_WOKEN} - set(kinds)

    found: list[EventKind] = []

    async def is_told() -> bool:
        found[:] = [kind for kind in await stage.history(session) if kind not in left_out]
        return len(found) >= len(kinds)

    await until(is_told, f"{session}: {', '.join(kinds)}")
    assert _apart_from_the_guard(found) == _apart_from_the_guard(kinds)
    assert len(found) == len(kinds)


def _apart_from_the_guard(kinds: Iterable[EventKind]) -> list[EventKind]:
    return [kind for kind in kinds if kind is not EventKind.GUARD_WOKEN]


async def test_each_thing_that_happens_is_told_and_measured_once(
    stage: Stage, managers: Sequence[CountingMetrics], caplog: pytest.LogCaptureFixture
) -> None:
    awake, pushed = stage.fleet[:3], stage.fleet[3]
    await asyncio.gather(*(stage.factory.demand.wake(session) for session in awake))
    stage.push(pushed)
    stage.arena.kubectl("-n", "sessions", "annotate", "deployment", f"user-{pushed}", "note=seen", "--overwrite")

    for session in awake:
        await told(stage, session, EventKind.READY)
    await told(stage, pushed, EventKind.GUARD_WOKEN, EventKind.READY)
    starts = [seconds for metrics in managers for seconds in metrics.starts]
    assert len(starts) == 4
    assert all(0 < seconds < 60 for seconds in starts)

    stage.make_idle(*awake, pushed)

    for session in awake:
        await told(stage, session, EventKind.READY, EventKind.SLEPT)
    await told(stage, pushed, EventKind.GUARD_WOKEN, EventKind.READY, EventKind.SLEPT)
    assert sum(metrics.counts[EventKind.SLEPT] for metrics in managers) == 4
    assert sum(metrics.counts[EventKind.READY] for metrics in managers) == 4
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_what_is_broken_is_repaired_once(
    stage: Stage, managers: Sequence[CountingMetrics], caplog: pytest.LogCaptureFixture
) -> None:
    broken, forgotten, uninstalled = [await stage.create(f"broken-{n}") for n in range(3)]
    volumes = {volume.session_id for volume in await stage.factory.cluster.list_volumes()}
    assert {broken, forgotten, uninstalled} <= volumes
    stage.arena.kubectl("-n", "sessions", "delete", "deployment", f"user-{broken}")
    stage.table.admin.delete(f"session:{forgotten}")
    stage.arena.tool("helm", "uninstall", uninstalled, "--namespace", "sessions")
    try:
        for session in (broken, forgotten):
            await told(stage, session, EventKind.CREATED, EventKind.REPAIRED)
        await until(lambda: stage.is_deleted(uninstalled), "the volume of what was uninstalled by hand is marked")
        await told(stage, uninstalled, EventKind.CREATED, EventKind.REPAIRED)

        assert sum(metrics.counts[EventKind.REPAIRED] for metrics in managers) == 3
        assert (await stage.find(broken)).replicas == 0
        complaints = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        assert complaints == []
    finally:
        # While both are at it: nothing that is purged comes back.
        await stage.purge(broken, forgotten, uninstalled)

    async def are_gone() -> bool:
        left = [await stage.factory.cluster.list_leftovers(s) for s in (broken, forgotten, uninstalled)]
        releases = [await stage.factory.helm.find_release(s) for s in (broken, forgotten, uninstalled)]
        return not any(left) and not any(releases)

    await until(are_gone, "nothing is left")
    passes = [metrics.passes[Loop.RECONCILE, False] for metrics in managers]
    await until(
        lambda: all(m.passes[Loop.RECONCILE, False] > n + 2 for m, n in zip(managers, passes, strict=True)),
        "more passes",
    )
    assert await are_gone()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_both_count_and_know_what_is_there(stage: Stage, managers: Sequence[CountingMetrics]) -> None:
    await until(lambda: all(_good(m) >= set(Loop) - {Loop.GUARD} for m in managers), "a pass of every loop")
    for metrics in managers:
        assert metrics.sessions[SessionStatus.SLEEPING] + metrics.sessions[SessionStatus.CREATED] >= len(stage.fleet)
        assert metrics.health == dict.fromkeys(Dependency, True)


def _good(metrics: CountingMetrics) -> set[Loop]:
    return {loop for loop, failed in metrics.passes if not failed}


async def test_they_outlive_redis_and_say_that_it_is_away(
    stage: Stage, managers: Sequence[CountingMetrics], caplog: pytest.LogCaptureFixture
) -> None:
    session = stage.fleet[0]
    await stage.wake(session)
    await until(lambda: all(metrics.health.get(Dependency.REDIS) for metrics in managers), "Redis is seen")
    stage.arena.kill("redis")
    await until(lambda: not any(metrics.health[Dependency.REDIS] for metrics in managers), "Redis is missed")
    assert await stage.is_awake(session)

    stage.arena.start_component("redis")

    await until(lambda: all(metrics.health[Dependency.REDIS] for metrics in managers), "Redis is seen again")
    await until(stage.gate_is_open, "the gate opens")
    # One of them opened it; in the history it is one event of each session that was awake.
    await until(lambda: sum(m.counts[EventKind.DEMAND_RESTORED] for m in managers) == 1, "the restore is counted")

    async def is_told() -> bool:
        return (await stage.history(session)).count(EventKind.DEMAND_RESTORED) == 1

    await until(is_told, "it is told of the session that was awake")
    assert EventKind.DEMAND_RESTORED not in await stage.history(stage.fleet[1])
    assert not [record for record in caplog.records if record.exc_info]
