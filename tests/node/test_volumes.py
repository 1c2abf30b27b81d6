"""One pod per volume, and never a session on an empty one."""

from __future__ import annotations

import json

from tests.node.workspaces import NAMESPACE, Workspaces
from tests.support.waiting import wait_for

_IGNORES_SIGTERM = ["sh", "-c", "trap '' TERM; while :; do sessionctl-agent; done"]


def test_two_pods_never_have_the_volume_at_once(workspaces: Workspaces) -> None:
    uuid = workspaces.create()
    container = {"name": "agent", "command": _IGNORES_SIGTERM}
    pod = {"terminationGracePeriodSeconds": 4, "containers": [container]}
    workspaces.patch(uuid, {"spec": {"template": {"spec": pod}}})
    workspaces.wake(uuid)
    workspaces.write(uuid, "mine")
    first = workspaces.running_pods(uuid)

    workspaces.cli.json("sleep", uuid)
    workspaces.cli.json("wake", uuid)

    # The old one still runs when the new one is there, and the new one waits for it.
    waiting = wait_for(lambda: [pod for pod in workspaces.pods(uuid) if _is_new(pod, first)], "a second pod")
    assert workspaces.running_pods(uuid) == first
    assert "containerStatuses" not in waiting[0]["status"]
    seen = [workspaces.running_pods(uuid)]
    while not seen[-1] or seen[-1] == first:
        seen.append(workspaces.running_pods(uuid))
    assert all(len(running) <= 1 for running in seen)
    workspaces.wake(uuid)
    assert workspaces.read(uuid) == "mine"


def test_a_session_whose_volume_was_removed_fails_and_never_starts_on_an_empty_one(workspaces: Workspaces) -> None:
    uuid = workspaces.awake()
    workspaces.write(uuid, "mine")
    workspaces.sleep(uuid)
    workspaces.cluster.kubectl("-n", NAMESPACE, "delete", "pvc", f"user-{uuid}")

    workspaces.cli.run("wake", uuid)

    assert workspaces.status(uuid)["session"]["status"] == "failed"
    assert "volume is missing" in workspaces.status(uuid)["session"]["reason"]
    repairs = workspaces.cli.run("reconcile", "--grace", "0s", "--output", "json")
    assert "volume is missing" in json.dumps(json.loads(repairs.out)["repairs"])
    assert workspaces.running_pods(uuid) == []


def _is_new(pod: dict[str, object], known: list[str]) -> bool:
    metadata = pod["metadata"]
    assert isinstance(metadata, dict)
    return metadata["name"] not in known
