"""Makes KEDA look again at ScaledObjects it gave up on: its own retries come up to 16 minutes apart (DESIGN 5)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sessionctl.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.models import Scaler, SessionId
    from sessionctl.ports import Clock, Cluster

PATIENCE_SECONDS: Final = 5.0
BUSY_INTERVAL_SECONDS: Final = 2.0
CALM_INTERVAL_SECONDS: Final = 15.0
PARALLEL_NUDGES: Final = 16

_log = logging.getLogger(__name__)


class ScalerKeeper:
    """Nudges every ScaledObject that has not been Ready for five seconds while the gate is open."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._unready_since: dict[SessionId, float] = {}
        self._next_look = 0.0
        self._was_open = False

    async def check(self, *, gate_open: bool) -> Sequence[SessionId]:
        """Look if it is time to, and return the sessions nudged. Raises ClusterError."""
        now = self._clock.monotonic()
        just_opened = gate_open and not self._was_open
        self._was_open = gate_open
        if not gate_open or (now < self._next_look and not just_opened):
            return []
        unready = [scaler for scaler in await self._cluster.list_scalers() if not scaler.ready]
        self._next_look = now + (BUSY_INTERVAL_SECONDS if unready or just_opened else CALM_INTERVAL_SECONDS)
        self._unready_since = {s.session_id: self._unready_since.get(s.session_id, now) for s in unready}
        overdue = [s for s in unready if now - self._unready_since[s.session_id] >= PATIENCE_SECONDS]
        slots = asyncio.Semaphore(PARALLEL_NUDGES)

        async def nudge(scaler: Scaler) -> None:
            self._unready_since[scaler.session_id] = now
            async with slots:
                with suppress(NotFoundError, ConflictError):
                    await self._cluster.nudge_scaler(scaler)
            _log.info("KEDA asked to look again", extra={"session": scaler.session_id})

        await asyncio.gather(*(nudge(scaler) for scaler in overdue))
        return [scaler.session_id for scaler in overdue]
