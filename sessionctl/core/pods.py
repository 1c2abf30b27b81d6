"""Waiting for the pod that a session's chats are sent to, on the changes of the mirror."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.core.moments import moment
from sessionctl.errors import ClusterError, SessionctlError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.core.mirror import Mirror
    from sessionctl.models import NextMessage, Pod, SessionId, Workspace
    from sessionctl.ports import Clock, Cluster

BLIND: Final = timedelta(seconds=5)
"""After so long without a view of the cluster a delivery that waits for a pod is left to others."""
LOOK_SECONDS: Final = 1.0
"""So often a ScaledObject is read while a message is held, which is rare; nobody follows them all."""
CLOCK_GRAIN: Final = timedelta(seconds=1)
"""The API server notes when a pod was made in whole seconds."""


class PodWaiter:
    """Finds a pod that is ready, not about to end, and not about to be taken down by a KEDA that looked too early."""

    def __init__(self, mirror: Mirror, cluster: Cluster, clock: Clock) -> None:
        self._mirror = mirror
        self._cluster = cluster
        self._clock = clock

    async def find(self, session_id: SessionId) -> tuple[Workspace, Pod] | None:
        """Return the session and its usable pod as they are seen now; None without one."""
        await self._mirror.wait_synced()
        return usable(await self._mirror.find_workspace(session_id), await self._mirror.list_pods(session_id))

    async def is_wanted(self, session_id: SessionId) -> bool:
        """Whether the session is seen to be awake or waking."""
        workspace = await self._mirror.find_workspace(session_id)
        return workspace is not None and workspace.replicas > 0 and workspace.deleted_at is None

    async def wait(self, session_id: SessionId, message: NextMessage) -> tuple[Workspace, Pod] | None:
        """Return the session and its pod as soon as it is usable for the message, which may be held (DESIGN 5).

        None when the session is seen to go to sleep or to be deleted: then the message may have ended meanwhile. Raises
        ClusterError where the cluster cannot be seen.
        """
        await self._mirror.wait_synced()
        with self._mirror.bells.listen(session_id) as changed:
            # Whatever is not there yet is newer than the message, whatever anybody's clock says.
            old = {pod.name for pod in await self._mirror.list_pods(session_id) if _is_older(pod, message)}
            if message.hold_until is None or message.started_in is not None:
                old = set()
            until = self._clock.monotonic() + ((message.hold_until or 0) - message.now) / 1000
            while True:
                changed.clear()
                found = await self.find(session_id)
                if found is None:
                    if await self._changes(changed) and not await self.is_wanted(session_id):
                        return None
                elif found[1].name not in old or await self._is_over(session_id, changed, until):
                    return found

    async def _changes(self, changed: asyncio.Event) -> bool:
        """Wait for a change; False when none came for a while. Raises ClusterError where none can be seen."""
        stale = self._mirror.stale_for()
        if stale is not None and stale > BLIND:
            # Whoever sees the cluster delivers it instead; the right to would be kept for nothing.
            msg = f"the view of the cluster has been interrupted for {stale.total_seconds():.0f} s"
            raise ClusterError(msg)
        with suppress(TimeoutError):
            async with asyncio.timeout(BLIND.total_seconds()):
                await changed.wait()
        return changed.is_set()

    async def _is_over(self, session_id: SessionId, changed: asyncio.Event, until: float) -> bool:
        """Wait until the hold is over; False when the pods have changed first.

        KEDA looks at one session again only when it has acted on what it saw before: a ``lastActiveTime`` that moves
        shows that it has seen the message, or something just before it.
        """
        first = await self._last_active(session_id)
        while (left := until - self._clock.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await changed.wait()
            except TimeoutError:
                now = await self._last_active(session_id)
                if first is None:
                    first = now
                elif now is not None and now > first:
                    return True
            else:
                return False
        return True

    async def _last_active(self, session_id: SessionId) -> datetime | None:
        """Return KEDA's word; None when it cannot be read, and the oldest of times when KEDA has never said one."""
        try:
            scaler = await self._cluster.find_scaler(session_id)
        except SessionctlError:
            return None
        return None if scaler is None else scaler.last_active or datetime.min.replace(tzinfo=UTC)


def usable(workspace: Workspace | None, pods: Sequence[Pod]) -> tuple[Workspace, Pod] | None:
    """Return the pod that takes messages now; None without one."""
    if workspace is None or not workspace.replicas or workspace.deleted_at is not None:
        return None
    return next(((workspace, pod) for pod in pods if pod.ready and not pod.ending and not pod.is_over), None)


def _is_older(pod: Pod, message: NextMessage) -> bool:
    return pod.created_at + CLOCK_GRAIN <= moment(message.filled_at or message.queued_at)
