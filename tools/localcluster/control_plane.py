"""etcd, API server, controller manager and scheduler: the same for simulated and real nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.localcluster.api import Api
from tools.localcluster.models import Component, Layout, Secrets
from tools.localcluster.pki import USERS, write_kubeconfig, write_pki, write_tokens
from tools.localcluster.ports import HOST, Ports
from tools.localcluster.sandbox import NODE_IP, SERVICE_RANGE

if TYPE_CHECKING:
    from tools.toolchain import Tools

_NO_NODE_FLAGS = (
    f"--bind-address={HOST}",
    # A loopback address is refused as an endpoint of the Service "kubernetes", once a second, in the log.
    "--endpoint-reconciler-type=none",
)
# Simultaneous wakes of hundreds of sessions wait for these clients otherwise.
_CLIENT_RATE = ("--kube-api-qps=1000", "--kube-api-burst=2000")


@dataclass(frozen=True)
class ControlPlane:
    """The inputs that every component's command line is made of.

    Attributes:
        has_node: A kubelet runs, and pods reach the API server at the node's address.
    """

    layout: Layout
    tools: Tools
    ports: Ports
    secrets: Secrets
    has_node: bool = False

    @property
    def server(self) -> str:
        """Return the API server's URL."""
        return f"https://{HOST}:{self.ports['kube-apiserver']}"

    def api(self, user: str = "admin", port: str = "kube-apiserver") -> Api:
        """Return a client of the API server, or of another component's secure port."""
        return Api(f"https://{HOST}:{self.ports[port]}", self.secrets.tokens[user], self.layout.pki / "ca.crt")

    def kubeconfig(self, user: str) -> str:
        """Return the kubeconfig of a component."""
        return str(self.layout.pki / f"{user}.kubeconfig")

    def write_files(self) -> None:
        """Write certificates, tokens and kubeconfigs; the certificates of a cluster that was kept stay."""
        if not (self.layout.pki / "sa.pub").exists():
            write_pki(self.layout.pki)
        write_tokens(self.layout.pki / "tokens.csv", self.secrets)
        for user in USERS:
            file = self.layout.kubeconfig if user == "admin" else self.layout.pki / f"{user}.kubeconfig"
            write_kubeconfig(file, self.layout, self.server, self.secrets.tokens[user], user)

    def components(self) -> list[Component]:
        """Return the four processes."""
        return [self._etcd(), self._api_server(), self._controller_manager(), self._scheduler()]

    def _etcd(self) -> Component:
        client, peer = (f"http://{HOST}:{self.ports[name]}" for name in ("etcd", "etcd-peer"))
        data = self.layout.data("etcd")
        argv = (
            str(self.tools.binary("etcd")),
            f"--data-dir={data}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # Nothing in it has to survive the machine.
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        # Its own readiness is not waited for: the API server retries until it answers.
        return Component("etcd", argv, data=data)

    def _api_server(self) -> Component:
        pki = self.layout.pki
        argv = (
            str(self.tools.binary("kube-apiserver")),
            f"--etcd-servers=http://{HOST}:{self.ports['etcd']}",
            f"--secure-port={self.ports['kube-apiserver']}",
            f"--tls-cert-file={pki / 'serving.crt'}",
            f"--tls-private-key-file={pki / 'serving.key'}",
            f"--token-auth-file={pki / 'tokens.csv'}",
            f"--service-account-key-file={pki / 'sa.pub'}",
            f"--service-account-signing-key-file={pki / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=1000",
            *(self._node_flags() if self.has_node else _NO_NODE_FLAGS),
        )
        api = self.api()
        return Component("kube-apiserver", argv, ready=lambda: api.is_healthy("/readyz"))

    def _node_flags(self) -> tuple[str, ...]:
        pki = self.layout.pki
        return (
            "--bind-address=0.0.0.0",
            f"--advertise-address={NODE_IP}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
        )

    def _controller_manager(self) -> Component:
        return self._client_component(
            "kube-controller-manager",
            f"--service-account-private-key-file={self.layout.pki / 'sa.key'}",
            f"--root-ca-file={self.layout.pki / 'ca.crt'}",
            "--use-service-account-credentials=true",
            # A kubelet makes its pods ready again after its node was out of sight; KWOK does not.
            *(() if self.has_node else ("--node-monitor-grace-period=24h",)),
        )

    def _scheduler(self) -> Component:
        return self._client_component("kube-scheduler")

    def _client_component(self, name: str, *flags: str) -> Component:
        kubeconfig = self.kubeconfig(name)
        argv = (
            str(self.tools.binary(name)),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={HOST}",
            f"--secure-port={self.ports[name]}",
            f"--tls-cert-file={self.layout.pki / 'serving.crt'}",
            f"--tls-private-key-file={self.layout.pki / 'serving.key'}",
            "--leader-elect=false",
            *_CLIENT_RATE,
            *flags,
        )
        api = self.api(port=name)
        return Component(name, argv, after=("kube-apiserver",), ready=lambda: api.is_healthy("/healthz"))
