"""How many sessions there are in which state, and how many messages wait: for the metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sessionctl.core.identity import new_session_id
from sessionctl.core.status import derive
from sessionctl.errors import ClusterError
from sessionctl.models import Dependency, SessionStatus

if TYPE_CHECKING:
    from sessionctl.core.mirror import Mirror
    from sessionctl.ports import Cluster, DemandStore, Metrics


class Census:
    """Counts from the mirror; Redis is asked for the lists of awake sessions only, all in one go."""

    def __init__(self, view: Mirror, cluster: Cluster, store: DemandStore, metrics: Metrics) -> None:
        self._view = view
        self._cluster = cluster
        self._store = store
        self._metrics = metrics

    async def tick(self) -> None:
        """Count once. Raises StoreError, ClusterError and UnavailableError."""
        await self._ask_cluster()
        workspaces = await self._view.list_workspaces()
        volumes = {volume.session_id: volume for volume in await self._view.list_volumes()}
        counts = Counter(derive(w, volumes.get(w.session_id), None)[0] for w in workspaces)
        counts[SessionStatus.DELETED] = len(volumes.keys() - {w.session_id for w in workspaces})
        lengths = await self._store.get_lengths([w.session_id for w in workspaces if w.replicas])
        # Beside the entry that keeps it awake, whatever is in a list waits.
        waiting = sum(max(0, length - 1) for length in lengths)
        self._metrics.set_sessions({status: counts[status] for status in SessionStatus}, waiting)

    async def _ask_cluster(self) -> None:
        """See whether the API server answers, though nobody may have asked it anything for long."""
        try:
            await self._cluster.find_workspace(new_session_id())
        except ClusterError:
            self._metrics.set_health(Dependency.CLUSTER, healthy=False)
            raise
        self._metrics.set_health(Dependency.CLUSTER, healthy=True)
