"""What tests of real pods do to sessions: all of it from outside, by the command line and kubectl."""

from __future__ import annotations

import base64
import json
import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.support.sessionctl_cli import Cli
from tests.support.waiting import wait_for
from tools.localcluster.api import Api
from tools.localcluster.machine import CGROUP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.sessionctl_cli import Done
    from tools.localcluster import LocalCluster

Object = dict[str, Any]

PROFILES: Final = {
    "missing-image": "image:\n  repository: localhost/sessionctl/nowhere\n",
    "huge": "resources:\n  requests:\n    memory: 4Ti\n  limits:\n    memory: 4Ti\n",
    # Python does not start without its library.
    "crashing": "env:\n  PYTHONHOME: /nowhere\n",
    "starved": "resources:\n  requests:\n    memory: 12Mi\n  limits:\n    memory: 12Mi\n",
}
"""Profiles whose pods do not start."""

NAMESPACE: Final = "sessions"


@dataclass(frozen=True)
class Workspaces:
    """Sessions of one test."""

    cluster: LocalCluster
    cli: Cli
    made: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def on(cls, cluster: LocalCluster) -> Iterator[Self]:
        """Sessions that are gone after the block."""
        found = cls(cluster, Cli.on(cluster))
        # Opens the gate, also after a test that killed Redis with everything else.
        found.sweep()
        yield found
        found.purge_all()

    def create(self, profile: str = "default", user: str = "alice") -> str:
        """Make a session."""
        uuid: str = self.cli.json("create", "--user", user, "--profile", profile)["uuid"]
        self.made.append(uuid)
        return uuid

    def awake(self, profile: str = "default") -> str:
        """Make a session and wake it."""
        uuid = self.create(profile)
        self.wake(uuid)
        return uuid

    def wake(self, uuid: str) -> None:
        """Wake a session and wait until its pod is ready."""
        assert self.cli.json("wake", "--wait", uuid)["status"] == "active"

    def sleep(self, uuid: str) -> None:
        """Put a session to sleep and wait until its pod is gone."""
        self.cli.json("sleep", uuid)
        wait_for(lambda: not self.pods(uuid), "the pod of a sleeping session ends")

    def sweep(self, **settings: str) -> Any:
        """Sweep once, with settings of the environment."""
        return self.cli.having(**settings).json("sweep")

    def status(self, uuid: str) -> Object:
        """Ask for the status."""
        answer: Object = self.cli.json("status", uuid)
        return answer

    def pods(self, uuid: str) -> list[Object]:
        """List the session's pods."""
        items: list[Object] = self._get(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=uuid%3D{uuid}")["items"]
        return items

    def running_pods(self, uuid: str) -> list[str]:
        """Name the pods of a session in which a container runs."""
        return [
            pod["metadata"]["name"]
            for pod in self.pods(uuid)
            if any("running" in status["state"] for status in pod["status"].get("containerStatuses", []))
        ]

    def execute(self, uuid: str, *argv: str, stdin: str | None = None) -> str:
        """Run a program inside a workspace and return what it printed."""
        flags = ("-i",) if stdin is not None else ()
        target = f"deployment/user-{uuid}"
        return self.cluster.kubectl("-n", NAMESPACE, "exec", *flags, target, "-c", "agent", "--", *argv, stdin=stdin)

    def write(self, uuid: str, text: str) -> None:
        """Write a file of the user."""
        self.execute(uuid, "sh", "-c", "cat > /workspace/file", stdin=text)

    def read(self, uuid: str) -> str:
        """Read that file again."""
        return self.execute(uuid, "cat", "/workspace/file")

    def say(self, uuid: str, message_id: str, text: str) -> list[Object]:
        """Send a message to a workspace's agent from inside its pod, and return the lines of the answer."""
        body = json.dumps({"id": message_id, "message": text, "user_id": "alice"})
        answer = self.execute(uuid, "python3", "-c", _ASK, stdin=body)
        return [json.loads(line) for line in answer.splitlines() if line]  # empty ones are signs of life

    def patch(self, uuid: str, patch: Object) -> None:
        """Change a session's Deployment by a strategic merge."""
        self.cluster.kubectl("-n", NAMESPACE, "patch", "deployment", f"user-{uuid}", "-p", json.dumps(patch))

    def volume_folder(self, uuid: str) -> Path:
        """Return where the node keeps a session's files, as soon as it has a volume for them."""

        def name() -> str:
            found = self._get(f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/user-{uuid}")
            return str(found["spec"].get("volumeName", ""))

        return self.cluster.directory / "volumes" / wait_for(name, "a volume for its files")

    def delete(self, uuid: str, *flags: str) -> Done:
        """Delete a session."""
        return self.cli.run("delete", "--wait", *flags, uuid)

    def purge_all(self) -> None:
        """Remove what the test made, all at once and without sessionctl: what it does is not under test here."""
        if self.made:
            self.cluster.tool("helm", "uninstall", "-n", NAMESPACE, "--ignore-not-found", "--no-hooks", *self.made)
            names = [f"user-{uuid}" for uuid in self.made]
            self.cluster.kubectl("-n", NAMESPACE, "delete", "pvc", "--ignore-not-found", "--wait=false", *names)
            self.cluster.redis_cli("DEL", *(f"{key}:{uuid}" for key in ("session", "queue") for uuid in self.made))

    def kill_agent(self, uuid: str) -> None:
        """Kill the agent's process with SIGKILL, from outside its pod."""
        self._signal(uuid, signal.SIGKILL)

    def stop_agent(self, uuid: str) -> None:
        """Make the agent's process stand still."""
        self._signal(uuid, signal.SIGSTOP)

    def _get(self, path: str) -> Object:
        # Read again each time: a cluster that was started again has other addresses. It is asked often, and a kubectl
        # takes more of the machine than many such requests.
        return Api.from_kubeconfig(self.cluster.kubeconfig).get(path)

    def _signal(self, uuid: str, signum: signal.Signals) -> None:
        os.kill(_agent_of(self.pods(uuid)[0]["metadata"]["uid"]), signum)

    def secret_values(self, namespace: str, name: str) -> list[str]:
        """Return the texts of a Secret."""
        secret = json.loads(self.cluster.kubectl("-n", namespace, "get", "secret", name, "-o", "json"))
        return [base64.b64decode(value).decode() for value in secret["data"].values()]


_ASK: Final = """
import sys, urllib.request
token = open("/run/secrets/sessionctl/token").read().strip()
request = urllib.request.Request(
    "http://127.0.0.1:8081/v1/messages",
    sys.stdin.buffer.read(),
    {"Authorization": "Bearer " + token, "Content-Type": "application/json"},
)
sys.stdout.write(urllib.request.urlopen(request, timeout=30).read().decode())
"""


def _agent_of(pod_uid: str) -> int:
    """Return the agent's process in a pod, as this machine knows it."""
    for entry in Path("/proc").iterdir():
        try:
            groups = (entry / "cgroup").read_text() if entry.name.isdigit() else ""
            command = (entry / "cmdline").read_bytes() if f"/{CGROUP}/" in groups and pod_uid in groups else b""
        except OSError:
            continue
        # Its parent, the first process of the container, names it too.
        if b"sessionctl-agent" in command and not command.startswith(b"tini") and b"\0hold\0" not in command:
            return int(entry.name)
    msg = f"no agent in pod {pod_uid}"
    raise AssertionError(msg)
