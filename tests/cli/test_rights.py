"""Direct mode with nothing but the rights of the platform chart's ServiceAccount, on an API server with RBAC."""

from __future__ import annotations

import pytest

from tests.support.census import Census
from tests.support.sessionctl_cli import Cli
from tests.support.steps import Steps
from tools.localcluster import ClusterError, LocalCluster


@pytest.fixture(scope="module")
def limited(platform: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The command line with a token of that ServiceAccount."""
    token = platform.kubectl("create", "token", "sessionctl", "-n", "sessionctl").strip()
    kubeconfig = tmp_path_factory.mktemp("limited") / "kubeconfig"
    return Cli.on(platform, platform.kubeconfig_for_token(token, kubeconfig))


def test_the_whole_journey_needs_no_other_rights(limited: Cli, census: Census, steps: Steps) -> None:
    uuid = limited.json("create", "--user", "limited")["uuid"]
    steps.made.append(uuid)
    assert limited.json("sweep")["gate"] == "open"
    assert limited.json("wake", "--wait", uuid)["status"] == "active"
    assert limited.json("status", uuid)["session"]["status"] == "active"
    assert [row["uuid"] for row in limited.json("list", "--user", "limited")["sessions"]] == [uuid]
    assert limited.json("sleep", uuid)["status"] == "sleeping"
    assert limited.json("delete", "--wait", uuid)["status"] == "deleted"
    assert limited.json("restore", uuid)["status"] == "restored"
    # A repair that upgrades the release.
    census.api.delete(census.path("deployments", f"user-{uuid}"))
    steps.settle([uuid], lambda remains: "deployments" not in remains.objects)
    repairs = limited.json("reconcile", "--grace", "0s")["repairs"]
    assert {"uuid": uuid, "repair": "upgrade", "error": None} in repairs
    steps.settle([uuid], lambda remains: remains.is_complete)
    assert limited.json("template")["agent"] == {"token": "0" * 64}
    assert limited.json("version")["platform"]
    assert limited.json("delete", "--purge", "--wait", uuid)["status"] == "purged"
    steps.settle([uuid], lambda remains: remains.is_gone)


def test_what_says_why_a_pod_does_not_start_can_be_read(limited: Cli, platform: LocalCluster) -> None:
    """Without these rights status would answer all the same, only less."""
    for kind in ("pods", "events"):
        platform.kubectl("--kubeconfig", limited.environment["KUBECONFIG"], "get", kind, "--namespace", "sessions")


@pytest.mark.parametrize("namespace", ["kube-system", "keda", "default"])
def test_secrets_elsewhere_cannot_be_read(limited: Cli, platform: LocalCluster, namespace: str) -> None:
    with pytest.raises(ClusterError, match=r"(?i)forbidden"):
        platform.kubectl("--kubeconfig", limited.environment["KUBECONFIG"], "get", "secrets", "--namespace", namespace)


def test_of_the_platforms_secrets_only_those_it_needs_can_be_read(limited: Cli, platform: LocalCluster) -> None:
    kubeconfig = ("--kubeconfig", limited.environment["KUBECONFIG"], "-n", "sessionctl")
    assert platform.kubectl(*kubeconfig, "get", "secret", "sessionctl-platform-key", "-o", "name")
    with pytest.raises(ClusterError, match=r"(?i)forbidden"):
        platform.kubectl(*kubeconfig, "get", "secret", "sh.helm.release.v1.sessionctl.v1")
    with pytest.raises(ClusterError, match=r"(?i)forbidden"):
        platform.kubectl(*kubeconfig, "get", "secrets")
    with pytest.raises(ClusterError, match=r"(?i)forbidden"):
        platform.kubectl("--kubeconfig", limited.environment["KUBECONFIG"], "get", "nodes")
