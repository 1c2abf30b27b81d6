"""A real platform release: what survives its uninstall, and whether its rights are enough."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import yaml

from tests.charts.release import Kubectl, Release
from tests.charts.rendering import CHARTS, attempt

if TYPE_CHECKING:
    from tools.localcluster import LocalCluster

CHART = CHARTS / "platform"
SESSION_CHART = CHARTS / "user-session"


@dataclass(frozen=True)
class Platform:
    """One platform release with a sessions namespace of its own."""

    kubectl: Kubectl
    namespace: str
    sessions: str

    def release(self, name: str = "sessionctl") -> Release:
        """Return a release of a name."""
        return Release(self.kubectl.cluster, name, self.namespace)

    def values(self, **more: Any) -> dict[str, Any]:
        """Return values that need no engine."""
        engines = {"keda": {"enabled": False}, "nginx-ingress": {"enabled": False}}
        return {"sessionsNamespace": {"name": self.sessions}, **engines, **more}

    def secrets(self) -> dict[str, dict[str, str]]:
        """Return what cannot be made up again."""
        found = {
            name: self.kubectl.secret(name, self.namespace) for name in ("sessionctl-redis", "sessionctl-platform-key")
        }
        return {**found, "sessionctl-keda": self.kubectl.secret("sessionctl-keda", self.sessions)}

    def api_keys(self) -> dict[str, str]:
        """Return the API keys as they are stored."""
        return self.kubectl.secret("sessionctl-api-keys", self.namespace)

    def add_api_key(self, name: str) -> None:
        """Add a key as sessionctl does: beside Helm."""
        patch = json.dumps({"stringData": {name: "{}"}})
        self.kubectl.run("patch", "secret", "sessionctl-api-keys", "-n", self.namespace, "--patch", patch)

    def users(self) -> str:
        """Return the users Redis starts with."""
        return self.kubectl.secret("sessionctl-redis-acl", self.namespace)["users.acl"]


@pytest.fixture
def platform(cluster: LocalCluster) -> Platform:
    """Return a platform that is not installed yet."""
    kubectl, tail = Kubectl(cluster), uuid4().hex[:8]
    kubectl.create_namespace(f"platform-{tail}")
    return Platform(kubectl, f"platform-{tail}", f"sessions-{tail}")


@pytest.mark.parametrize("name", ["sessionctl", "another"])
def test_reinstall_finds_everything_again(platform: Platform, name: str) -> None:
    """Namespace, session, volumes and Secrets outlive the release, whatever the next one is called."""
    platform.release().install(CHART, platform.values())
    secrets, users = platform.secrets(), platform.users()
    assert all(all(texts.values()) and texts for texts in secrets.values())
    assert secrets["sessionctl-keda"]["password"] == secrets["sessionctl-redis"]["keda-password"]
    assert platform.api_keys() == {}
    platform.add_api_key("first")
    session = Release(platform.kubectl.cluster, str(uuid4()), platform.sessions)
    session.install(SESSION_CHART, {"session": {"userId": "ada"}, "agent": {"token": "0" * 64}})

    def lasting() -> set[tuple[str, str]]:
        name = f"user-{session.name}"
        places = [("namespace", platform.sessions), ("pvc", name), ("deployment", name)]
        found = [platform.kubectl.get(kind, name, platform.sessions) for kind, name in places]
        found.append(platform.kubectl.get("pvc", "data-sessionctl-redis-0", platform.namespace))
        return {(item["kind"], item["metadata"]["uid"]) for item in found}

    before = lasting()
    platform.release().uninstall()
    assert lasting() == before
    assert platform.secrets() == secrets
    platform.release(name).install(CHART, platform.values())
    assert platform.secrets() == secrets
    platform.add_api_key("second")
    platform.release(name).upgrade(CHART, platform.values())
    assert (platform.secrets(), platform.users()) == (secrets, users)
    assert set(platform.api_keys()) == {"first", "second"}
    assert lasting() == before


def test_existing_namespace_is_used_as_it_is(platform: Platform) -> None:
    """Made by somebody else, it is neither changed nor taken over."""
    platform.kubectl.run("create", "namespace", platform.sessions)
    before = platform.kubectl.get("namespace", platform.sessions, "default")["metadata"]
    platform.release().install(CHART, platform.values())
    assert platform.kubectl.get("namespace", platform.sessions, "default")["metadata"] == before
    assert platform.kubectl.secret("sessionctl-keda", platform.sessions)


def test_external_redis(platform: Platform) -> None:
    """Its Secret must be there first; KEDA's part of it is copied, and follows it."""
    external = {"host": "redis.example.com", "port": 6380, "tls": True, "existingSecret": "company-redis"}
    values = platform.values(redis={"enabled": False}, externalRedis=external)
    outcome = platform.release().try_install(CHART, values)
    assert outcome.returncode == 1
    assert f"Secret company-redis of namespace {platform.namespace} must have the keys" in outcome.stderr

    create = ("create", "secret", "generic", "company-redis", "-n", platform.namespace, "--from-literal=username=app")
    more = ("--from-literal=password=one", "--from-literal=keda-username=scaler")
    platform.kubectl.run(*create, *more, "--from-literal=keda-password=two")
    platform.release().install(CHART, values)
    assert platform.kubectl.secret("sessionctl-keda", platform.sessions) == {"username": "scaler", "password": "two"}
    document = platform.kubectl.get("configmap", "sessionctl-platform", platform.namespace)["data"]["platform.yaml"]
    assert yaml.safe_load(document)["keda"] == {"secretName": "sessionctl-keda", "username": "scaler"}
    assert platform.kubectl.get("statefulset", "sessionctl-redis", platform.namespace) == {}

    platform.kubectl.run("delete", "secret", "company-redis", "-n", platform.namespace)
    platform.kubectl.run(*create, *more, "--from-literal=keda-password=three")
    platform.release().upgrade(CHART, values)
    assert platform.kubectl.secret("sessionctl-keda", platform.sessions)["password"] == "three"


