"""The data that core, adapters and edges exchange: frozen, typed, without behaviour that needs IO."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, NewType, TypeVar

if TYPE_CHECKING:
    from datetime import datetime, timedelta

Item = TypeVar("Item")

SessionId = NewType("SessionId", str)
"""A canonical lower-case RFC 4122 version 4 UUID; made by ``core.identity`` only."""

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""Whatever JSON can hold: chart values and API objects on their way through."""

JsonObject = dict[str, JsonValue]


class SessionStatus(StrEnum):
    """The life cycle of a session as users see it (DESIGN 6)."""

    CREATED = "created"
    WAKING = "waking"
    ACTIVE = "active"
    SLEEPING = "sleeping"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


@dataclass(frozen=True)
class Owner:
    """Whose session it is and of which profile; kept on the Deployment and on the volume."""

    user_id: str
    tenant: str
    profile: str
    created_at: datetime


@dataclass(frozen=True)
class Workspace:
    """A session's Deployment as the API server showed it; the defaults are those of one that Helm just made."""

    session_id: SessionId
    owner: Owner
    resource_version: str = ""
    replicas: int = 0
    ready_replicas: int = 0
    keeps_volume: bool = True
    woken_at: int | None = None
    slept_at: int | None = None
    deleted_at: datetime | None = None
    purge: bool = False
    available_since: datetime | None = None
    """When the deployment controller last saw as many ready pods as are wanted; also set where none is wanted."""
    unavailable_since: datetime | None = None
    """Since when it has seen too few; one of the two is None."""
    create_failure: str = ""
    """Why no pod can be made: a quota, or an admission controller."""
    failed: str | None = None
    """Why its last start was given up; cleared by the next wake."""

    @property
    def is_starting(self) -> bool:
        """Whether it should be awake and has no ready pod."""
        return self.replicas > 0 and self.ready_replicas == 0 and self.deleted_at is None


@dataclass(frozen=True)
class Volume:
    """A session's PersistentVolumeClaim with all that ``restore`` needs."""

    session_id: SessionId
    owner: Owner
    values: str
    deleted_at: datetime | None
    purge: bool
    being_removed: bool
    size: str = ""
    storage_class: str = ""
    access_mode: str = ""
    phase: str = ""
    """Kubernetes's word: Pending, Bound, or Lost when the PersistentVolume behind it is gone."""


@dataclass(frozen=True)
class Container:
    """What the kubelet says of one container of a pod; the exit is the present or else the last one."""

    name: str
    image: str
    running: bool = False
    started: bool = False
    """Whether it has been ready since it runs: its agent answered once."""
    waiting: str = ""
    """The kubelet's word for why it does not run, such as ImagePullBackOff."""
    message: str = ""
    restarts: int = 0
    exit_code: int | None = None
    exit_reason: str = ""


@dataclass(frozen=True)
class Pod:
    """A session's pod, with what may keep it from being ready."""

    name: str
    created_at: datetime
    is_over: bool = False
    """Evicted, refused by its node, or run to its end: it never runs again."""
    ending: bool = False
    scheduled: bool = False
    ready: bool = False
    unschedulable: str = ""
    """The scheduler's message."""
    ended_by: str = ""
    """Why its node ended or refused it."""
    containers: tuple[Container, ...] = ()


@dataclass(frozen=True)
class Scaler:
    """A session's ScaledObject: whether KEDA watches it."""

    session_id: SessionId
    resource_version: str
    ready: bool
    nudged: bool


class ReleaseStatus(StrEnum):
    """Helm's own release states (helm ``pkg/release/common``)."""

    UNKNOWN = "unknown"
    DEPLOYED = "deployed"
    UNINSTALLED = "uninstalled"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    UNINSTALLING = "uninstalling"
    PENDING_INSTALL = "pending-install"
    PENDING_UPGRADE = "pending-upgrade"
    PENDING_ROLLBACK = "pending-rollback"


@dataclass(frozen=True)
class Release:
    """The newest revision of a session's Helm release."""

    session_id: SessionId
    status: ReleaseStatus
    revision: int
    updated_at: datetime
    chart: str


@dataclass(frozen=True)
class Record:
    """``session:<uuid>`` of Redis: can be rebuilt from the cluster at any time."""

    owner: Owner
    last_active: int
    """Milliseconds since the epoch by the clock of Redis."""
    released_at: int | None = None
    woken_at: int = 0
    """The newest wake that has to patch the Deployment, whether or not its patch is there yet."""


@dataclass(frozen=True)
class Queue:
    """What the demand list holds: our own entry, chats our enqueue recorded, and demand from outside."""

    awake: int
    chats: int
    outside: int

    @property
    def length(self) -> int:
        """The number KEDA compares with zero."""
        return self.awake + self.chats + self.outside


@dataclass(frozen=True)
class Woken:
    """Answer of the wake script: ``patch`` says that the Deployment has to be patched whatever it shows."""

    fresh: bool
    last_active: int


class ReleaseOutcome(StrEnum):
    """Answers of the release script (DESIGN 5)."""

    RELEASED = "released"
    ADOPTED = "adopted"
    ACTIVE = "active"
    WAITING = "waiting"
    GATED = "gated"
    UNKNOWN = "unknown"


class EnqueueOutcome(StrEnum):
    """Answers of the enqueue script beyond the wake it contains."""

    ADDED = "added"
    KNOWN = "known"
    FULL = "full"


@dataclass(frozen=True)
class Enqueued:
    """Answer of the enqueue script."""

    outcome: EnqueueOutcome
    woken: Woken


@dataclass(frozen=True)
class Epoch:
    """Whose demand has been restored: open when ``value`` is the run id of the Redis that answers."""

    run_id: str
    value: str

    @property
    def is_open(self) -> bool:
        """Whether sessions may be put to sleep."""
        return self.value == self.run_id


@dataclass(frozen=True)
class Activity:
    """What the agent says of its workspace: ages, never timestamps, so that no clock has to agree (DESIGN 5)."""

    message_running: bool = False
    hold: timedelta | None = None
    """How long the present ``hold`` has lasted."""
    editor_input: timedelta | None = None
    """How long ago somebody typed."""
    editor_connected: timedelta | None = None
    """How long the oldest open editor connection has been there."""


@dataclass(frozen=True)
class SessionView:
    """One session as ``status`` and ``list`` show it."""

    session_id: SessionId
    owner: Owner
    status: SessionStatus
    reason: str | None
    url: str
    replicas: int
    ready_replicas: int
    queue_length: int | None
    """None when Redis did not answer."""
    last_active: datetime | None = None
    deleted_at: datetime | None = None
    restorable_until: datetime | None = None
    notices: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class RedisEndpoint:
    """How to reach the platform's Redis; the password is never printed."""

    host: str
    port: int
    database: int
    tls: bool
    username: str
    password: str
    keda_username: str

    def __repr__(self) -> str:
        """Leave the password out of logs and tracebacks."""
        return f"RedisEndpoint({self.host}:{self.port}/{self.database}, user {self.username})"


@dataclass(frozen=True)
class WatchEvent(Generic[Item]):
    """One step of a watch: a whole list (``listed``), a changed object, or a deleted one."""

    listed: tuple[Item, ...] | None = None
    changed: Item | None = None
    deleted: Item | None = None


@dataclass(frozen=True)
class PlatformDocuments:
    """What the platform release leaves in the cluster for its tools, as text."""

    namespace: str
    config: str
    platform: str


class MessageOutcome(StrEnum):
    """How a chat message ended; each accepted one ends in exactly one of these (DESIGN 1)."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
