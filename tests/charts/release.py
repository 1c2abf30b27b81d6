"""A Helm release on a local cluster, and what the API server knows of it."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import pytest

from tests.charts.rendering import Object, attempt, run
from tools.localcluster.api import Api, ApiError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tools.localcluster import LocalCluster

PATIENCE_SECONDS = 60
T = TypeVar("T")
_POLL_SECONDS = 0.05
_GROUPS = {
    **dict.fromkeys(("deployments", "replicasets", "statefulsets"), "/apis/apps/v1"),
    **dict.fromkeys(("scaledobjects", "triggerauthentications"), "/apis/keda.sh/v1alpha1"),
    "networkpolicies": "/apis/networking.k8s.io/v1",
}
_PLURALS = {"pvc": "persistentvolumeclaims", "pvcs": "persistentvolumeclaims"}


def eventually(look: Callable[[], T], what: str) -> T:
    """Return the first answer that is true; fails the test when none comes."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(_POLL_SECONDS)
    pytest.fail(f"never seen: {what}")


def _path(kind: str, namespace: str) -> str:
    """Return the path of the objects of a kind, by its plural."""
    if kind == "namespaces":
        return "/api/v1/namespaces"
    return f"{_GROUPS.get(kind, '/api/v1')}/namespaces/{namespace}/{_PLURALS.get(kind, kind)}"


@dataclass(frozen=True)
class Kubectl:
    """kubectl and helm as the cluster's administrator."""

    cluster: LocalCluster

    def run(self, *argv: str, stdin: str | None = None) -> str:
        """Run kubectl."""
        return run(self.cluster.binary("kubectl"), *argv, env=self.cluster.environment(), stdin=stdin)

    def get(self, kind: str, name: str, namespace: str) -> Object:
        """Return an object, an empty one when it is not there."""
        try:
            return self._api.get(f"{_path(f'{kind}s', namespace)}/{name}")
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return {}

    def list(self, kinds: str, namespace: str, selector: str = "") -> list[Object]:
        """Return the objects of kinds, which are separated by commas."""
        query = urlencode({"labelSelector": selector})
        return [
            item for kind in kinds.split(",") for item in self._api.get(f"{_path(kind, namespace)}?{query}")["items"]
        ]

    @property
    def _api(self) -> Api:
        # To look, and to look again: a process for each takes more of the machine than what is looked at.
        return Api.from_kubeconfig(self.cluster.kubeconfig)

    def secret(self, name: str, namespace: str) -> dict[str, str]:
        """Return a Secret's texts."""
        data = self.get("secret", name, namespace).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def create_namespace(self, name: str) -> None:
        """Create a namespace that holds its pods to the restricted standard; one that is there is fine."""
        if not self.get("namespace", name, "default"):
            self.run("create", "namespace", name)
            self.run("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")


@dataclass(frozen=True)
class Release:
    """One release, installed with the flags that sessionctl uses."""

    cluster: LocalCluster
    name: str
    namespace: str
    flags: tuple[str, ...] = ("--disable-openapi-validation", "--no-hooks")

    def install(self, chart: Path, values: Mapping[str, Any]) -> None:
        """Install a chart."""
        self._checked("install", chart, values)

    def upgrade(self, chart: Path, values: Mapping[str, Any]) -> None:
        """Upgrade to a chart."""
        self._checked("upgrade", chart, values)

    def try_upgrade(self, chart: Path, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        """Upgrade in a way that may fail."""
        return self._apply("upgrade", chart, values)

    def try_install(self, chart: Path, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        """Install in a way that may fail."""
        return self._apply("install", chart, values)

    def uninstall(self) -> None:
        """Uninstall it."""
        argv = ("uninstall", self.name, "--namespace", self.namespace, *self.flags[1:])
        run(self.cluster.binary("helm"), *argv, env=self.cluster.environment())

    def _checked(self, verb: str, chart: Path, values: Mapping[str, Any]) -> None:
        outcome = self._apply(verb, chart, values)
        assert outcome.returncode == 0, outcome.stderr

    def _apply(self, verb: str, chart: Path, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        argv = (verb, self.name, str(chart), "--namespace", self.namespace, "--values", "-", *self.flags)
        stdin = json.dumps(values, ensure_ascii=False)
        return attempt(self.cluster.binary("helm"), *argv, env=self.cluster.environment(), stdin=stdin)
