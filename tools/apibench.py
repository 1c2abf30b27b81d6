"""`make bench`, second half: the Session API beside bare Helm and bare patches, in one run (DESIGN 12).

Both sides use the same HTTP client from the same process, and take turns. Pods are simulated, so that what is measured
is the way to them. Whoever reads the figures should look at the ratios: absolute times depend on the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import json
import os
import ssl
import statistics
import sys
import sysconfig
import tempfile
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from tools.localcluster import ClusterSpec, LocalCluster
from tools.localcluster.managers import make_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

CREATE_ROUNDS: Final = 20
BURST: Final = int(os.environ.get("SESSIONCTL_BENCH_BURST", "300"))
BURST_TURNS: Final = 4
"""In turns, because every session that is there makes the next one slower."""
PARALLEL: Final = 8
AT_ONCE: Final = tuple(int(count) for count in os.environ.get("SESSIONCTL_BENCH_AT_ONCE", "1,10,100,300").split(","))
WAKE_ROUNDS: Final = 3
SLEEPERS: Final = int(os.environ.get("SESSIONCTL_BENCH_SLEEPERS", "5000"))
STATUS_CALLS: Final = 2000
IDLE_SECONDS: Final = 20
MANAGERS: Final = ("manager-1",)
CONTROLLERS: Final = ("kube-apiserver", "kube-controller-manager")
QUIET_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 180.0
QUIET_SHARE: Final = 0.2
"""Of one core, both together; a queue that is being worked off takes all there is."""
CONFIG: Final = {
    "idle": {"timeout": f"{IDLE_SECONDS}s", "probe": "none"},
    "quotas": {"sessionsPerUser": 0},
    "api": {"keyRate": 100000, "keyBurst": 100000, "userRate": 100000, "userBurst": 100000},
}
HELM_FLAGS: Final = ("--disable-openapi-validation", "--no-hooks", "--namespace", "sessions", "--values", "-")
SESSIONCTL: Final = str(Path(sysconfig.get_path("scripts")) / "sessionctl")
DEPLOYMENTS: Final = "/apis/apps/v1/namespaces/sessions/deployments"
CLAIMS: Final = "/api/v1/namespaces/sessions/persistentvolumeclaims"
MERGE: Final = {"Content-Type": "application/merge-patch+json"}
SERVER_SET: Final = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")

Json = dict[str, Any]


def line(name: str, seconds: Sequence[float]) -> float:
    """Print one row; returns the median."""
    ordered = sorted(seconds)
    last = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    median = statistics.median(ordered)
    print(f"{name:52} p50 {median * 1000:8.1f}  p99 {last * 1000:8.1f}  max {ordered[-1] * 1000:8.1f} ms", flush=True)
    return median


@dataclass
class Watcher:
    """Sees replicas and ready pods of Deployments by name; times are this process's own."""

    http: httpx.AsyncClient
    ready_at: dict[str, float]
    down_at: dict[str, float]

    async def run(self, started: asyncio.Event) -> None:
        """Follow until cancelled; the API server drops a watch whose reader is too slow."""
        while True:
            with contextlib.suppress(httpx.HTTPError, KeyError):
                listing = (await self.http.get(DEPLOYMENTS)).json()
                query = {"watch": "true", "resourceVersion": listing["metadata"]["resourceVersion"]}
                async with self.http.stream("GET", DEPLOYMENTS, params=query, timeout=None) as answer:
                    for item in listing["items"] if started.is_set() else ():
                        self._see(item)
                    started.set()
                    async for text in answer.aiter_lines():
                        self._see(json.loads(text)["object"])
            await asyncio.sleep(0.1)

    def _see(self, item: Json) -> None:
        name = item["metadata"]["name"]
        if item["spec"].get("replicas") and item.get("status", {}).get("readyReplicas"):
            self.ready_at.setdefault(name, time.monotonic())
        elif not item["spec"].get("replicas"):
            self.down_at.setdefault(name, time.monotonic())

    async def wait(self, seen: dict[str, float], names: Sequence[str]) -> None:
        """Return when all of them were seen."""
        while not all(name in seen for name in names):  # noqa: ASYNC110 - a bench may look often
            await asyncio.sleep(0.02)


