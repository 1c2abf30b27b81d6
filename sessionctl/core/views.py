"""``status`` and ``list``: what people see of sessions. Reads only; answers from the cluster when Redis is away."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sessionctl.core.demand import unknown_session
from sessionctl.core.startup import look_up
from sessionctl.core.status import derive, waiting
from sessionctl.errors import ClusterError, ForbiddenError, StoreError
from sessionctl.labels import session_url
from sessionctl.models import SessionStatus, SessionView

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from sessionctl.models import Owner, Pod, Queue, Record, SessionId, Volume, Workspace
    from sessionctl.ports import Cluster, Store

REDIS_AWAY = "Redis does not answer: the queue and the last activity are unknown"


class ViewService:
    """Shows sessions."""

    def __init__(self, cluster: Cluster, store: Store, domain: str, retention: timedelta) -> None:
        self._cluster = cluster
        self._store = store
        self._domain = domain
        self._retention = retention

    async def get_status(self, session_id: SessionId) -> SessionView:
        """Show one session; raises NotFoundError when nothing of it is left."""
        (workspace, pods), volume, demand = await asyncio.gather(
            self._workspace(session_id), self._cluster.find_volume(session_id), self._demand(session_id)
        )
        if workspace is None:
            if volume is None:
                raise unknown_session(session_id)
            return self._deleted(volume)
        view = self._view(workspace, volume, *await self._with_record(workspace, demand))
        if view.status is not SessionStatus.WAKING or pods is None:
            return view
        with suppress(ForbiddenError, ClusterError):
            return replace(view, reason=await look_up(self._cluster, workspace, volume, pods))
        return view

    async def _workspace(self, session_id: SessionId) -> tuple[Workspace | None, Sequence[Pod] | None]:
        """Read the Deployment and, only for one that starts, its pods; None where they cannot be read."""
        workspace = await self._cluster.find_workspace(session_id)
        if workspace is not None and workspace.is_starting:
            # What the Deployment shows is answer enough without them.
            with suppress(ForbiddenError, ClusterError):
                return workspace, await self._cluster.list_pods(session_id)
        return workspace, None

    async def _with_record(
        self, workspace: Workspace, demand: tuple[Record | None, Queue] | None
    ) -> tuple[Record | None, Queue | None]:
        """Rebuild a record that Redis lost."""
        if demand is None:
            return None, None
        record, queue = demand
        if record is None and workspace.deleted_at is None:
            with suppress(StoreError):
                await self._store.ensure_record(workspace)
                record = await self._store.get_record(workspace.session_id)
        return record, queue

    async def list_sessions(
        self, *, user_id: str | None, tenant: str | None, status: SessionStatus | None
    ) -> list[SessionView]:
        """Show all sessions, oldest first; those deleted only when asked for."""
        workspaces, volumes = await asyncio.gather(self._cluster.list_workspaces(), self._cluster.list_volumes())
        volume_of = {volume.session_id: volume for volume in volumes}
        views = [self._view(w, volume_of.pop(w.session_id, None), None, None, listed=True) for w in workspaces]
        if status is SessionStatus.DELETED:
            views += [self._deleted(volume) for volume in volume_of.values()]
        wanted = [
            view
            for view in views
            if user_id in {None, view.owner.user_id}
            and tenant in {None, view.owner.tenant}
            and status in {None, view.status}
        ]
        return sorted(wanted, key=lambda view: (view.owner.created_at, view.session_id))

    async def _demand(self, session_id: SessionId) -> tuple[Record | None, Queue] | None:
        try:
            return await self._store.get_record(session_id), await self._store.get_queue(session_id)
        except StoreError:
            return None

    def _view(
        self,
        workspace: Workspace,
        volume: Volume | None,
        record: Record | None,
        queue: Queue | None,
        *,
        listed: bool = False,
    ) -> SessionView:
        status, reason = derive(workspace, volume, record)
        return SessionView(
            session_id=workspace.session_id,
            owner=workspace.owner,
            status=status,
            reason=reason,
            url=session_url(workspace.session_id, self._domain),
            replicas=workspace.replicas,
            ready_replicas=workspace.ready_replicas,
            queue_length=waiting(queue, workspace) if queue is not None else None,
            last_active=datetime.fromtimestamp(record.last_active / 1000, UTC) if record else None,
            deleted_at=workspace.deleted_at,
            notices=() if queue is not None or listed else (REDIS_AWAY,),
        )

    def _deleted(self, volume: Volume) -> SessionView:
        owner: Owner = volume.owner
        return SessionView(
            session_id=volume.session_id,
            owner=owner,
            status=SessionStatus.DELETED,
            reason="its volume is being removed" if volume.purge or volume.being_removed else "its volume is kept",
            url=session_url(volume.session_id, self._domain),
            replicas=0,
            ready_replicas=0,
            queue_length=0,
            deleted_at=volume.deleted_at,
            restorable_until=volume.deleted_at + self._retention if volume.deleted_at else None,
        )
