"""The gate: after a restart or loss of Redis nothing sleeps before the demand is restored (DESIGN 5)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.errors import ClusterError, ConflictError, ForbiddenError, NotFoundError, StoreError
from sessionctl.models import Dependency, EventKind

if TYPE_CHECKING:
    from sessionctl.core.journal import Journal
    from sessionctl.models import Epoch, Workspace
    from sessionctl.ports import Cluster, Metrics, Store

PARALLEL_RESTORES: Final = 32

_log = logging.getLogger(__name__)


class Gate:
    """Opens the gate and keeps KEDA's Redis user on or off; every replica may run it at once."""

    def __init__(
        self, cluster: Cluster, store: Store, journal: Journal, metrics: Metrics, release_after: timedelta
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._release_after = release_after
        self._journal = journal
        self._metrics = metrics
        self._powerless = False

    async def check(self) -> bool:
        """Restore what has to be restored, and admit KEDA; returns whether the gate is open.

        Safe to be killed at any step: only the last script makes the run id the epoch, and KEDA's user is switched on
        in a transaction that fails if the epoch moved. Raises StoreError and ClusterError.
        """
        epoch = await self._get_epoch()
        if not epoch.is_open and not await self._restore(epoch.run_id) and not (await self._store.get_epoch()).is_open:
            return False
        try:
            return await self._store.admit_keda()
        except ForbiddenError as error:
            self._warn(error)
            return True

    async def _get_epoch(self) -> Epoch:
        # At every check, by every manager: this is how Redis is seen to be there.
        try:
            epoch = await self._store.get_epoch()
        except StoreError:
            self._metrics.set_health(Dependency.REDIS, healthy=False)
            raise
        self._metrics.set_health(Dependency.REDIS, healthy=True)
        return epoch

    async def _restore(self, run_id: str) -> bool:
        try:
            await self._store.shut_out_keda()
        except ForbiddenError as error:
            self._warn(error)
        token = await self._store.begin_restore(run_id)
        if token is None:
            return False
        workspaces = await self._cluster.list_workspaces()
        now = await self._store.get_time()
        slots = asyncio.Semaphore(PARALLEL_RESTORES)

        async def restore(workspace: Workspace) -> bool:
            async with slots:
                if not self._lost_its_demand(workspace, now):
                    return await self._store.restore(token, workspace)
                restored = await self._store.restore(token, replace(workspace, replicas=1))
                if restored:
                    await self._wake_again(workspace, now)
                return restored

        done = await asyncio.gather(*(restore(w) for w in workspaces if w.deleted_at is None))
        if not all(done) or not await self._store.open_gate(token):
            return False
        _log.warning("demand restored after a restart or loss of Redis", extra={"sessions": len(done)})
        # One restore is one in the metrics; whoever sleeps was not touched by it, and there are thousands of them.
        self._journal.count(EventKind.DEMAND_RESTORED)
        for workspace in workspaces:
            if workspace.replicas and workspace.deleted_at is None:
                detail = "Redis had forgotten it"
                self._journal.note(workspace.session_id, EventKind.DEMAND_RESTORED, detail, counted=False)
        return True

    def _lost_its_demand(self, workspace: Workspace, now: int) -> bool:
        """Whether KEDA put it to sleep over an empty Redis, before anybody could keep KEDA out.

        Nobody of ours did since its last wake, and that is younger than any release.
        """
        if workspace.replicas or workspace.failed is not None or workspace.woken_at is None:
            return False
        released_by_us = (workspace.slept_at or 0) >= workspace.woken_at
        return not released_by_us and timedelta(milliseconds=now - workspace.woken_at) < self._release_after

    async def _wake_again(self, workspace: Workspace, now: int) -> None:
        try:
            await self._cluster.wake_workspace(workspace.session_id, now)
        except (NotFoundError, ConflictError, ForbiddenError, ClusterError) as error:
            # Its demand is there: the watch guard and KEDA see it.
            _log.warning("not woken again after a loss of Redis: %s", error, extra={"session": workspace.session_id})
        else:
            _log.info("woken again after a loss of Redis", extra={"session": workspace.session_id})

    def _warn(self, error: ForbiddenError) -> None:
        if not self._powerless:
            _log.warning("%s: %s", error.message, error.hint)
        self._powerless = True
