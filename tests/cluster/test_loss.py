"""Outages with forty sessions awake: after each of them all forty still are, in the same pods (DESIGN 5, the gate)."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

import pytest

from sessionctl.errors import StoreError
from tests.cluster.stage import NEVER_IDLE
from tests.support.between import Hooks
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.cluster.stage import Stage

STEPS = [
    ("before", "shut_out_keda", 1),
    ("after", "shut_out_keda", 1),
    ("after", "begin_restore", 1),
    ("after", "list_workspaces", 1),
    ("before", "restore", 20),
    ("before", "open_gate", 1),
    ("after", "open_gate", 1),
    ("after", "admit_keda", 1),
]
OPENED = [("after", "open_gate", 1), ("after", "admit_keda", 1)]


@pytest.fixture(scope="module")
def fleet_sleeps() -> bool:
    """All forty are awake from the first test to the last."""
    return False


@pytest.fixture
async def pods(stage: Stage) -> dict[str, str]:
    """All forty are awake."""
    await stage.wake(*stage.fleet)
    return stage.pods(stage.fleet)


async def is_restored(stage: Stage) -> bool:
    """Whether the gate is open and KEDA let in, with a record for every session and demand for those awake."""
    if not await stage.gate_is_open() or not stage.keda_is_admitted():
        return False
    records = set(await stage.factory.store.list_record_ids())
    everyone = {workspace.session_id for workspace in await stage.factory.cluster.list_workspaces()}
    assert records == everyone
    demand = {session: stage.table.elements(session) for session in stage.fleet}
    assert demand == {session: [b"awake"] for session in stage.fleet}
    return True


async def keda_works(stage: Stage) -> None:
    """See that KEDA is let in again: it wakes a session that nobody else wakes."""
    asleep = await stage.create()
    stage.push(asleep)
    await stage.ready(asleep)


async def test_redis_away_for_longer_than_the_cooldown_and_back_empty(stage: Stage, pods: dict[str, str]) -> None:
    stage.start_sweeping(**NEVER_IDLE)
    stage.arena.kill("redis")
    await stage.stay(pods)

    stage.arena.start_component("redis", empty=True)

    await until(lambda: is_restored(stage), "the gate opens")
    await stage.stay(pods)
    await keda_works(stage)


async def test_redis_killed_twice_and_flushed_during_the_restore(stage: Stage, pods: dict[str, str]) -> None:
    async def kill(*, empty: bool) -> None:
        stage.restart_redis(empty=empty)

    async def flush() -> None:
        stage.table.admin.flushall()

    acts: list[Callable[[], Awaitable[None]]] = [lambda: kill(empty=True), lambda: kill(empty=False), flush]
    stage.restart_redis(empty=True)
    hooks = Hooks()
    gate = stage.gate(hooks)
    for act in acts:
        hooks.before("restore", act, nth=20)
        opened = False
        with contextlib.suppress(StoreError):
            opened = await gate.check()
        assert not opened
        assert not await stage.gate_is_open()

    assert await gate.check()

    assert await is_restored(stage)
    await stage.stay(pods)


async def test_the_sweeper_killed_at_each_step_of_the_restore(stage: Stage, pods: dict[str, str]) -> None:
    for when, method, nth in STEPS:
        stage.restart_redis(empty=True)

        assert stage.sweep_dying(when, method, nth) == -signal.SIGKILL

        opened = (when, method, nth) in OPENED
        assert await stage.gate_is_open() == opened, (when, method, nth)
        assert opened or not stage.keda_is_admitted()
        assert await stage.gate(Hooks()).check()
        assert await is_restored(stage)
    await stage.stay(pods)


async def test_flushall_on_a_live_redis(stage: Stage, pods: dict[str, str]) -> None:
    stage.start_sweeping(**NEVER_IDLE)
    await until(stage.gate_is_open, "the loop runs")

    stage.arena.redis_cli("FLUSHALL")

    await until(lambda: is_restored(stage), "the gate opens")
    await stage.stay(pods)
