"""`make bench-chat`: what a chat through the Session API costs beside the same message sent to its agent, on real pods.

Everything shares this machine's cores: the agents, Redis, the control plane, and who asks. So look at the ratios, and
at the manager's own time for a message. What is measured runs in the cluster's network, where a pod has an address.

`python3 tools/dev.py bench-chat rate wake` measures these parts alone.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from tools import chatload, processes, wakebench
from tools.apibench import line
from tools.errors import ToolError
from tools.localcluster import ClusterSpec, LocalCluster
from tools.localcluster.machine import CGROUP
from tools.localcluster.managers import make_key
from tools.localcluster.pki import write_private
from tools.pins import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SESSIONS: Final = int(os.environ.get("SESSIONCTL_BENCH_CHATS", "20"))
WAKES: Final = 10
KEYS: Final = 5
"""One caller may hold 500 streams open."""
SLOW: Final = "slow"
WAKE: Final = "wake"
CONFIG: Final = {
    "idle": {"timeout": "1h"},
    "quotas": {"sessionsPerUser": 0},
    "api": {"keyRate": 100000, "keyBurst": 100000, "userRate": 100000, "userBurst": 100000},
}
_SLOW: Final = ["sh", "-c", "cat > /dev/null; echo first; sleep 2; echo last"]
VALUES: Final = {
    "config": CONFIG,
    "profiles": {SLOW: json.dumps({"agent": {"kind": "command", "command": _SLOW}})},
    # Where cores are short, what is asked for is what one gets of them.
    "manager": {"enabled": True, "replicas": 1, "resources": {"requests": {"cpu": "1", "memory": "64Mi"}}},
}


@dataclass(frozen=True)
class Place:
    """What is measured, as a file for the process that measures; it holds keys and tokens."""

    api: str
    keys: list[str]
    agents: dict[str, str]
    """Session -> URL of its agent."""
    tokens: dict[str, str]
    slow: str
    manager: int
    """The manager's pid, as this machine knows it."""


def sessionctl(cluster: LocalCluster, *arguments: str) -> dict[str, str]:
    """Run the command line and return its answer."""
    found: dict[str, str] = json.loads(wakebench.sessionctl(cluster, *arguments))
    return found


def manager_pid() -> int:
    """Return the manager's process in its pod."""
    for entry in Path("/proc").iterdir():
        try:
            inside = entry.name.isdigit() and f"/{CGROUP}/" in (entry / "cgroup").read_text()
            if inside and b"serve" in (entry / "cmdline").read_bytes().split(b"\0"):
                return int(entry.name)
        except OSError:
            continue
    raise ToolError("no manager runs", "see the logs of the cluster")


def _service(cluster: LocalCluster, namespace: str, name: str) -> str:
    path = "jsonpath={.spec.clusterIP}"
    return cluster.kubectl("-n", namespace, "get", "service", name, "-o", path)


def _token(cluster: LocalCluster, session: str) -> str:
    text = cluster.kubectl("-n", "sessions", "get", "secret", f"user-{session}", "-o", "json")
    (value,) = json.loads(text)["data"].values()
    return base64.b64decode(value).decode()


def prepare(cluster: LocalCluster) -> Place:
    """Make sessions, awake, and keys."""
    cluster.install_platform(VALUES)
    keys = [key for number in range(KEYS) if (key := make_key(cluster, f"bench-{number}"))]

    def create(number: int) -> str:
        session = sessionctl(cluster, "create", "--user", f"user-{number}", "--profile", "default" if number else SLOW)
        sessionctl(cluster, "wake", "--wait", session["uuid"])
        return session["uuid"]

    with ThreadPoolExecutor(2) as pool:
        sessions = list(pool.map(create, range(SESSIONS + 1)))
    agents = {each: f"http://{_service(cluster, 'sessions', f'user-{each}')}:8081" for each in sessions}
    tokens = {each: _token(cluster, each) for each in sessions}
    api = f"http://{_service(cluster, 'sessionctl', 'sessionctl-manager')}"
    return Place(api, keys, agents, tokens, sessions[0], manager_pid())


def measure_inside(cluster: LocalCluster, place: Place, folder: Path, parts: Sequence[str]) -> None:
    """Run the measurements in the network of the cluster."""
    file = folder / "place.json"
    write_private(file, json.dumps(asdict(place)).encode())
    inside = processes.descendants(cluster.state.supervisor)[0]
    argv = ["nsenter", f"--net=/proc/{inside}/ns/net", sys.executable, "-m", chatload.__name__, str(file), *parts]
    subprocess.run(argv, cwd=ROOT, check=True)


async def wakes(cluster: LocalCluster, place: Place) -> None:
    """Time a chat to a session that sleeps, until the first byte of the reply."""
    bench = wakebench.Bench(cluster)
    cluster.kubectl("-n", "sessions", "apply", "-f", "-", stdin=json.dumps(wakebench.BARE))
    session = next(each for each in place.agents if each != place.slow)
    headers = {"X-API-Key": place.keys[0]}
    first: list[float] = []
    async with httpx.AsyncClient(base_url=cluster.api_url, headers=headers, timeout=60, trust_env=False) as http:
        for _ in range(WAKES):
            while not (await http.post(f"/session/{session}/sleep")).is_success:  # noqa: ASYNC110 - just started
                await asyncio.sleep(0.2)
            await bench.wait_gone(f"uuid%3D{session}")
            await bench.bare()
            first.append(await chatload.first_byte(http, session))
    bare = line("bare patch of an empty pod -> ready", next(iter(bench.rounds.values())))
    own = line("chat to a sleeping session -> first byte of the reply", first)
    print(f"  p50 {own:.2f} s (<= 3), {own / bare:.2f} x a bare patch of an empty pod", flush=True)


def _start() -> Iterator[tuple[LocalCluster, Path]]:
    with tempfile.TemporaryDirectory(prefix="sessionctl-bench-") as folder:
        cluster = LocalCluster.start(ClusterSpec(kind="real", managers=1), Path(folder) / "cluster", os.getpid(), print)
        try:
            yield cluster, Path(folder)
        finally:
            cluster.stop()


def main(wanted: Sequence[str]) -> int:
    """Start a cluster, measure, print."""
    if unknown := set(wanted) - {*chatload.PARTS, WAKE}:
        print(f"error: {', '.join(unknown)}: the parts are {', '.join((*chatload.PARTS, WAKE))}", file=sys.stderr)
        return 2
    parts = wanted or (*chatload.PARTS, WAKE)
    try:
        for cluster, folder in _start():
            started = time.monotonic()
            place = prepare(cluster)
            print(f"{SESSIONS} sessions are awake after {time.monotonic() - started:.0f} s", flush=True)
            if inside := [part for part in parts if part != WAKE]:
                measure_inside(cluster, place, folder, inside)
            if WAKE in parts:
                asyncio.run(wakes(cluster, place))
            print(f"load of the machine: {os.getloadavg()[0]:.1f}", flush=True)
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
