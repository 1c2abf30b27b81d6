"""The simulated kind: a real control plane, KEDA and Redis; nodes and pods that only exist in the API."""

from __future__ import annotations

import sys
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from tools.localcluster.api import Api, ApiError, Object
from tools.localcluster.models import PROVISIONER, ClusterSpec, Component, RedisEndpoint, Step
from tools.localcluster.ports import HOST
from tools.localcluster.redis import redis_component
from tools.pins import CLUSTER_TOOLS, ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tools.localcluster.control_plane import ControlPlane

SESSIONS_NAMESPACE = "sessions"
REDIS_PORT = 6379
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CAPACITY = {"cpu": "1000", "memory": "4Ti", "ephemeral-storage": "10Ti", "pods": "5000"}
# The workers that play a pod's life; four of them were the bottleneck of 300 simultaneous wakes.
_POD_WORKERS = 32


@dataclass(frozen=True)
class SimulatedKind:
    """Processes and first objects of a simulated cluster."""

    spec: ClusterSpec
    plane: ControlPlane
    redis: RedisEndpoint

    tool_names = CLUSTER_TOOLS

    def plan(self) -> Sequence[Component | Step]:
        """Write the files of all components and return what has to be started and done."""
        plane = self.plane
        plane.write_files()
        return [
            *plane.components(),
            redis_component(plane.layout, plane.tools.binary("redis-server"), self.redis),
            self._kwok(),
            self._provisioner(),
            self._keda(),
            Step("crds", self._install_crds, after=("kube-apiserver",)),
            Step("objects", self._create_objects, after=("kube-apiserver",)),
            Step("accounts", self._wait_for_accounts, after=("kube-controller-manager",)),
        ]

    def _kwok(self) -> Component:
        plane = self.plane
        config = plane.layout.data("kwok.yaml")
        config.write_text(yaml.safe_dump_all([*_kwok_config(plane.tools.data["kwok", "stages"]), self._forwards()]))
        address = f"{HOST}:{plane.ports['kwok']}"
        argv = (
            str(plane.tools.binary("kwok")),
            f"--kubeconfig={plane.kubeconfig('kwok')}",
            f"--config={config}",
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=40",
            # The default has addresses for 254 pods per node.
            "--cidr=10.64.0.1/12",
            f"--server-address={address}",
        )
        return Component(
            "kwok",
            argv,
            after=("objects",),
            ready=lambda: _answers(f"http://{address}/healthz") and self._nodes_ready(),
        )

    def _forwards(self) -> Object:
        # KWOK is the kubelet of its nodes: a port-forward to the Redis port of any pod ends at the cluster's Redis.
        target = {"address": self.redis.host, "port": self.redis.port}
        return {
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "ClusterPortForward",
            "metadata": {"name": "redis"},
            "spec": {"forwards": [{"ports": [REDIS_PORT], "target": target}]},
        }

    def _provisioner(self) -> Component:
        plane = self.plane
        module = "tools.localcluster.provisioner"
        argv = (sys.executable, "-m", module, plane.kubeconfig("provisioner"), str(plane.layout.volumes))
        return Component("provisioner", argv, env={"PYTHONPATH": str(ROOT)}, after=("objects",))

    def _keda(self) -> Component:
        plane = self.plane
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
        return Component("keda", argv, env=env, after=("crds",), ready=lambda: _answers(f"http://{probe}/readyz"))

    def _install_crds(self) -> None:
        api = self.plane.api()
        names = []
        for file in sorted(self.plane.tools.data["keda", "crds"].glob("*.yaml")):
            # keda.sh_scaledobjects.yaml -> scaledobjects.keda.sh, without parsing 667 KB of YAML.
            group, plural = file.stem.split("_")
            names.append(f"{plural}.{group}")
            # Server-side: one of them is larger than what the client-side annotation may hold.
            api.apply(f"{_CRDS}/{names[-1]}", file.read_bytes())
        for name in names:
            _wait_for_condition(api, f"{_CRDS}/{name}", "Established")

    def _create_objects(self) -> None:
        api = self.plane.api()
        api.apply("/api/v1/namespaces/keda", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "keda"}})
        api.apply("/apis/storage.k8s.io/v1/storageclasses/local", _storage_class())
        for number in range(1, self.spec.nodes + 1):
            node = _node(f"node-{number}", self.plane.ports["kwok"])
            api.apply(f"/api/v1/nodes/node-{number}", node)
            api.apply(f"/api/v1/nodes/node-{number}/status", node)

    def _nodes_ready(self) -> bool:
        try:
            nodes = self.plane.api().get("/api/v1/nodes")["items"]
        except (OSError, ApiError):
            return False
        return all(_has_condition(node, "Ready") for node in nodes)

    def _wait_for_accounts(self) -> None:
        """Wait until the controller manager works: without a default account no pod can be created."""
        api = self.plane.api()
        collection = "/api/v1/serviceaccounts"
        first = api.get(collection)
        if not _default_accounts(first["items"]):
            for _, account in api.watch(collection, first["metadata"]["resourceVersion"], seconds=60):
                if _default_accounts([account]):
                    return


def _default_accounts(accounts: list[Object]) -> list[Object]:
    return [account for account in accounts if account["metadata"]["name"] == "default"]


def _wait_for_condition(api: Api, path: str, condition: str) -> None:
    collection, _, name = path.rpartition("/")
    found = api.get(path)
    if _has_condition(found, condition):
        return
    for _, changed in api.watch(collection, found["metadata"]["resourceVersion"], seconds=60):
        if changed["metadata"]["name"] == name and _has_condition(changed, condition):
            return


def _has_condition(found: Object, condition: str) -> bool:
    conditions = found.get("status", {}).get("conditions") or []
    return any(each["type"] == condition and each["status"] == "True" for each in conditions)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


def _storage_class() -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _node(name: str, kubelet_port: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "type": "kwok",
            },
        },
        "status": {
            "allocatable": _CAPACITY,
            "capacity": _CAPACITY,
            "addresses": [{"type": kind, "address": HOST} for kind in ("Hostname", "InternalIP")],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
        },
    }


def _kwok_config(stages: Path) -> list[Object]:
    """Return KWOK's fast stages; annotations of a pod delay its start or its end, and a test can so hold it there."""
    documents: list[Object] = [
        {
            "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
            "kind": "KwokConfiguration",
            # With one of them given, KWOK takes the others as 0 and refuses.
            "options": {
                "podPlayStageParallelism": _POD_WORKERS,
                "nodePlayStageParallelism": 4,
                "nodeLeaseParallelism": 4,
                "podsOnNodeSyncParallelism": 1,
                "enableDebuggingHandlers": True,
            },
        }
    ]
    for file in sorted(stages.glob("*.yaml")):
        stage = yaml.safe_load(file.read_text())
        name = stage["metadata"]["name"]
        if name in ("pod-ready", "pod-delete"):
            annotation = f'.metadata.annotations["{name}.stage.kwok.x-k8s.io/delay"]'
            stage["spec"]["delay"] = {"durationMilliseconds": 0, "durationFrom": {"expressionFrom": annotation}}
        documents.append(stage)
    return documents
