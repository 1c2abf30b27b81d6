"""``sweep``: gate, watch guard, start keeper, sweeper and scaler keeper together, once or for ever."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessionctl.core.starts import StartReport
from sessionctl.core.sweeper import SweepReport
from sessionctl.errors import SessionctlError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.core.gate import Gate
    from sessionctl.core.guard import WatchGuard
    from sessionctl.core.scalers import ScalerKeeper
    from sessionctl.core.starts import StartKeeper
    from sessionctl.core.sweeper import Sweeper
    from sessionctl.models import SessionId, WatchEvent, Workspace
    from sessionctl.ports import Clock, Cluster
    from sessionctl.settings import SweepSettings

FIRST_RETRY_SECONDS: Final = 0.2
LONGEST_RETRY_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepOnce:
    """What one pass over everything did."""

    gate_open: bool
    woken: tuple[SessionId, ...]
    report: SweepReport
    starts: StartReport


class SweepLoop:
    """Runs the five parts on one view of the cluster."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        gate: Gate,
        guard: WatchGuard,
        starts: StartKeeper,
        sweeper: Sweeper,
        keeper: ScalerKeeper,
        clock: Clock,
        settings: SweepSettings,
    ) -> None:
        self._cluster = cluster
        self._gate = gate
        self._guard = guard
        self._starts = starts
        self._sweeper = sweeper
        self._keeper = keeper
        self._clock = clock
        self._settings = settings
        self._view: dict[SessionId, Workspace] = {}
        self._synced = asyncio.Event()

    async def once(self) -> SweepOnce:
        """Make one pass; raises StoreError and ClusterError."""
        gate_open = await self._gate.check()
        workspaces = await self._cluster.list_workspaces()
        woken = await self._guard.check(workspaces)
        starts, report = await self._judge(workspaces) if gate_open else (StartReport(), SweepReport())
        return SweepOnce(gate_open=gate_open, woken=tuple(woken), report=report, starts=starts)

    async def forever(self) -> None:
        """Run until cancelled. A dependency that is down is retried; meanwhile every pod stays as it is."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._hold_gate())
            group.create_task(self._sweep())

    async def _follow(self) -> None:
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                async with aclosing(self._cluster.watch_workspaces()) as events:
                    async for event in events:
                        await self._guard.check(self._apply(event))
                        self._synced.set()
                        delay = FIRST_RETRY_SECONDS
            except SessionctlError as error:
                _log.warning("the view of the cluster is interrupted: %s", error)
            # A new watch starts with a whole list, so that what was missed meanwhile is checked.
            await self._clock.sleep(delay)
            delay = min(delay * 2, LONGEST_RETRY_SECONDS)

    def _apply(self, event: WatchEvent[Workspace]) -> Sequence[Workspace]:
        if event.listed is not None:
            self._view = {workspace.session_id: workspace for workspace in event.listed}
            return event.listed
        if event.deleted is not None:
            self._view.pop(event.deleted.session_id, None)
            return []
        if event.changed is not None:
            self._view[event.changed.session_id] = event.changed
            return [event.changed]
        return []

    async def _hold_gate(self) -> None:
        while True:
            try:
                gate_open = await self._gate.check()
                await self._keeper.check(gate_open=gate_open)
            except SessionctlError as error:
                _log.warning("the gate or KEDA's view cannot be checked: %s", error)
            await self._clock.sleep(self._settings.gate_interval.total_seconds())

    async def _judge(
        self, workspaces: Sequence[Workspace], patience: float | None = None
    ) -> tuple[StartReport, SweepReport]:
        starts = await self._starts.tick(workspaces)
        started = [w for w in workspaces if w.session_id not in starts.held]
        return starts, await self._sweeper.tick(started, patience)

    async def _sweep(self) -> None:
        await self._synced.wait()
        pause = self._settings.interval.total_seconds()
        try:
            while True:
                try:
                    # Whoever is not done at once is seen to at the next tick: a slow agent must not delay this loop.
                    await self._judge(list(self._view.values()), patience=0)
                except SessionctlError as error:
                    _log.warning("nothing is put to sleep: %s", error)
                await self._clock.sleep(pause)
        finally:
            await self._sweeper.close()
