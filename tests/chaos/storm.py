"""Kills and starts of everything that may die, at seeded random moments."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tools.localcluster import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.localcluster import LocalCluster

PAUSE_SECONDS: Final = 0.5


@dataclass
class Storm:
    """One seed is one order of faults.

    Attributes:
        victims: Names of components of the local cluster.
        calm: Seconds between two faults, at most.
        outage: Seconds a victim stays away, at most.
    """

    cluster: LocalCluster
    seed: int
    victims: Sequence[str]
    calm: float
    outage: float
    faults: dict[str, int] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    outages: list[tuple[str, float, float]] = field(default_factory=list)
    """Who was away, from when to when by the monotonic clock."""

    async def rage(self, seconds: float) -> None:
        """Kill and start, each victim on its own; at the end all of them run again."""
        dice = random.Random(self.seed)
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for victim in self.victims:
                group.create_task(self._haunt(victim, random.Random(dice.random()), until))

    async def _haunt(self, victim: str, dice: random.Random, until: float) -> None:
        pause = dice.uniform(0, self.calm * len(self.victims))
        while time.monotonic() + pause < until:
            await asyncio.sleep(pause)
            began = time.monotonic()
            await asyncio.to_thread(self.cluster.kill, victim)
            self.faults[victim] = self.faults.get(victim, 0) + 1
            self.away.add(victim)
            await asyncio.sleep(dice.uniform(0, self.outage))
            await self._start(victim)
            self.away.remove(victim)
            self.outages.append((victim, began, time.monotonic()))
            pause = dice.uniform(0, 2 * self.calm * len(self.victims))

    async def _start(self, victim: str) -> None:
        """Start it as kubelet does: again and again, because what it needs may be away."""
        while True:
            try:
                await asyncio.to_thread(self.cluster.start_component, victim)
            except ClusterError:
                # One that was not ready in time, because what it needs is away, runs all the same.
                if await asyncio.to_thread(self.cluster.pid, victim) is not None:
                    return
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return
