"""What a workspace reaches of the cluster: DNS and nothing else; and what refuses it where no NetworkPolicy does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pytest

from tests.node.workspaces import Workspaces
from tests.support.waiting import wait_for
from tools.localcluster import LocalCluster

_CONNECT: Final = """
import json, socket, sys
found = {}
for name, (host, port) in json.load(sys.stdin).items():
    try:
        socket.create_connection((host, port), timeout=3).close()
        found[name] = "connected"
    except OSError as error:
        found[name] = type(error).__name__ if isinstance(error, TimeoutError) else error.strerror
print(json.dumps(found))
"""
_ASK: Final = """
import socket, ssl, sys, urllib.error, urllib.request
def status(url):
    try:
        return urllib.request.urlopen(url, timeout=10, context=ssl._create_unverified_context()).status
    except urllib.error.HTTPError as error:
        return error.code
other = sys.argv[1]
print(status("https://kubernetes.default.svc/api/v1/namespaces/sessions/secrets"))
print(status(f"http://{other}:8081/v1/conversation"))
with socket.create_connection(("sessionctl-redis.sessionctl.svc", 6379), timeout=10) as redis:
    redis.sendall(b"KEYS *\\r\\n")
    print(redis.recv(100).decode().split()[0])
"""
_PROHIBITED: Final = "No route to host"
"""What a connection that the node refuses by a policy fails with; Connection refused would be the target's own word."""


@pytest.fixture(scope="module")
def workspaces(bare: LocalCluster) -> Iterator[Workspaces]:
    """The sessions of this file."""
    with Workspaces.on(bare) as found:
        yield found


@pytest.fixture(scope="module")
def inside(workspaces: Workspaces) -> str:
    """The session that looks around."""
    return workspaces.awake()


@pytest.fixture(scope="module")
def other(workspaces: Workspaces) -> str:
    """Somebody else's."""
    return workspaces.awake()


def _reaches(workspaces: Workspaces, uuid: str, targets: dict[str, tuple[str, int]]) -> dict[str, str]:
    found: dict[str, str] = json.loads(workspaces.execute(uuid, "python3", "-c", _CONNECT, stdin=json.dumps(targets)))
    return found


def _address(workspaces: Workspaces, uuid: str) -> str:
    return str(workspaces.pods(uuid)[0]["status"]["podIP"])


def test_from_inside_nothing_of_the_cluster_can_be_reached(workspaces: Workspaces, inside: str, other: str) -> None:
    targets = {
        "API server": ("kubernetes.default.svc", 443),
        "Redis": ("sessionctl-redis.sessionctl.svc", 6379),
        "the agent of another": (_address(workspaces, other), 8081),
        "the editor of another": (_address(workspaces, other), 8080),
        "the agent of another by its name": (f"user-{other}.sessions.svc", 8081),
        "kubelet": ("172.31.250.1", 10250),
    }
    found = _reaches(workspaces, inside, targets)
    assert found == dict.fromkeys(targets, _PROHIBITED)
    # Nobody is there on this node; what the policy says of the address is shown with the chart.
    assert _reaches(workspaces, inside, {"metadata": ("169.254.169.254", 80)}) != {"metadata": "connected"}
    # Names were found, so DNS was let through, and so is what stays in the pod.
    assert _reaches(workspaces, inside, {"own": ("127.0.0.1", 8081)}) == {"own": "connected"}


def test_without_its_policies_the_others_still_ask_who_it_is(workspaces: Workspaces, inside: str, other: str) -> None:
    """The second line: API server, agents and Redis want a credential, and it has none."""
    policies = [f"user-{uuid}" for uuid in (inside, other)]
    workspaces.cluster.kubectl("-n", "sessions", "delete", "networkpolicy", *policies)
    # A change of a pod is when the node looks at policies.
    workspaces.cluster.kubectl("-n", "sessions", "label", "pod", "-l", f"uuid={inside}", "looked=1")
    api = {"API server": ("kubernetes.default.svc", 443)}
    wait_for(lambda: _reaches(workspaces, inside, api) == {"API server": "connected"}, "nothing is in the way")
    said = workspaces.execute(inside, "python3", "-c", _ASK, f"user-{other}.sessions.svc").split()
    assert said == ["403", "401", "-NOAUTH"]
