"""Sessions older than ``sessions.maxLifetime`` are deleted, once nobody uses them and nobody wants them.

Redis decides: the script that buries a session does so only without demand, so that a wake comes either before it, and
the session lives on, or after it, and is refused. The marks follow, and the delete as people do it. Whoever dies in
between leaves either a tombstone without a mark, which reconcile takes away again, or a mark, from which it goes on.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from sessionctl.errors import ConflictError, ForbiddenError, NotFoundError, SessionctlError
from sessionctl.models import EventKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime, timedelta

    from sessionctl.core.sessions import SessionService
    from sessionctl.models import SessionId, Workspace
    from sessionctl.ports import Clock, Cluster, ClusterView, Store

PARALLEL_DELETES: Final = 2
"""Each is a run of Helm."""
MARK_ATTEMPTS: Final = 5
"""The status of a Deployment moves its resource version."""

_log = logging.getLogger(__name__)


def is_expired(workspace: Workspace, now: datetime, max_lifetime: timedelta) -> bool:
    """Whether it is older than it may be and asleep; zero is no limit."""
    if not max_lifetime or workspace.replicas or workspace.ready_replicas or workspace.deleted_at is not None:
        return False
    return now - workspace.owner.created_at >= max_lifetime


class LifetimeKeeper:
    """Deletes what has expired; every replica may run it at once."""

    def __init__(
        self,
        *,
        view: ClusterView,
        cluster: Cluster,
        store: Store,
        open_sessions: Callable[[], Awaitable[SessionService]],
        clock: Clock,
        max_lifetime: timedelta,
        retention: timedelta,
    ) -> None:
        self._view = view
        self._cluster = cluster
        self._store = store
        self._open_sessions = open_sessions
        self._clock = clock
        self._max_lifetime = max_lifetime
        self._retention = retention

    async def tick(self) -> Sequence[SessionId]:
        """Delete every expired session that sleeps; returns them. Raises StoreError and ClusterError."""
        if not self._max_lifetime:
            return []
        now = self._clock.now()
        due = [w.session_id for w in await self._view.list_workspaces() if is_expired(w, now, self._max_lifetime)]
        wanted = set(await self._store.list_demanded(due)) if due else set()
        slots = asyncio.Semaphore(PARALLEL_DELETES)

        async def in_turn(session_id: SessionId) -> bool:
            async with slots:
                return await self._try(session_id)

        due = [session_id for session_id in due if session_id not in wanted]
        done = await asyncio.gather(*(in_turn(session_id) for session_id in due))
        return [session_id for session_id, deleted in zip(due, done, strict=True) if deleted]

    async def _try(self, session_id: SessionId) -> bool:
        try:
            return await self._expire(session_id)
        except (ConflictError, NotFoundError) as error:
            # Another replica, or somebody who deletes it too, is at it.
            _log.debug("not expired: %s", error, extra={"session": session_id})
        except SessionctlError as error:
            _log.warning("its lifetime is over, but it cannot be deleted: %s", error, extra={"session": session_id})
        except Exception:  # noqa: BLE001 - a mistake of ours with one session must not save all others
            _log.exception("its lifetime is over, but it cannot be deleted", extra={"session": session_id})
        return False

    async def _expire(self, session_id: SessionId) -> bool:
        # The view may be behind: only what the API server itself says counts.
        live = await self._cluster.find_workspace(session_id)
        if live is None or not is_expired(live, self._clock.now(), self._max_lifetime):
            return False
        owner = live.owner
        if not await self._store.bury_unwanted(session_id, owner.tenant, owner.user_id, self._retention):
            return False
        if not await self._mark(live):
            return False
        _log.info("deleted: older than sessions.maxLifetime", extra={"session": session_id})
        await (await self._open_sessions()).delete(session_id, purge=False, kind=EventKind.EXPIRED)
        return True

    async def _mark(self, seen: Workspace) -> bool:
        """Mark the Deployment if it still sleeps; else take the tombstone away again."""
        live: Workspace | None = seen
        try:
            for _ in range(MARK_ATTEMPTS):
                if live is None or live.deleted_at is not None:
                    return False  # whoever deletes it wants the tombstone too
                if live.replicas:
                    break
                try:
                    await self._cluster.mark_workspace_deleted(
                        live.session_id, self._clock.now(), purge=False, resource_version=live.resource_version
                    )
                except ConflictError:
                    live = await self._cluster.find_workspace(seen.session_id)
                else:
                    return True
        except ForbiddenError:
            await self._store.unbury(seen)
            raise
        await self._store.unbury(live or seen)
        return False
