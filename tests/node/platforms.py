"""The platform release of the shared node, with managers or without: changed when a test wants the other."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from tests.node.workspaces import PROFILES
from tools.localcluster import LocalCluster
from tools.localcluster.managers import make_key

SHORT: Final = {
    "idle": {"timeout": "5s", "touchInterval": "1s"},
    "scaling": {"pollingInterval": 2, "cooldownPeriod": 6},
    "chat": {"lockLifetime": "3s"},
}
"""Times with which tests need not wait long."""
WRITING: Final = "writing"
WRITING_AGAIN: Final = "writing-again"
# The message is a word and how many seconds the command takes.
_WRITE: Final = "read -r word pause; echo $word >> /workspace/ran; echo begun $word; sleep $pause; echo done $word"
BARE: Final[dict[str, Any]] = {"profiles": PROFILES}
MANAGED: Final[dict[str, Any]] = {
    "profiles": {
        **PROFILES,
        WRITING: json.dumps({"agent": {"kind": "command", "command": ["sh", "-c", _WRITE]}}),
        WRITING_AGAIN: json.dumps(
            {"agent": {"kind": "command", "command": ["sh", "-c", _WRITE], "onInterrupt": "retry"}}
        ),
    },
    "config": SHORT,
    "manager": {"enabled": True, "replicas": 2},
}
PUBLIC_IDLE_SECONDS: Final = 20
PUBLIC: Final[dict[str, Any]] = {
    **MANAGED,
    # The first page of VS Code takes a small machine ten seconds, in which nobody uses it.
    "config": {**SHORT, "idle": {"timeout": f"{PUBLIC_IDLE_SECONDS}s", "touchInterval": "1s"}},
    "router": {"enabled": True, "replicas": 1},
}
"""What browsers see: with router and portal, behind the TLS edge."""


@dataclass
class Installed:
    """What is installed on the node now."""

    node: LocalCluster
    values: dict[str, Any] = field(default_factory=dict)
    edge_port: int | None = None
    api_key: str | None = None

    def want(self, values: dict[str, Any]) -> LocalCluster:
        """Install these values unless they are; returns the cluster that runs now, which may be another."""
        now = LocalCluster.attach(self.node.directory)
        # A cluster that was killed and started again has another port, which the settings name.
        if (values, now.state.edge_port) != (self.values, self.edge_port):
            now.install_platform(values)
            self.values, self.edge_port = values, now.state.edge_port
        return now

    def key_for(self, cluster: LocalCluster) -> str:
        """Return an API key; nobody can show one again, so it is made once."""
        self.api_key = self.api_key or make_key(cluster, "node-tests")
        assert self.api_key
        return self.api_key
