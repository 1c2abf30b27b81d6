"""The real kind: the same control plane and KEDA, and one node whose pods run, in namespaces of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.localcluster.api import ApiError
from tools.localcluster.engines import create_first_objects, engines, wait_for_condition
from tools.localcluster.models import ClusterError, Component, Step
from tools.localcluster.node import Node
from tools.localcluster.sandbox import CONTAINERD_SOCKET, NODE_IP, NODE_NAME
from tools.pins import CLUSTER_TOOLS, NODE_TOOLS, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tools.localcluster.control_plane import ControlPlane
    from tools.toolchain import Tools

# What its pods run; each is imported at the start, because there is no registry to pull from.
BARE_IMAGES: Final = ("pause", "coredns")
IMAGES: Final = (*BARE_IMAGES, "redis", "nginx", "workspace", "manager")
_COREDNS: Final = Path(__file__).with_name("coredns.yaml")
_API_SERVER_ENDPOINTS: Final = "/api/v1/namespaces/default/endpoints/kubernetes"
_API_SERVER_SLICE: Final = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
_DNS: Final = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"


@dataclass(frozen=True)
class RealKind:
    """Processes and first objects of a cluster with real pods.

    Attributes:
        images: Name of an image -> its archive.
    """

    plane: ControlPlane
    images: Mapping[str, Path]

    # Redis runs as a pod of the platform chart.
    tool_names = tuple(name for name in (*CLUSTER_TOOLS, *NODE_TOOLS) if name not in {"kwok", "redis"})

    def plan(self) -> Sequence[Component | Step]:
        """Write the files of all components and return what has to be started and done."""
        plane = self.plane
        plane.write_files()
        return [
            *plane.components(),
            *Node(plane).components(),
            *engines(plane, keda_after=("dns",)),
            self._policies(),
            Step("images", self._import_images, after=("containerd",)),
            Step("objects", self._create_objects, after=("kube-apiserver",)),
            Step("node", lambda: wait_for_condition(plane.api(), f"/api/v1/nodes/{NODE_NAME}", "Ready"), ("kubelet",)),
            Step("dns", lambda: wait_for_condition(plane.api(), _DNS, "Available"), ("objects", "node", "kube-proxy")),
        ]

    def _policies(self) -> Component:
        argv = (sys.executable, "-m", "tools.localcluster.policies", self.plane.kubeconfig("provisioner"))
        return Component("policies", argv, env={"PYTHONPATH": str(ROOT)}, after=("kube-apiserver",))

    def _import_images(self) -> None:
        for archive in self.images.values():
            import_image(self.plane.tools, archive)

    def _create_objects(self) -> None:
        create_first_objects(self.plane.api())
        self._correct_endpoints()
        kubectl = self.plane.tools.binary("kubectl")
        argv: list[str | Path] = [
            kubectl,
            f"--kubeconfig={self.plane.layout.kubeconfig}",
            "apply",
            "--server-side",
            "-f",
            str(_COREDNS),
        ]
        _run(argv)

    def _correct_endpoints(self) -> None:
        """Send pods to the API server's port of now: of a cluster that was kept, it goes on with the port of before."""
        api, port = self.plane.api(), self.plane.ports["kube-apiserver"]
        ports = [{"name": "https", "port": port, "protocol": "TCP"}]
        # On a first start there are none yet, and the API server makes them as they should be.
        with contextlib.suppress(ApiError):
            api.merge(_API_SERVER_SLICE, {"ports": ports})
            api.merge(_API_SERVER_ENDPOINTS, {"subsets": [{"addresses": [{"ip": NODE_IP}], "ports": ports}]})


def import_image(tools: Tools, archive: Path) -> None:
    """Put an image archive into containerd, where it replaces an image of the same name; from inside only.

    Raises:
        ClusterError: containerd refused it.
    """
    address = ("--address", str(CONTAINERD_SOCKET), "--namespace", "k8s.io")
    _run([tools.binary("ctr"), *address, "images", "import", "--local", str(archive)])


def _run(argv: Sequence[str | Path]) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{Path(argv[0]).name} failed: {done.stderr.strip()[-500:]}", "")
