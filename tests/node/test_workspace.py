"""What a workspace is from the inside: the restricted profile, no token, nothing of the platform."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.node.workspaces import Workspaces
from tools.localcluster import ClusterError, LocalCluster

_SECRETIVE = ("REDIS", "KEDA", "PASSWORD", "KUBERNETES_", "APIKEY", "API_KEY")


@pytest.fixture(scope="module")
def workspaces(bare: LocalCluster) -> Iterator[Workspaces]:
    """The session of this file: its tests look, and only the last ones change something."""
    with Workspaces.on(bare) as found:
        yield found


@pytest.fixture(scope="module")
def shared(workspaces: Workspaces) -> str:
    """A session."""
    return workspaces.create()


@pytest.fixture
def awake(workspaces: Workspaces, shared: str) -> str:
    """That session, awake."""
    workspaces.wake(shared)
    return shared


def test_it_runs_as_the_restricted_profile_demands(workspaces: Workspaces, awake: str) -> None:
    facts = dict(line.split(":", 1) for line in workspaces.execute(awake, "cat", "/proc/1/status").splitlines())

    assert facts["Uid"].split() == ["1000"] * 4
    assert facts["Gid"].split() == ["1000"] * 4
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    assert facts["NoNewPrivs"].strip() == "1"
    # A filter, not just strict mode.
    assert facts["Seccomp"].strip() == "2"


def test_only_its_volume_and_tmp_can_be_written(workspaces: Workspaces, awake: str) -> None:
    for folder in ("/workspace", "/tmp"):
        workspaces.execute(awake, "touch", f"{folder}/new")
    for folder in ("/", "/etc", "/usr/bin", "/var/tmp", "/run", "/run/secrets/sessionctl"):
        with pytest.raises(ClusterError, match=r"Read-only|Permission denied"):
            workspaces.execute(awake, "touch", f"{folder}/new")


def test_it_has_no_token_of_the_cluster(workspaces: Workspaces, awake: str) -> None:
    with pytest.raises(ClusterError, match="No such file"):
        workspaces.execute(awake, "ls", "/var/run/secrets/kubernetes.io")


def test_its_environment_holds_nothing_of_the_platform(workspaces: Workspaces, awake: str) -> None:
    environment = dict(
        entry.split("=", 1) for entry in workspaces.execute(awake, "cat", "/proc/1/environ").split("\0") if entry
    )
    everything = {
        value
        for secret in ("sessionctl-platform-key", "sessionctl-redis")
        for value in workspaces.secret_values("sessionctl", secret)
        if len(value) > len("default")
    }

    assert environment["UUID"] == awake
    assert environment["USER_ID"] == "alice"
    # The service links that Kubernetes adds for its own API have its prefix and cannot be switched off.
    own = {name for name in environment if not name.startswith("KUBERNETES_")}
    assert not [name for name in own if any(word in name.upper() for word in _SECRETIVE)]
    assert everything
    assert not everything & set(environment.values())
    assert not [value for value in everything if value in workspaces.execute(awake, "cat", "/proc/1/cmdline")]


def test_its_agent_answers_its_own_token_only(workspaces: Workspaces, awake: str) -> None:
    lines = workspaces.say(awake, "one", "hello")

    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    refused = workspaces.execute(
        awake, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8081/v1/activity"
    )
    assert refused == "401"


def test_it_is_asked_before_it_sleeps_and_sleeps_when_nobody_works(workspaces: Workspaces, awake: str) -> None:
    report = workspaces.sweep(SESSIONCTL_IDLE__TIMEOUT="1ms", SESSIONCTL_IDLE__TOUCH_INTERVAL="1ms")

    assert awake in report["slept"]


def test_without_an_answer_it_stays_awake(workspaces: Workspaces, awake: str) -> None:
    # The agent's own processes stand still: connections are taken by the kernel and never answered.
    workspaces.stop_agent(awake)

    report = workspaces.sweep(SESSIONCTL_IDLE__TIMEOUT="1ms", SESSIONCTL_IDLE__TOUCH_INTERVAL="1ms")

    assert awake in report["kept"]
    assert workspaces.status(awake)["replicas"] == 1
    workspaces.kill_agent(awake)
