"""Redis is a pod like any other: it may be killed and moved, and is found again through the API server."""

from __future__ import annotations

import signal

from tests.node.workspaces import Workspaces
from tests.support.waiting import wait_for


def test_a_killed_redis_is_found_again_and_nobody_slept(workspaces: Workspaces) -> None:
    uuid = workspaces.awake()
    pod = workspaces.pods(uuid)[0]["metadata"]["uid"]
    before = workspaces.status(uuid)["session"]["last_active"]

    workspaces.cluster.kubectl("-n", "sessionctl", "delete", "pod", "sessionctl-redis-0", "--grace-period=0", "--force")

    assert wait_for(lambda: workspaces.cli.run("sweep").code == 0, "the gate opens again")
    session = workspaces.status(uuid)["session"]
    # Nobody knows what was forgotten meanwhile, so it counts as used now.
    assert session["last_active"] > before
    assert workspaces.pods(uuid)[0]["metadata"]["uid"] == pod


def test_a_sweep_that_goes_on_outlives_the_redis_it_began_with(workspaces: Workspaces) -> None:
    with workspaces.cli.having(SESSIONCTL_IDLE__TIMEOUT="1s", SESSIONCTL_IDLE__TOUCH_INTERVAL="1s").start(
        "sweep", "--loop"
    ) as loop:
        first = workspaces.awake()
        wait_for(lambda: not workspaces.pods(first), "put to sleep through the first Redis")
        workspaces.cluster.kubectl("-n", "sessionctl", "delete", "pod", "sessionctl-redis-0")
        wait_for(lambda: workspaces.cli.run("wake", first).code == 0, "the next Redis answers")
        wait_for(lambda: workspaces.running_pods(first), "woken")
        wait_for(lambda: not workspaces.pods(first), "put to sleep through the second Redis")
        loop.send(signal.SIGINT)
        assert "demand restored" in loop.wait().stderr


def test_an_absent_redis_is_named_with_the_next_step(workspaces: Workspaces) -> None:
    uuid = workspaces.awake()
    scale = ("-n", "sessionctl", "scale", "statefulset/sessionctl-redis")
    workspaces.cluster.kubectl(*scale, "--replicas=0")
    try:
        wait_for(lambda: workspaces.cli.run("sweep").code == 6, "Redis is away")
        refused = workspaces.cli.run("wake", uuid)
        status = workspaces.status(uuid)
    finally:
        workspaces.cluster.kubectl(*scale, "--replicas=1")
        workspaces.cluster.kubectl(
            "-n", "sessionctl", "rollout", "status", "statefulset/sessionctl-redis", "--timeout=60s"
        )

    assert refused.code == 6
    assert "no pod" in refused.stderr
    assert "kubectl" in refused.stderr
    assert (status["replicas"], status["queue_length"]) == (1, None)
