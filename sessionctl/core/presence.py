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

ROUTER_CACHE: Final = timedelta(seconds=2)
"""For so long at most a router asks nobody, and requests are not seen here: nginx counts "1s" in whole seconds, so what
it keeps ends one to two seconds later. With the pause it makes the touch interval."""
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
        self._writing: set[SessionId] = set()
        self._again: set[SessionId] = set()
        """Who came while it was written down, perhaps just after that took effect."""

    async def note(self, session_id: SessionId) -> None:
        """Touch a session that is seen awake; wakes nothing, and never raises: whoever is let in stays let in."""
        now = self._clock.monotonic()
        if now - self._noted.get(session_id, float("-inf")) < self._pause:
            return
        if session_id in self._writing:
            # Of requests at the same moment one is enough, and another after it.
            self._again.add(session_id)
            return
        self._forget(now)
        self._noted[session_id] = now
        self._writing.add(session_id)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._touch(session_id)
                while session_id in self._again:
                    self._again.discard(session_id)
                    await self._touch(session_id)
        except (SessionctlError, TimeoutError) as error:
            self._noted.pop(session_id, None)
            _log.debug("not touched: %s", error, extra={"session": session_id})
        finally:
            self._writing.discard(session_id)
            self._again.discard(session_id)

    async def _touch(self, session_id: SessionId) -> None:
        workspace = await self._view.find_workspace(session_id)
        if workspace is not None and workspace.deleted_at is None:
            await self._demand.touch(workspace, timedelta())

    def _forget(self, now: float) -> None:
        if len(self._noted) >= MOST_NOTED:
            self._noted = {each: at for each, at in self._noted.items() if now - at < self._pause}
