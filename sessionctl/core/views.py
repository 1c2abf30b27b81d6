"""``status`` and ``list``: what people see of sessions. Reads only; answers from the cluster when Redis is away."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.core.cursors import cursor_after, parse_cursor, position
from sessionctl.core.demand import unknown_session
from sessionctl.core.moments import moment
from sessionctl.core.startup import look_up
from sessionctl.core.status import derive, waiting
from sessionctl.errors import ClusterError, ForbiddenError, SessionctlError, StoreError, UnavailableError
from sessionctl.labels import session_url
from sessionctl.models import SessionPage, SessionStatus, SessionView, Volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessionctl.models import Owner, Queue, Record, SessionId, Workspace
    from sessionctl.ports import ClusterView, Store
    from sessionctl.settings import SessionSettings

REDIS_AWAY: Final = "Redis does not answer: the queue and the last activity are unknown"
STALE_AFTER: Final = timedelta(seconds=2)
"""A shorter interruption is made good before anybody could tell."""


@dataclass(frozen=True)
class Sight:
    """One session as it is shown, and what that was put together from; None where there is none of it."""

    view: SessionView
    workspace: Workspace | None
    volume: Volume | None
    record: Record | None
    queue: Queue | None


class ViewService:
    """Shows sessions.

    ``view`` is where everything is read; ``live`` is asked for what Redis knows and the view does not know yet.
    """

    def __init__(self, *, view: ClusterView, live: ClusterView, store: Store, settings: SessionSettings) -> None:
        self._cluster = view
        self._live = live
        self._store = store
        self._domain = settings.domain
        self._retention = settings.retention

    async def get_status(self, session_id: SessionId) -> SessionView:
        """Show one session; raises NotFoundError when nothing of it is left."""
        return (await self.look(session_id)).view

    async def look(self, session_id: SessionId) -> Sight:
        """Show one session with what it was put together from; raises NotFoundError when nothing of it is left."""
        if self._cluster is self._live:
            (workspace, volume), demand = await asyncio.gather(
                self._find(self._live, session_id), self._demand(session_id)
            )
        else:
            # A view answers at once: tasks would cost more than it does.
            workspace = await self._cluster.find_workspace(session_id)
            volume = await self._cluster.find_volume(session_id)
            demand = await self._demand(session_id)
        has_record = demand is not None and demand[0] is not None
        if workspace is None and has_record and self._cluster is not self._live:
            # Made a moment ago, perhaps by another manager: whoever made it may ask for it at once.
            workspace, volume = await self._find(self._live, session_id)
        if workspace is None:
            if volume is None:
                raise self._unknown(session_id)
            return Sight(self._deleted(volume), None, volume, None, None)
        record, queue = await self._with_record(workspace, demand)
        view = self._view(workspace, volume, record, queue)
        if view.status is SessionStatus.WAKING:
            view = replace(view, reason=await self._why_not_ready(workspace, volume) or view.reason)
        return Sight(view, workspace, volume, record, queue)

    async def _find(self, cluster: ClusterView, session_id: SessionId) -> tuple[Workspace | None, Volume | None]:
        return await asyncio.gather(cluster.find_workspace(session_id), cluster.find_volume(session_id))

    async def _why_not_ready(self, workspace: Workspace, volume: Volume | None) -> str | None:
        # What the Deployment shows is answer enough where pods or events cannot be read.
        with suppress(ForbiddenError, ClusterError, UnavailableError):
            pods = await self._cluster.list_pods(workspace.session_id)
            return await look_up(self._cluster, workspace, volume, pods)
        return None

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
        self,
        *,
        user_id: str | None = None,
        tenant: str | None = None,
        status: SessionStatus | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionPage:
        """Show sessions, oldest first; those deleted only when asked for. Raises InvalidRequestError (cursor).

        The cursor of a page leads to the next one, whatever has come and gone meanwhile; None is on the last.
        """
        after = parse_cursor(cursor) if cursor is not None else None
        workspaces, volumes = await asyncio.gather(self._cluster.list_workspaces(), self._cluster.list_volumes())
        volume_of = {volume.session_id: volume for volume in volumes}
        known: Sequence[Workspace | Volume] = workspaces
        if status is SessionStatus.DELETED:
            present = {workspace.session_id for workspace in workspaces}
            known = [volume for volume in volumes if volume.session_id not in present]
        wanted = [
            each
            for each in known
            if (user_id is None or each.owner.user_id == user_id)
            and (tenant is None or each.owner.tenant == tenant)
            and (after is None or position(each.session_id, each.owner) > after)
        ]
        page: list[SessionView] = []
        for each in sorted(wanted, key=lambda each: position(each.session_id, each.owner)):
            shown = self._row(each, volume_of)
            if status not in {None, shown.status}:
                continue
            if limit is not None and len(page) == limit:
                return SessionPage(tuple(page), cursor_after(position(page[-1].session_id, page[-1].owner)))
            page.append(shown)
        return SessionPage(tuple(page))

    async def _demand(self, session_id: SessionId) -> tuple[Record | None, Queue] | None:
        try:
            return await asyncio.gather(self._store.get_record(session_id), self._store.get_queue(session_id))
        except StoreError:
            return None

    def _row(self, each: Workspace | Volume, volume_of: Mapping[SessionId, Volume]) -> SessionView:
        if isinstance(each, Volume):
            return self._deleted(each)
        return self._view(each, volume_of.get(each.session_id), None, None, listed=True)

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
        notices = () if queue is not None or listed else (REDIS_AWAY,)
        return SessionView(
            session_id=workspace.session_id,
            owner=workspace.owner,
            status=status,
            reason=reason,
            url=session_url(workspace.session_id, self._domain),
            replicas=workspace.replicas,
            ready_replicas=workspace.ready_replicas,
            queue_length=waiting(queue, workspace) if queue is not None else None,
            last_active=moment(record.last_active) if record else None,
            deleted_at=workspace.deleted_at,
            notices=(*notices, *self._staleness()),
        )

    def _unknown(self, session_id: SessionId) -> SessionctlError:
        if self._cluster.stale_for() is None:
            return unknown_session(session_id)
        msg = f"there is no session {session_id}, or it was made while the cluster did not answer"
        return UnavailableError(msg, hint="Try again in a moment.")

    def _staleness(self) -> tuple[str, ...]:
        stale = self._cluster.stale_for()
        if stale is None or stale < STALE_AFTER:
            return ()
        return (f"the cluster does not answer: this is how it was {stale.total_seconds():.0f} s ago",)

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
            notices=self._staleness(),
        )
