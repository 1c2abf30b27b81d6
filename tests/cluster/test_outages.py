"""Redis or the API server away for a while: all stays as it is, and what was asked for is not lost (DESIGN 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionctl.adapters.store import keys
from tests.cluster.stage import NEVER_IDLE
from tests.support.between import Hooks

if TYPE_CHECKING:
    from tests.cluster.stage import Stage
    from tests.support.sessionctl_cli import Cli


async def test_no_session_sleeps_while_the_gate_is_closed(stage: Stage, cli: Cli) -> None:
    session = stage.fleet[0]
    await stage.wake(session)
    stage.make_idle(session)
    stage.table.admin.set(keys.EPOCH, "restoring:somebody-else")

    refused = cli.run("sleep", session)

    assert refused.code == 4
    assert "sessionctl sweep" in refused.stderr
    assert await stage.is_awake(session)


async def test_without_redis_status_answers_and_wake_is_an_error(stage: Stage, cli: Cli) -> None:
    awake, asleep = stage.fleet[0], stage.fleet[1]
    await stage.wake(awake)
    pods = stage.pods([awake])
    stage.arena.kill("redis")

    status, wake, sweep = cli.run("status", awake, "-o", "json"), cli.run("wake", asleep), cli.run("sweep")

    assert status.json["session"]["status"] == "active"
    assert (status.json["queue_length"], status.json["replicas"]) == (None, 1)
    assert (wake.code, sweep.code) == (6, 6)
    assert wake.stderr.count("\n") == 1
    assert "Redis" in wake.stderr
    assert stage.pods([awake, asleep]) == pods


async def test_without_the_api_server_a_wake_is_stored_and_a_sweep_changes_nothing(stage: Stage) -> None:
    released, woken = stage.fleet[0], stage.fleet[1]
    await stage.wake(released)
    stage.make_idle(released)
    hooks = Hooks()

    async def kill() -> None:
        stage.arena.kill("kube-apiserver")

    hooks.before("sleep_workspace", kill)

    report = await stage.tick(stage.sweeper(hooks), released)
    notices = [await stage.factory.demand.wake(session) for session in (released, woken)]

    assert report.refused == (released,)
    assert None not in notices
    stage.arena.start_component("kube-apiserver")
    stage.start_sweeping(**NEVER_IDLE)
    await stage.ready(released, woken)
    assert stage.table.elements(released) == [b"awake"]
