"""What core needs of the world. Adapters implement these; nothing here knows how."""

from __future__ import annotations

from sessionctl.ports.chat import Agents, DispatchStore
from sessionctl.ports.cluster import Cluster, ClusterView
from sessionctl.ports.store import (
    AccessStore,
    DemandStore,
    EventStore,
    GateStore,
    MessageStore,
    QuotaStore,
    RecordStore,
    Store,
)
from sessionctl.ports.world import (
    ActivityProbe,
    Clock,
    EditorProbe,
    Helm,
    KeySource,
    KeyVault,
    Metrics,
    ProfileRenderer,
)

__all__ = [
    "AccessStore",
    "ActivityProbe",
    "Agents",
    "Clock",
    "Cluster",
    "ClusterView",
    "DemandStore",
    "DispatchStore",
    "EditorProbe",
    "EventStore",
    "GateStore",
    "Helm",
    "KeySource",
    "KeyVault",
    "MessageStore",
    "Metrics",
    "ProfileRenderer",
    "QuotaStore",
    "RecordStore",
    "Store",
]
