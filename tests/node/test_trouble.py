"""A pod that does not start: status says why, and it is not tried for ever."""

from __future__ import annotations

import pytest

from tests.node.workspaces import Workspaces
from tests.support.waiting import wait_for

_CAUSES = {
    "missing-image": "localhost/sessionctl/nowhere",
    "huge": "Insufficient memory",
    "crashing": "CrashLoopBackOff",
    "starved": "OOMKilled",
}


@pytest.mark.parametrize("profile", _CAUSES)
def test_status_says_why_and_the_start_timeout_releases_it(workspaces: Workspaces, profile: str) -> None:
    uuid = workspaces.create(profile)
    workspaces.cli.json("wake", uuid)

    def reason() -> str:
        session = workspaces.status(uuid)["session"]
        assert session["status"] == "waking"
        return str(session["reason"])

    wait_for(lambda: _CAUSES[profile] in reason(), f"the status names {_CAUSES[profile]}")

    report = wait_for(lambda: workspaces.sweep(SESSIONCTL_SESSIONS__START_TIMEOUT="1s")["failed"], "it is given up")
    assert report == [uuid]
    session = workspaces.status(uuid)["session"]
    assert session["status"] == "failed"
    assert _CAUSES[profile] in session["reason"]
    wait_for(lambda: not workspaces.pods(uuid), "its pod is gone")