class ApiBench:
    """One cluster with one manager."""

    def __init__(self, cluster: LocalCluster, api: httpx.AsyncClient, kube: httpx.AsyncClient) -> None:
        self._cluster = cluster
        self._api = api
        self._kube = kube
        self._watcher = Watcher(kube, {}, {})
        self._helm = str(cluster.binary("helm"))
        self._chart = str(Path(__file__).resolve().parent.parent / "charts" / "user-session")
        self._environment = cluster.environment()

    async def run(self) -> None:
        """Measure everything, in an order in which nothing disturbs what follows."""
        template = await asyncio.create_subprocess_exec(
            SESSIONCTL, "template", "-o", "json", env=self._environment, stdout=asyncio.subprocess.PIPE
        )
        values = (await template.communicate())[0].decode()
        started = asyncio.Event()
        watching = asyncio.create_task(self._watcher.run(started))
        await started.wait()
        sessions = await self._creates(values)
        await self._quiet()
        await self._wakes(sessions)
        await self._sleeps(sessions)
        watching.cancel()
        await self._sleepers(sessions[0])

    async def _creates(self, values: str) -> list[str]:
        made: list[str] = []
        bare, ours = [], []
        await self._create()
        for _ in range(CREATE_ROUNDS):
            bare.append(await self._timed(self._bare_helm(values)))
            started = time.monotonic()
            made.append(await self._create())
            ours.append(time.monotonic() - started)
        helm = line("bare helm install", bare)
        own = line("POST /session/create", ours)
        print(
            f"  p50: {own / (1.2 * helm + 0.05):.2f} of 1.2 x bare + 50 ms; p99 {max(ours) / helm:.1f} x bare p50 (4)"
        )
        bare_seconds = own_seconds = 0.0
        for _ in range(BURST_TURNS):
            share = BURST // BURST_TURNS
            bare_seconds += await self._timed(self._burst([lambda: self._bare_helm(values)] * share))
            own_seconds += await self._timed(self._burst([lambda: self._create(made)] * share))
        print(
            f"bursts of {BURST} in {BURST_TURNS} turns, {PARALLEL} at once: bare {BURST / bare_seconds:.2f}/s, "
            f"ours {BURST / own_seconds:.2f}/s: {bare_seconds / own_seconds:.2f} (>= 0.9)",
            flush=True,
        )
        return made

    async def _timed(self, work: Awaitable[object]) -> float:
        started = time.monotonic()
        await work
        return time.monotonic() - started

    async def _burst(self, works: Sequence[Callable[[], Awaitable[object]]]) -> None:
        slots = asyncio.Semaphore(PARALLEL)

        async def one(work: Callable[[], Awaitable[object]]) -> None:
            async with slots:
                await work()

        await asyncio.gather(*(one(work) for work in works))

    async def _bare_helm(self, values: str) -> None:
        argv = [self._helm, "install", str(uuid.uuid4()), self._chart, *HELM_FLAGS]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, env=self._environment, stdin=pipe, stdout=pipe)
        await process.communicate(values.encode())
        assert process.returncode == 0

    async def _create(self, made: list[str] | None = None) -> str:
        answer = await self._api.post("/session/create", json={"user_id": f"bench-{uuid.uuid4()}"})
        assert answer.status_code == HTTPStatus.CREATED, answer.text
        session = str(answer.json()["uuid"])
        if made is not None:
            made.append(session)
        return session

    async def _wakes(self, sessions: Sequence[str]) -> None:
        """Ours are sessions, bare ones Deployments with the same pod and nothing else that looks after them."""
        bare = await self._bare_deployments(sessions[0], max(AT_ONCE))
        names = {f"user-{session}": session for session in sessions}
        for count in AT_ONCE:
            figures: dict[str, list[float]] = {"bare": [], "ours": []}
            for _ in range(WAKE_ROUNDS * (4 if count == 1 else 1)):
                figures["bare"] += await self._together(bare[:count], self._patch_up)
                await self._down(bare[:count])
                mine = list(names)[:count]
                figures["ours"] += await self._together(mine, lambda name: self._wake(names[name]))
                await self._sleep([names[name] for name in mine])
            patch = line(f"{count:3} at once: bare scale patch -> Ready", figures["bare"])
            own = line(f"{count:3} at once: POST wake -> Ready", figures["ours"])
            print(f"  p50: {own / (1.15 * patch + 0.02):.2f} of 1.15 x bare + 20 ms", flush=True)

    async def _together(self, names: Sequence[str], act: Callable[[str], Awaitable[None]]) -> list[float]:
        for name in names:
            self._watcher.ready_at.pop(name, None)
        began: dict[str, float] = {}

        async def one(name: str) -> None:
            began[name] = time.monotonic()
            await act(name)

        await asyncio.gather(*(one(name) for name in names))
        await self._watcher.wait(self._watcher.ready_at, names)
        return [self._watcher.ready_at[name] - began[name] for name in names]

    async def _patch(self, name: str, replicas: int) -> None:
        body = json.dumps({"spec": {"replicas": replicas}})
        (await self._kube.patch(f"{DEPLOYMENTS}/{name}", content=body, headers=MERGE)).raise_for_status()

    async def _patch_up(self, name: str) -> None:
        await self._patch(name, 1)

    async def _wake(self, session: str) -> None:
        answer = await self._api.post(f"/session/{session}/wake")
        assert answer.status_code == HTTPStatus.ACCEPTED, answer.text

    async def _down(self, names: Sequence[str]) -> None:
        for name in names:
            self._watcher.down_at.pop(name, None)
        await asyncio.gather(*(self._patch(name, 0) for name in names))
        await self._settle(names)

    async def _sleep(self, sessions: Sequence[str]) -> None:
        for session in sessions:
            self._watcher.down_at.pop(f"user-{session}", None)

        async def one(session: str) -> None:
            # The status of a Deployment that has just started may still move its version.
            while (await self._api.post(f"/session/{session}/sleep")).status_code == HTTPStatus.CONFLICT:  # noqa: ASYNC110
                await asyncio.sleep(0.2)

        await asyncio.gather(*(one(session) for session in sessions))
        await self._settle([f"user-{session}" for session in sessions])

    async def _settle(self, names: Sequence[str]) -> None:
        await self._watcher.wait(self._watcher.down_at, names)
        await asyncio.sleep(1.0 + len(names) / 100)

    async def _bare_deployments(self, session: str, count: int) -> list[str]:
        model = (await self._kube.get(f"{DEPLOYMENTS}/user-{session}")).json()
        claim = (await self._kube.get(f"{CLAIMS}/user-{session}")).json()["spec"]
        claim.pop("volumeName", None)
        names = [f"bare-{number}" for number in range(count)]
        slots = asyncio.Semaphore(PARALLEL)

        async def make(name: str) -> None:
            spec = copy.deepcopy(model["spec"])
            own = {"bare": name}
            spec["replicas"] = 0
            spec["selector"] = {"matchLabels": own}
            spec["template"]["metadata"]["labels"] = own
            for volume in spec["template"]["spec"]["volumes"]:
                if "persistentVolumeClaim" in volume:
                    volume["persistentVolumeClaim"]["claimName"] = name
            body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
            own_claim = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name},
                "spec": claim,
            }
            async with slots:
                (await self._kube.post(CLAIMS, json=own_claim)).raise_for_status()
                (await self._kube.post(DEPLOYMENTS, json=body)).raise_for_status()

        await asyncio.gather(*(make(name) for name in names))
        return names

    async def _sleeps(self, sessions: Sequence[str]) -> None:
        """All awake at once, then nobody works: how long after the idle timeout each sleeps."""
        sleepers = sessions[: max(AT_ONCE)]
        last: dict[str, float] = {}
        names = [f"user-{session}" for session in sleepers]
        await self._together(names, lambda name: self._wake(name.removeprefix("user-")))
        for name in names:
            self._watcher.down_at.pop(name, None)
        for session in sleepers:
            last[f"user-{session}"] = time.monotonic()
            await self._wake(session)
        await self._watcher.wait(self._watcher.down_at, names)
        late = [self._watcher.down_at[name] - last[name] - IDLE_SECONDS for name in names]
        line(f"{len(names)} sleep after the idle timeout of {IDLE_SECONDS} s by", late)
        print(f"  earliest {min(late):.2f} s after the timeout (>= 0), latest {max(late):.2f} s (<= 6)", flush=True)

    async def _sleepers(self, session: str) -> None:
        """Thousands of sessions that sleep, made without Helm: nothing on a request's way looks at releases.

        Each is asked for once before: whoever asks first has its record written.
        """
        known = await self._copies(session, SLEEPERS)
        for name in MANAGERS:
            self._cluster.kill(name)
            self._cluster.start_component(name)
        await self._burst([functools.partial(self._api.get, f"/session/{each}/status") for each in known])
        await self._quiet()
        statuses, pages = [], []
        for number in range(STATUS_CALLS):
            target = f"/session/{known[number * 7 % len(known)]}/status"
            started = time.monotonic()
            answer = await self._api.get(target)
            statuses.append(time.monotonic() - started)
            assert answer.status_code == HTTPStatus.OK, answer.text
        for _ in range(20):
            started = time.monotonic()
            answer = await self._api.get("/sessions")
            pages.append(time.monotonic() - started)
            assert answer.status_code == HTTPStatus.OK, answer.text
        line(f"{SLEEPERS} sleeping sessions: GET status (p99 <= 30 ms)", statuses)
        line(f"{SLEEPERS} sleeping sessions: first page of GET /sessions (<= 100 ms)", pages)
        for name in MANAGERS:
            resident = _resident_megabytes(self._cluster.pid(name) or 0)
            print(f"{name}: {resident:.0f} MB resident (<= 300)", flush=True)

    async def _quiet(self) -> None:
        """Return when the controllers have worked off their queues: the figures that follow are of the manager."""
        began = still_since = time.monotonic()
        while time.monotonic() - still_since < QUIET_SECONDS:
            if time.monotonic() - began > PATIENCE_SECONDS:
                print("the controllers are still busy: what follows is measured beside their work", flush=True)
                return
            before = self._controllers_seconds()
            await asyncio.sleep(1.0)
            if self._controllers_seconds() - before > QUIET_SHARE:
                still_since = time.monotonic()

    def _controllers_seconds(self) -> float:
        return sum(_processor_seconds(pid) for name in CONTROLLERS if (pid := self._cluster.pid(name)))

    async def _copies(self, session: str, count: int) -> list[str]:
        models = {}
        for collection in (DEPLOYMENTS, CLAIMS):
            model: Json = (await self._kube.get(f"{collection}/user-{session}")).json()
            model.pop("status", None)
            for field in SERVER_SET:
                model["metadata"].pop(field, None)
            models[collection] = json.dumps(model)
        ids = [str(uuid.uuid4()) for _ in range(count)]
        slots = asyncio.Semaphore(32)

        async def make(copy_id: str) -> None:
            async with slots:
                for collection, text in models.items():
                    body = text.replace(session, copy_id)
                    (
                        await self._kube.post(collection, content=body, headers={"Content-Type": "application/json"})
                    ).raise_for_status()

        await asyncio.gather(*(make(copy_id) for copy_id in ids))
        return ids


