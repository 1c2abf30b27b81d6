"""The gate: after a restart or loss of Redis nothing sleeps before the demand is restored (DESIGN 5)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from sessionctl.errors import ForbiddenError, StoreError
from sessionctl.models import Dependency, EventKind

if TYPE_CHECKING:
    from sessionctl.core.journal import Journal
    from sessionctl.models import Epoch, Workspace
    from sessionctl.ports import Cluster, GateStore, Metrics

PARALLEL_RESTORES: Final = 32

_log = logging.getLogger(__name__)


class Gate:
    """Opens the gate and keeps KEDA's Redis user on or off; every replica may run it at once."""

    def __init__(self, cluster: Cluster, store: GateStore, journal: Journal, metrics: Metrics) -> None:
        self._cluster = cluster
        self._store = store
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
        slots = asyncio.Semaphore(PARALLEL_RESTORES)

        async def restore(workspace: Workspace) -> bool:
            async with slots:
                return await self._store.restore(token, workspace)

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

    def _warn(self, error: ForbiddenError) -> None:
        if not self._powerless:
            _log.warning("%s: %s", error.message, error.hint)
        self._powerless = True
