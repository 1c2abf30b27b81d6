"""House rules over every rendered object of every scenario of both charts."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml

from sessionctl import labels
from tests.charts.rendering import (
    CHARTS,
    SESSION,
    Object,
    Scenario,
    copy_chart,
    pod_templates,
    rendered,
    scenarios,
    title,
)

if TYPE_CHECKING:
    from pathlib import Path

COMMON_LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "part-of", "managed-by")} | {
    "helm.sh/chart"
}
SESSION_LABELS = COMMON_LABELS | {labels.UUID_LABEL, labels.TENANT_LABEL, labels.USER_LABEL}
NAME_LIMIT = 63
MANAGER = "Deployment sessionctl-manager"
SECRET_LENGTH = 16
"""Shorter values of Secrets are user names, which are no secrets."""

pytestmark = pytest.mark.parametrize("scenario", scenarios(), ids=str)


@pytest.fixture
def objects(helm: Path, scenario: Scenario) -> list[Object]:
    """Return the scenario's objects."""
    return rendered(helm, scenario)


def _containers(objects: list[Object]) -> list[Object]:
    return [
        container
        for _, template in pod_templates(objects)
        for kind in ("initContainers", "containers")
        for container in template["spec"].get(kind, [])
    ]


def test_scenario_says_what_it_proves(scenario: Scenario) -> None:
    """A scenario nobody can explain is kept for ever."""
    assert scenario.values.read_text().startswith("# Proves that ")


def test_objects_carry_the_labels(scenario: Scenario, objects: list[Object]) -> None:
    """Selectors, dashboards and the reconciler go by them."""
    wanted = SESSION_LABELS if scenario.chart == "user-session" else COMMON_LABELS
    for item in objects:
        found = item["metadata"]["labels"]
        assert wanted <= set(found), title(item)
        assert found["app.kubernetes.io/part-of"] == "sessionctl"
        malformed = [v for v in found.values() if not re.fullmatch(r"[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", v)]
        assert malformed == [], title(item)


def test_names_are_short(objects: list[Object]) -> None:
    """63 characters is what the strictest user of a name, a label value or a host name, allows."""
    for item in objects:
        assert len(item["metadata"]["name"]) <= NAME_LIMIT, title(item)


def test_objects_are_unique(objects: list[Object]) -> None:
    """Two templates must not write the same object."""
    keys = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects]
    assert len(keys) == len(set(keys))


def test_images_are_pinned(objects: list[Object]) -> None:
    """``latest`` is another image tomorrow."""
    for container in _containers(objects):
        image = container["image"]
        assert re.search(r"(@sha256:[0-9a-f]{64}|:[\w.-]+)$", image), image
        assert not image.endswith(":latest")


def test_containers_state_their_resources(objects: list[Object]) -> None:
    """Without requests the scheduler packs blindly; without a memory limit one session takes the node."""
    for container in _containers(objects):
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]), container["name"]
        assert "memory" in resources["limits"], container["name"]


def test_pods_meet_the_restricted_standard(objects: list[Object]) -> None:
    """No root, no privileges, no writable root file system, no service-account token but the manager's."""
    for item, template in pod_templates(objects):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, title(item)
        assert pod["securityContext"]["runAsUser"] > 0, title(item)
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, title(item)
        assert pod["automountServiceAccountToken"] is (title(item) == MANAGER), title(item)
        assert pod["enableServiceLinks"] is False, title(item)
    for container in _containers(objects):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, container["name"]
        assert context["allowPrivilegeEscalation"] is False, container["name"]
        assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]


def test_selectors_find_their_pods(objects: list[Object]) -> None:
    """What a workload selects is a strict part of its pod's labels, and holds nothing that an upgrade changes."""
    pods = [template["metadata"]["labels"] for _, template in pod_templates(objects)]
    for item, template in pod_templates(objects):
        selected = item["spec"]["selector"]["matchLabels"].items()
        assert selected < template["metadata"]["labels"].items(), title(item)
    for item in objects:
        if item["kind"] == "Service":
            assert any(item["spec"]["selector"].items() <= pod.items() for pod in pods), title(item)


def test_chart_version_never_reaches_a_pod(helm: Path, scenario: Scenario, tmp_path: Path) -> None:
    """It would restart every awake session at an upgrade, and Redis with them."""
    later = rendered(helm, scenario, copy_chart(scenario.chart, tmp_path, version="9.9.9"))
    before = [template for _, template in pod_templates(rendered(helm, scenario))]
    assert [template for _, template in pod_templates(later)] == before
    assert {item["metadata"]["labels"]["helm.sh/chart"] for item in later} == {f"{scenario.chart}-9.9.9"}