def _resident_megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def bench(cluster: LocalCluster) -> None:
    """Run everything on a cluster that has a manager."""
    context = ssl.create_default_context(cafile=str(cluster.certificate_authority))
    token = {"Authorization": f"Bearer {cluster.token_for('admin')}"}
    limits = httpx.Limits(max_connections=400, max_keepalive_connections=400)
    key = make_key(cluster, "bench")
    assert key is not None
    async with (
        httpx.AsyncClient(base_url=cluster.api_url, headers={"X-API-Key": key}, timeout=120, limits=limits) as api,
        httpx.AsyncClient(base_url=cluster.server, verify=context, headers=token, timeout=60, limits=limits) as kube,
    ):
        while (await api.get("/sessions")).status_code != HTTPStatus.OK:  # noqa: ASYNC110 - the key has to get there
            await asyncio.sleep(0.2)
        await ApiBench(cluster, api, kube).run()


def main() -> int:
    """Start a cluster and run the bench."""
    with tempfile.TemporaryDirectory(prefix="sessionctl-bench-") as folder:
        cluster = LocalCluster.start(ClusterSpec(managers=1), Path(folder) / "cluster", os.getpid(), print)
        try:
            cluster.install_platform({"config": CONFIG})
            asyncio.run(bench(cluster))
        finally:
            cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
