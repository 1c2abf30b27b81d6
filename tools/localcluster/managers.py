"""Session managers on a local cluster: pods of the platform chart where pods run, otherwise processes of the cluster.

The processes have what the pods would have: the rights of the chart's ServiceAccount and no others, and a folder that
follows the Secret of API keys.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.localcluster.models import ClusterError, Component, Layout
from tools.pins import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.localcluster.cluster import LocalCluster
    from tools.localcluster.control_plane import ControlPlane
    from tools.localcluster.models import Kind

NAMESPACE: Final = "sessionctl"
MANAGERS: Final = "deployment/sessionctl-manager"
MANAGER_SERVICE: Final = (f"sessionctl-manager.{NAMESPACE}.svc.cluster.local", 80)
# For people: one process is enough, two pods show what a rollout does.
MANAGER_COUNTS: Final[Mapping[Kind, int]] = {"simulated": 1, "real": 2}
KEYS_SECRET: Final = "sessionctl-api-keys"
_ACCOUNT: Final = "sessionctl"
_PROGRAM: Final = Path(sysconfig.get_path("scripts")) / "sessionctl"
_CONFLICT: Final = 4
# Longer than any local cluster lives.
_TOKEN_LIFETIME: Final = "--duration=720h"


def manager_name(number: int) -> str:
    """Return the name of a process, counted from 0."""
    return f"manager-{number + 1}"


def key_mount(plane: ControlPlane) -> Component:
    """Return the process that plays kubelet for the Secret of API keys."""
    module = "tools.localcluster.secret_mount"
    argv = (sys.executable, "-m", module, plane.kubeconfig("provisioner"), NAMESPACE, KEYS_SECRET)
    folder = str(plane.layout.api_keys)
    return Component("api-keys", (*argv, folder), env={"PYTHONPATH": str(ROOT)}, after=("kube-apiserver",))


def ensure_managers(cluster: LocalCluster, *, changed: bool) -> None:
    """Start the processes that do not run, and, as the chart does with pods, replace those whose settings changed.

    Raises:
        ClusterError: One does not get ready.
    """
    layout = Layout(cluster.directory)
    kubeconfig = layout.pki / "manager.kubeconfig"
    running = cluster.pids()
    missing = [number for number in range(cluster.state.managers) if running.get(manager_name(number)) is None]
    if missing or changed:
        token = cluster.kubectl("create", "token", _ACCOUNT, "-n", NAMESPACE, _TOKEN_LIFETIME).strip()
        cluster.kubeconfig_for_token(token, kubeconfig)
    for number, url in enumerate(cluster.state.api_urls):
        name = manager_name(number)
        if name not in running:
            cluster.run(name, _serve(layout, url), {"KUBECONFIG": str(kubeconfig)}, ready=f"{url}/readyz")
        elif number in missing or changed:
            cluster.signal(name, signal.SIGTERM)
            cluster.start_component(name)


def make_key(cluster: LocalCluster, name: str, tenant: str = "default") -> str | None:
    """Make an API key with every right and return it; None when there is one of that name, which nobody can show again.

    Raises:
        ClusterError: It cannot be made.
    """
    scopes = ("--scope", "read", "--scope", "write", "--scope", "access")
    argv: list[str | Path] = [_PROGRAM, "--quiet", "apikey", "create", name, "--tenant", tenant, *scopes, "-o", "json"]
    done = subprocess.run(argv, env=cluster.environment(), capture_output=True, text=True, check=False)
    if done.returncode == _CONFLICT:
        return None
    if done.returncode != 0:
        raise ClusterError(f"no API key can be made: {done.stderr.strip()}", "")
    return str(json.loads(done.stdout)["key"])


def _serve(layout: Layout, url: str) -> list[str | Path]:
    host, _, port = url.removeprefix("http://").partition(":")
    return [_PROGRAM, "serve", "--host", host, "--port", port, "--api-keys", layout.api_keys]
