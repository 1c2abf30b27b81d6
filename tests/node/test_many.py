"""Many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.node.workspaces import Workspaces

SESSIONS = 30


def test_thirty_sessions_woken_at_once_are_all_ready(workspaces: Workspaces) -> None:
    with ThreadPoolExecutor(4) as pool:
        uuids = list(pool.map(lambda _: workspaces.create(), range(SESSIONS)))

    with ThreadPoolExecutor(SESSIONS) as pool:
        list(pool.map(workspaces.wake, uuids))

    assert all(len(workspaces.running_pods(uuid)) == 1 for uuid in uuids)
