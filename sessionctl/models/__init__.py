"""The data that core, adapters and edges exchange: frozen, typed, without behaviour that needs IO."""

from __future__ import annotations

from sessionctl.models.access import (
    ApiKey,
    Caller,
    Scope,
)
from sessionctl.models.basics import (
    JsonObject,
    JsonValue,
    Owner,
    SessionId,
    SessionStatus,
)
from sessionctl.models.cluster import (
    Container,
    PlatformDocuments,
    Pod,
    Release,
    ReleaseStatus,
    Scaler,
    Trouble,
    Volume,
    WatchEvent,
    Workspace,
)
from sessionctl.models.demand import (
    Enqueued,
    EnqueueOutcome,
    Epoch,
    Queue,
    RateLimit,
    Record,
    RedisEndpoint,
    ReleaseOutcome,
    Remembered,
    WaitingMessage,
    Woken,
)
from sessionctl.models.events import (
    OLDEST_EVENT,
    EventKind,
    EventPage,
    MessageOutcome,
    SessionEvent,
    StoredEvent,
)
from sessionctl.models.manager import (
    Dependency,
    Loop,
)
from sessionctl.models.views import (
    Activity,
    Holder,
    HolderKind,
    SessionPage,
    SessionView,
    WhyView,
)

__all__ = [
    "OLDEST_EVENT",
    "Activity",
    "ApiKey",
    "Caller",
    "Container",
    "Dependency",
    "EnqueueOutcome",
    "Enqueued",
    "Epoch",
    "EventKind",
    "EventPage",
    "Holder",
    "HolderKind",
    "JsonObject",
    "JsonValue",
    "Loop",
    "MessageOutcome",
    "Owner",
    "PlatformDocuments",
    "Pod",
    "Queue",
    "RateLimit",
    "Record",
    "RedisEndpoint",
    "Release",
    "ReleaseOutcome",
    "ReleaseStatus",
    "Remembered",
    "Scaler",
    "Scope",
    "SessionEvent",
    "SessionId",
    "SessionPage",
    "SessionStatus",
    "SessionView",
    "StoredEvent",
    "Trouble",
    "Volume",
    "WaitingMessage",
    "WatchEvent",
    "WhyView",
    "Woken",
    "Workspace",
]
