"""The edge of the real cluster: what nginx is told of the chart's Ingresses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tools.localcluster import ClusterError
from tools.localcluster.edge import render

SERVICES: list[dict[str, Any]] = [
    {"metadata": {"namespace": "platform", "name": name}, "spec": {"ports": [{"name": "http", "port": port}]}}
    for name, port in (("router", 80), ("manager", 8000))
]


def ingress(host: str, *paths: tuple[str, str, str], of: str = "sessionctl") -> dict[str, Any]:
    rules = [
        {
            "path": path,
            "pathType": kind,
            "backend": {"service": {"name": service, "port": {"name": "http"}}},
        }
        for path, kind, service in paths
    ]
    return {
        "metadata": {"namespace": "platform", "name": "ours"},
        "spec": {"ingressClassName": of, "rules": [{"host": host, "http": {"paths": rules}}]},
    }


def places(configuration: str) -> list[tuple[str, str]]:
    """Return each location and where it leads."""
    found = re.findall(
        r"location ([^{]+) {.*?set \$upstream (\S+);\s+proxy_pass http://\$upstream:(\d+);", configuration, re.DOTALL
    )
    return [(location, f"{service}:{port}") for location, service, port in found]


def test_paths_lead_where_the_ingress_says() -> None:
    api = ingress(
        "api.x.test", ("/router", "Prefix", "router"), ("/", "Prefix", "manager"), ("/only", "Exact", "router")
    )
    assert places(render([api], SERVICES)) == [
        ("= /router", "router.platform.svc.cluster.local:80"),
        ("/router/", "router.platform.svc.cluster.local:80"),
        ("/", "manager.platform.svc.cluster.local:8000"),
        ("= /only", "router.platform.svc.cluster.local:80"),
    ]


def test_a_wildcard_is_one_label() -> None:
    (name,) = re.findall(r'server_name "~(.+)";', render([ingress("*.x.test", ("/", "Prefix", "router"))], SERVICES))
    assert re.search(name, "vs-code.x.test")
    assert not [host for host in ("a.b.x.test", "x.test", "a.xatest", "a.x.test.evil") if re.search(name, host)]


def test_ingresses_of_others_are_left_to_them() -> None:
    assert places(render([ingress("x.test", ("/", "Prefix", "nothing"), of="nginx")], SERVICES)) == []


def test_an_ingress_that_leads_nowhere_is_an_error() -> None:
    with pytest.raises(ClusterError, match="ours"):
        render([ingress("x.test", ("/", "Prefix", "nothing"))], SERVICES)
