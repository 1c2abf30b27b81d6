"""Many at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from tests.node.workspaces import Workspaces

SESSIONS = int(os.environ.get("SESSIONCTL_TEST_AT_ONCE", "8"))
"""More than two cores can start at once; with 30 the test takes minutes beside the others."""


def test_sessions_woken_at_once_are_all_ready(workspaces: Workspaces) -> None:
    with ThreadPoolExecutor(4) as pool:
        uuids = list(pool.map(lambda _: workspaces.create(), range(SESSIONS)))

    with ThreadPoolExecutor(SESSIONS) as pool:
        list(pool.map(workspaces.wake, uuids))

    assert all(len(workspaces.running_pods(uuid)) == 1 for uuid in uuids)
