"""The simulated kind: a real control plane, KEDA and Redis; nodes and pods that only exist in the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from tools.localcluster.api import ApiError, Object
from tools.localcluster.engines import answers, create_first_objects, engines, has_condition
from tools.localcluster.managers import key_mount
from tools.localcluster.models import ClusterSpec, Component, RedisEndpoint, Step
from tools.localcluster.ports import HOST
from tools.localcluster.redis import redis_component
from tools.pins import CLUSTER_TOOLS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tools.localcluster.control_plane import ControlPlane

REDIS_PORT = 6379
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
            *engines(plane),
            *([key_mount(plane)] if self.spec.managers else []),
            Step("objects", self._create_objects, after=("kube-apiserver",)),
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
            ready=lambda: answers(f"http://{address}/healthz") and self._nodes_ready(),
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

    def _create_objects(self) -> None:
        api = self.plane.api()
        create_first_objects(api)
        for number in range(1, self.spec.nodes + 1):
            node = _node(f"node-{number}", self.plane.ports["kwok"])
            api.apply(f"/api/v1/nodes/node-{number}", node)
            api.apply(f"/api/v1/nodes/node-{number}/status", node)

    def _nodes_ready(self) -> bool:
        try:
            nodes = self.plane.api().get("/api/v1/nodes")["items"]
        except (OSError, ApiError):
            return False
        return all(has_condition(node, "Ready") for node in nodes)


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
