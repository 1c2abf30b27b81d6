"""The cluster in memory, kept current by four watches: what status, list and why are answered from."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.core.bells import Bells
from sessionctl.core.changes import Change, Changes
from sessionctl.core.following import Follower
from sessionctl.core.tables import SessionTable, TroubleTable
from sessionctl.labels import object_name
from sessionctl.models import Dependency, Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sessionctl.models import Pod, SessionId, Trouble, Volume, WatchEvent, Workspace
    from sessionctl.ports import Clock, Cluster, Metrics

HEALTH_SECONDS: Final = 1.0
"""While thousands of changes come, that the watches are well is not told at each of them."""

_log = logging.getLogger(__name__)


class Mirror:
    """``ClusterView`` without a request: empty until it has listed, and never emptied by an interruption.

    Also counts sessions by their owners, and tells of changes.
    """

    def __init__(self, cluster: Cluster, clock: Clock, metrics: Metrics) -> None:
        self._metrics = metrics
        self._clock = clock
        self._sessions = SessionTable()
        self._volumes: dict[SessionId, Volume] = {}
        self._pods: dict[SessionId, dict[str, Pod]] = {}
        self._troubles = TroubleTable()
        self._listeners: list[Callable[[Change], None]] = []
        self._changes: list[Changes] = []
        self.bells = Bells()
        """Rung at every change of a session's Deployment or pods."""
        self._was_healthy: bool | None = None
        self._health_told_at = 0.0
        self._workspace_watch = Follower(
            "sessions", cluster.watch_workspaces, self._apply_workspaces, self._note_health, clock
        )
        self._volume_watch = Follower("volumes", cluster.watch_volumes, self._apply_volumes, self._note_health, clock)
        self._pod_watch = Follower("pods", cluster.watch_pods, self._apply_pods, self._note_health, clock)
        self._trouble_watch = Follower("events", cluster.watch_troubles, self._apply_troubles, self._note_health, clock)
        # Events only tell more of a pod that does not start. There may be tens of thousands of them, read for a minute
        # by an API server that is busy, and nobody may have to wait for that.
        self._watches = (self._workspace_watch, self._volume_watch, self._pod_watch)

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        async with asyncio.TaskGroup() as group:
            for watch in (*self._watches, self._trouble_watch):
                group.create_task(watch.run())

    @property
    def is_synced(self) -> bool:
        """Whether everything that decides something has been listed once."""
        return all(watch.listed.is_set() for watch in self._watches)

    async def wait_synced(self) -> None:
        """Return when everything that decides something has been listed once."""
        for watch in self._watches:
            await watch.listed.wait()

    async def wait_sessions(self) -> None:
        """Return when the sessions have been listed once: enough for whoever needs nothing else."""
        await self._workspace_watch.listed.wait()

    def stale_for(self) -> timedelta | None:
        """See ``ports.ClusterView``."""
        found = [seconds for watch in self._watches if (seconds := watch.stale_seconds) is not None]
        return timedelta(seconds=max(found)) if found else None

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call ``listener`` at every change of a session, from now on; it has to be quick."""
        self._listeners.append(listener)

    def follow_changes(self) -> Changes:
        """Collect the sessions that change from now on, and all of them after every list."""
        changes = Changes(self._sessions.by_id)
        if self._workspace_watch.listed.is_set():
            changes.note_all()
        self._changes.append(changes)
        return changes

    def count_sessions(self, tenant: str, user_id: str) -> int:
        """Count a user's sessions without those that are being deleted; raises UnavailableError."""
        self._workspace_watch.require()
        return self._sessions.count(tenant, user_id)

    def count_awake(self, tenant: str) -> int:
        """Count a tenant's sessions that are awake or waking; raises UnavailableError."""
        self._workspace_watch.require()
        return self._sessions.count_awake(tenant)

    def find_tenant(self, session_id: SessionId) -> str:
        """Return whose session it is; nothing for one that is not seen."""
        found = self._sessions.by_id.get(session_id)
        return found.owner.tenant if found else ""

    async def find_workspace(self, session_id: SessionId) -> Workspace | None:
        """See ``ports.ClusterView``."""
        self._workspace_watch.require()
        return self._sessions.by_id.get(session_id)

    async def list_awake(self) -> Sequence[Workspace]:
        """List the sessions at replicas 1, which are few among thousands that sleep; raises UnavailableError."""
        self._workspace_watch.require()
        return self._sessions.list_awake()

    async def list_workspaces(self) -> Sequence[Workspace]:
        """See ``ports.ClusterView``."""
        self._workspace_watch.require()
        return list(self._sessions.by_id.values())

    async def list_pods(self, session_id: SessionId) -> Sequence[Pod]:
        """See ``ports.ClusterView``."""
        self._pod_watch.require()
        return list(self._pods.get(session_id, {}).values())

    async def find_trouble(self, kind: str, name: str) -> str | None:
        """See ``ports.ClusterView``."""
        found = self._troubles.find(kind, name)
        return found.text if found else None

    async def find_volume(self, session_id: SessionId) -> Volume | None:
        """See ``ports.ClusterView``."""
        self._volume_watch.require()
        return self._volumes.get(session_id)

    async def list_volumes(self) -> Sequence[Volume]:
        """See ``ports.ClusterView``."""
        self._volume_watch.require()
        return list(self._volumes.values())

    def _note_health(self, succeeded: bool) -> None:  # noqa: FBT001 - what a watch calls
        now = self._clock.monotonic()
        if succeeded and self._was_healthy and now - self._health_told_at < HEALTH_SECONDS:
            return
        self._health_told_at = now
        self._metrics.loop_ended(Loop.MIRROR, 0.0, failed=not succeeded)
        healthy = all(watch.is_current for watch in self._watches)
        if healthy is not self._was_healthy:
            self._was_healthy = healthy
            self._metrics.set_health(Dependency.WATCH, healthy=healthy)

    def _apply_workspaces(self, event: WatchEvent[Workspace]) -> None:
        if event.listed is not None:
            told = self._sessions.replace(event.listed)
            for changes in self._changes:
                changes.note_all()
            self.bells.ring_all()
        elif event.changed is not None:
            told = [self._put(event.changed.session_id, event.changed)]
        elif event.deleted is not None:
            told = [self._put(event.deleted.session_id, None)]
        else:
            told = []
        for change in told:
            if change.before != change.after:
                self._tell(change)

    def _put(self, session_id: SessionId, after: Workspace | None) -> Change:
        for changes in self._changes:
            changes.note(session_id)
        change = self._sessions.put(session_id, after)
        self.bells.ring(session_id)
        return change

    def _tell(self, change: Change) -> None:
        for listener in self._listeners:
            try:
                listener(change)
            except Exception:  # noqa: BLE001
                # The view is right, whatever somebody makes of it.
                _log.exception("a change of a session could not be told")

    def _apply_volumes(self, event: WatchEvent[Volume]) -> None:
        if event.listed is not None:
            self._volumes = {volume.session_id: volume for volume in event.listed}
        if event.changed is not None:
            self._volumes[event.changed.session_id] = event.changed
        if event.deleted is not None:
            self._volumes.pop(event.deleted.session_id, None)
            self._troubles.drop_object("PersistentVolumeClaim", object_name(event.deleted.session_id))

    def _apply_pods(self, event: WatchEvent[Pod]) -> None:
        if event.listed is not None:
            self._pods = {}
            self.bells.ring_all()
        for pod in (*(event.listed or ()), event.changed):
            if pod is not None:
                self._pods.setdefault(pod.session_id, {})[pod.name] = pod
                self.bells.ring(pod.session_id)
        gone = event.deleted
        if gone is not None:
            self._troubles.drop_object("Pod", gone.name)
            left = self._pods.get(gone.session_id, {})
            left.pop(gone.name, None)
            if not left:
                self._pods.pop(gone.session_id, None)
            self.bells.ring(gone.session_id)

    def _apply_troubles(self, event: WatchEvent[Trouble]) -> None:
        if event.listed is not None:
            self._troubles.clear()
        for trouble in (*(event.listed or ()), event.changed):
            if trouble is not None:
                self._troubles.put(trouble)
        if event.deleted is not None:
            self._troubles.drop(event.deleted)