def test_its_rights_are_enough_for_sessions(platform: Platform) -> None:
    """As the service account: install, upgrade and uninstall a session; read the platform; and no more than that."""
    cluster = platform.kubectl.cluster
    platform.release().install(CHART, platform.values())
    account = f"system:serviceaccount:{platform.namespace}:sessionctl"
    session_id = str(uuid4())
    flags = ("--disable-openapi-validation", "--no-hooks", "--kube-as-user", account)
    session = Release(cluster, session_id, platform.sessions, flags)
    values = {"session": {"userId": "ada"}, "agent": {"token": "0" * 64}, "serviceAccount": {"create": True}}
    session.install(SESSION_CHART, values)
    session.upgrade(SESSION_CHART, values)
    as_account = ("--as", account, "-n", platform.sessions)
    name = f"user-{session_id}"
    platform.kubectl.run("patch", "deployment", name, "--type=merge", "-p", '{"spec":{"replicas":1}}', *as_account)
    platform.kubectl.run("scale", "deployment", name, "--replicas=0", *as_account)
    platform.kubectl.run("annotate", "pvc", name, "sessionctl.dev/purge=true", *as_account)
    platform.kubectl.run("delete", "pods", "--selector", f"uuid={session_id}", *as_account)
    platform.kubectl.run("get", "events", *as_account)
    session.uninstall()
    platform.kubectl.run("delete", "pvc", name, "--wait=false", *as_account)

    def may(verb: str, what: str, namespace: str) -> bool:
        argv = ("auth", "can-i", verb, *what.split(), "--as", account, "-n", namespace)
        # kubectl answers "no" with exit code 1.
        return attempt(cluster.binary("kubectl"), *argv, env=cluster.environment()).stdout.strip() == "yes"

    for namespace, pods in ((platform.sessions, "pods"), (platform.namespace, "pods/sessionctl-redis-0")):
        # Upgraded to a WebSocket, a port-forward is a GET; since Kubernetes 1.35 it needs both.
        assert may("get", f"{pods} --subresource=portforward", namespace)
        assert may("create", f"{pods} --subresource=portforward", namespace)
        assert may("list", "pods", namespace)
    assert not may("create", "pods/other --subresource=portforward", platform.namespace)
    for watched in ("pods", "deployments", "persistentvolumeclaims", "events", "scaledobjects.keda.sh"):
        assert may("watch", watched, platform.sessions)
    assert not may("get", "secret/sessionctl-api-keys", platform.namespace)
    assert not may("update", "configmap/sessionctl-platform", platform.namespace)
    assert may("get", "secret/sessionctl-platform-key", platform.namespace)
    assert may("get", "configmap/sessionctl-profiles", platform.namespace)
    assert not may("get", "secret/other", platform.namespace)
    assert not may("delete", "secret/sessionctl-platform-key", platform.namespace)
    assert not may("create", "pods --subresource=exec", platform.sessions)
    assert not may("create", "pods", platform.sessions)
    assert not may("get", "pods", platform.namespace)
    assert not may("get", "secrets", "kube-system")
