"""The sessions namespace of a Kubernetes cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from datetime import datetime, timedelta

    from sessionctl.models import (
        Pod,
        Scaler,
        SessionId,
        Trouble,
        Volume,
        WatchEvent,
        Workspace,
    )


class ClusterView(Protocol):
    """What there is in the sessions namespace, read from the API server or from a mirror of it.

    Every method raises ClusterError; a mirror raises UnavailableError until it has seen what is asked for once.
    """

    def stale_for(self) -> timedelta | None:
        """Return for how long it may have missed changes; None while it is current."""
        ...

    async def find_workspace(self, session_id: SessionId) -> Workspace | None:
        """Read the session's Deployment."""
        ...

    async def list_workspaces(self) -> Sequence[Workspace]:
        """Read every session's Deployment."""
        ...

    async def list_pods(self, session_id: SessionId) -> Sequence[Pod]:
        """Read the session's pods, ending ones included."""
        ...

    async def find_trouble(self, kind: str, name: str) -> str | None:
        """Return what events last said of one object. The API server scans all events for it: only when in doubt."""
        ...

    async def find_volume(self, session_id: SessionId) -> Volume | None:
        """Read the session's PersistentVolumeClaim."""
        ...

    async def list_volumes(self) -> Sequence[Volume]:
        """Read the volumes of all sessions, deleted ones included."""
        ...


class Cluster(ClusterView, Protocol):
    """The API server itself: nothing here is read from a cache; every method raises ClusterError."""

    def watch_workspaces(self, session_id: SessionId | None = None) -> AsyncGenerator[WatchEvent[Workspace], None]:
        """Follow all sessions or one: each (re)list as one event, then the changes; ends with an error of the watch."""
        ...

    def watch_volumes(self) -> AsyncGenerator[WatchEvent[Volume], None]:
        """Follow the volumes of all sessions, deleted ones included."""
        ...

    def watch_pods(self) -> AsyncGenerator[WatchEvent[Pod], None]:
        """Follow the pods of all sessions."""
        ...

    def watch_troubles(self) -> AsyncGenerator[WatchEvent[Trouble], None]:
        """Follow what warning events of the namespace say."""
        ...

    async def wake_workspace(self, session_id: SessionId, woken_at: int) -> None:
        """Patch replicas to 1 with a unique ``woken-at``, and forget a failure; raises NotFoundError."""
        ...

    async def sleep_workspace(
        self, session_id: SessionId, resource_version: str, slept_at: int, *, failed: str | None = None
    ) -> None:
        """Patch replicas to 0 if the object still is the one noted; raises ConflictError if not.

        ``failed`` is why its start was given up, remembered until the next wake.
        """
        ...

    async def clear_failure(self, session_id: SessionId) -> None:
        """Forget why an earlier start was given up; does nothing when the session is gone."""
        ...

    async def mark_workspace_slept(self, session_id: SessionId, slept_at: int) -> None:
        """Note that the session was awake once and forget a failure, without touching its replicas."""
        ...

    async def mark_workspace_deleted(
        self, session_id: SessionId, at: datetime, *, purge: bool, resource_version: str | None = None
    ) -> None:
        """Annotate the Deployment; does nothing when it is gone.

        With a ``resource_version``, raises ConflictError when the object is no longer the one noted.
        """
        ...

    async def mark_volume_deleted(self, session_id: SessionId, at: datetime, *, purge: bool) -> None:
        """Annotate the volume; does nothing when it is gone."""
        ...

    async def clear_volume_deleted(self, session_id: SessionId) -> None:
        """Take those annotations off again."""
        ...

    async def remove_volume(self, session_id: SessionId, resource_version: str | None = None) -> None:
        """Delete the volume and its files; succeeds when it is gone.

        With a ``resource_version``, raises ConflictError when somebody has changed it since it was read.
        """
        ...

    async def find_scaler(self, session_id: SessionId) -> Scaler | None:
        """Read the session's ScaledObject."""
        ...

    async def list_scalers(self) -> Sequence[Scaler]:
        """Read every session's ScaledObject."""
        ...

    async def nudge_scaler(self, scaler: Scaler) -> None:
        """Toggle ``force-activation`` between absent and "false", which makes KEDA look at once."""
        ...

    async def drop_release_revision(self, session_id: SessionId, revision: int) -> None:
        """Remove the record of a pending revision, so that Helm accepts an upgrade again."""
        ...

    async def remove_leftovers(self, session_id: SessionId) -> None:
        """Delete every object that carries the session's label, but for its volume, and its pods, which follow."""
        ...

    async def list_leftovers(self, session_id: SessionId) -> Sequence[str]:
        """Name every object that carries the session's label, as ``kind/name``."""
        ...
