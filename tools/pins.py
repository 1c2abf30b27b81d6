"""The external tools: which binaries come from which Go module. Versions stand in tools/<name>/go.mod only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_KUBERNETES_STAMPS = tuple(
    f"{package}.{stamp}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for stamp in ("gitVersion={version}", "gitMajor={major}", "gitMinor={minor}", "gitTreeState=clean")
)


@dataclass(frozen=True)
class GoTool:
    """One folder with a go.mod, and what is built from it.

    Attributes:
        name: Folder under tools/, and the name in progress lines.
        module: The Go module whose version counts as the tool's version.
        binaries: Binary name -> Go package; where there are several, each is named like its package.
        stamps: Values for the linker; the tools learn their version from nowhere else.
        data: Folder of the cache -> pattern inside the module's sources: files needed at run time.
        static_c: Build tags of a tool with C code, which is linked statically; empty: no C compiler is needed.
        packages: Debian packages that its build needs.
        base: Where its folder is.
    """

    name: str
    module: str
    binaries: dict[str, str]
    stamps: tuple[str, ...] = ()
    data: dict[str, str] = field(default_factory=dict)
    static_c: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    base: Path = ROOT / "tools"

    @property
    def folder(self) -> Path:
        """Return the folder that holds go.mod and go.sum."""
        return self.base / self.name

    def version(self) -> str:
        """Return the pinned version without its v, from go.mod."""
        pin = re.search(
            rf"^\s*(?:require\s+)?{re.escape(self.module)} v(\S+)", (self.folder / "go.mod").read_text(), re.MULTILINE
        )
        if pin is None:
            msg = f"{self.folder / 'go.mod'} does not require {self.module}"
            raise ValueError(msg)
        return pin[1]

    def linker_flags(self) -> str:
        """Return the -ldflags value: stripped, with version stamps."""
        version = self.version()
        major, minor = version.split(".")[:2]
        stamps = (
            stamp.format(version=f"v{version}", number=version, major=major, minor=minor) for stamp in self.stamps
        )
        static = ["-extldflags", "-static"] if self.static_c else []
        return " ".join(["-s", "-w", *static, *(f"-X {stamp}" for stamp in stamps)])


# In the order in which they are built: what others wait for comes first.
GO_TOOLS = (
    GoTool(
        "helm",
        "helm.sh/helm/v4",
        {"helm": "helm.sh/helm/v4/cmd/helm"},
        # Without it Helm calls itself v4.3, and kubeVersion-like checks of charts see that.
        stamps=("helm.sh/helm/v4/internal/version.version={version}",),
    ),
    GoTool("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"}),
    GoTool(
        "kubernetes",
        "k8s.io/kubernetes",
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kubectl",
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
            )
        },
        # Without them the API server calls itself v0.0.0 and every chart's kubeVersion check fails.
        stamps=_KUBERNETES_STAMPS,
    ),
    GoTool(
        "kwok",
        "sigs.k8s.io/kwok",
        {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        data={"stages": "kustomize/stage/[np]od*/fast/*-*.yaml"},
    ),
    GoTool(
        "keda",
        "github.com/kedacore/keda/v2",
        {"keda": "github.com/kedacore/keda/v2/cmd/operator"},
        stamps=("github.com/kedacore/keda/v2/version.Version={number}",),
        data={"crds": "config/crd/bases/*.yaml"},
    ),
    GoTool(
        "containerd",
        "github.com/containerd/containerd/v2",
        {
            name: f"github.com/containerd/containerd/v2/cmd/{name}"
            for name in ("containerd", "containerd-shim-runc-v2", "ctr")
        },
        stamps=("github.com/containerd/containerd/v2/version.Version={number}",),
    ),
    GoTool(
        "runc",
        "github.com/opencontainers/runc",
        {"runc": "github.com/opencontainers/runc"},
        stamps=("main.version={number}",),
        static_c=("netgo", "osusergo", "seccomp"),
        packages=("gcc", "libc6-dev", "libseccomp-dev", "pkg-config"),
    ),
    GoTool(
        "cni",
        "github.com/containernetworking/plugins",
        {
            name.rpartition("/")[2]: f"github.com/containernetworking/plugins/plugins/{name}"
            for name in ("main/bridge", "main/loopback", "ipam/host-local", "meta/portmap")
        },
    ),
    GoTool(
        "chart-testing",
        "github.com/helm/chart-testing/v3",
        {"ct": "github.com/helm/chart-testing/v3/ct"},
        stamps=("github.com/helm/chart-testing/v3/ct/cmd.Version={version}",),
    ),
    GoTool(
        "helm-unittest",
        "github.com/helm-unittest/helm-unittest",
        {"helm-unittest": "github.com/helm-unittest/helm-unittest/cmd/helm-unittest"},
        stamps=("github.com/helm-unittest/helm-unittest/internal/build.version={number}",),
    ),
    GoTool(
        "helm-docs",
        "github.com/norwoodj/helm-docs",
        {"helm-docs": "github.com/norwoodj/helm-docs/cmd/helm-docs"},
        stamps=("main.version={number}",),
    ),
    GoTool(
        "kubectl-validate",
        "sigs.k8s.io/kubectl-validate",
        {"kubectl-validate": "sigs.k8s.io/kubectl-validate"},
    ),
    GoTool("coredns", "github.com/coredns/coredns", {"coredns": "github.com/coredns/coredns"}),
)

# What a cluster runs on, and a person needs to look at it.
CLUSTER_TOOLS = ("helm", "etcd", "kubernetes", "kwok", "keda", "redis")
# What real pods need on top.
NODE_TOOLS = ("containerd", "runc", "cni", "coredns")
# The tests validate by a server-side dry run, which includes admission. kubectl-validate is built in four minutes and
# knows older versions of Kubernetes only: it is for machines that cannot run a cluster, by `make tools`.
TEST_TOOLS = (*CLUSTER_TOOLS, "nginx", "chart-testing", "helm-unittest", "helm-docs")
ALL_TOOLS = (*(tool.name for tool in GO_TOOLS), "redis", "nginx")
