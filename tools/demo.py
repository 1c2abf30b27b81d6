"""`make demo`: the whole life of a session on a real control plane, each step with its command and its time."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tools.errors import ToolError
from tools.localcluster import ClusterSpec, LocalCluster

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS = 60
IDLE_TIMEOUT = "6s"
SETTINGS = {
    "config": {
        "idle": {"timeout": IDLE_TIMEOUT, "touchInterval": "1s", "probe": "none"},
        "scaling": {"pollingInterval": 2, "cooldownPeriod": 6},
    }
}


class DemoError(ToolError):
    """A step did not show what it should."""


class Demo:
    """Runs commands as a person would, and checks what they show."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        scripts = sysconfig.get_path("scripts")
        self._environment = cluster.environment()
        self._environment["PATH"] = f"{scripts}:{self._environment['PATH']}"
        self.times: list[tuple[str, float]] = []

    def run(self, *argv: str, show: bool = True) -> str:
        """Run one command and return what it printed."""
        if show:
            say(f"  $ {shlex.join(argv)}")
        done = subprocess.run(argv, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"{shlex.join(argv)} failed: {done.stderr.strip()}"
            raise DemoError(message, f"see the logs in {self._cluster.directory}/logs")
        if show and done.stdout:
            say("    " + done.stdout.rstrip().replace("\n", "\n    "))
        return done.stdout

    def step(self, title: str, work: Callable[[], object]) -> None:
        """Do one step and keep its time."""
        say(f"\n== {title}")
        started = time.monotonic()
        work()
        elapsed = time.monotonic() - started
        self.times.append((title, elapsed))
        say(f"  {elapsed:.1f} s")

    def expect(self, what: str, look: Callable[[], bool]) -> None:
        """Wait until something is seen."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not look():
            if time.monotonic() > deadline:
                message = f"not seen within {PATIENCE_SECONDS} s: {what}"
                raise DemoError(message, f"see the logs in {self._cluster.directory}/logs")
            time.sleep(0.1)
        say(f"  seen: {what}")

    def replicas(self, uuid: str) -> str:
        """Return ready and wanted replicas, as kubectl shows them."""
        text = self._cluster.kubectl("-n", "sessions", "get", "deployment", f"user-{uuid}", "-o", "json")
        deployment = json.loads(text)
        return f"{deployment['status'].get('readyReplicas', 0)}/{deployment['spec']['replicas']}"

    def objects(self, uuid: str) -> list[str]:
        """Name everything that is left of a session in the cluster."""
        kinds = "all,pvc,secret,configmap,networkpolicy,scaledobject,triggerauthentication"
        text = self._cluster.kubectl("-n", "sessions", "get", kinds, "-l", f"uuid={uuid}", "-o", "name")
        return text.split()


def journey(demo: Demo, cluster: LocalCluster) -> None:
    """Walk through the life of one session."""
    uuid = ""

    def create() -> None:
        nonlocal uuid
        uuid = json.loads(demo.run("sessionctl", "-q", "create", "--user", "alice", "-o", "json"))["uuid"]
        demo.expect("0/0 replicas: a new session costs its disk only", lambda: demo.replicas(uuid) == "0/0")
        demo.run("helm", "list", "-n", "sessions")

    def wake() -> None:
        demo.run("sessionctl", "-q", "wake", "--wait", uuid)
        demo.expect("1/1 replicas", lambda: demo.replicas(uuid) == "1/1")

    def status() -> None:
        demo.run("sessionctl", "status", uuid)
        demo.run("kubectl", "-n", "sessions", "get", "pods", "-l", f"uuid={uuid}")
        demo.run("kubectl", "-n", "sessions", "get", "scaledobject", f"user-{uuid}-scaler")

    def idle() -> None:
        demo.expect("0/0 replicas, put to sleep by the sweeper", lambda: demo.replicas(uuid) == "0/0")

    def push() -> None:
        port = str(cluster.redis.port)
        demo.run("redis-cli", "-p", port, "RPUSH", f"queue:{uuid}", "wake")
        demo.expect("1/1 replicas, woken by KEDA", lambda: demo.replicas(uuid) == "1/1")

    def delete() -> None:
        demo.run("sessionctl", "-q", "delete", "--wait", uuid)
        volume = f"persistentvolumeclaim/user-{uuid}"
        demo.expect("only the volume is left", lambda: demo.objects(uuid) == [volume])

    def restore() -> None:
        demo.run("sessionctl", "-q", "restore", uuid)
        demo.run("sessionctl", "status", uuid)

    def purge() -> None:
        demo.run("sessionctl", "-q", "delete", "--purge", "--wait", uuid)
        demo.expect("nothing is left", lambda: demo.objects(uuid) == [])
        demo.run("sessionctl", "list")

    demo.step("create a session for alice", create)
    demo.step("wake it", wake)
    demo.step("look at it", status)
    demo.step(f"leave it alone for {IDLE_TIMEOUT}: it sleeps", idle)
    demo.step("wake it again", wake)
    demo.step("leave it alone once more", idle)
    demo.step("wake it from outside, through KEDA alone", push)
    demo.step("delete it by mistake", delete)
    demo.step("restore it", restore)
    demo.step("delete it for good", purge)


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def main() -> int:
    """Run the demo on a cluster of its own and take it down again."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sessionctl-demo-") as folder:
        say("== start the local cluster (etcd, API server, scheduler, KEDA, Redis, simulated nodes)")
        try:
            cluster = LocalCluster.start(ClusterSpec(), Path(folder) / "cluster", os.getpid(), say)
        except ToolError as error:
            say(f"error: {error}")
            return 1
        try:
            ready = time.monotonic() - began
            say(f"  {ready:.1f} s")
            demo = Demo(cluster)
            demo.times.append(("start the local cluster", ready))
            demo.step("install the platform chart and start the sweeper", lambda: _install(cluster))
            journey(demo, cluster)
        except ToolError as error:
            say(f"error: {error}")
            return 1
        finally:
            started = time.monotonic()
            cluster.stop()
            say(f"\n== take everything down\n  {time.monotonic() - started:.1f} s")
    say("\n== times")
    for title, elapsed in demo.times:
        say(f"  {elapsed:6.1f} s  {title}")
    say(f"  {time.monotonic() - began:6.1f} s  in all")
    return 0


def _install(cluster: LocalCluster) -> None:
    cluster.install_platform(SETTINGS)
    cluster.run("sweep", [Path(sysconfig.get_path("scripts")) / "sessionctl", "sweep", "--loop"])


if __name__ == "__main__":
    sys.exit(main())
