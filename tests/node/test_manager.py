"""The session manager as pods: what a new user does with curl, and what callers notice when managers end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import pytest

from tests.node.workspaces import Workspaces
from tests.support.sessionctl_cli import Cli
from tests.support.waiting import wait_for
from tools.curl import Curl
from tools.firstuser import FirstUser
from tools.localcluster import LocalCluster
from tools.localcluster.api import Api
from tools.localcluster.machine import CGROUP
from tools.localcluster.managers import MANAGERS

NAMESPACE: Final = "sessionctl"
_OK: Final = 200
_CREATED: Final = 201


@pytest.fixture(scope="module")
def curl(managed: LocalCluster, api_key: str, tmp_path_factory: pytest.TempPathFactory) -> Curl:
    """curl with a key that the managers know."""
    found = Curl.with_key(managed.api_url, api_key, tmp_path_factory.mktemp("curl"), print)
    wait_for(found.is_known, "both know the key")
    return found


@pytest.fixture
def made(managed: LocalCluster) -> Iterator[list[str]]:
    """Sessions that are gone after the test."""
    uuids: list[str] = []
    yield uuids
    Workspaces(managed, Cli.on(managed), uuids).purge_all()


def test_the_five_steps_of_a_new_user(managed: LocalCluster, curl: Curl) -> None:
    user = FirstUser(curl, Api.from_kubeconfig(managed.kubeconfig), print, "new")
    user.create()
    user.wake()
    user.status("active")
    user.idle(lambda: wait_for(lambda: not user.workload.pods(), "no pod is left"))
    user.status("sleeping")
    user.wake()
    user.status("active")
    user.others()


def test_a_pod_may_write_to_tmp_only_and_holds_nothing_it_does_not_need(managed: LocalCluster) -> None:
    for pod in _pods(managed):
        container = pod["spec"]["containers"][0]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")} == {"/tmp"}
    name = _pods(managed)[0]["metadata"]["name"]
    script = "id -u; touch /x 2>/dev/null || echo read-only; helm version --short >/dev/null && echo helm; env"
    said = managed.kubectl("-n", NAMESPACE, "exec", name, "--", "sh", "-c", script).splitlines()
    assert said[:3] == ["65532", "read-only", "helm"]
    assert not [line for line in said if "PASSWORD" in line.upper()]


def test_a_rollout_fails_no_request(managed: LocalCluster, curl: Curl, made: list[str]) -> None:
    before = {pod["metadata"]["uid"] for pod in _pods(managed)}
    with Callers(curl, made) as callers:
        wait_for(lambda: callers.answered() > 20, "calls are made")
        managed.kubectl("-n", NAMESPACE, "rollout", "restart", MANAGERS)
        managed.kubectl("-n", NAMESPACE, "rollout", "status", MANAGERS, "--timeout=120s")
        wait_for(lambda: not before & {pod["metadata"]["uid"] for pod in _pods(managed)}, "the old ones are gone")
        seen = callers.answered()
        wait_for(lambda: callers.answered() > seen + 20, "calls go on")
    assert callers.failed == []
    # Each create that a manager was asked for has ended, and in nothing half made.
    assert made
    assert {uuid for uuid in made if curl.quiet().get(f"/session/{uuid}/status").status != _OK} == set()


def test_one_that_is_killed_is_missed_for_a_moment_only(managed: LocalCluster, curl: Curl) -> None:
    user = FirstUser(curl, Api.from_kubeconfig(managed.kubeconfig), print, "bob")
    user.create()
    victim = _pods(managed)[0]
    _kill(victim)
    # The other one answers from the start on; whoever meets the dead one may simply call again.
    wait_for(lambda: curl.post(f"/session/{user.uuid}/wake").status == 202, "woken by the other")
    wait_for(lambda: _restarts(managed) == 1, "started again")
    wait_for(lambda: all(_ready(pod) for pod in _pods(managed)), "both are ready")
    user.status_reaches("sleeping")
    curl.delete(f"/session/{user.uuid}?purge=true")


def test_with_all_of_them_killed_nothing_is_lost(managed: LocalCluster, curl: Curl) -> None:
    user = FirstUser(curl, Api.from_kubeconfig(managed.kubeconfig), print, "carol")
    user.create()
    user.wake()
    for pod in _pods(managed):
        _kill(pod)

    wait_for(lambda: curl.quiet().get(f"/session/{user.uuid}/status").status == _OK, "one is back")
    # Nobody used it meanwhile, and nobody watched: it sleeps all the same.
    user.status_reaches("sleeping")
    user.wake()
    curl.delete(f"/session/{user.uuid}?purge=true")


@dataclass
class Callers:
    """Calls one after another from several sides, until the end of the block: one creates, the others look."""

    curl: Curl
    made: list[str]
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._counts = [0, 0, 0]
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(len(self._counts))]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def answered(self) -> int:
        """Count the answers."""
        return sum(self._counts)

    def _call(self, number: int) -> None:
        quiet = self.curl.quiet()
        while not self._over.is_set():
            if number == 0:
                answer = quiet.post("/session/create", {"user_id": f"user-{len(self.made)}"})
            else:
                answer = quiet.get("/sessions")
            if answer.status not in (_OK, _CREATED):
                self.failed.append(f"{answer.status} {answer.text}")
            elif number == 0:
                self.made.append(answer.json["uuid"])
            self._counts[number] += 1


def _pods(cluster: LocalCluster) -> list[dict[str, Any]]:
    path = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io%2Fcomponent%3Dmanager"
    items: list[dict[str, Any]] = Api.from_kubeconfig(cluster.kubeconfig).get(path)["items"]
    return items


def _ready(pod: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))


def _restarts(cluster: LocalCluster) -> int:
    return sum(each["restartCount"] for pod in _pods(cluster) for each in pod["status"]["containerStatuses"])


def _kill(pod: dict[str, Any]) -> None:
    """Kill a manager's process with SIGKILL, from outside its pod."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            groups = (entry / "cgroup").read_text() if entry.name.isdigit() else ""
            if f"/{CGROUP}/" in groups and pod["metadata"]["uid"] in groups:
                found.append((int(entry.name), (entry / "cmdline").read_bytes()))
        except OSError:
            continue
    (pid,) = [pid for pid, command in found if b"serve" in command]
    os.kill(pid, signal.SIGKILL)
