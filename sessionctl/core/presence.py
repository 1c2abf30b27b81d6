"""Requests through the router are activity: written down, but not all of them (DESIGN 5)."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.errors import SessionctlError

if TYPE_CHECKING:
    from sessionctl.core.demand import DemandService
    from sessionctl.models import SessionId
    from sessionctl.ports import Clock, ClusterView

ROUTER_CACHE: Final = timedelta(seconds=1)
"""For so long a router asks nobody, and requests are not seen here. With the pause below it makes the touch interval."""
PATIENCE_SECONDS: Final = 1.0
MOST_NOTED: Final = 4096

_log = logging.getLogger(__name__)


class Presence:
    """Touches sessions that somebody uses, each at most once in a pause."""

    def __init__(self, view: ClusterView, demand: DemandService, clock: Clock, touch_interval: timedelta) -> None:
        self._view = view
        self._demand = demand
        self._clock = clock
        self._pause = max(timedelta(), touch_interval - ROUTER_CACHE).total_seconds()
        self._noted: dict[SessionId, float] = {}

    async def note(self, session_id: SessionId) -> None:
        """Touch a session that is seen awake; wakes nothing, and never raises: whoever is let in stays let in."""
        now = self._clock.monotonic()
        if now - self._noted.get(session_id, float("-inf")) < self._pause:
            return
        self._forget(now)
        # Before it is done: of requests at the same moment one is enough.
        self._noted[session_id] = now
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                workspace = await self._view.find_workspace(session_id)
                if workspace is not None and workspace.deleted_at is None:
                    await self._demand.touch(workspace, timedelta())
        except (SessionctlError, TimeoutError) as error:
            self._noted.pop(session_id, None)
            _log.debug("not touched: %s", error, extra={"session": session_id})

    def _forget(self, now: float) -> None:
        if len(self._noted) >= MOST_NOTED:
            self._noted = {each: at for each, at in self._noted.items() if now - at < self._pause}
