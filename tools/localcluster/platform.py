"""charts/platform on a local cluster: KEDA and Redis run as processes, so the release has neither.

Helm refuses a chart whose dependencies are absent even where their condition is false. Where they cannot be downloaded,
placeholders of the right name and version stand in; they render nothing and are never committed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from tools.localcluster.edge import ensure_edge
from tools.localcluster.managers import NAMESPACE, ensure_managers
from tools.pins import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tools.localcluster.cluster import LocalCluster
    from tools.localcluster.models import RedisEndpoint

CHART = ROOT / "charts" / "platform"
RELEASE = "sessionctl"
_REDIS_SECRET = "sessionctl-external-redis"
# Dozens of sessions share one small machine.
_SMALL = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}
_VOLUME = {"size": "1Gi"}


def write_placeholder_charts(chart: Path = CHART) -> list[Path]:
    """Write a placeholder for each dependency that is not there in the wanted version; return the files written."""
    written = []
    for dependency in yaml.safe_load((chart / "Chart.yaml").read_text()).get("dependencies", []):
        name, version = dependency["name"], dependency["version"]
        folder = chart / "charts" / name
        file = folder / "Chart.yaml"
        if (chart / "charts" / f"{name}-{version}.tgz").exists():
            continue
        if file.exists() and yaml.safe_load(file.read_text()).get("version") == version:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        content = {"apiVersion": "v2", "name": name, "version": version, "description": "placeholder, renders nothing"}
        # Renamed into place: another process may be rendering the chart.
        draft = folder / f".Chart.yaml.{os.getpid()}"
        draft.write_text(yaml.safe_dump(content, sort_keys=False))
        draft.rename(file)
        written.append(file)
    return written


def install_platform(cluster: LocalCluster, values: Mapping[str, Any]) -> None:
    """Install or upgrade the platform release, `values` over what a local cluster needs.

    Raises:
        ClusterError: Helm or kubectl refused.
    """
    write_placeholder_charts()
    if cluster.state.kind == "real":
        local = _with_real_pods(cluster, is_public=_is_public(cluster, values))
    else:
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(_namespace_and_secret(cluster)))
        local = _with_simulated_pods(cluster.redis)
    before = _configuration(cluster)
    engines = {"keda": {"enabled": False}, "nginx-ingress": {"enabled": False}}
    # JSON is YAML to Helm.
    merged = json.dumps(_merge(_merge(engines, local), values))
    argv = ("upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace", "-f", "-")
    cluster.tool("helm", *argv, stdin=merged)
    if cluster.state.kind == "real":
        for workload in _workloads(cluster):
            cluster.kubectl("-n", NAMESPACE, "rollout", "status", workload, "--timeout=120s")
        if _is_public(cluster, values):
            ensure_edge(cluster)
    else:
        ensure_managers(cluster, changed=_configuration(cluster) != before)


def _workloads(cluster: LocalCluster) -> list[str]:
    found = cluster.kubectl("-n", NAMESPACE, "get", "statefulsets,deployments", "-o", "name")
    return sorted(found.split(), reverse=True)


def _configuration(cluster: LocalCluster) -> str:
    names = ("configmap", "sessionctl-platform", "sessionctl-profiles")
    return cluster.kubectl("-n", NAMESPACE, "get", *names, "--ignore-not-found", "-o", "jsonpath={.items[*].data}")


def _with_simulated_pods(redis: RedisEndpoint) -> dict[str, Any]:
    return {
        "redis": {"enabled": False},
        "externalRedis": {"host": redis.host, "port": redis.port, "existingSecret": _REDIS_SECRET},
        # Simulated pods run nothing and serve nothing that could be asked: the managers are processes.
        "manager": {"enabled": False},
        "config": {"idle": {"probe": "none"}},
    }


def _is_public(cluster: LocalCluster, values: Mapping[str, Any]) -> bool:
    """Whether browsers get in: through router and Ingresses, and with the portal to begin at."""
    return bool(values.get("router", {}).get("enabled", cluster.state.managers > 0))


def _with_real_pods(cluster: LocalCluster, *, is_public: bool) -> dict[str, Any]:
    managers, small = cluster.state.managers, {"requests": {"cpu": "10m", "memory": "64Mi"}}
    manager = {"enabled": managers > 0, "replicas": max(managers, 1), "image": _image("manager"), "resources": small}
    editor = {"resources": {"requests": small["requests"], "limits": {"memory": "1Gi"}}}
    workspace = {"image": _image("workspace"), "resources": _SMALL, "persistence": _VOLUME, "editor": editor}
    return {
        "redis": {"image": _image("redis")},
        "manager": manager,
        "router": {"enabled": is_public, "replicas": max(managers, 1), "image": _image("nginx"), "resources": small},
        "ingress": {"enabled": is_public},
        "config": {
            "sessions": {"domain": cluster.domain, "values": workspace},
            "editor": {"loginUrl": f"{cluster.public_url}/portal/editor" if is_public else ""},
            "portal": {"enabled": is_public},
        },
    }


def _image(name: str) -> dict[str, str]:
    return {"repository": f"localhost/sessionctl/{name}", "tag": "dev", "pullPolicy": "Never"}


def _namespace_and_secret(cluster: LocalCluster) -> dict[str, Any]:
    redis = cluster.redis
    texts = {
        "username": redis.username,
        "password": redis.password,
        "keda-username": redis.keda_username,
        "keda-password": redis.keda_password,
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _REDIS_SECRET, "namespace": NAMESPACE},
        "stringData": texts,
    }
    return {"apiVersion": "v1", "kind": "List", "items": [namespace, secret]}


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return base with the keys of over, mappings merged, as Helm merges several values files."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
