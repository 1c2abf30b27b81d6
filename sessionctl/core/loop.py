"""``sweep``: gate, watch guard, start keeper, sweeper and scaler keeper together, once or for ever."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessionctl.core.starts import StartReport
from sessionctl.core.sweeper import SweepReport
from sessionctl.models import Loop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.core.gate import Gate
    from sessionctl.core.guard import WatchGuard
    from sessionctl.core.mirror import Mirror
    from sessionctl.core.rounds import Rounds
    from sessionctl.core.scalers import ScalerKeeper
    from sessionctl.core.starts import StartKeeper
    from sessionctl.core.sweeper import Sweeper
    from sessionctl.core.why import Answers
    from sessionctl.models import SessionId, Workspace
    from sessionctl.ports import Cluster
    from sessionctl.settings import SweepSettings

GUARD_RETRY_SECONDS: Final = 1.0
GUARD_PATIENCE_SECONDS: Final = 10.0
"""Where nothing changes, a pass that finds nothing shows that the guard is there."""


@dataclass(frozen=True)
class SweepOnce:
    """What one pass over everything did."""

    gate_open: bool
    woken: tuple[SessionId, ...]
    report: SweepReport
    starts: StartReport


class SweepLoop:
    """Runs the five parts on the mirror of the cluster."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        mirror: Mirror,
        gate: Gate,
        guard: WatchGuard,
        starts: StartKeeper,
        sweeper: Sweeper,
        keeper: ScalerKeeper,
        rounds: Rounds,
        settings: SweepSettings,
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._gate = gate
        self._guard = guard
        self._starts = starts
        self._sweeper = sweeper
        self._keeper = keeper
        self._rounds = rounds
        self._settings = settings

    @property
    def answers(self) -> Answers:
        """Who knows what agents said last."""
        return self._sweeper

    async def once(self) -> SweepOnce:
        """Make one pass on the cluster as it is now, not on the mirror; raises StoreError and ClusterError."""
        gate_open = await self._gate.check()
        workspaces = await self._cluster.list_workspaces()
        woken = await self._guard.check(workspaces)
        starts, report = await self._judge(workspaces) if gate_open else (StartReport(), SweepReport())
        return SweepOnce(gate_open=gate_open, woken=tuple(woken), report=report, starts=starts)

    async def forever(self) -> None:
        """Run until cancelled, the mirror included.

        A dependency that is down is retried, and whatever else goes wrong too; meanwhile every pod stays as it is.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._mirror.run())
                group.create_task(self._watch_over())
                group.create_task(
                    self._rounds.repeat(Loop.GATE, self._hold_gate, self._settings.gate_interval.total_seconds())
                )
                group.create_task(self._sweep())
        finally:
            await self._sweeper.close()

    async def _watch_over(self) -> None:
        changes = self._mirror.follow_changes()

        async def check() -> None:
            taken = await changes.take(GUARD_PATIENCE_SECONDS)
            try:
                await self._guard.check(taken)
            except Exception:
                for workspace in taken:
                    changes.note(workspace.session_id)
                raise

        await self._rounds.repeat(Loop.GUARD, check, 0.0, retry=GUARD_RETRY_SECONDS)

    async def _hold_gate(self) -> None:
        gate_open = await self._gate.check()
        await self._keeper.check(gate_open=gate_open)

    async def _judge(
        self, workspaces: Sequence[Workspace], patience: float | None = None
    ) -> tuple[StartReport, SweepReport]:
        starts = await self._starts.tick(workspaces)
        started = [w for w in workspaces if w.session_id not in starts.held]
        return starts, await self._sweeper.tick(started, patience)

    async def _sweep(self) -> None:
        async def judge() -> None:
            # Whoever is not done at once is seen to at the next tick: a slow agent must not delay this loop.
            # Nobody who sleeps is judged, and to look at thousands of them every second is to answer nobody meanwhile.
            await self._judge(await self._mirror.list_awake(), patience=0)

        await self._mirror.wait_sessions()
        await self._rounds.repeat(Loop.SWEEP, judge, self._settings.interval.total_seconds())
