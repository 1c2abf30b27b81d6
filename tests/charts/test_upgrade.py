"""A real session release on a real API server: what an upgrade, an uninstall and a reinstall do to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.charts.release import Kubectl, Release, eventually
from tests.charts.rendering import CHARTS, Object, copy_chart

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tools.localcluster import LocalCluster

CHART = CHARTS / "user-session"
USER_ID = 'ünï "q" {{ .Values }} 👩🏽‍💻'
VALUES: dict[str, Any] = {
    "session": {"userId": USER_ID, "createdAt": "2026-11-01T12:00:00Z", "values": '{"a": "{{ b }}"}'},
    "agent": {"token": "0123456789abcdef" * 4},
}
KINDS = (
    "deployments,replicasets,pods,services,configmaps,secrets,serviceaccounts,networkpolicies,"
    "scaledobjects,triggerauthentications"
)


@dataclass(frozen=True)
class Session:
    """One session in a namespace of its own, where no KEDA looks."""

    kubectl: Kubectl
    release: Release

    @property
    def name(self) -> str:
        """Return the name of its objects."""
        return f"user-{self.release.name}"

    def get(self, kind: str) -> Object:
        """Return one of its objects."""
        return self.kubectl.get(kind, self.name, self.release.namespace)

    def replicas(self) -> int:
        """Return the Deployment's replicas."""
        return int(self.get("deployment")["spec"]["replicas"])

    def pods(self) -> set[str]:
        """Return the uids of its pods that are not on their way out."""
        found = self.kubectl.list("pods", self.release.namespace, f"uuid={self.release.name}")
        return {item["metadata"]["uid"] for item in found if "deletionTimestamp" not in item["metadata"]}

    def template_hashes(self) -> set[str]:
        """Return the hashes of its pod templates, one per ReplicaSet."""
        found = eventually(
            lambda: self.kubectl.list("replicasets", self.release.namespace, f"uuid={self.release.name}"),
            "a ReplicaSet",
        )
        return {item["metadata"]["labels"]["pod-template-hash"] for item in found}

    def settle(self) -> None:
        """Wait until the controller has seen the Deployment as it is."""

        def settled() -> bool:
            found = self.get("deployment")
            return bool(found["status"].get("observedGeneration") == found["metadata"]["generation"])

        eventually(settled, "the Deployment observed")

    def scale(self, replicas: int) -> None:
        """Scale as sessionctl does: a merge patch under its own field manager."""
        annotations = {"sessionctl.dev/woken-at": str(replicas)}
        patch = json.dumps({"spec": {"replicas": replicas}, "metadata": {"annotations": annotations}})
        target = ("deployment", self.name, "-n", self.release.namespace)
        self.kubectl.run("patch", *target, "--field-manager=sessionctl", "--type=merge", "--patch", patch)
        eventually(lambda: len(self.pods()) == replicas, f"{replicas} pods")


@pytest.fixture
def session(cluster: LocalCluster) -> Session:
    """Return an installed session."""
    kubectl, session_id = Kubectl(cluster), str(uuid4())
    namespace = f"charts-{session_id[:8]}"
    kubectl.create_namespace(namespace)
    installed = Session(kubectl, Release(cluster, session_id, namespace))
    installed.release.install(CHART, VALUES)
    return installed


def _nothing(session: Session) -> None:
    pass


def _wake(session: Session) -> None:
    session.scale(1)


def _sleep(session: Session) -> None:
    session.scale(1)
    session.scale(0)


def _wake_by_scale(session: Session) -> None:
    # As KEDA does: through the scale subresource.
    session.kubectl.run("scale", "deployment", session.name, "-n", session.release.namespace, "--replicas=1")
    eventually(lambda: len(session.pods()) == 1, "a pod")


def _sleep_by_scale(session: Session) -> None:
    session.scale(1)
    session.kubectl.run("scale", "deployment", session.name, "-n", session.release.namespace, "--replicas=0")
    eventually(lambda: not session.pods(), "no pod")


