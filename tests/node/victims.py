"""What may be killed on a cluster with real pods: processes, found from outside by their pod's cgroup."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.localcluster import ClusterError
from tools.localcluster.api import Api, ApiError
from tools.localcluster.machine import CGROUP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tools.localcluster import LocalCluster

_POD: Final = re.compile(rf"/{CGROUP}/.*?pod([0-9a-f-]{{36}})")
_PAUSE_SECONDS: Final = 0.5
AT_WORK: Final = 0.7
"""So many of the agents that are killed are looked for among those at work."""
LOOKS: Final = 20
COMMAND: Final = b"/workspace/ran"
"""What a command's own process has in its command line."""
KEDA: Final = "keda"
PLATFORM: Final = "sessionctl"
SESSIONS: Final = "sessions"


@dataclass(frozen=True)
class Process:
    """A process inside a pod, as this machine knows it."""

    pid: int
    pod: str
    command: bytes

    def kill(self) -> bool:
        """Kill it with SIGKILL; False when it is gone already."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def processes() -> list[Process]:
    """List the processes of all pods."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            match = _POD.search((entry / "cgroup").read_text()) if entry.name.isdigit() else None
            if match is not None:
                found.append(Process(int(entry.name), match[1], (entry / "cmdline").read_bytes()))
        except OSError:
            continue
    return found


def agents() -> list[Process]:
    """List the agents; the first process of the container names them too, and so may what they start."""
    return [
        each
        for each in processes()
        if b"sessionctl-agent\0" in each.command and b"python3" in each.command and b"\0hold\0" not in each.command
    ]


def busy_agents() -> list[Process]:
    """List the agents whose command runs: to kill those proves more."""
    everyone = processes()
    busy = {each.pod for each in everyone if COMMAND in each.command}
    return [each for each in everyone if each.pod in busy and _is_agent(each)]


def _is_agent(process: Process) -> bool:
    # The first process of the container names it too.
    return b"sessionctl-agent" in process.command and b"python3" in process.command


@dataclass
class PodStorm:
    """Kills at seeded random moments: managers, agents, Redis, KEDA and whole pods; one seed is one order.

    A container that ends twice is started again after ten seconds and more, so that the rest of such a pod is taken
    away too: its Deployment makes another at once.

    Attributes:
        calm: Seconds between two kills of one kind, on average.
    """

    cluster: LocalCluster
    seed: int
    calm: float
    faults: Counter[str] = field(default_factory=Counter)
    times: list[tuple[float, str]] = field(default_factory=list)
    """When what was killed."""

    def __post_init__(self) -> None:
        self._api = Api.from_kubeconfig(self.cluster.kubeconfig)
        self._killed: Counter[str] = Counter()

    async def rage(self, seconds: float) -> None:
        """Kill, each kind on its own."""
        dice = random.Random(self.seed)
        until = time.monotonic() + seconds
        kinds: dict[str, Callable[[random.Random], Awaitable[bool]]] = {
            "manager": self._manager,
            "agent": self._agent,
            "redis": self._redis,
            KEDA: self._keda,
            "pod": self._pod,
            "pod taken away": self._taken_away,
        }
        async with asyncio.TaskGroup() as group:
            for name, kill in kinds.items():
                group.create_task(self._haunt(name, kill, random.Random(dice.random()), until))

    async def _haunt(
        self, name: str, kill: Callable[[random.Random], Awaitable[bool]], dice: random.Random, until: float
    ) -> None:
        while (pause := dice.uniform(0, 2 * self.calm)) + time.monotonic() < until:
            await asyncio.sleep(pause)
            if await kill(dice):
                self.faults[name] += 1
                self.times.append((time.time(), name))

    async def _manager(self, dice: random.Random) -> bool:
        return await self._one(dice, PLATFORM, b"serve")

    async def _redis(self, dice: random.Random) -> bool:
        return await self._one(dice, PLATFORM, b"redis-server")

    async def _agent(self, dice: random.Random) -> bool:
        victim = await self._some_agent(dice)
        return victim is not None and victim.kill() and await self._bury(SESSIONS, victim.pod)

    async def _one(self, dice: random.Random, namespace: str, word: bytes) -> bool:
        found = [each for each in await asyncio.to_thread(processes) if word in each.command]
        victim = self._choose(dice, found)
        return victim is not None and victim.kill() and await self._bury(namespace, victim.pod)

    async def _pod(self, dice: random.Random) -> bool:
        """Kill all that runs in a pod, what holds its network too."""
        if (victim := await self._some_agent(dice)) is None:
            return False
        # The agent first: one that sees its command killed has seen it fail.
        victim.kill()
        for each in await asyncio.to_thread(processes):
            if each.pod == victim.pod:
                each.kill()
        return await self._bury(SESSIONS, victim.pod)

    async def _taken_away(self, dice: random.Random) -> bool:
        """Make the API server forget a pod whose processes still run."""
        if (victim := await self._some_agent(dice)) is None:
            return False
        await self._forget(SESSIONS, victim.pod)
        return True

    async def _keda(self, dice: random.Random) -> bool:
        await asyncio.to_thread(self.cluster.kill, KEDA)
        await asyncio.sleep(dice.uniform(0, self.calm))
        while True:
            # Again and again, as kubelet does: what it needs may be away.
            try:
                await asyncio.to_thread(self.cluster.start_component, KEDA)
            except ClusterError:
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return True

    async def _some_agent(self, dice: random.Random) -> Process | None:
        """Choose one, more often than not one at work; for that it is looked a few times."""
        looks = LOOKS if dice.random() < AT_WORK else 0
        for _ in range(looks):
            if (victim := self._choose(dice, await asyncio.to_thread(busy_agents))) is not None:
                return victim
            await asyncio.sleep(_PAUSE_SECONDS / 2)
        return self._choose(dice, await asyncio.to_thread(agents))

    def _choose(self, dice: random.Random, found: list[Process]) -> Process | None:
        return dice.choice(sorted(found, key=lambda each: each.pid)) if found else None

    async def _bury(self, namespace: str, pod: str) -> bool:
        self._killed[pod] += 1
        if self._killed[pod] > 1:
            await self._forget(namespace, pod)
        return True

    async def _forget(self, namespace: str, pod: str) -> None:
        with contextlib.suppress(ApiError, OSError):
            path = f"/api/v1/namespaces/{namespace}/pods"
            for item in (await asyncio.to_thread(self._api.get, path))["items"]:
                if item["metadata"]["uid"] == pod:
                    name = item["metadata"]["name"]
                    await asyncio.to_thread(self._api.delete, f"{path}/{name}?gracePeriodSeconds=0")
