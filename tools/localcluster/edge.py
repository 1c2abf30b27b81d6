"""The TLS edge of a cluster with real pods: nginx in the place of the ingress controller, which cannot be had here.

Its routes are read from the chart's Ingress objects, so that what these leave out is not reached from outside either.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

from tools.localcluster.models import ClusterError, Layout
from tools.localcluster.pki import write_server_pair
from tools.localcluster.sandbox import DNS_IP

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tools.localcluster.cluster import LocalCluster

DOMAIN: Final = "sessionctl.localhost"
NAMESPACE: Final = "edge"
INGRESS_CLASS: Final = "sessionctl"
EDGE_SERVICE: Final = (f"edge.{NAMESPACE}.svc.cluster.local", 443)
_PORT: Final = 8443
_IMAGE: Final = "localhost/sessionctl/nginx:dev"
_USER: Final = 101
_LABELS: Final = {"app": "edge"}
_HEAD: Final = f"""\
worker_processes 1;
pid /tmp/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server_names_hash_bucket_size 128;
  resolver {DNS_IP} valid=5s ipv6=off;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  ssl_certificate /tls/tls.crt;
  ssl_certificate_key /tls/tls.key;
  server {{ listen {_PORT} ssl default_server; return 404; }}
"""
# With the port in Host, which is an odd one here; where it is 443 browsers leave it out.
_PASS: Final = """\
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto https;
      proxy_read_timeout 1h; proxy_send_timeout 1h; client_max_body_size 0;
"""


def ensure_edge(cluster: LocalCluster) -> None:
    """Run the edge for the Ingresses that there are, and wait until it is ready.

    Raises:
        ClusterError: It does not get ready, or an Ingress has no backend.
    """
    layout = Layout(cluster.directory)
    write_server_pair(layout.pki, "edge", f"*.{DOMAIN}")
    ingresses = json.loads(cluster.kubectl("get", "ingresses", "--all-namespaces", "-o", "json"))["items"]
    services = json.loads(cluster.kubectl("get", "services", "--all-namespaces", "-o", "json"))["items"]
    configuration = render(ingresses, services)
    certificate, key = ((layout.pki / f"edge.{kind}").read_bytes() for kind in ("crt", "key"))
    objects = list(_objects(configuration, certificate, key))
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps({**_LIST, "items": objects}))
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/edge", "--timeout=120s")


def render(ingresses: Iterable[dict[str, Any]], services: Iterable[dict[str, Any]]) -> str:
    """Return nginx's configuration for Ingresses of our class; raises ClusterError for a backend that is not there."""
    ports = {
        (each["metadata"]["namespace"], each["metadata"]["name"], key): port["port"]
        for each in services
        for port in each["spec"].get("ports", [])
        for key in (port["port"], port.get("name"))
    }
    hosts: dict[str, list[str]] = {}
    for ingress in ingresses:
        if ingress["spec"].get("ingressClassName") != INGRESS_CLASS:
            continue
        namespace = ingress["metadata"]["namespace"]
        for rule in ingress["spec"].get("rules", []):
            for path in rule["http"]["paths"]:
                service, port = path["backend"]["service"]["name"], path["backend"]["service"]["port"]
                found = ports.get((namespace, service, port.get("number", port.get("name"))))
                if found is None:
                    raise ClusterError(f"the Ingress {ingress['metadata']['name']} leads to no Service", "")
                backend = f"{service}.{namespace}.svc.cluster.local"
                hosts.setdefault(rule["host"], []).extend(
                    f"    location {location} {{\n{_PASS}"
                    f"      set $upstream {backend};\n      proxy_pass http://$upstream:{found};\n    }}\n"
                    for location in _locations(path["path"], path["pathType"])
                )
    servers = [
        f"  server {{\n    listen {_PORT} ssl;\n    server_name {_name(host)};\n{''.join(paths)}  }}\n"
        for host, paths in sorted(hosts.items())
    ]
    return "".join([_HEAD, *servers, "}\n"])


def _locations(path: str, kind: str) -> Sequence[str]:
    """Return where nginx looks for a path; a Prefix ends where an element of the path does."""
    whole = path.rstrip("/")
    return (f"= {path}",) if kind == "Exact" else (f"= {whole}", f"{whole}/") if whole else ("/",)


def _name(host: str) -> str:
    """Return a host as nginx matches it: its own `*` would stand for several labels."""
    return rf'"~^[^.]+\.{re.escape(host[2:])}$"' if host.startswith("*.") else host


_LIST: Final = {"apiVersion": "v1", "kind": "List"}


def _objects(configuration: str, certificate: bytes, key: bytes) -> Iterable[dict[str, Any]]:
    mark = hashlib.sha256(configuration.encode()).hexdigest()[:12]
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    yield _object("v1", "ConfigMap", data={"nginx.conf": configuration})
    data = {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(key).decode()}
    yield _object("v1", "Secret", type="kubernetes.io/tls", data=data)
    yield _object(
        "v1", "Service", spec={"selector": _LABELS, "ports": [{"name": "https", "port": 443, "targetPort": _PORT}]}
    )
    mounts = {"configuration": ("/etc/edge", {"configMap": {"name": "edge"}})}
    mounts["certificate"] = ("/tls", {"secret": {"secretName": "edge"}})
    mounts["temporary"] = ("/tmp", {"emptyDir": {}})
    container = {
        "name": "nginx",
        "image": _IMAGE,
        "imagePullPolicy": "Never",
        "command": ["nginx", "-c", "/etc/edge/nginx.conf", "-g", "daemon off;"],
        "ports": [{"containerPort": _PORT}],
        "readinessProbe": {"tcpSocket": {"port": _PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "volumeMounts": [{"name": name, "mountPath": path} for name, (path, _) in mounts.items()],
    }
    pod = {
        "securityContext": {"runAsUser": _USER, "runAsGroup": _USER, "runAsNonRoot": True},
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": name, **source} for name, (_, source) in mounts.items()],
    }
    template = {"metadata": {"labels": _LABELS, "annotations": {"configuration": mark}}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": _LABELS}, "template": template}
    yield _object("apps/v1", "Deployment", spec=spec)


def _object(version: str, kind: str, **rest: object) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "edge", "namespace": NAMESPACE}, **rest}
