"""What both kinds of cluster have: KEDA, the volume provisioner, their first objects, and waiting for conditions."""

from __future__ import annotations

import sys
import urllib.request
from itertools import chain
from typing import TYPE_CHECKING

from tools.localcluster.models import PROVISIONER, ClusterError, Component, Step
from tools.localcluster.ports import HOST
from tools.pins import ROOT

if TYPE_CHECKING:
    from tools.localcluster.api import Api, Object
    from tools.localcluster.control_plane import ControlPlane

SESSIONS_NAMESPACE = "sessions"
_PATIENCE_SECONDS = 60
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def engines(plane: ControlPlane, keda_after: tuple[str, ...] = ()) -> list[Component | Step]:
    """Return KEDA with its CRDs, the provisioner with its storage class, and the wait for a working controller manager.

    The kind that uses them provides a step "objects", after which namespaces and storage class are there.
    """
    return [
        _keda(plane, ("crds", *keda_after)),
        _provisioner(plane),
        Step("crds", lambda: _install_crds(plane), after=("kube-apiserver",)),
        Step("accounts", lambda: _wait_for_accounts(plane.api()), after=("kube-controller-manager",)),
    ]


def create_first_objects(api: Api) -> None:
    """Create the namespace of KEDA and the default storage class."""
    api.apply("/api/v1/namespaces/keda", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "keda"}})
    api.apply("/apis/storage.k8s.io/v1/storageclasses/local", _storage_class())


def wait_for_condition(api: Api, path: str, condition: str) -> None:
    """Wait until an object, which may not be there yet, has a condition that is True.

    Raises:
        ClusterError: It has not within a minute.
    """
    collection, _, name = path.rpartition("/")
    listed = api.get(collection)
    changes = api.watch(collection, listed["metadata"]["resourceVersion"], seconds=_PATIENCE_SECONDS)
    for found in chain(listed["items"], (changed for _, changed in changes)):
        if found["metadata"]["name"] == name and has_condition(found, condition):
            return
    raise ClusterError(f"{name} is not {condition} after {_PATIENCE_SECONDS} s", "")


def has_condition(found: Object, condition: str) -> bool:
    """Tell whether a condition of an object is True."""
    conditions = found.get("status", {}).get("conditions") or []
    return any(each["type"] == condition and each["status"] == "True" for each in conditions)


def answers(url: str) -> bool:
    """Tell whether a URL answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


def _provisioner(plane: ControlPlane) -> Component:
    module = "tools.localcluster.provisioner"
    argv = (sys.executable, "-m", module, plane.kubeconfig("provisioner"), str(plane.layout.volumes))
    return Component("provisioner", argv, env={"PYTHONPATH": str(ROOT)}, after=("objects",))


def _keda(plane: ControlPlane, after: tuple[str, ...]) -> Component:
    metrics, probe, grpc = (f"{HOST}:{plane.ports[name]}" for name in ("keda-metrics", "keda-probe", "keda-grpc"))
    argv = (
        str(plane.tools.binary("keda")),
        f"--cert-dir={plane.layout.pki / 'keda'}",
        f"--metrics-bind-address={metrics}",
        f"--health-probe-bind-address={probe}",
        f"--metrics-service-bind-address={grpc}",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    )
    env = {
        "KUBECONFIG": plane.kubeconfig("keda"),
        "WATCH_NAMESPACE": SESSIONS_NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": "keda",
        "POD_NAMESPACE": "keda",
        "KEDA_SCALEDOBJECT_CTRL_MAX_RECONCILES": "20",
    }
    return Component("keda", argv, env=env, after=after, ready=lambda: answers(f"http://{probe}/readyz"))


def _install_crds(plane: ControlPlane) -> None:
    api = plane.api()
    names = []
    for file in sorted(plane.tools.data["keda", "crds"].glob("*.yaml")):
        # keda.sh_scaledobjects.yaml -> scaledobjects.keda.sh, without parsing 667 KB of YAML.
        group, plural = file.stem.split("_")
        names.append(f"{plural}.{group}")
        # Server-side: one of them is larger than what the client-side annotation may hold.
        api.apply(f"{_CRDS}/{names[-1]}", file.read_bytes())
    for name in names:
        wait_for_condition(api, f"{_CRDS}/{name}", "Established")


def _wait_for_accounts(api: Api) -> None:
    """Wait until the controller manager works: without a default account no pod can be created."""
    collection = "/api/v1/serviceaccounts"
    first = api.get(collection)
    if not _default_accounts(first["items"]):
        for _, account in api.watch(collection, first["metadata"]["resourceVersion"], seconds=60):
            if _default_accounts([account]):
                return


def _default_accounts(accounts: list[Object]) -> list[Object]:
    return [account for account in accounts if account["metadata"]["name"] == "default"]


def _storage_class() -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
