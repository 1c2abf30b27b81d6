"""What the local node makes of NetworkPolicies; that packets obey is shown in tests/node."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest

from tools.localcluster.policies import TABLE, Pod, Rules, selects

LABELS = {"app": "user-session", "uuid": "a"}
ROUTER = Pod("10.0.0.9", "sessionctl", {"component": "router"})
MANAGER = Pod("10.0.0.8", "sessionctl", {"component": "manager"})
STRANGER = Pod("10.0.0.7", "elsewhere", {"component": "router"})
SESSION = Pod("10.0.0.1", "sessions", LABELS)
OTHER = Pod("10.0.0.2", "sessions", {"app": "user-session", "uuid": "b"})
NAMESPACES = {name: {"name": name} for name in ("sessionctl", "sessions", "elsewhere")}


def policy(**spec: Any) -> dict[str, Any]:
    kinds = [name.title() for name in ("ingress", "egress") if name in spec]
    selector = {"matchLabels": {"uuid": "a"}}
    return {"metadata": {"namespace": "sessions"}, "spec": {"podSelector": selector, "policyTypes": kinds, **spec}}


def chain(rules: Rules, name: str) -> list[str]:
    found = re.search(rf"chain {name} {{\n(.*?)\n  }}", rules.script(), re.DOTALL)
    return [line.strip() for line in found[1].splitlines()] if found else []


def rules(*policies: dict[str, Any]) -> Rules:
    return Rules([SESSION, OTHER, ROUTER, MANAGER, STRANGER], NAMESPACES, policies)


def test_nobody_gets_in_but_who_is_named() -> None:
    platform = {
        "namespaceSelector": {"matchLabels": {"name": "sessionctl"}},
        "podSelector": {"matchExpressions": [{"key": "component", "operator": "In", "values": ["router", "manager"]}]},
    }
    found = rules(policy(ingress=[{"from": [platform], "ports": [{"protocol": "TCP", "port": 8080}]}]))
    assert chain(found, "ingress_10_0_0_1") == [
        "ip saddr { 10.0.0.8, 10.0.0.9 } tcp dport 8080 return",
        "reject with icmp type admin-prohibited",
    ]
    assert chain(found, "ingress_10_0_0_2") == [], "the policy is not its"
    assert "ip daddr vmap { 10.0.0.1 : jump ingress_10_0_0_1 }" in chain(found, "forward")
    assert "vmap" not in "".join(chain(found, "input"))


def test_an_address_range_has_exceptions_and_the_node_itself_is_judged_too() -> None:
    internet = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.0.0/16"]}}
    found = rules(policy(egress=[{"to": [internet, {"ipBlock": {"cidr": "::/0"}}]}]))
    assert chain(found, "egress_10_0_0_1") == [
        "ip daddr 0.0.0.0/0 ip daddr != { 10.0.0.0/8, 169.254.0.0/16 } return",
        "reject with icmp type admin-prohibited",
    ]
    assert chain(found, "forward")[-1] == chain(found, "input")[-1]


def test_a_rule_for_everybody_and_a_policy_without_rules() -> None:
    found = rules(policy(ingress=[{"ports": [{"port": 53, "protocol": "UDP"}]}], egress=[]))
    assert chain(found, "ingress_10_0_0_1")[0] == "udp dport 53 return"
    assert chain(found, "egress_10_0_0_1") == ["reject with icmp type admin-prohibited"]


@pytest.mark.parametrize(
    ("operator", "values", "found"),
    [("In", ["b"], False), ("NotIn", ["b"], True), ("Exists", None, True), ("DoesNotExist", None, False)],
)
def test_selectors(operator: str, values: list[str] | None, found: bool) -> None:
    expression = {"key": "uuid", "operator": operator, "values": values}
    assert selects({"matchLabels": {"app": "user-session"}, "matchExpressions": [expression]}, LABELS) == found
    assert selects({}, LABELS)
    assert not selects({"matchLabels": {"app": "other"}}, LABELS)


@pytest.mark.parametrize(
    ("status", "spec"),
    [
        ({"phase": "Running"}, {}),
        ({"phase": "Succeeded", "podIP": "10.0.0.1"}, {}),
        ({"phase": "Running", "podIP": "172.31.0.1"}, {"hostNetwork": True}),
    ],
)
def test_a_pod_without_an_address_of_its_own_is_none(status: dict[str, str], spec: dict[str, bool]) -> None:
    assert Pod.read({"metadata": {"namespace": "sessions"}, "status": status, "spec": spec}) is None


def test_nft_takes_it() -> None:
    if shutil.which("nft") is None:
        pytest.skip("nftables is not installed")
    everybody = policy(ingress=[{}], egress=[{"to": [{"podSelector": {}}]}])
    checked = subprocess.run(
        ["unshare", "--net", "nft", "--check", "-f", "-"],
        input=rules(everybody).script(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"table ip {TABLE}" in rules().script()
