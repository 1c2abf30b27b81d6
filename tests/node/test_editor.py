"""The editor of a real pod: it answers, it ends, it harms no chat, and it has no more rights than the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.node.workspaces import Workspaces
from tests.support.waiting import wait_for
from tools.localcluster import ClusterError, LocalCluster

_HEALTH = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/healthz || true"
_FRONT = "curl -s -o /dev/null -w '%{http_code} %{redirect_url}' http://127.0.0.1:8080/"
_OPEN_UNTIL_ENDED = """
import socket, urllib.request
token = open("/run/secrets/sessionctl/token").read().strip()
tab = socket.create_connection(("127.0.0.1", 8080), timeout=30)
# Half of a request: code-server waits for the rest.
tab.sendall(b"GET / HTTP/1.1\\r\\n")
request = urllib.request.Request(
    "http://127.0.0.1:8081/v1/editor/connections", method="DELETE", headers={"Authorization": "Bearer " + token}
)
print(urllib.request.urlopen(request, timeout=30).status)
print(tab.recv(1))
"""


@pytest.fixture(scope="module")
def workspaces(bare: LocalCluster) -> Iterator[Workspaces]:
    """The session of this file."""
    with Workspaces.on(bare) as found:
        yield found


@pytest.fixture(scope="module")
def awake(workspaces: Workspaces) -> str:
    """That session, awake, with an editor that answers."""
    uuid = workspaces.awake()
    until_it_answers(workspaces, uuid)
    return uuid


def until_it_answers(workspaces: Workspaces, uuid: str) -> None:
    """Wait until the editor is there."""
    wait_for(lambda: workspaces.execute(uuid, "sh", "-c", _HEALTH) == "200", "the editor answers")


def in_editor(workspaces: Workspaces, uuid: str, *argv: str) -> str:
    """Run a program in the editor's container."""
    target = f"deployment/user-{uuid}"
    return workspaces.cluster.kubectl("-n", "sessions", "exec", target, "-c", "editor", "--", *argv)


def editor_status(workspaces: Workspaces, uuid: str) -> dict[str, object]:
    """Return what kubelet says of the editor's container."""
    (pod,) = workspaces.pods(uuid)
    found: dict[str, object] = next(each for each in pod["status"]["containerStatuses"] if each["name"] == "editor")
    return found


def test_it_opens_the_users_files(workspaces: Workspaces, awake: str) -> None:
    workspaces.write(awake, "mine")
    assert workspaces.execute(awake, "sh", "-c", _FRONT) == "302 http://127.0.0.1:8080/?folder=/workspace"
    assert in_editor(workspaces, awake, "cat", "/workspace/file") == "mine"


def test_its_container_is_as_restricted_as_the_agents_and_has_no_token(workspaces: Workspaces, awake: str) -> None:
    facts = dict(line.split(":", 1) for line in in_editor(workspaces, awake, "cat", "/proc/1/status").splitlines())
    assert facts["Uid"].split() == ["1000"] * 4
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    assert (facts["NoNewPrivs"].strip(), facts["Seccomp"].strip()) == ("1", "2")
    for folder in ("/", "/etc", "/opt/editor", "/usr/bin"):
        with pytest.raises(ClusterError, match=r"Read-only|Permission denied"):
            in_editor(workspaces, awake, "touch", f"{folder}/new")
    for folder in ("/run/secrets/sessionctl", "/var/run/secrets/kubernetes.io"):
        with pytest.raises(ClusterError, match="No such file"):
            in_editor(workspaces, awake, "ls", folder)
    secrets = {
        value
        for namespace, name in (
            ("sessions", f"user-{awake}"),
            ("sessionctl", "sessionctl-platform-key"),
            ("sessionctl", "sessionctl-redis"),
        )
        for value in workspaces.secret_values(namespace, name)
        if len(value) > len("default")
    }
    processes = in_editor(workspaces, awake, "sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null")
    assert secrets
    assert [secret for secret in secrets if secret in processes] == []


def test_the_agent_ends_its_connections(workspaces: Workspaces, awake: str) -> None:
    said = workspaces.execute(awake, "python3", "-c", _OPEN_UNTIL_ENDED)
    assert said.splitlines() == ["204", "b''"]
    until_it_answers(workspaces, awake)


def test_an_editor_that_dies_is_back_and_no_chat_notices(workspaces: Workspaces, awake: str) -> None:
    before = in_editor(workspaces, awake, "pgrep", "-of", "entry.js")
    in_editor(workspaces, awake, "pkill", "-KILL", "-f", "entry.js")
    workspaces.say(awake, "editor-killed", "hello")
    wait_for(lambda: in_editor(workspaces, awake, "sh", "-c", "pgrep -of entry.js || true") not in {"", before}, "back")
    until_it_answers(workspaces, awake)
    assert editor_status(workspaces, awake)["restartCount"] == 0


def test_told_to_end_it_ends_in_order(workspaces: Workspaces, awake: str) -> None:
    in_editor(workspaces, awake, "kill", "-TERM", "1")
    wait_for(lambda: editor_status(workspaces, awake)["restartCount"] == 1, "kubelet starts it again")
    ended = editor_status(workspaces, awake)["lastState"]
    # Had it not ended by itself, kubelet's kill would be 137, and tini's default 143.
    assert json.loads(json.dumps(ended))["terminated"]["exitCode"] == 0
    until_it_answers(workspaces, awake)


def test_its_settings_and_the_files_outlive_the_pod(workspaces: Workspaces, awake: str) -> None:
    settings = "/workspace/.local/share/code-server/User/settings.json"
    in_editor(workspaces, awake, "sh", "-c", f"""echo '{{"mine": true}}' > {settings}""")
    workspaces.write(awake, "kept")
    workspaces.sleep(awake)
    workspaces.wake(awake)
    until_it_answers(workspaces, awake)
    assert json.loads(in_editor(workspaces, awake, "cat", settings)) == {"mine": True}
    assert workspaces.read(awake) == "kept"
