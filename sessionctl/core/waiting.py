"""Waiting for the cluster to have done what was asked of it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from sessionctl.core.demand import unknown_session
from sessionctl.errors import DeadlineExceededError

if TYPE_CHECKING:
    from datetime import timedelta

    from sessionctl.models import SessionId
    from sessionctl.ports import Clock, Cluster

REMOVAL_TIMEOUT_SECONDS: Final = 60.0
REMOVAL_POLL_SECONDS: Final = 0.2


def did_not_start(session_id: SessionId, reason: str) -> DeadlineExceededError:
    """Return the error for a session whose start was given up."""
    msg = f"session {session_id} did not start: {reason}"
    return DeadlineExceededError(msg, hint="Mend the cause and wake it again.")


def is_not_ready(session_id: SessionId, timeout: timedelta) -> DeadlineExceededError:
    """Return the error for a session that takes longer than somebody waits."""
    msg = f"session {session_id} is not ready after {timeout.total_seconds():g} s"
    return DeadlineExceededError(msg, hint=f"See why with: sessionctl status {session_id}")


class Waiter:
    """Waits for one session."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock

    async def wait_awake(self, session_id: SessionId, timeout: timedelta) -> None:
        """Wait until the pod is ready; raises NotFoundError and DeadlineExceededError."""
        try:
            async with (
                asyncio.timeout(timeout.total_seconds()),
                aclosing(self._cluster.watch_workspaces(session_id)) as events,
            ):
                async for event in events:
                    if event.deleted is not None or event.listed == ():
                        raise unknown_session(session_id)
                    found = event.listed[0] if event.listed else event.changed
                    if found is not None and found.replicas and found.ready_replicas:
                        return
                    if event.changed is not None and not event.changed.replicas and event.changed.failed:
                        raise did_not_start(session_id, event.changed.failed)
        except TimeoutError:
            pass
        raise is_not_ready(session_id, timeout)

    async def wait_removed(self, session_id: SessionId, *, with_volume: bool) -> None:
        """Wait until the release's objects are gone; raises DeadlineExceededError."""
        kept = () if with_volume else ("persistentvolumeclaim/", "pod/")
        deadline = self._clock.monotonic() + REMOVAL_TIMEOUT_SECONDS
        while True:
            left = [name for name in await self._cluster.list_leftovers(session_id) if not name.startswith(kept)]
            if not left:
                return
            if self._clock.monotonic() > deadline:
                msg = f"still there after {REMOVAL_TIMEOUT_SECONDS:.0f} s: {', '.join(left)}"
                raise DeadlineExceededError(msg, hint="A ScaledObject ends only while KEDA runs.")
            await self._clock.sleep(REMOVAL_POLL_SECONDS)