def test_session_names_no_namespace(scenario: Scenario, objects: list[Object]) -> None:
    """The release's namespace is the only one a session knows."""
    if scenario.chart == "user-session":
        assert [title(item) for item in objects if "namespace" in item["metadata"]] == []


def test_platform_objects_name_theirs(scenario: Scenario, objects: list[Object]) -> None:
    """The platform writes to two namespaces; leaving one out would depend on who applies it."""
    if scenario.chart == "platform":
        namespaced = [item for item in objects if item["kind"] != "Namespace"]
        assert [title(item) for item in namespaced if "namespace" not in item["metadata"]] == []


def test_no_hooks_and_no_definitions(objects: list[Object]) -> None:
    """Hooks leave orphans when they are cut off; CRDs belong to the engines."""
    for item in objects:
        assert "helm.sh/hook" not in item["metadata"].get("annotations", {}), title(item)
        assert item["kind"] != "CustomResourceDefinition", title(item)


def test_keda_objects_belong_to_sessions(scenario: Scenario, objects: list[Object]) -> None:
    """A ScaledObject in the release that brings KEDA fails its first install."""
    found = {item["kind"] for item in objects if item["apiVersion"].startswith("keda.sh/")}
    assert found == ({"ScaledObject", "TriggerAuthentication"} if scenario.chart == "user-session" else set())


def test_scaled_objects_never_fall_back(objects: list[Object]) -> None:
    """With a fallback an unreachable Redis wakes, or puts to sleep, every session at once."""
    for item in objects:
        if item["kind"] == "ScaledObject":
            assert "fallback" not in item["spec"]
            assert (item["spec"]["minReplicaCount"], item["spec"]["maxReplicaCount"]) == (0, 1)


def test_secrets_stay_in_secrets(helm: Path, scenario: Scenario) -> None:
    """No text of a Secret shows up in any other object."""
    objects = rendered(helm, scenario)
    texts = [
        base64.b64decode(value).decode()
        for item in objects
        if item["kind"] == "Secret"
        for value in item.get("data", {}).values()
    ]
    others = "".join(json.dumps(item) for item in objects if item["kind"] != "Secret")
    assert [text for text in texts if len(text) >= SECRET_LENGTH and text in others] == []


def test_values_hold_no_passwords(scenario: Scenario) -> None:
    """Defaults with a password end up in production."""
    text = (CHARTS / scenario.chart / "values.yaml").read_text()
    found = re.findall(r"(?im)^\s*(\w*(?:password|token|secret)\w*):\s*[\"']?\w.*$", text)
    # The name of a Secret, and a duration.
    assert found == (["kedaSecret"] if scenario.chart == "user-session" else ["tokenLifetime"])


def test_lasting_objects_are_kept(objects: list[Object]) -> None:
    """Volumes, the namespace that holds them, and what cannot be made up again outlive an uninstall."""
    lasting = {
        ("Namespace", "sessions"),
        ("Namespace", "workspaces"),
        ("Secret", "sessionctl-redis"),
        ("Secret", "sessionctl-keda"),
        ("Secret", "sessionctl-platform-key"),
        ("Secret", "sessionctl-api-keys"),
        ("PersistentVolumeClaim", labels.object_name(SESSION)),
    }
    for item in objects:
        keep = item["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
        assert (keep == "keep") == ((item["kind"], item["metadata"]["name"]) in lasting), title(item)


def test_names_and_annotations_are_those_of_the_code(scenario: Scenario, objects: list[Object]) -> None:
    """The chart and sessionctl/labels.py spell the same names."""
    if scenario.chart != "user-session":
        return
    user_id = yaml.safe_load(scenario.values.read_text())["session"]["userId"]
    names = {item["metadata"]["name"] for item in objects}
    assert names == {labels.object_name(SESSION), labels.scaler_name(SESSION)}
    for item in objects:
        assert item["metadata"]["labels"][labels.USER_LABEL] == labels.user_hash(user_id)
        assert item["metadata"]["labels"][labels.UUID_LABEL] == SESSION
        if item["kind"] in {"Deployment", "PersistentVolumeClaim"}:
            assert item["metadata"]["annotations"][labels.USER_ID] == user_id
        if item["kind"] == "ConfigMap":
            assert item["data"]["USER_ID"] == user_id
