"""`make bench-wake`: what a wake costs on a real pod, phase by phase, beside a bare scale patch of an empty pod.

The phases come from a watch of the pod and from containerd's log, which share this machine's clock. KEDA, the whole
control plane and the pod share its cores too, so the bare patch in the same run is what the sum is compared with.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sessionctl.core.identity import parse_session_id
from sessionctl.factory import DirectOptions, open_factory
from tools.errors import ToolError
from tools.localcluster import ClusterSpec, LocalCluster
from tools.localcluster.api import Api, Object
from tools.localcluster.engines import has_condition
from tools.localcluster.node import PAUSE_IMAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROUNDS: Final = 10
AT_ONCE: Final = 30
PATIENCE_SECONDS: Final = 60
SETTLE_SECONDS: Final = 1.0
"""Between two rounds: what ends the last pod must not fall into the time of the next."""
SESSIONCTL: Final = Path(sysconfig.get_path("scripts")) / "sessionctl"

_PODS: Final = "/api/v1/namespaces/sessions/pods"
_LOG_LINE: Final = re.compile(r'^time="([^"]+)" level=\w+ msg="(.*)"')
BARE: Final = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "bare"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"bare": "yes"}},
        "template": {
            "metadata": {"labels": {"bare": "yes"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                # The namespace admits nothing else.
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "pause",
                        "image": PAUSE_IMAGE,
                        "imagePullPolicy": "Never",
                        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    }
                ],
            },
        },
    },
}
"""A Deployment whose pods hold nothing and wait for nothing."""


@dataclass
class Watch:
    """Notes when the pods of a selector are scheduled and ready, by this machine's clock."""

    api: Api
    path: str
    selector: str

    def __post_init__(self) -> None:
        self.name = ""
        self.scheduled = 0.0
        self.ready = threading.Event()
        self.ready_at = 0.0

    def start(self) -> None:
        """Begin to look; returns when nothing can be missed any more."""
        version = self.api.get(f"{self.path}?labelSelector={self.selector}")["metadata"]["resourceVersion"]
        threading.Thread(target=self._follow, args=(version,), daemon=True).start()

    def _follow(self, version: str) -> None:
        for _, pod in self.api.watch(self.path, version, PATIENCE_SECONDS, self.selector):
            now = time.time()
            self.name = pod["metadata"]["name"]
            if not self.scheduled and has_condition(pod, "PodScheduled"):
                self.scheduled = now
            if has_condition(pod, "Ready"):
                self.ready_at = now
                self.ready.set()
                return


def containerd_moments(log: Path, pod: str) -> dict[str, float]:
    """Return when containerd began and ended the parts of a pod's start."""
    found: dict[str, float] = {}
    sandbox = ""
    for line in log.read_text().splitlines():
        if not (match := _LOG_LINE.match(line)):
            continue
        at = datetime.fromisoformat(match[1]).timestamp()
        text = match[2].replace('\\"', '"')
        if text.startswith("RunPodSandbox") and f'name:"{pod}"' in text:
            if identity := re.search(r'returns sandbox id "(\w+)"', text):
                sandbox, found["sandbox ready"] = identity[1], at
            else:
                found["sandbox begun"] = at
        elif sandbox and text.startswith("CreateContainer within sandbox") and sandbox in text:
            found.setdefault("container begun", at)
        elif sandbox and text.startswith("StartContainer for") and "returns successfully" in text:
            found.setdefault("container started", at)
    return found


