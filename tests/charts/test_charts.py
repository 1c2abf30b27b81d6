"""The chart tools, and the API server's own judgement of everything both charts render."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.charts.release import Kubectl
from tests.charts.rendering import CHARTS, ROOT, Scenario, attempt, pod_templates, rendered, run, scenarios
from tools.toolchain import ensure

if TYPE_CHECKING:
    from tools.localcluster import LocalCluster

both = pytest.mark.parametrize("chart", ["user-session", "platform"])
MISSING_HERE = ("serviceAccountName", "priorityClassName", "runtimeClassName")
"""Fields of a pod that name objects which a dry run does not create."""


def _environment(path: str, home: Path) -> dict[str, str]:
    # yamllint and yamale are beside the interpreter, also when its virtual environment is not activated.
    return {"PATH": f"{Path(sys.executable).parent}:{path}", "HOME": str(home), "KUBECONFIG": "/dev/null"}


def test_ct_lint(tmp_path: Path) -> None:
    """ct runs yamllint, yamale, ``helm lint --strict`` for every scenario, and helm-unittest."""
    tools = ensure(["helm", "chart-testing", "helm-unittest"])
    output = run(tools.binary("ct"), "lint", "--config", "ct.yaml", env=_environment(tools.path(), tmp_path), cwd=ROOT)
    assert "All charts linted successfully" in output
    assert [str(scenario) for scenario in scenarios() if scenario.values.name not in output] == []


def test_lint_fails_on_a_wrong_value(helm: Path, tmp_path: Path) -> None:
    """The other tests are worth something only if lint can fail."""
    argv = ("lint", "--strict", CHARTS / "platform", "--set", "config.idle.timeout=soon")
    outcome = attempt(helm, *argv, env=_environment("", tmp_path))
    assert outcome.returncode == 1
    assert "/config/idle/timeout" in outcome.stdout + outcome.stderr


@both
def test_unit_suites(chart: str, tmp_path: Path) -> None:
    """Every suite in tests/ passes; --strict refuses keys that helm-unittest would ignore."""
    binary = ensure(["helm-unittest"]).binary("helm-unittest")
    run(binary, "--strict", CHARTS / chart, env=_environment("", tmp_path))


@both
def test_readme_is_generated(chart: str, tmp_path: Path) -> None:
    """``helm-docs -c charts`` changes nothing."""
    copy = tmp_path / chart
    shutil.copytree(CHARTS / chart, copy)
    binary = ensure(["helm-docs"]).binary("helm-docs")
    run(binary, "--chart-search-root", copy, "--chart-to-generate", copy, env=_environment("", tmp_path), cwd=copy)
    assert (copy / "README.md").read_text() == (CHARTS / chart / "README.md").read_text()


@pytest.mark.parametrize("scenario", scenarios(), ids=str)
def test_api_server_accepts(cluster: LocalCluster, scenario: Scenario) -> None:
    """Strict server-side validation with admission: schemas, CEL, quotas, pod security."""
    kubectl = Kubectl(cluster)
    objects = rendered(cluster.binary("helm"), scenario)
    for item in objects:
        if item["kind"] != "Namespace":
            item["metadata"].setdefault("namespace", scenario.namespace)
    for namespace in {item["metadata"]["namespace"] for item in objects if item["kind"] != "Namespace"}:
        kubectl.create_namespace(namespace)
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    apply = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "--filename", "-")
    output = kubectl.run(*apply, stdin=manifest)
    assert len(output.splitlines()) == len(objects)


@pytest.mark.parametrize("scenario", scenarios(), ids=str)
def test_pods_are_admitted(cluster: LocalCluster, scenario: Scenario) -> None:
    """A workload is stored whatever its pods are; only a pod itself meets the restricted standard, or does not."""
    kubectl = Kubectl(cluster)
    for item, template in pod_templates(rendered(cluster.binary("helm"), scenario)):
        namespace = item["metadata"].get("namespace", scenario.namespace)
        kubectl.create_namespace(namespace)
        spec = {key: value for key, value in template["spec"].items() if key not in MISSING_HERE}
        spec["volumes"] += [
            {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": "any"}}
            for claim in item["spec"].get("volumeClaimTemplates", [])
        ]
        metadata = {"name": "admission", **template["metadata"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        kubectl.run("create", "--dry-run=server", "--namespace", namespace, "--filename", "-", stdin=json.dumps(pod))
