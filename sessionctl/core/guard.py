"""The watch guard: a session seen asleep with demand in its list is woken at once (DESIGN 5)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sessionctl.errors import ConflictError, DependencyError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.core.demand import DemandService
    from sessionctl.models import SessionId, Workspace
    from sessionctl.ports import DemandStore

_log = logging.getLogger(__name__)


class WatchGuard:
    """Undoes a sleep that raced with a message."""

    def __init__(self, store: DemandStore, demand: DemandService) -> None:
        self._store = store
        self._demand = demand

    async def check(self, workspaces: Sequence[Workspace]) -> Sequence[SessionId]:
        """Wake those of ``workspaces`` that sleep against their demand; returns them.

        Raises StoreError and ClusterError, after all were tried.
        """
        asleep = {w.session_id: w for w in workspaces if w.replicas == 0 and w.deleted_at is None}
        if not asleep:
            return []
        woken: list[SessionId] = []
        failure: DependencyError | None = None
        for session_id in await self._store.list_demanded(list(asleep)):
            try:
                await self._demand.meet_demand(asleep[session_id])
            except (NotFoundError, ConflictError):
                continue  # deleted since it was seen
            except DependencyError as error:
                # The others must not wait for this one.
                failure = error
                _log.warning("not woken by the watch guard: %s", error, extra={"session": session_id})
                continue
            _log.info("woken by the watch guard", extra={"session": session_id})
            woken.append(session_id)
        if failure is not None:
            raise failure
        return woken