class Bench:
    """Rounds on one cluster."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._api = Api.from_kubeconfig(cluster.kubeconfig)
        self.rounds: dict[str, list[float]] = {}

    async def _time(self, selector: str, start: Callable[[], Awaitable[None]]) -> tuple[Watch, float, float]:
        watch = Watch(self._api, _PODS, selector)
        await asyncio.to_thread(watch.start)
        began = time.time()
        await start()
        asked = time.time()
        if not await asyncio.to_thread(watch.ready.wait, PATIENCE_SECONDS):
            raise ToolError(f"a pod of {selector} is not ready", f"see {self._cluster.directory}/logs")
        return watch, began, asked

    async def wake(self, session_id: str, wake: Callable[[], Awaitable[None]]) -> None:
        """Time one wake."""
        watch, began, asked = await self._time(f"uuid%3D{session_id}", wake)
        moments = containerd_moments(self._cluster.log("containerd"), watch.name)
        steps = {
            "1 demand in Redis, patch": (began, asked),
            "2 pod made and scheduled": (asked, watch.scheduled),
            "3 kubelet, volume": (watch.scheduled, moments["sandbox begun"]),
            "4 sandbox": (moments["sandbox begun"], moments["sandbox ready"]),
            "5 container": (moments["sandbox ready"], moments["container started"]),
            "6 agent up, probe, ready": (moments["container started"], watch.ready_at),
            "wake -> ready": (began, watch.ready_at),
        }
        for name, (since, until) in steps.items():
            self.rounds.setdefault(name, []).append(until - since)

    async def bare(self) -> None:
        """Time a bare scale patch of a pod that has no volume and no probe."""

        async def patch() -> None:
            await asyncio.to_thread(self._scale_bare, 1)

        watch, began, _ = await self._time("bare%3Dyes", patch)
        self.rounds.setdefault("bare patch of an empty pod -> ready", []).append(watch.ready_at - began)
        await asyncio.to_thread(self._scale_bare, 0)
        await self.wait_gone("bare%3Dyes")

    def _scale_bare(self, replicas: int) -> None:
        body: Object = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": replicas}}
        self._api.merge("/apis/apps/v1/namespaces/sessions/deployments/bare", body)

    async def wait_gone(self, selector: str) -> None:
        """Wait until no pod of a selector is left, and a moment more."""
        await asyncio.to_thread(self._wait_gone, selector)

    def _wait_gone(self, selector: str) -> None:
        while self._api.get(f"{_PODS}?labelSelector={selector}")["items"]:
            time.sleep(0.1)
        time.sleep(SETTLE_SECONDS)

    async def herd(self, session_ids: list[str], wake: Callable[[str], Awaitable[None]]) -> None:
        """Time the wakes of many sessions at once."""
        watches = [Watch(self._api, _PODS, f"uuid%3D{session_id}") for session_id in session_ids]
        for watch in watches:
            await asyncio.to_thread(watch.start)
        began = time.time()
        await asyncio.gather(*(wake(session_id) for session_id in session_ids))
        for watch in watches:
            await asyncio.to_thread(watch.ready.wait, PATIENCE_SECONDS)
        if late := [watch.selector for watch in watches if not watch.ready.is_set()]:
            raise ToolError(f"{len(late)} of {len(watches)} are not ready", f"see {self._cluster.directory}/logs")
        self.rounds[f"{len(watches)} at once -> ready"] = [watch.ready_at - began for watch in watches]

    def print(self) -> None:
        """Print medians and the comparison."""
        for name, values in sorted(self.rounds.items()):
            print(f"{name:38} min {min(values):.3f}  p50 {statistics.median(values):.3f}  max {max(values):.3f} s")
        wake, bare = (
            statistics.median(self.rounds[name]) for name in ("wake -> ready", "bare patch of an empty pod -> ready")
        )
        print(f"a wake takes {wake / bare:.2f} x a bare patch of an empty pod")


def sessionctl(cluster: LocalCluster, *arguments: str) -> str:
    """Run the command line and return its answer."""
    program = [str(SESSIONCTL), "-q", *arguments, "-o", "json"]
    return subprocess.run(program, env=cluster.environment(), capture_output=True, text=True, check=True).stdout


def create_session(cluster: LocalCluster) -> str:
    """Make a session."""
    return str(json.loads(sessionctl(cluster, "create", "--user", "bench"))["uuid"])


async def measure(cluster: LocalCluster) -> Bench:
    """Run the rounds with a new session."""
    session_id = parse_session_id(create_session(cluster))
    cluster.kubectl("-n", "sessions", "apply", "-f", "-", stdin=json.dumps(BARE))
    bench = Bench(cluster)
    options = DirectOptions(kubeconfig=str(cluster.kubeconfig), helm=str(cluster.binary("helm")))
    async with open_factory(options) as factory:

        async def wake() -> None:
            await factory.demand.wake(session_id)

        async def wake_one(session_id: str) -> None:
            await factory.demand.wake(parse_session_id(session_id))

        for number in range(ROUNDS + 1):
            await bench.bare()
            await bench.wake(session_id, wake)
            await factory.demand.sleep(session_id)
            await bench.wait_gone(f"uuid%3D{session_id}")
            if number == 0:
                # The first round makes the volume and warms every cache.
                bench.rounds.clear()
        with ThreadPoolExecutor(2) as pool:
            herd = list(pool.map(create_session, [cluster] * AT_ONCE))
        # KEDA is done with them, so that the wakes are all there is.
        await asyncio.to_thread(time.sleep, SETTLE_SECONDS)
        await bench.herd(herd, wake_one)
    return bench


def main() -> int:
    """Start a cluster, run the rounds, print."""
    with tempfile.TemporaryDirectory(prefix="sessionctl-bench-") as folder:
        try:
            cluster = LocalCluster.start(ClusterSpec(kind="real"), Path(folder) / "cluster", os.getpid(), print)
        except ToolError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        try:
            cluster.install_platform()
            # Opens the gate, without which nothing may sleep.
            sessionctl(cluster, "sweep")
            asyncio.run(measure(cluster)).print()
        finally:
            cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