@pytest.mark.parametrize(
    ("prepare", "replicas"),
    [
        pytest.param(_nothing, 0, id="never-woken"),
        pytest.param(_wake, 1, id="awake"),
        pytest.param(_sleep, 0, id="asleep"),
        pytest.param(_wake_by_scale, 1, id="awake-by-scale"),
        pytest.param(_sleep_by_scale, 0, id="asleep-by-scale"),
    ],
)
def test_upgrade_changes_neither_replicas_nor_pod(
    session: Session, tmp_path: Path, prepare: Callable[[Session], None], replicas: int
) -> None:
    """Up to a later chart version and back to the first: the session notices nothing."""
    prepare(session)
    session.settle()
    pods, hashes = session.pods(), session.template_hashes()
    assert len(pods) == replicas
    for chart in (copy_chart("user-session", tmp_path, version="9.9.9"), CHART):
        session.release.upgrade(chart, VALUES)
        session.settle()
        assert session.replicas() == replicas
        assert session.pods() == pods
        assert session.template_hashes() == hashes
    # What sessionctl wrote on the Deployment is not the chart's to take away.
    written = session.get("deployment")["metadata"]["annotations"].get("sessionctl.dev/woken-at")
    assert written == (None if prepare in {_nothing, _wake_by_scale} else "0" if prepare is _sleep else "1")


def test_new_environment_waits_for_the_next_wake(session: Session) -> None:
    """What the ConfigMap holds changes no pod template."""
    session.scale(1)
    pods = session.pods()
    another = {**VALUES["agent"], "kind": "command", "command": ["ai", "--fast"]}
    changes = {"env": {"COLOUR": "blue"}, "scaling": {"cooldownPeriod": 60}, "agent": another}
    session.release.upgrade(CHART, {**VALUES, **changes})
    session.settle()
    assert session.pods() == pods
    found = session.get("configmap")["data"]
    assert (found["COLOUR"], found["SESSIONCTL_AGENT_COMMAND"]) == ("blue", '["ai","--fast"]')


def test_upgrade_without_its_volume_fails(session: Session) -> None:
    """The message names the volume, and nothing of the session changes."""
    session.kubectl.run("delete", "pvc", session.name, "-n", session.release.namespace)
    before = session.get("deployment")["metadata"]["generation"]
    outcome = session.release.try_upgrade(CHART, {**VALUES, "podAnnotations": {"changed": "yes"}})
    assert outcome.returncode == 1
    assert (
        f"volume missing: PersistentVolumeClaim {session.name} of namespace {session.release.namespace}"
        in outcome.stderr
    )
    assert session.get("pvc") == {}
    assert session.get("deployment")["metadata"]["generation"] == before


def test_uninstall_leaves_the_volume_and_a_reinstall_takes_it(session: Session) -> None:
    """Delete and restore: the claim is the same, with all it says of the session."""
    session.kubectl.run(
        "annotate",
        "pvc",
        session.name,
        "-n",
        session.release.namespace,
        "sessionctl.dev/deleted-at=2026-11-02T00:00:00Z",
    )
    before = session.get("pvc")["metadata"]
    assert before["annotations"]["sessionctl.dev/user-id"] == USER_ID
    assert before["annotations"]["sessionctl.dev/values"] == VALUES["session"]["values"]
    session.release.uninstall()
    eventually(
        lambda: not session.kubectl.list(KINDS, session.release.namespace, f"uuid={session.release.name}"),
        "only the volume",
    )
    session.release.install(CHART, VALUES)
    after = session.get("pvc")["metadata"]
    assert after["uid"] == before["uid"]
    assert after["annotations"]["sessionctl.dev/deleted-at"] == "2026-11-02T00:00:00Z"
    assert session.replicas() == 0


def test_user_id_comes_back_byte_for_byte(session: Session) -> None:
    """From the API server, not from the renderer."""
    assert session.get("configmap")["data"]["USER_ID"] == USER_ID
    assert session.get("deployment")["metadata"]["annotations"]["sessionctl.dev/user-id"] == USER_ID


def test_wrong_values_leave_nothing_behind(session: Session) -> None:
    """A refused install makes no object and no release."""
    other = Release(session.release.cluster, str(uuid4()), session.release.namespace)
    outcome = other.try_install(CHART, {**VALUES, "persistence": {"size": 10}})
    assert outcome.returncode == 1
    assert "at '/persistence/size': got number, want string" in outcome.stderr
    assert session.kubectl.list("deployments,secrets,pvc", other.namespace, f"uuid={other.name}") == []
    assert session.kubectl.list("secrets", other.namespace, f"owner=helm,name={other.name}") == []
