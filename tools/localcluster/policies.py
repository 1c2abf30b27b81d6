"""Enforces the NetworkPolicies of the sessions on the real node, whose bridge plugin does not: a stand-in for Cilium.

`python -m tools.localcluster.policies KUBECONFIG`, inside the node's namespaces. One nftables table is replaced in
one step whenever a pod gets or loses its address, so policies have to be there before the pods, as Helm puts them. It
knows what the charts use: selectors, address ranges with exceptions, numbered ports, IPv4. What the node itself sends,
kubelet's probes among it, is let through, as it is elsewhere.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tools.localcluster.api import Api, ApiError, Object
from tools.localcluster.engines import SESSIONS_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TABLE: Final = "sessionctl-policies"
_PODS: Final = "/api/v1/pods"
_NAMESPACES: Final = "/api/v1/namespaces"
_POLICIES: Final = f"/apis/networking.k8s.io/v1/namespaces/{SESSIONS_NAMESPACE}/networkpolicies"
_WATCH_SECONDS: Final = 300
_PAUSE_SECONDS: Final = 0.2
_ALIVE: Final = ("Pending", "Running")
# Answers are let back, whoever asked.
_KNOWN: Final = "ct state established,related accept"


@dataclass(frozen=True)
class Pod:
    """What policies go by."""

    address: str
    namespace: str
    labels: Mapping[str, str]

    @classmethod
    def read(cls, item: Object) -> Self | None:
        """Read a pod; None for one without an address of its own."""
        address, over = item["status"].get("podIP"), item["status"].get("phase") not in _ALIVE
        if not address or over or item["spec"].get("hostNetwork"):
            return None
        return cls(address, item["metadata"]["namespace"], item["metadata"].get("labels") or {})


@dataclass(frozen=True)
class Rules:
    """Policies, for the pods there are."""

    pods: Sequence[Pod]
    namespaces: Mapping[str, Mapping[str, str]]
    policies: Sequence[Object]

    def script(self) -> str:
        """Return the whole table for `nft -f -`, which replaces the one before."""
        chains: list[str] = []
        jumps: dict[str, list[str]] = {"saddr": [], "daddr": []}
        for pod in self.pods:
            for direction, peers, own, other in (
                ("Ingress", "from", "daddr", "saddr"),
                ("Egress", "to", "saddr", "daddr"),
            ):
                mine = [policy for policy in self.policies if _applies(policy, pod, direction)]
                if mine:
                    name = f"{direction.lower()}_{pod.address.replace('.', '_')}"
                    jumps[own].append(f"{pod.address} : jump {name}")
                    lines = [line for policy in mine for line in self._lines(policy, direction, peers, other)]
                    chains.append(_chain(name, [*lines, "reject with icmp type admin-prohibited"]))
        seen = {field: f"ip {field} vmap {{ {', '.join(found)} }}" for field, found in jumps.items() if found}
        forward = ["type filter hook forward priority -5;", _KNOWN, *seen.values()]
        # The node itself, its API server above all, is reached through another hook; who asks is judged all the same.
        received = ["type filter hook input priority -5;", _KNOWN, *(seen[key] for key in seen if key == "saddr")]
        body = "\n".join([*chains, _chain("forward", forward), _chain("input", received)])
        return f"table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n{body}\n}}\n"

    def _lines(self, policy: Object, direction: str, peers: str, field: str) -> Iterator[str]:
        for rule in policy["spec"].get(direction.lower()) or []:
            for port in _ports(rule):
                if not rule.get(peers):
                    yield f"{port} return".strip()
                for peer in rule.get(peers) or []:
                    if addresses := self._addresses(policy, peer, field):
                        yield f"{addresses} {port} return".replace("  ", " ")

    def _addresses(self, policy: Object, peer: Object, field: str) -> str:
        if block := peer.get("ipBlock"):
            if ":" in block["cidr"]:
                return ""
            excepted = f" ip {field} != {{ {', '.join(block['except'])} }}" if block.get("except") else ""
            return f"ip {field} {block['cidr']}{excepted}"
        found = sorted({pod.address for pod in self.pods if self._matches(policy, peer, pod)})
        return f"ip {field} {{ {', '.join(found)} }}" if found else ""

    def _matches(self, policy: Object, peer: Object, pod: Pod) -> bool:
        if "namespaceSelector" in peer:
            inside = selects(peer["namespaceSelector"], self.namespaces.get(pod.namespace, {}))
        else:
            inside = pod.namespace == policy["metadata"]["namespace"]
        return inside and selects(peer.get("podSelector") or {}, pod.labels)


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector takes something with these labels."""
    exact = (selector.get("matchLabels") or {}).items()
    return exact <= labels.items() and all(_holds(each, labels) for each in selector.get("matchExpressions") or [])


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    found = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return found in expression["values"]
        case "NotIn":
            return found not in expression["values"]
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case other:
            raise ValueError(other)


def _applies(policy: Object, pod: Pod, direction: str) -> bool:
    spec, inside = policy["spec"], policy["metadata"]["namespace"] == pod.namespace
    return inside and direction in spec.get("policyTypes", ["Ingress"]) and selects(spec["podSelector"], pod.labels)


def _ports(rule: Object) -> list[str]:
    return [f"{port.get('protocol', 'TCP').lower()} dport {port['port']}" for port in rule.get("ports") or []] or [""]


def _chain(name: str, lines: list[str]) -> str:
    return "\n".join([f"  chain {name} {{", *(f"    {line}" for line in lines), "  }"])


@dataclass
class Enforcer:
    """Keeps the table as the pods are."""

    api: Api
    applied: str = ""
    pods: dict[str, Pod] = field(default_factory=dict)

    def follow(self) -> None:
        """Apply what there is, then each change, for ever."""
        while True:
            try:
                self._follow_once()
            except (ApiError, OSError) as error:
                # The API server may be away for as long as a test likes.
                sys.stderr.write(f"{error}\n")
                time.sleep(_PAUSE_SECONDS)

    def _follow_once(self) -> None:
        listed = self.api.get(_PODS)
        self.pods = {item["metadata"]["uid"]: pod for item in listed["items"] if (pod := Pod.read(item))}
        self._apply()
        for kind, item in self.api.watch(_PODS, listed["metadata"]["resourceVersion"], _WATCH_SECONDS):
            uid, before = item["metadata"]["uid"], dict(self.pods)
            self.pods.pop(uid, None)
            if kind != "DELETED" and (pod := Pod.read(item)):
                self.pods[uid] = pod
            if self.pods != before:
                self._apply()

    def _apply(self) -> None:
        namespaces: dict[str, Any] = {
            item["metadata"]["name"]: item["metadata"].get("labels") or {}
            for item in self.api.get(_NAMESPACES)["items"]
        }
        script = Rules([*self.pods.values()], namespaces, self.api.get(_POLICIES)["items"]).script()
        if script != self.applied:
            subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)
            self.applied = script


def main() -> int:
    """Follow until killed."""
    Enforcer(Api.from_kubeconfig(Path(sys.argv[1]))).follow()
    return 0


if __name__ == "__main__":
    sys.exit(main())
