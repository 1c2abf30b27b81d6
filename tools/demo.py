"""`make demo`: the whole life of a session on a real control plane, each step with its command and its time.

A backend's part is done with curl, as a backend would by HTTP; kubectl, helm and redis-cli show what is behind it.

With real pods where the machine can run them, otherwise with simulated ones (KIND=simulated asks for those).
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tools.curl import Curl
from tools.errors import ToolError
from tools.localcluster import ClusterSpec, LocalCluster, machine
from tools.localcluster.managers import MANAGER_COUNTS, make_key
from tools.localcluster.models import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.curl import Answer
    from tools.localcluster.models import Kind

PATIENCE_SECONDS = 60
GREETING = "hello from before the sleep"
IDLE_TIMEOUT = "6s"
SETTINGS = {
    "config": {
        "idle": {"timeout": IDLE_TIMEOUT, "touchInterval": "1s"},
        "scaling": {"pollingInterval": 2, "cooldownPeriod": 6},
    }
}


class DemoError(ToolError):
    """A step did not show what it should."""


class Demo:
    """Runs commands as a person would, and checks what they show."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self.real = cluster.state.kind == "real"
        scripts = sysconfig.get_path("scripts")
        self._environment = cluster.environment()
        self._environment["PATH"] = f"{scripts}:{self._environment['PATH']}"
        self.times: list[tuple[str, float]] = []

    def run(self, *argv: str) -> str:
        """Run one command and return what it printed."""
        say(f"  $ {shlex.join(argv)}")
        done = subprocess.run(argv, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"{shlex.join(argv)} failed: {done.stderr.strip()}"
            raise DemoError(message, f"see the logs in {self._cluster.directory}/logs")
        if done.stdout:
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

    def redis_cli(self, *argv: str) -> str:
        """Run redis-cli as somebody outside would."""
        if self.real:
            return self.run("kubectl", "-n", "sessionctl", "exec", "sessionctl-redis-0", "--", "redis-cli", *argv)
        return self.run("redis-cli", "-p", str(self._cluster.redis.port), *argv)

    @cached_property
    def curl(self) -> Curl:
        """curl with an API key of its own, which no output shows."""
        say("  $ sessionctl apikey create demo --scope read --scope write --scope access   # the key goes to curl.conf")
        key = make_key(self._cluster, "demo") or ""
        return Curl.with_key(self._cluster.api_url, key, self._folder, lambda line: say(f"  {line}"))

    def inside(self, uuid: str, command: str) -> str:
        """Run a shell command in a workspace."""
        return self.run("kubectl", "-n", "sessions", "exec", f"deployment/user-{uuid}", "--", "sh", "-c", command)

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


class Journey:
    """The life of one session."""

    def __init__(self, demo: Demo) -> None:
        self._demo = demo
        self._uuid = ""

    def walk(self) -> None:
        """Do every step."""
        step, real = self._demo.step, self._demo.real
        step("create a session for alice", self._create)
        step("wake it", self._wake)
        step("look at it", self._status)
        if real:
            step("write a file in it", self._write)
        step(f"leave it alone for {IDLE_TIMEOUT}: it sleeps", self._idle)
        step("wake it again", self._wake)
        if real:
            step("read the file back", self._read)
        step("leave it alone once more", self._idle)
        step("wake it from outside, through KEDA alone", self._push)
        step("delete it by mistake", self._delete)
        step("restore it", self._restore)
        if real:
            step("wake it once more", self._wake)
            step("read the file back", self._read)
        step("delete it for good", self._purge)

    def _replicas(self, wanted: str, what: str) -> None:
        self._demo.expect(f"{wanted} replicas{what}", lambda: self._demo.replicas(self._uuid) == wanted)

    def _create(self) -> None:
        self._uuid = accepted(self._demo.curl.post("/session/create", {"user_id": "alice"})).json["uuid"]
        self._replicas("0/0", ": a new session costs its disk only")
        self._demo.run("helm", "list", "-n", "sessions")

    def _wake(self) -> None:
        accepted(self._demo.curl.post(f"/session/{self._uuid}/wake"))
        self._replicas("1/1", "")

    def _status(self) -> None:
        accepted(self._demo.curl.get(f"/session/{self._uuid}/status"))
        accepted(self._demo.curl.get(f"/session/{self._uuid}/why"))
        self._demo.run("kubectl", "-n", "sessions", "get", "pods", "-l", f"uuid={self._uuid}")
        self._demo.run("kubectl", "-n", "sessions", "get", "scaledobject", f"user-{self._uuid}-scaler")

    def _write(self) -> None:
        self._demo.inside(self._uuid, f"echo {GREETING} > /workspace/notes.txt")

    def _read(self) -> None:
        if self._demo.inside(self._uuid, "cat /workspace/notes.txt").strip() != GREETING:
            raise DemoError("the file is not what it was", "this must never happen: please report it")

    def _idle(self) -> None:
        self._replicas("0/0", ", put to sleep by the sweeper")

    def _push(self) -> None:
        self._demo.redis_cli("RPUSH", f"queue:{self._uuid}", "wake")
        self._replicas("1/1", ", woken by KEDA")

    def _delete(self) -> None:
        accepted(self._demo.curl.delete(f"/session/{self._uuid}"))
        volume = f"persistentvolumeclaim/user-{self._uuid}"
        self._demo.expect("only the volume is left", lambda: self._demo.objects(self._uuid) == [volume])

    def _restore(self) -> None:
        accepted(self._demo.curl.post(f"/session/{self._uuid}/restore"))
        self._demo.run("sessionctl", "status", self._uuid)

    def _purge(self) -> None:
        accepted(self._demo.curl.delete(f"/session/{self._uuid}?purge=true"))
        self._demo.expect("nothing is left", lambda: self._demo.objects(self._uuid) == [])
        accepted(self._demo.curl.get("/sessions"))


def accepted(answer: Answer) -> Answer:
    """Return an answer of success.

    Raises:
        DemoError: It is another one.
    """
    if answer.status not in range(200, 300):
        raise DemoError(f"the answer is {answer.status}", "see the logs of the managers")
    return answer


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def main() -> int:
    """Run the demo on a cluster of its own and take it down again."""
    began = time.monotonic()
    try:
        real = _with_real_pods()
    except ToolError as error:
        say(f"error: {error}")
        return 2
    nodes = "a node with containerd" if real else "Redis, simulated nodes"
    with tempfile.TemporaryDirectory(prefix="sessionctl-demo-") as folder:
        say(f"== start the local cluster (etcd, API server, scheduler, KEDA, {nodes})")
        try:
            kind: Kind = "real" if real else "simulated"
            spec = ClusterSpec(kind=kind, managers=MANAGER_COUNTS[kind])
            cluster = LocalCluster.start(spec, Path(folder) / "cluster", os.getpid(), say)
        except ToolError as error:
            say(f"error: {error}")
            return 1
        try:
            ready = time.monotonic() - began
            say(f"  {ready:.1f} s")
            demo = Demo(cluster, Path(folder))
            demo.times.append(("start the local cluster", ready))
            demo.step("install the platform chart with its managers", lambda: _install(demo, cluster))
            demo.step("make an API key", lambda: _make_key(demo))
            Journey(demo).walk()
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


def _with_real_pods() -> bool:
    kind, reason = os.environ.get("KIND", ""), machine.why_not()
    if kind not in {"", *KINDS}:
        raise ToolError(f"there is no kind {kind}", f"use KIND={' or KIND='.join(KINDS)}")
    if not kind and reason:
        say(f"pods are simulated here: {reason}")
    return kind == "real" or (not kind and reason is None)


def _install(demo: Demo, cluster: LocalCluster) -> None:
    cluster.install_platform(SETTINGS)
    if demo.real:
        demo.run("kubectl", "-n", "sessionctl", "get", "pods,pvc")
    say(f"  the Session API is at {cluster.api_url}, its description at {cluster.api_url}/docs")


def _make_key(demo: Demo) -> None:
    demo.expect("the managers know the key", demo.curl.is_known)
    accepted(demo.curl.get("/sessions"))


if __name__ == "__main__":
    sys.exit(main())
