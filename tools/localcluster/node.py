"""containerd, kubelet and kube-proxy: the three processes of a real node, with their files."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tools.localcluster.engines import answers
from tools.localcluster.machine import CGROUP
from tools.localcluster.models import Component
from tools.localcluster.ports import HOST
from tools.localcluster.sandbox import CONTAINERD_SOCKET, DNS_IP, KUBELET_ROOT, NODE_IP, NODE_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from tools.localcluster.control_plane import ControlPlane

POD_RANGE = "10.244.0.0/16"
PAUSE_IMAGE = "localhost/sessionctl/pause:dev"
_KUBELET_PORT = 10250


@dataclass(frozen=True)
class Node:
    """The one node of a real cluster."""

    plane: ControlPlane

    def components(self) -> list[Component]:
        """Write the files and return the processes."""
        return [self._containerd(), self._kubelet(), self._kube_proxy()]

    def _folder(self, name: str) -> Path:
        folder = self.plane.layout.node / name
        folder.mkdir(exist_ok=True)
        return folder

    def _binary(self, name: str) -> str:
        return str(self.plane.tools.binary(name))

    def _write(self, name: str, document: dict[str, Any]) -> str:
        file = self.plane.layout.node / name
        # JSON is YAML, and CNI reads nothing else.
        file.write_text(json.dumps(document, indent=1))
        return str(file)

    def _containerd(self) -> Component:
        shims = os.path.dirname(self._binary("containerd-shim-runc-v2"))  # noqa: PTH120 - a PATH is text
        argv = (self._binary("containerd"), "--config", self._containerd_config())
        env = {"PATH": f"{shims}:{os.environ['PATH']}"}
        return Component("containerd", argv, env=env, ready=lambda: _listens(CONTAINERD_SOCKET))

    def _containerd_config(self) -> str:
        cni = os.path.dirname(self._binary("bridge"))  # noqa: PTH120
        self._write_cni()
        file = self.plane.layout.node / "containerd.toml"
        file.write_text(f"""\
version = 3
root = '{self._folder("containerd")}'
state = '{self._folder("containerd-state")}'
oom_score = 0
disabled_plugins = [
  'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper', 'io.containerd.snapshotter.v1.zfs', 'io.containerd.nri.v1.nri',
  'io.containerd.tracing.processor.v1.otlp', 'io.containerd.internal.v1.tracing',
]
[grpc]
  address = '{CONTAINERD_SOCKET}'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{PAUSE_IMAGE}'
[plugins.'io.containerd.cri.v1.runtime']
  # Without it no container starts where oom_score_adj may not be lowered.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['{cni}']
    conf_dir = '{self._folder("cni")}'
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = '{self._binary("runc")}'
        SystemdCgroup = false
""")
        return str(file)

    def _write_cni(self) -> None:
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "isDefaultGateway": True,
            "hairpinMode": True,
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self._folder("ipam")),
                "ranges": [[{"subnet": POD_RANGE}]],
            },
        }
        self._folder("cni")
        self._write("cni/10-local.conflist", {"cniVersion": "1.0.0", "name": "local", "plugins": [bridge]})

    def _kubelet(self) -> Component:
        layout, plane = self.plane.layout, self.plane
        health = plane.ports["kubelet-health"]
        pods_resolver = layout.node / "resolv-of-node.conf"
        # CoreDNS asks nobody outside.
        pods_resolver.write_text("search .\n")
        configuration = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{CGROUP}",
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(layout.pki / "kubelet.crt"),
            "tlsPrivateKeyFile": str(layout.pki / "kubelet.key"),
            "address": NODE_IP,
            "port": _KUBELET_PORT,
            "healthzBindAddress": HOST,
            "healthzPort": health,
            "clusterDNS": [DNS_IP],
            "clusterDomain": "cluster.local",
            "resolvConf": str(pods_resolver),
            "podLogsDir": str(self._folder("pod-logs")),
            "oomScoreAdj": 0,
            "failSwapOn": False,
            "serializeImagePulls": False,
            # Images come from this machine and cannot be had again.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "100Mi"},
            "enforceNodeAllocatable": ["pods"],
            # A Secret that changes is seen by its pods after this time; a minute is the default.
            "syncFrequency": "5s",
            "registryPullQPS": 0,
            "eventRecordQPS": 50,
            "kubeAPIQPS": 100,
            "kubeAPIBurst": 200,
        }
        argv = (
            self._binary("kubelet"),
            f"--config={self._write('kubelet.yaml', configuration)}",
            f"--kubeconfig={plane.kubeconfig('kubelet')}",
            f"--root-dir={KUBELET_ROOT}",
            f"--cert-dir={self._folder('kubelet-certificates')}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_IP}",
        )
        return Component(
            "kubelet",
            argv,
            after=("containerd", "kube-apiserver", "images"),
            ready=lambda: answers(f"http://{HOST}:{health}/healthz"),
        )

    def _kube_proxy(self) -> Component:
        health, metrics = (f"{HOST}:{self.plane.ports[name]}" for name in ("proxy-health", "proxy-metrics"))
        # With iptables a connection hung whenever a Service got its first endpoint.
        pace = {"minSyncPeriod": "50ms", "syncPeriod": "30s"}
        configuration = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "nftables": pace,
            "clientConnection": {"kubeconfig": self.plane.kubeconfig("kube-proxy")},
            "clusterCIDR": POD_RANGE,
            "bindAddress": NODE_IP,
            "hostnameOverride": NODE_NAME,
            "healthzBindAddress": health,
            "metricsBindAddress": metrics,
            "oomScoreAdj": 0,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
        argv = (self._binary("kube-proxy"), f"--config={self._write('kube-proxy.yaml', configuration)}")
        return Component("kube-proxy", argv, after=("kube-apiserver",), ready=lambda: answers(f"http://{health}/livez"))


def _listens(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(path))
    except OSError:
        return False
    return True
